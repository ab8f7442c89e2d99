"""How well `degrade.fit` recovers known numbers, and how well gradients would.

python tests/benchmarks/fit.py

Prints the table of docs/fitting.md: the true numbers, those of `fit` from two pieces of pictures
and from four pictures, and those of Adam on the same score with the gradients of the operators.
"""

from pathlib import Path

import torch

import degrade
from degrade.fitting import coefficients
from pipelines.files import read_image

AVATARS = Path(__file__).parent.parent.parent / "examples" / "avatars"
UNKNOWN = degrade.parse("blur:gaussian,0.3..4 >> gaussian:0..0.2 >> jpeg:20..95")
TRUTHS = [(1.7, 0.04, 60), (0.8, 0.02, 85), (2.5, 0.1, 35)]
LOW = torch.tensor([0.3, 0.0, 20.0])
HIGH = torch.tensor([4.0, 0.2, 95.0])
STEPS = 80


def chain(blur, noise, quality) -> degrade.Operator:
    return degrade.Blur("gaussian", blur) >> degrade.Gaussian(noise) >> degrade.JPEG(quality)


def by_gradient(clean: torch.Tensor, degraded: torch.Tensor) -> degrade.Operator:
    """Adam from the middle of the ranges, with new draws at each step."""
    shares = torch.full((3,), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([shares], lr=0.05)
    observed = coefficients(degraded)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / STEPS)
        numbers = LOW + (HIGH - LOW) * shares
        f = chain(*numbers)
        first = coefficients(f(clean, 2 * step))
        second = coefficients(f(clean, 2 * step + 1))
        to_observed = (first - observed).abs() + (second - observed).abs()
        energy = (to_observed - (first - second).abs()).mean() / 2
        optimiser.zero_grad()
        energy.backward()
        optimiser.step()
        with torch.no_grad():
            shares.clamp_(0, 1)
    blur, noise, quality = (LOW + (HIGH - LOW) * shares).tolist()
    return chain(blur, noise, round(quality))


def main() -> None:
    whole = torch.cat([read_image(AVATARS / f"{i:03}.png") for i in range(4)])
    pieces = whole[:2, :, 32:96, 32:96]
    for truth in TRUTHS:
        f = chain(*truth)
        print("truth       ", f)
        print("two pieces  ", degrade.fit(UNKNOWN, pieces, f(pieces, 7)))
        print("four whole  ", degrade.fit(UNKNOWN, whole, f(whole, 7)))
        print("by gradient ", by_gradient(whole, f(whole, 7)), flush=True)


if __name__ == "__main__":
    main()
