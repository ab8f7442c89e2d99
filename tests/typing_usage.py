"""Code as users write it, for test_typing. It is type-checked, not run.

A line with `# type: ignore[…]` is a mistake that mypy must report under that code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import degrade
import invert
from degrade.params import number
from invert import Method, Phase
from invert.latent import Weights
from invert.loss import L1, Lpips, Term, View
from invert.optim import NGD, Adam, Ramp
from invert.problem import Problem
from invert.start import BestOf


def what_an_operator_offers(f: degrade.Operator, x: Tensor, draws: torch.Generator) -> None:
    assert_type(f(x, draws), Tensor)
    assert_type(f(x, [draws, draws]), Tensor)
    assert_type(f.sample(x.shape, draws), degrade.Operator)
    assert_type(f.approx(), degrade.Operator)
    assert_type(f >> degrade.Clamp(), degrade.Operator)
    assert_type(f[0], degrade.Operator)
    assert_type(f[1:], degrade.Operator)
    assert_type([stage.name for stage in f], list[str])
    assert_type(f.linear, bool)
    assert_type(f.adjoint(x), Tensor)
    assert_type(f.project(x, x), Tensor)
    assert_type(f.output_shape(x.shape), tuple[int, ...])
    f >> 12  # type: ignore[operator]
    f(12)  # type: ignore[arg-type]


def how_operators_are_made(x: Tensor, path: Path) -> None:
    assert_type(degrade.JPEG(12), degrade.JPEG)
    assert_type(degrade.JPEG(12).subsampling, str)
    assert_type(degrade.JPEG(12).quality, int | Sequence[int] | Tensor | degrade.Range | None)
    assert_type(degrade.JPEG.from_file(path), degrade.JPEG)
    assert_type(degrade.parse("downsample:8 >> jpeg:12"), degrade.Operator)
    assert_type(degrade.from_json(degrade.to_json(degrade.Gray())), degrade.Operator)
    assert_type(degrade.tasks["UNAP"], degrade.Operator)
    assert_type(dict(degrade.tasks), dict[str, degrade.Operator])
    assert_type(degrade.Maybe(0.5, degrade.Gray()), degrade.Maybe)
    assert_type(degrade.OneOf(degrade.Gray(), degrade.JPEG(12) >> degrade.Clamp()), degrade.OneOf)
    assert_type(degrade.jpeg(x, quality=[12, 30]), Tensor)
    degrade.JPEG("twelve")  # type: ignore[arg-type]
    degrade.JPEG(12.5)  # type: ignore[arg-type]
    degrade.JPEG(12, colours=3)  # type: ignore[call-arg]
    degrade.JPEG(12).quality = 13  # type: ignore[misc]
    degrade.Strokes()  # type: ignore[call-arg]
    degrade.Maybe(0.5, "jpeg:12")  # type: ignore[arg-type]
    degrade.tasks[0]  # type: ignore[index]


def what_parameters_take(x: Tensor, path: Path) -> None:
    """One number, one per image as a tuple, a list or a tensor, or a range to draw from."""
    (
        degrade.JPEG((12, 15)),
        degrade.JPEG([12, 15]),
        degrade.JPEG(torch.tensor([12, 15])),
        degrade.JPEG(tables=x),
    )
    degrade.JPEG(degrade.Range(5, 30)), degrade.JPEG(tables=[[1] * 64])
    degrade.Poisson(24), degrade.Poisson([24.0, 12]), degrade.Poisson(x, "gaussian")
    degrade.Downsample(8), degrade.Downsample(degrade.Range(2, 4), filter=["bicubic", "box"])
    degrade.Resize(40), degrade.Resize((40, 60)), degrade.Resize(scale=degrade.Range(0.25, 0.5))
    degrade.Blur("gaussian", degrade.Range(0.2, 3)), degrade.Blur(x), degrade.Blur([0.25] * 9)
    (
        degrade.Strokes(degrade.Range(1, 9), seed=3),
        degrade.Box(height=degrade.Range(0.1, 0.5)),
        degrade.Shift(1, [0, 2]),
    )
    degrade.Mask(x), degrade.Mask("mask.png"), degrade.Mask(path)
    degrade.Place([8.0, 0, 0, 0, 8, 0], (8, 8), onto=path)
    degrade.Downsample("eight")  # type: ignore[arg-type]


@degrade.register("fade")
class Fade(degrade.Operator):
    amount: float = number(default=0.5, low=0, high=1)
    linear = True

    def forward(self, x, rng):
        return x * self.amount


@degrade.register("sepia")
def sepia(x: Tensor) -> Tensor:
    return x * 0.9


def operators_of_one_s_own() -> None:
    assert_type(Fade(0.3), Fade)
    assert_type(Fade(amount=0.3).amount, float)
    assert_type(sepia, degrade.Operator)
    assert_type(degrade.register("sharpen")(nn.Conv2d(3, 3, 3)), degrade.Operator)
    assert_type(degrade.register("half")(lambda x: x / 2) >> Fade(), degrade.Operator)
    Fade("much")  # type: ignore[arg-type]
    Fade(0.3, strength=2)  # type: ignore[call-arg]
    Fade().amount = 0.7  # type: ignore[misc]


def restoration(y: Tensor, f: degrade.Operator) -> None:
    G = invert.load_generator("avatars-128")
    r = invert.restore(
        y, f.approx(), G, method="pulse", seed=[1, 2], steps=9, callback=watch, class_label=[3, 4]
    )
    assert_type(r, invert.Restoration)
    assert_type((r.image, r.latent, r.history, r.finite), tuple[Tensor, Tensor, Tensor, Tensor])
    assert_type(r.phase_images, dict[str, Tensor])
    assert_type(G.synthesize(G.mapping(y)), Tensor)
    assert_type(G.mapping(y), Tensor)
    assert_type(G(y), Tensor)
    assert_type(invert.perceptual.lpips(r.image, y, net="alex"), Tensor)
    assert_type(invert.wrap(nn.Identity(), z_shape=(100, 1, 1)), invert.Generator)
    assert_type(invert.oracle_mask(f), degrade.Operator)
    invert.save_generator(G, "copy.safetensors")
    assert_type(invert.load_prior("photo"), invert.Generator | invert.Denoiser)
    assert_type(invert.Denoiser(nn.Identity()).denoise(y, 0.1), Tensor)
    invert.restore(y, f, invert.Denoiser(nn.Identity(), resolution=64), "ddrm")
    invert.restore(
        y, f, G, identity=invert.FaceIdentity(invert.load_embedding("face.pt")), init=r.latent
    )
    invert.restore(y, "jpeg:12", G)
    invert.restore(y, f, "photo")  # type: ignore[arg-type]
    invert.restore(y, f, G, step=9)  # type: ignore[call-arg]


def watch(step: invert.Step) -> None:
    assert_type((step.step, step.loss, step.latent), tuple[int, Tensor, Tensor])


@dataclass(frozen=True)
class Dark(Term):
    """A term of one's own."""

    weight: float = 1.0
    name = "dark"

    def value(self, view: View, problem: Problem) -> Tensor:
        return view.image.mean((1, 2, 3))


LOSS = (Lpips(levels=6), L1(0.1, coarsest=True), Dark(0.01))
METHOD = Method(
    (
        Phase("W", 30, NGD(0.1), LOSS),
        Phase("W+", 30, Adam(0.03, schedule=Ramp()), LOSS, keep="lpips"),
        Phase(Weights(), 15, Adam(3e-4, schedule=lambda t: 1 - t), LOSS),
    ),
    BestOf(100, Lpips()),
)
assert_type(METHOD.phases[0].steps, int)
assert_type(invert.METHODS["pulse"], invert.RestorationMethod)
Phase("W", 30, NGD(0.1), (Lpips(level=6),))  # type: ignore[call-arg]
Phase("W", 30, "NGD", LOSS)  # type: ignore[arg-type]
