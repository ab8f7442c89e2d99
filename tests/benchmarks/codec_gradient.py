"""Compare the gradients of `codec` by what they are used for, as jpeg_gradient.py does for JPEG.

    python tests/benchmarks/codec_gradient.py [attack] [descent] [inversion] [--images 6]
        [--first 12] [--codecs webp,30 jpegxl,50 ...]

Attack: iterated FGSM by at most 3/255 per value, so that the saved picture differs as much as
possible from the picture's own file; LPIPS (AlexNet), higher is better. "no codec" attacks the
picture. Descent: find a picture whose file decodes to a given one, by 200 steps of Adam; the mean
squared error on levels of 255, lower is better. The steps are so long that coefficients change to
the end, and so the error is the mean over the last 50 pictures. Inversion: restore a picture with
the bundled generator, by `robust` in 45 steps; LPIPS (AlexNet) to the clean picture, lower is
better.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
import invert
from degrade import Codec, parse, register
from degrade.rng import Rng
from degrade.surrogate import declare
from invert import perceptual
from tests.benchmarks.jpeg import pictures
from tests.benchmarks.jpeg_gradient import attacked

CODECS = ("webp,30", "webp,80", "avif,40", "jpeg2000,30", "jpegxl,50", "heic,40")
STEPS, RATE = 200, 0.02  # of descent
JUDGED = 50  # its last steps, over whose pictures the error is the mean


@register("straightcodec")
class StraightCodec(Codec):
    """The same codec with the gradient of the identity, which `codec` had before."""

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return declare(x, super().forward(x.detach(), rng))


def attack(x: Tensor, codec: Callable[[Tensor], Tensor], true: Codec) -> float:
    network = perceptual.load("alex")
    maps = network.maps(true(x))
    distance = partial(network.distance_to, maps)
    changed = attacked(x, 0, lambda image, _: codec(image), distance)
    return distance(true(changed)).mean().item()


def descent(x: Tensor, codec: Callable[[Tensor], Tensor], true: Codec) -> float:
    y = true(x)
    z = torch.full_like(y, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([z], RATE)
    errors = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        squared = (codec(z) - y).square()
        squared.sum().backward()
        optimizer.step()
        errors.append(squared.detach().mean().item() * 255**2)
    return statistics.fmean(errors[-JUDGED:])


def inversion(x: Tensor, codec: Callable[[Tensor], Tensor], true: Codec) -> float:
    network = perceptual.load("alex")
    prior = invert.load_prior("avatars-128")
    restoration = invert.restore(
        true(x), codec, prior, method="robust", steps=45, perceptual="alex", seed=0
    )
    return network.distance_to(network.maps(x), restoration.image).mean().item()


def compare(part: str, x: Tensor, codecs: list[str]) -> None:
    score = {"attack": attack, "descent": descent, "inversion": inversion}[part]
    print(f"\n| {part} | {' | '.join(codecs)} |")
    print("|---|" + "---|" * len(codecs))
    rows: dict[str, list[str]] = {}
    for text in codecs:
        true = parse(f"codec:{text}")
        tried = {"straight through": parse(f"straightcodec:{text}"), "fitted": true}
        if part == "attack":
            tried = {"no codec": lambda image: image, **tried}
        for name, codec in tried.items():
            rows.setdefault(name, []).append(f"{score(x, codec, true):.4g}")
        print(text, {name: row[-1] for name, row in rows.items()}, file=sys.stderr, flush=True)
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["attack", "descent"])
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--first", type=int, default=12)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    options = parser.parse_args()
    for part in options.parts:
        compare(part, pictures(options.images, first=options.first), options.codecs)
