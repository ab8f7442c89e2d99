"""Whether the spread of a sampler's answers tells how wrong they are.

    PYTHONPATH=. python tests/benchmarks/coverage.py [--prior avatars] [--methods ddrm,diffpir]

A sampler draws several answers for each picture. If they are draws from the posterior, the true
value of a pixel lies between the lowest and the highest of K answers with probability
(K − 1) / (K + 1), whatever the posterior is: the truth is then one more draw. Prints this share,
the share within two standard deviations of the mean, the correlation of spread and error over
pixels, and the PSNR of one answer and of the mean of all.
"""

import argparse
import time

import torch

import degrade
import invert
from degrade.rng import child_seed
from pipelines import files
from tests.conftest import AVATARS

TASKS = "pool:8;gaussian:0.3;box:0.4,0.4;pixels:0.9"
METHODS = "ddrm,ddnm,pigdm,diffpir,daps"


def psnr(image: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    """[K] in dB, of images [K, C, H, W] clamped to [0, 1]."""
    return -10 * (image.clamp(0, 1) - clean).square().mean((1, 2, 3)).log10()


def measure(spec: str, method: str, prior: invert.Denoiser, count: int, answers: int) -> str:
    """A line of the table: the means over pictures."""
    rows = []
    for number in range(count):
        path = AVATARS / f"{number:03}.png"
        clean = files.read_image(path)
        f = degrade.parse(spec).sample(clean.shape, child_seed(0, spec, number))
        y = f(clean, child_seed(1, spec, number)).expand(answers, -1, -1, -1)
        seeds = [child_seed(2, spec, number, k) for k in range(answers)]
        drawn = invert.restore(y, f.approx(), prior, method, seed=seeds).latent
        low, high = drawn.aminmax(dim=0)
        mean, spread = drawn.mean(0), drawn.std(0)
        truth = clean[0]
        error = (mean - truth).abs()
        within = ((truth >= low) & (truth <= high)).float().mean()
        near = (error <= 2 * spread).float().mean()
        both = torch.stack([error.flatten(), spread.flatten()])
        correlation = torch.corrcoef(both)[0, 1]
        alone = psnr(drawn, truth).mean()
        together = psnr(mean[None], truth).mean()
        rows.append(torch.stack([within, near, correlation, alone, together]))
    within, near, correlation, alone, together = torch.stack(rows).mean(0).tolist()
    return f"{within:6.2f}  {near:6.2f}  {correlation:6.2f}  {alone:6.1f}  {together:6.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prior", default="avatars")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--tasks", default=TASKS, help="operators, between semicolons")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--answers", type=int, default=8)
    arguments = parser.parse_args()
    prior = invert.load_prior(arguments.prior)
    expected = (arguments.answers - 1) / (arguments.answers + 1)
    print(f"exact draws: {expected:.2f} within\n{'':32}within  2 std   corr.  PSNR   of mean")
    for spec in arguments.tasks.split(";"):
        for method in arguments.methods.split(","):
            started = time.perf_counter()
            line = measure(spec, method, prior, arguments.pictures, arguments.answers)
            seconds = time.perf_counter() - started
            print(f"{spec:18} {method:10}  {line}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
