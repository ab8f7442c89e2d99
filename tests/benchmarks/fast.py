"""Compare short searches with the published search `robust`: accuracy and time on eight tasks.

    OMP_NUM_THREADS=1 python tests/benchmarks/fast.py OUT [--methods "robust@45;half size in W"]
        [--pictures 0-7] [--tasks UNAP,denoising/M] [--batch 4]

robust@45 is `robust` in 45 steps; VARIANTS has the other names. `--tasks all` means the 31 tasks of
the paper. Observations are those of `degrade bench`, and accuracy is VGG-LPIPS to the clean
picture. The methods take turns on each batch. A second table has a row for each task, and how far
the first method is ahead of the best of the others.
Seconds are per picture: wall time, and CPU time of the process. OUT keeps the results of each
batch, so that a stopped run resumes, and another method can be added later.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

import degrade
import invert
from degrade.rng import child_seed
from invert import Method, perceptual
from invert.calibrated import CALIBRATED
from invert.loss import L1, Lpips
from invert.method import RestorationMethod
from invert.methods import method_of
from invert.optim import NGD
from invert.published_searches import ROBUST
from invert.start import Mean
from pipelines import files
from pipelines.metrics import SMALLEST

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
LEVELS = ("XS", "S", "M", "L", "XL")
SINGLE = ("upsampling", "denoising", "deartifacting", "inpainting")
COMBINED = "UN,UA,UP,NA,NP,AP,UNA,UNP,UAP,NAP,UNAP"
TASKS = "UNAP,denoising/M,deartifacting/M,inpainting/M,upsampling/M,UN,AP,NAP"
HALF_SIZE = (Lpips(levels=6, first=1), L1(0.1, coarsest=True))
Record = dict[str, list[float]]  # what is measured on a batch, one value per picture


def variants() -> dict[str, Method]:
    """Searches of about a twenty-fifth of the time, with LPIPS at half the size in W."""
    in_w, in_w_plus, in_w_plus_plus = ROBUST.phases
    half = replace(in_w, loss=HALF_SIZE)
    same_reach = (half.over(14), in_w_plus.over(6), in_w_plus_plus.over(4))
    half_reach = in_w_plus.over(6).tuned({"lr": 0.5})
    return {
        "half size in W": replace(ROBUST, phases=same_reach),
        "half size in W, half reach in W+, no W++": replace(
            ROBUST, phases=(half.over(20), half_reach)
        ),
    }


def ablations() -> dict[str, Method]:
    """`calibrated` with one of its ideas left out."""
    unstretched, fixed = [], []
    for phase in CALIBRATED.phases:
        optimiser = cast("NGD", phase.optimiser)
        unstretched.append(replace(phase, optimiser=replace(optimiser, stretch=0.0)))
        fixed.append(replace(phase, reach=None))
    return {
        "no stretch": replace(CALIBRATED, phases=tuple(unstretched)),
        "fixed reach": replace(CALIBRATED, phases=tuple(fixed)),
        "start at the mean": replace(CALIBRATED, start=Mean()),
        "no consistency": replace(CALIBRATED, keeps_pixels=False),
    }


VARIANTS = {**variants(), **ablations()}


def method_named(label: str) -> RestorationMethod:
    """The method of a label: a variant, "robust" or "robust@45"."""
    if label in VARIANTS:
        return VARIANTS[label]
    name, _, steps = label.partition("@")
    return method_of(name, int(steps) if steps else None)


@dataclass(frozen=True)
class Batch:
    """A task and some pictures, degraded."""

    task: str
    names: list[str]
    clean: Tensor
    observed: Tensor
    operator: degrade.Operator
    seeds: list[int]

    @staticmethod
    def of(task: str, names: list[str]) -> Batch:
        """Degrade the pictures with the draws of `degrade bench`."""
        pictures = [files.read_image(AVATARS / f"{name}.png") for name in names]
        clean = torch.cat(pictures)
        seeds = [child_seed(0, task, name) for name in names]
        operator = degrade.tasks[task].sample(clean.shape, streams(seeds))
        observed = operator(clean, streams(seeds))
        return Batch(task, names, clean, observed, operator, seeds)

    def measured(self, method: RestorationMethod, generator: invert.Generator) -> Record:
        """Restore the pictures, and measure accuracy and time."""
        assumed = self.operator.approx()
        wall_start = time.perf_counter()
        cpu_start = time.process_time()
        result = invert.restore(self.observed, assumed, generator, method, self.seeds)
        cpu = time.process_time() - cpu_start
        wall = time.perf_counter() - wall_start
        restored = result.image.mul(255).round().div(255)
        accuracy = perceptual.lpips(restored, self.clean)
        square_error = (restored - self.clean).square().mean((1, 2, 3))
        degraded = self.operator(restored, streams(self.seeds))
        fidelity = perceptual.lpips(
            perceptual.enlarged(degraded, SMALLEST), perceptual.enlarged(self.observed, SMALLEST)
        )
        count = len(self.names)
        return {
            "accuracy": accuracy.tolist(),
            "psnr": square_error.log10().mul(-10).tolist(),
            "fidelity": fidelity.tolist(),
            "wall": [wall / count] * count,
            "cpu": [cpu / count] * count,
        }

    def file_in(self, folder: Path) -> Path:
        """The file of a method's results."""
        task = self.task.replace("/", "-")
        return folder / task / f"{self.names[0]}-{self.names[-1]}.json"


def streams(seeds: list[int]) -> list[torch.Generator]:
    """A new random stream for each picture."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Results:
    """Results by method and task; all of them are kept in a folder."""

    def __init__(self, out: Path):
        self.out = out
        self.records: dict[tuple[str, str], list[Record]] = {}

    def add(self, label: str, batch: Batch, generator: invert.Generator) -> None:
        """Read the results of a method on a batch, or measure them."""
        path = batch.file_in(self.out / label)
        if path.exists():
            record: Record = json.loads(path.read_text())
        else:
            record = batch.measured(method_named(label), generator)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record))
        records = self.records.setdefault((label, batch.task), [])
        records.append(record)
        accuracy = mean([record], "accuracy")
        print(f"{label} on {batch.task}, from {batch.names[0]}: {accuracy:.4f}", flush=True)

    def over_tasks(self, label: str, tasks: list[str], measure: str) -> list[float]:
        """The mean of a measure on each task, and the mean of these."""
        means = [mean(self.records[label, task], measure) for task in tasks]
        overall = sum(means) / len(means)
        return [*means, overall]

    def table(self, labels: list[str], tasks: list[str]) -> str:
        """One row per method: accuracy on each task, its mean, and seconds per picture."""
        rows = [["method", *tasks, "mean", "wall s", "CPU s"]]
        rows.append(["---"] * len(rows[0]))
        for label in labels:
            row = [label]
            for accuracy in self.over_tasks(label, tasks, "accuracy"):
                row.append(f"{accuracy:.4f}")
            for clock in ("wall", "cpu"):
                seconds = self.over_tasks(label, tasks, clock)
                row.append(f"{seconds[-1]:.1f}")
            rows.append(row)
        return markdown(rows)

    def table_of_tasks(self, labels: list[str], tasks: list[str], measure: str, sign: int) -> str:
        """One row per task: a measure of each method, and the lead of the first method.

        sign: 1 if a measure is better when it is higher, -1 if it is better when it is lower.
        """
        rows = [["task", *labels, "lead of the first"]]
        rows.append(["---"] * len(rows[0]))
        ahead = 0
        for task in tasks:
            values = [mean(self.records[label, task], measure) for label in labels]
            best_of_others = max(sign * value for value in values[1:])
            lead = sign * values[0] - best_of_others
            ahead += lead > 0
            rows.append([task, *[f"{value:.4f}" for value in values], f"{lead:+.4f}"])
        return f"{measure}: ahead on {ahead} of {len(tasks)}\n{markdown(rows)}"


def markdown(rows: list[list[str]]) -> str:
    """A table."""
    lines = []
    for row in rows:
        cells = " | ".join(row)
        lines.append(f"| {cells} |")
    return "\n".join(lines)


def tasks_named(text: str) -> list[str]:
    """The tasks of an option: names with commas, or all 31."""
    if text != "all":
        return text.split(",")
    single = [f"{kind}/{level}" for kind in SINGLE for level in LEVELS]
    return [*single, *COMBINED.split(",")]


def mean(records: list[Record], measure: str) -> float:
    """The mean of a measure over all pictures of some batches."""
    values: list[float] = []
    for record in records:
        values += record[measure]
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default="robust;robust@45;robust@18;half size in W")
    parser.add_argument("--pictures", default="0-7", help="from the first to the last")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    labels = options.methods.split(";")
    tasks = tasks_named(options.tasks)
    first, last = map(int, options.pictures.split("-"))
    generator = invert.load_generator("avatars-128")
    results = Results(options.out)
    for start in range(first, last + 1, options.batch):
        stop = min(start + options.batch, last + 1)
        names = [f"{number:03}" for number in range(start, stop)]
        for task in tasks:
            batch = Batch.of(task, names)
            for label in labels:
                results.add(label, batch, generator)
    print(results.table(labels, tasks))
    if len(labels) > 1:
        print(results.table_of_tasks(labels, tasks, "accuracy", -1))
        print(results.table_of_tasks(labels, tasks, "psnr", 1))
        print(results.table_of_tasks(labels, tasks, "fidelity", -1))


if __name__ == "__main__":
    main()
