"""Measure what `restore(consistency=True)` changes: the same runs with and without the projection.

    python tests/benchmarks/consistency.py [--images 8] [--steps 150] [--perceptual alex]
        [--tasks "AP;UAP"]

Scores are means over the pictures, measured as in `degrade bench`: on 8-bit pictures, with fidelity
under the true operator. A solver knows `f.approx()`; where that is not f, a third row projects with
f itself. Observations of the picture's size have a row of their own. The first table measures the
projection of JPEG on blurred pictures: pixels that differ when saved again, MCUs that took the
observation's pixels, and seconds.
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import degrade
import invert
from degrade.rng import child_seed
from pipelines import files, metrics
from pipelines.bench import prepared

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
TASKS = "upsampling/M;inpainting/M;deartifacting/M;AP;UAP"


def jpegs(clean: Tensor) -> None:
    print(
        "| sampling | quality | pixels of f(y) that differ | pixels of f(x') that differ "
        "| MCUs of y | seconds | the same with the file's coefficients | seconds |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    x = F.avg_pool2d(clean, 5, 1, 2)
    for sampling, mcu in (("4:4:4", (8, 8)), ("4:2:2", (8, 16)), ("4:2:0", (16, 16))):
        for quality in (10, 50, 75, 90, 95):
            f = degrade.JPEG(quality, sampling)
            y, began = f(clean), time.perf_counter()
            near = f.project(x, y)
            seconds = (time.perf_counter() - began) / len(clean)
            again, missed = ((f(image) != y).any(1).float().mean() for image in (y, near))
            taken = (
                (F.max_pool2d((near != y).float().amax(1, keepdim=True), mcu, ceil_mode=True) == 0)
                .float()
                .mean()
            )
            coefficients = degrade.jpeg_coefficients(clean, quality, sampling)
            began = time.perf_counter()
            near = f.project(x, coefficients)
            seconds_known = (time.perf_counter() - began) / len(clean)
            missed_known = (f(near) != y).any(1).float().mean()
            print(
                f"| {sampling} | {quality} | {again:.1%} | {missed:.1%} "
                f"| {taken:.1%} | {seconds:.2f} | {missed_known:.1%} | {seconds_known:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=150, help="in all")
    parser.add_argument("--perceptual", default="alex")
    parser.add_argument("--tasks", default=TASKS, help="names, with semicolons")
    options = parser.parse_args()
    generator, sources = (
        invert.load_generator("avatars-128"),
        files.gather([AVATARS])[: options.images],
    )
    clean = torch.cat([prepared(source.path, generator.resolution, 3) for source in sources])
    jpegs(clean)
    print(
        "\n| task | consistency | accuracy (LPIPS) | PSNR | fidelity (LPIPS) |"
        "\n|---|---|---|---|---|"
    )
    for task in options.tasks.split(";"):
        seeds = [child_seed(0, task, str(source.relative)) for source in sources]
        f = degrade.tasks[task].sample(
            clean.shape, [torch.Generator().manual_seed(seed) for seed in seeds]
        )
        observed, assumed = f(clean), f.approx()
        found = invert.restore(
            observed,
            assumed,
            generator,
            seed=seeds,
            perceptual=options.perceptual,
            steps=options.steps,
        ).image
        rows = {"the observation": observed} if observed.shape == clean.shape else {}
        rows |= {"no": found, "yes": assumed.project(found, observed)}
        if assumed != f:
            rows["yes, filter known"] = f.project(found, observed)
        for name, image in rows.items():
            saved = (image * 255).round() / 255
            scores = metrics.scores(saved, clean, f(saved), observed)
            accuracy, psnr, fidelity = (
                sum(scores[k]) / len(clean) for k in ("accuracy", "psnr", "fidelity")
            )
            print(f"| {task} | {name} | {accuracy:.3f} | {psnr:.2f} | {fidelity:.4f} |", flush=True)


if __name__ == "__main__":
    main()
