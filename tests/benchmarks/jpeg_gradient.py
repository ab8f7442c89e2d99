"""Compare gradients of JPEG by what they are used for: attacks through the codec, and quality.

    python tests/benchmarks/jpeg_gradient.py [attack] [quality] [--images 6]

Attack: change a picture by at most 3/255 per value so that its JPEG differs as much as possible
from the JPEG of the picture itself, by LPIPS (AlexNet). Iterated FGSM: 10 steps of 3/4/255 along
the sign of the gradient, from the same random start for every method. The score is the LPIPS
after Pillow saved both; higher is better. Diff-JPEG's paper attacks a classifier instead, which
this package does not hold. "no JPEG" attacks the picture, as if it were not saved.
Quality: Adam looks for the quality of a file from its pixels and the picture, by the mean squared
error on levels of 0 to 255; 60 steps, learning rate 2, from quality 50. The score is the mean
distance to the true quality; lower is better.
Descent to a given file is in `jpeg.py descent`.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from degrade import jpeg
from degrade.jpeg import SURROGATES
from invert import perceptual
from tests.benchmarks.jpeg import kornia, pictures, with_pillow

ATTACKED = (25, 50, 75, 95)  # qualities
TRUE_QUALITIES = (10, 30, 70, 90)
EPSILON = 3 / 255
STEPS = 10

Codec = Callable[[Tensor, Tensor], Tensor]  # (images, their qualities [B]) → images


def kornias(x: Tensor, quality: Tensor) -> Tensor:
    return kornia.enhance.jpeg_codec_differentiable(x, quality)


def without_jpeg(x: Tensor, quality: Tensor) -> Tensor:
    return x


def methods() -> dict[str, Codec]:
    codecs: dict[str, Codec] = {"kornia": kornias}
    for surrogate in SURROGATES:
        codecs[surrogate] = partial(jpeg, surrogate=surrogate)
    return codecs


def attacked(x: Tensor, quality: int, codec: Codec, network: perceptual.Perceptual) -> Tensor:
    """x with the changes that an attack through `codec` finds, in 8 bits."""
    qualities = torch.full((len(x),), float(quality))
    maps = network.maps(with_pillow(x, quality))
    generator = torch.Generator().manual_seed(0)
    delta = (torch.rand(x.shape, generator=generator) * 2 - 1) * EPSILON
    for _ in range(STEPS):
        delta.requires_grad_()
        changed = (x + delta).clamp(0, 1)
        distance = network.distance_to(maps, codec(changed, qualities))
        (gradient,) = torch.autograd.grad(distance.sum(), delta)
        moved = delta.detach() + EPSILON / 4 * gradient.sign()
        delta = moved.clamp(-EPSILON, EPSILON)
    return ((x + delta).clamp(0, 1) * 255).round() / 255


def attack(count: int) -> None:
    network = perceptual.load("alex")
    x = pictures(count)
    print(f"\n| LPIPS after the attack | {' | '.join(f'q {q}' for q in ATTACKED)} |")
    print("|---|" + "---|" * len(ATTACKED))
    for name, codec in {"no JPEG": without_jpeg, **methods()}.items():
        scores = []
        for quality in ATTACKED:
            changed = attacked(x, quality, codec, network)
            saved = with_pillow(changed, quality)
            maps = network.maps(with_pillow(x, quality))
            scores.append(network.distance_to(maps, saved).mean().item())
        print(f"| {name} | {' | '.join(f'{score:.4f}' for score in scores)} |", flush=True)


def found_quality(x: Tensor, true_quality: int, codec: Codec) -> Tensor:
    """The qualities [B] at which Adam ends."""
    y = with_pillow(x, true_quality)
    quality = torch.full((len(x),), 50.0, requires_grad=True)
    optimizer = torch.optim.Adam([quality], lr=2)
    for _ in range(60):
        optimizer.zero_grad()
        error = (codec(x, quality) - y).mul(255).square()
        error.mean((1, 2, 3)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            quality.clamp_(1, 100)
    return quality.detach()


def quality(count: int) -> None:
    x = pictures(count)
    print(f"\n| distance to the quality | {' | '.join(f'q {q}' for q in TRUE_QUALITIES)} |")
    print("|---|" + "---|" * len(TRUE_QUALITIES))
    for name, codec in methods().items():
        distances = []
        for true_quality in TRUE_QUALITIES:
            distance = (found_quality(x, true_quality, codec) - true_quality).abs()
            distances.append(distance.mean().item())
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in distances)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["attack", "quality"])
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    torch.manual_seed(0)
    for part in options.parts:
        {"attack": attack, "quality": quality}[part](options.images)
