"""Compare gradients of JPEG by what they are used for: attacks through the codec, and quality.

    python tests/benchmarks/jpeg_gradient.py [attack] [quality] [inversion] [--images 6] [--first 0]

Attack: change a picture by at most 3/255 per value so that its JPEG differs as much as possible
from the JPEG of the picture itself, by LPIPS (AlexNet). Iterated FGSM: 10 steps of 3/4/255 along
the sign of the gradient, from the same random start for every method. The score is the LPIPS
after Pillow saved both; higher is better. "no JPEG" attacks the picture, as if it were not saved.
Diff-JPEG's paper attacks a classifier instead, as `jpeg_attack.py` does.
Quality: the derivative of the squared error of a JPEG with respect to its quality, divided by the
true slope: the difference of Pillow's errors at qualities 3 higher and 3 lower. 1 is right.
Inversion: restore a picture of quality 12 with the bundled generator, by `robust` in 45 steps; the
LPIPS (AlexNet) to the picture before the JPEG; lower is better. It takes an operator, and so the
surrogates are compared alone.
--first: the first picture. The surrogates were chosen by the pictures 0 to 11 (α of "residual") and
0 to 5 (all else), so that `--first 12 --images 24` is held out.
Descent to a given file is in `jpeg.py descent`; bits in pictures are in
examples/jpeg_in_training.py.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
import invert
from degrade import JPEG, jpeg
from degrade.jpeg import SURROGATES
from invert import perceptual
from tests.benchmarks.jpeg import kornia, pictures, with_pillow

ATTACKED = (25, 50, 75, 95)  # qualities
QUALITIES = (10, 30, 70, 90)  # at which the slope is measured
EPSILON = 3 / 255
STEPS = 10
INVERTED = 12  # quality

Codec = Callable[[Tensor, Tensor], Tensor]  # (images, their qualities [B]) → images
Loss = Callable[[Tensor], Tensor]  # images → one number each


def kornias(x: Tensor, quality: Tensor) -> Tensor:
    return kornia.enhance.jpeg_codec_differentiable(x, quality)


def without_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    return x


def methods() -> dict[str, Codec]:
    codecs: dict[str, Codec] = {"kornia": kornias}
    for surrogate in SURROGATES:
        codecs[surrogate] = partial(jpeg, surrogate=surrogate)
    return codecs


def attacked(
    x: Tensor,
    quality: int,
    codec: Codec,
    loss: Callable[[Tensor], Tensor],
    epsilon: float = EPSILON,
) -> Tensor:
    """x with changes of at most `epsilon` by which the loss through `codec` grows, in 8 bits."""
    qualities = torch.full((len(x),), float(quality))
    generator = torch.Generator().manual_seed(0)
    delta = (torch.rand(x.shape, generator=generator) * 2 - 1) * epsilon
    for _ in range(STEPS):
        delta.requires_grad_()
        changed = (x + delta).clamp(0, 1)
        (gradient,) = torch.autograd.grad(loss(codec(changed, qualities)).sum(), delta)
        moved = delta.detach() + epsilon / 4 * gradient.sign()
        delta = moved.clamp(-epsilon, epsilon)
    return ((x + delta).clamp(0, 1) * 255).round() / 255


def attack(x: Tensor, codecs: dict[str, Codec]) -> None:
    network = perceptual.load("alex")
    print(f"\n| LPIPS after the attack | {' | '.join(f'q {q}' for q in ATTACKED)} |")
    print("|---|" + "---|" * len(ATTACKED))
    for name, codec in {"no JPEG": without_jpeg, **codecs}.items():
        scores = []
        for quality in ATTACKED:
            maps = network.maps(with_pillow(x, quality))
            distance = partial(network.distance_to, maps)
            saved = with_pillow(attacked(x, quality, codec, distance), quality)
            scores.append(distance(saved).mean().item())
        print(f"| {name} | {' | '.join(f'{score:.4f}' for score in scores)} |", flush=True)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """The sum of squared errors, on levels of 0 to 255."""
    return (y - x).mul(255).square().sum()


def quality(x: Tensor) -> None:
    print(f"\n| slope / true slope | {' | '.join(f'q {q}' for q in QUALITIES)} |")
    print("|---|" + "---|" * len(QUALITIES))
    true_slopes = []
    for number in QUALITIES:
        higher = squared_error(x, with_pillow(x, number + 3))
        lower = squared_error(x, with_pillow(x, number - 3))
        true_slopes.append((higher - lower) / 6)
    for name, codec in methods().items():
        ratios = []
        for number, true_slope in zip(QUALITIES, true_slopes, strict=True):
            qualities = torch.full((len(x),), float(number), requires_grad=True)
            error = squared_error(x, codec(x, qualities))
            (slopes,) = torch.autograd.grad(error, qualities)
            ratios.append((slopes.sum() / true_slope).item())
        print(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)


def inversion(x: Tensor) -> None:
    network = perceptual.load("alex")
    prior = invert.load_prior("avatars-128")
    y = jpeg(x, INVERTED)
    maps = network.maps(x)
    print(f"\n| inversion at q {INVERTED} | LPIPS to the clean picture |")
    print("|---|---|")
    for surrogate in SURROGATES:
        operator = JPEG(INVERTED, surrogate=surrogate)
        restoration = invert.restore(
            y, operator, prior, method="robust", steps=45, perceptual="alex", seed=0
        )
        distance = network.distance_to(maps, restoration.image).mean().item()
        print(f"| {surrogate} | {distance:.4f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["attack", "quality"])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(0)
    for part in options.parts:
        parts = {
            "attack": partial(attack, codecs=methods()),
            "quality": quality,
            "inversion": inversion,
        }
        parts[part](pictures(options.images, first=options.first))
