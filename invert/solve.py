"""The solve: look for the image that, degraded, is the observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor

from degrade.operator import Operator, check_image
from degrade.rng import Rng, child_seed

from . import perceptual as perceptual_net
from .ddrm import DDRM, Denoiser
from .generator import Generator, StyleGenerator
from .generator.mapping import Label, labels
from .identity import FaceIdentity
from .loss import SamePerson, View
from .methods import Method, Phase, method_of
from .point import Moment, Point
from .problem import Problem, streams
from .start import BestOf, Drawn

_END = Moment(1.0, Rng.of((), 0))  # without draws
FFHQ_SPREAD = 9.5  # mean ‖w - w_avg‖ of the FFHQ generator the learning rates were published for


@dataclass(frozen=True)
class Step:
    """What a callback sees after a step."""

    phase: Phase | DDRM
    step: int  # of all `total` steps, from 1; phases that take the images one by one count each image's
    total: int
    loss: Tensor  # [B], before the step; [1] in a phase that takes the images one by one
    place: Callable[[], Point]  # where the step led
    generator: Generator | Denoiser

    @property
    def latent(self) -> Tensor:
        return self.generator.unpack(self.place().latent)


@dataclass(frozen=True)
class Restoration:
    """The result of a solve."""

    image: Tensor  # [B, C, R, R], clamped to [0, 1]
    latent: Tensor  # of the last phase's space
    history: (
        Tensor  # [steps, B], the loss before each step, on the CPU; of a denoiser, the MSE after it
    )
    phase_images: dict[str, Tensor]  # the image at the end of each phase, by its name
    finite: (
        Tensor  # [B], False where a loss became NaN or infinite, and the image is the last good one
    )
    point: Point  # latent, noise maps, features and weights: all that makes the image
    told: tuple[str, ...] = ()  # what a reader must know of how it was measured


@torch.enable_grad()
def restore(
    observation: Tensor,
    operator: Operator,
    generator: Generator | Denoiser,
    method: str | Method | DDRM = "robust",
    seed: int | Sequence[int] = 0,
    callback: Callable[[Step], None] | None = None,
    *,
    perceptual: str = "vgg",
    steps: int | None = None,
    lr_scale: float | None = None,
    class_label: Label | Callable[[Tensor], Label] = None,
    init: Tensor | str | None = None,
    identity: FaceIdentity | None = None,
    consistency: bool = False,
) -> Restoration:
    """Search what `generator` can draw for images that `operator` turns into `observation`.

    observation: [B, C, h, w] in [0, 1], of the generator's channels, on its device. operator: what
    a solver may assume, usually f.sample(...).approx(). method: a name of METHODS, or a Method.
    seed: one for all images (each gets the same stream, so its result does not depend on its batch
    mates), or one per image. callback: called with a `Step` after every step. perceptual: "vgg", or
    "alex" for speed, of terms that do not say their own. steps: in all, every phase shortened in
    proportion. lr_scale: factor of the learning rates of style codes; None takes the generator's
    `w_spread` / 9.5, FFHQ's.

    class_label: of a generator that has classes; one, one per image, features [B, c_dim], or a
    classifier to call with the observation. init: a latent to go on from, of W, W+ or W++, which
    skips the phases that it is too free for; or "random", to begin at a code drawn by the seed.
    identity: who it should be, for methods with a term for it. consistency: whether the final image
    is held to what the observation says for certain, by the operator's `project`; the latent and
    the images of the phases stay what was found.

    Raises ValueError when the operator does not lead from the generator's images to the
    observation, the generator lacks what the method needs, or its weights are not finite.
    """
    check_image(observation, "observation")
    batch, resolution = len(observation), generator.resolution
    shape = (batch, generator.channels, resolution, resolution)
    expected = operator.output_shape(shape)
    if tuple(observation.shape) != tuple(expected):
        raise ValueError(
            f"the observation is {list(observation.shape)}, but {operator} turns the generator's "
            f"{resolution}×{resolution} images into {list(expected)}; crop or resize it, or mend the operator"
        )
    if isinstance(generator, torch.nn.Module):
        broken = [
            name for name, value in generator.named_parameters() if not torch.isfinite(value).all()
        ]
        if broken:
            raise ValueError(
                f"the generator's {broken[0]} holds NaN or infinity; its file is damaged, get it anew"
            )
    named = repr(method) if isinstance(method, str) else "own"
    method = method_of(method, steps)
    if isinstance(method, DDRM) or isinstance(generator, Denoiser):
        given = {
            "class_label": class_label,
            "init": init,
            "identity": identity,
            "lr_scale": lr_scale,
        }
        useless = ", ".join(name for name, value in given.items() if value is not None)
        if useless:
            raise ValueError(f"{useless}: method={named} has no use for it; leave it out")
        found = _denoise(
            method, observation.float(), operator, generator, _seeds(seed, batch), callback
        )
        return _agreeing(found, operator, observation) if consistency else found
    unmet = {}
    for phase in method.phases:
        try:
            phase.space.check(generator)
        except ValueError as error:
            unmet[phase.name] = error
    if unmet:
        raise ValueError(f"method={named} needs {', '.join(unmet)}: {next(iter(unmet.values()))}")
    if lr_scale is not None and not 0 < lr_scale < math.inf:
        raise ValueError(f"lr_scale={lr_scale} must be a finite number above 0, or None")
    if lr_scale is None:
        lr_scale = (
            generator.w_spread / FFHQ_SPREAD if isinstance(generator, StyleGenerator) else 1.0
        )
    if identity is not None:
        _check_identity(identity, method, named, batch, generator.channels)
    label = class_label(observation) if callable(class_label) else class_label
    problem = Problem(
        observation.float(),
        operator,
        generator,
        _seeds(seed, batch),
        perceptual_net.check(perceptual),
        labels(label, batch, generator.c_dim, observation.device),
        identity,
    )
    point, phases = _start(method, init, problem)
    image = _image(point, generator).clamp(0, 1)

    total = sum(phase.steps * (batch if phase.space.per_image else 1) for phase in phases)
    finite, history, images, done = torch.ones(batch, dtype=torch.bool), [], {}, 0
    for number, phase in enumerate(phases):

        def report(
            step: int, loss: Tensor, place: Callable[[], Point], phase=phase, done=done
        ) -> None:
            if callback is not None:
                callback(Step(phase, done + step, total, loss, place, generator))

        run = _run_one_by_one if phase.space.per_image else _run
        point, losses, good, image = run(phase, point, problem, lr_scale, f"phase{number}", report)
        done += phase.steps * (batch if phase.space.per_image else 1)
        finite &= good
        history.append(losses)
        images[phase.name if phase.name not in images else f"{phase.name}, phase {number + 1}"] = (
            image
        )
    stacked = torch.cat([torch.empty(0, batch), *history])
    told = {term.told(problem): None for phase in phases for term in phase.loss}
    said = tuple(filter(None, told))
    found = Restoration(image, generator.unpack(point.latent), stacked, images, finite, point, said)
    return _agreeing(found, operator, observation) if consistency else found


def _agreeing(found: Restoration, operator: Operator, observation: Tensor) -> Restoration:
    return replace(found, image=operator.project(found.image, observation).clamp(0, 1))


def _denoise(
    method: Method | DDRM,
    observation: Tensor,
    operator: Operator,
    denoiser: Generator | Denoiser,
    seeds: tuple[int, ...],
    callback: Callable[[Step], None] | None,
) -> Restoration:
    if not isinstance(method, DDRM):
        raise ValueError("a Denoiser is searched by method='ddrm' alone")
    if not isinstance(denoiser, Denoiser):
        raise ValueError(
            "method='ddrm' needs a diffusion model: give invert.Denoiser(module, resolution) as generator"
        )
    losses = []

    def report(step: int, image: Tensor) -> None:
        good = torch.isfinite(image).flatten(1).all(1)
        away = (
            operator(torch.nan_to_num(image, posinf=0.0, neginf=0.0), streams(seeds, f"step{step}"))
            - observation
        )
        losses.append(torch.where(good, away.square().flatten(1).mean(1), math.nan).cpu())
        if callback is not None:
            callback(Step(method, step, method.steps, losses[-1], lambda: Point(image), denoiser))

    image = method.solve(observation, operator, denoiser, streams(seeds, "ddrm"), report)
    finite = torch.isfinite(image).flatten(1).all(1).cpu()
    shown = torch.nan_to_num(image).clamp(0, 1)
    return Restoration(
        shown, image, torch.stack(losses), {method.name: shown}, finite, Point(image)
    )


def _run(
    phase: Phase,
    point: Point,
    problem: Problem,
    lr_scale: float,
    key: str,
    report: Callable[[int, Tensor, Callable[[], Point]], None],
) -> tuple[Point, Tensor, Tensor, Tensor]:
    """One phase: the point it ends at, the losses [steps, B], which images stayed finite, and the images."""
    space, device = phase.space, problem.device
    point, values = space.begin(point, problem)
    point, values = point.detached(), {name: value.detach() for name, value in values.items()}
    measures = [(term, term.prepare(problem)) for term in phase.loss]
    move = phase.optimiser.begin(values, phase.steps, lr_scale)
    stop = phase.stop.begin(problem.batch) if phase.stop else None
    active = torch.ones(problem.batch, dtype=torch.bool, device=device)
    finite, lowest = active.clone(), torch.full((problem.batch,), math.inf, device=device)
    previous, best, losses = values, values, []

    for step in range(phase.steps):
        free = {name: value.requires_grad_() for name, value in values.items()}
        rng = problem.rng(f"{key}/{step}")
        here = space.place(free, point, problem, Moment(step / phase.steps, rng))
        image = here.image(problem.generator)
        good = (
            torch.isfinite(image.detach()).flatten(1).all(1)
        )  # what is not ends here, and not for its batch mates
        image = torch.where(good.view(-1, 1, 1, 1), image, 0.0)
        view = View(problem.predict(image, f"{key}/{step}"), image, here, free, rng, step)
        parts = [measure(view) for _, measure in measures]
        for (term, _), part in zip(measures, parts, strict=True):
            if tuple(part.shape) != (
                problem.batch,
            ):  # a mean over the batch would make its images one
                raise ValueError(
                    f"term {term.name!r} gives {list(part.shape)}; give a number for each image, [B]"
                )
        loss = sum(term.weight * part for (term, _), part in zip(measures, parts, strict=True))
        grads = [None] * len(free)
        if (
            loss.requires_grad
        ):  # not where no term sees the image, as LPIPS alone at 8×8, or it never changes
            grads = torch.autograd.grad(loss.sum(), tuple(free.values()), allow_unused=True)
        values = {name: value.detach() for name, value in free.items()}
        grads = {
            n: torch.zeros_like(values[n]) if g is None else g
            for n, g in zip(values, grads, strict=True)
        }
        loss = torch.where(good, loss.detach(), math.nan)
        losses.append(loss)

        good = torch.isfinite(loss)
        values = _where(good, values, previous)  # a place without a finite loss is left again
        active, finite = active & good, finite & good
        measured = {
            term.name: part.detach() for (term, _), part in zip(measures, parts, strict=True)
        } | {"loss": loss}
        if stop is not None:
            active = active & ~stop(measured).to(device)
        if phase.keep:
            lower = good & (measured[phase.keep] < lowest)
            lowest = torch.where(lower, measured[phase.keep], lowest)
            best = _where(lower, values, best)
        previous, values = values, _where(active, move(values, grads, step), values)
        report(step + 1, loss, lambda values=values: space.place(values, point, problem, _END))
        if (stop is not None or step % 10 == 9) and not active.any():
            break

    values = best if phase.keep and phase.steps else values
    end = space.place(values, point, problem, _END).detached()
    image = _image(end, problem.generator)
    good = torch.isfinite(image).flatten(1).all(1)
    if not good.all():  # the last step's place was seen by no loss
        end = space.place(_where(good, values, previous), point, problem, _END).detached()
        image, finite = _image(end, problem.generator), finite & good
    stacked = torch.stack(losses).cpu() if losses else torch.empty(0, problem.batch)
    return end, stacked, finite.cpu(), image.clamp(0, 1)


@torch.no_grad()
def _image(point: Point, generator: Generator) -> Tensor:
    return point.image(generator)


def _run_one_by_one(
    phase: Phase,
    point: Point,
    problem: Problem,
    lr_scale: float,
    key: str,
    report: Callable[[int, Tensor, Callable[[], Point]], None],
) -> tuple[Point, Tensor, Tensor, Tensor]:
    """The same, an image at a time."""
    each = []
    for i in range(problem.batch):

        def report_row(step: int, *rest, before: int = i * phase.steps) -> None:
            report(before + step, *rest)

        each.append(_run(phase, point.row(i), problem.row(i), lr_scale, key, report_row))
    points, losses, goods, images = zip(*each, strict=True)
    longest = max(map(len, losses))
    return (
        Point.cat([*points]),
        torch.cat([_repeated(own, longest) for own in losses], 1),
        *map(torch.cat, (goods, images)),
    )


def _where(chosen: Tensor, new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: torch.where(chosen.view(-1, *[1] * (v.ndim - 1)), v, old[k]) for k, v in new.items()}


def _repeated(losses: Tensor, length: int) -> Tensor:
    return torch.cat([losses, losses[-1:].expand(length - len(losses), -1)])


def _start(
    method: Method, init: Tensor | str | None, problem: Problem
) -> tuple[Point, tuple[Phase, ...]]:
    """Where to begin, and with which phases."""
    if init is None:
        return method.start(problem), method.phases
    if not isinstance(problem.generator, StyleGenerator):
        raise ValueError("init: this generator has no W to begin in")
    if isinstance(init, str):
        if init != "random":
            raise ValueError(f"init={init!r} must be a latent, or 'random'")
        drawn = isinstance(method.start, BestOf)  # by the seed, anyway
        return (method.start if drawn else Drawn())(problem), method.phases
    generator = problem.generator
    if not isinstance(init, Tensor) or not torch.isfinite(init).all():
        raise ValueError(
            "init must be a tensor without NaN or infinity, as Restoration.latent is, or 'random'"
        )
    codes = generator.pack(init.detach().to(problem.observation))
    generator.codes(codes, "const")  # refuses another shape
    if len(codes) != problem.batch:
        raise ValueError(
            f"init has {len(codes)} latents for {problem.batch} images; give one per image"
        )
    space = "W" if codes.ndim == 2 else "W+" if codes.shape[1] == generator.num_ws else "W++"
    phases = tuple(phase for phase in method.phases if phase.space.goes_on_from(space))
    if not phases:
        raise ValueError(
            f"init is a latent of {space}; this method has no phase that could go on from it"
        )
    return Point(codes), phases


def _check_identity(
    identity: FaceIdentity, method: Method, named: str, batch: int, channels: int
) -> None:
    if not isinstance(identity, FaceIdentity):
        raise ValueError(
            f"identity is a {type(identity).__name__}; give invert.FaceIdentity(module, reference)"
        )
    if not any(isinstance(term, SamePerson) for phase in method.phases for term in phase.loss):
        raise ValueError(
            f"identity: method={named} has no term for it; use adam-id, or add loss.SamePerson"
        )
    if identity.reference is not None and len(identity.reference) not in (1, batch):
        raise ValueError(
            f"identity has {len(identity.reference)} references for {batch} images; give one, or one each"
        )
    if channels != 3:
        raise ValueError(f"identity needs a generator of 3 channels, not {channels}")


def _seeds(seed: int | Sequence[int], batch: int) -> tuple[int, ...]:
    """A seed for each image, for all that this restoration draws."""
    seeds = [seed] * batch if isinstance(seed, Integral) else seed
    if not isinstance(seeds, Sequence) or not all(isinstance(s, Integral) for s in seeds):
        raise ValueError(f"seed={seed!r} must be an integer, or one per image")
    if len(seeds) != batch:
        raise ValueError(
            f"seed has {len(seeds)} values for {batch} images; give one, or one per image"
        )
    return tuple(child_seed(int(s), "restore") for s in seeds)
