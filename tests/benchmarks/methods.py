"""Methods side by side, or what each part of them is worth.

    python tests/benchmarks/methods.py compare|ablate OUT [--images 4] [--steps 150] [--net alex] [--only robust,pulse]

`compare`: every method on five tasks; `ablate`: variants of single choices. Every result is a line
in OUT/results.jsonl as soon as it is there, so that a second call goes on where the first one ended,
and the tables of all that is there are printed at the end. OUT/<task>.jpg shows the restorations.
LPIPS of the tables is VGG's, accuracy to the clean picture, fidelity to the observation after the
true degradation; seconds are per picture, of batches of all pictures.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy
import torch
from PIL import Image

import invert
from degrade import Operator, tasks
from invert import METHODS, Method
from invert.loss import L1, MSE, Lpips
from invert.methods import cri
from invert.optim import NGD, Adam, Patience
from invert.prior import OffsetNorm
from pipelines import files
from pipelines.sheet import sheet

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
TASKS = ("upsampling/M", "denoising/M", "deartifacting/M", "inpainting/M", "UNAP")
SKIPPED = {"ddrm"}


def variants() -> dict[str, Method]:
    """One choice changed at a time."""
    robust, ilo = METHODS["robust"], METHODS["ilo"]

    def with_loss(method: Method, *loss) -> Method:
        return replace(method, phases=tuple(replace(phase, loss=loss) for phase in method.phases))

    def adam(factor: float, stop: Patience | None = None) -> Method:
        rates = (0.05 * factor, 0.01 * factor, 0.002 * factor)
        phases = zip(robust.phases, rates, strict=True)
        return Method(tuple(replace(phase, optimiser=Adam(lr), stop=stop) for phase, lr in phases))

    found = {
        "robust": robust,
        "robust, Adam": adam(1),
        "robust, Adam, a third of the rates": adam(1 / 3),
        "robust, Adam, patience 15": adam(1, Patience(15)),
        "robust, patience 15": replace(
            robust, phases=tuple(replace(phase, stop=Patience(15)) for phase in robust.phases)
        ),
        "robust, three times the rates": replace(
            robust, phases=tuple(replace(phase, optimiser=NGD(3 * phase.optimiser.lr)) for phase in robust.phases)
        ),
        "robust, LPIPS at one scale": with_loss(robust, Lpips(enlarge=True), L1(0.1)),
        "robust, no L1": with_loss(robust, Lpips(levels=6)),
    }
    parts = {"W": slice(1), "W, W+": slice(2), "W+, W++": slice(1, 3), "W++": slice(2, 3)}
    for name, part in parts.items():
        found[f"robust, {name} only"] = Method(robust.phases[part])  # as many steps in all
    for count in (1, 5, 10, 15):
        found[f"cri, {count} centres"] = cri(count)
    found["cri, centres as they are"] = cri(through_operator=False)
    found["cri, L1 of the offset"] = cri(offset=(OffsetNorm(0.01, order=1),))
    found["cri, L2 of the offset"] = cri(offset=(OffsetNorm(0.5),))
    found["ilo, LPIPS and MSE"] = ilo
    found["ilo, MSE"] = with_loss(ilo, *(term for term in ilo.phases[0].loss if not isinstance(term, Lpips)))
    lpips = tuple(term for term in ilo.phases[0].loss if not isinstance(term, MSE))
    found["ilo, LPIPS"] = replace(ilo, phases=tuple(replace(p, loss=lpips, keep="lpips") for p in ilo.phases))
    return found


def observed(task: str, clean: torch.Tensor) -> tuple[Operator, torch.Tensor]:
    """The true operator of each picture, and what it made of it; the same for every method."""
    operator = tasks[task].sample(clean.shape, streams(len(clean)))
    return operator, operator(clean, streams(len(clean)))


def streams(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def measure(method: Method, operator: Operator, y, clean, generator, options) -> tuple[list[dict], torch.Tensor]:
    start = time.perf_counter()
    seeds = list(range(len(clean)))
    r = invert.restore(
        y, operator.approx(), generator, method, seeds, perceptual=options.net, steps=options.steps or None
    )
    seconds = (time.perf_counter() - start) / len(clean)
    again = operator(r.image, streams(len(clean)))
    scores = {
        "accuracy": invert.perceptual.lpips(r.image, clean),
        "fidelity": invert.perceptual.lpips(visible(again), visible(y)),
        "psnr": -10 * (r.image - clean).square().flatten(1).mean(1).log10(),
    }
    rows = [{name: round(float(value[i]), 4) for name, value in scores.items()} for i in range(len(clean))]
    return [row | {"seconds": round(seconds, 2), "steps": len(r.history)} for row in rows], r.image


def visible(image: torch.Tensor) -> torch.Tensor:
    """Observations with a side below 32 are enlarged to 32 by whole pixels before LPIPS."""
    return image.repeat_interleave(k, 2).repeat_interleave(k, 3) if (k := -(-32 // image.shape[-1])) > 1 else image


def picture(index: int) -> torch.Tensor:
    pixels = numpy.asarray(Image.open(AVATARS / f"{index:03}.png").convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def table(rows: list[dict], methods, column: str) -> str:
    """A line for each method, a column for each task; the last is their mean, or the least of the seconds."""
    tasks_there = [task for task in TASKS if any(row["task"] == task for row in rows)]
    summary, digits = ("least", 1) if column == "seconds" else ("mean", 1 if column in ("psnr", "steps") else 3)
    lines = [f"| {column} | {' | '.join(tasks_there)} | {summary} |", "|---" * (len(tasks_there) + 2) + "|"]
    for name in methods:
        cells = []
        for task in tasks_there:
            values = [row[column] for row in rows if row["task"] == task and row["method"] == name]
            if values:
                cells.append(sum(values) / len(values))
        if len(cells) == len(tasks_there):
            whole = [*cells, min(cells) if summary == "least" else sum(cells) / len(cells)]
            lines.append(f"| {name} | " + " | ".join(f"{c:.{digits}f}" for c in whole) + " |")
    return "\n".join(lines)


def draw(folder: Path, task: str, names: list[str], clean: torch.Tensor, rows: int = 2) -> None:
    """The first pictures of a task: clean, observed, and every method's restoration."""
    _, y = observed(task, clean)
    found = {name: folder / f"{task.replace('/', '-')}.{name}.pt" for name in names}
    images = {name: torch.load(path, weights_only=True) for name, path in found.items() if path.exists()}
    shown = {"clean": clean, "observed": y} | images
    lines = [sheet({k: files.to_pil(v[i : i + 1]) for k, v in shown.items()}) for i in range(min(rows, len(clean)))]
    canvas = Image.new("RGB", (lines[0].width, sum(line.height for line in lines)), "white")
    for i, line in enumerate(lines):
        canvas.paste(line, (0, i * line.height))
    canvas.resize((canvas.width // 2, canvas.height // 2), Image.LANCZOS).save(
        folder / f"{task.replace('/', '-')}.jpg", quality=88
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("compare", "ablate"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150, help="in all; 0 is each method's own")
    parser.add_argument("--net", default="alex")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    methods = {k: m for k, m in METHODS.items() if k not in SKIPPED} if options.what == "compare" else variants()
    wanted = options.only.split(",") if options.only else list(methods)
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "results.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    setting = {"images": options.images, "steps": options.steps, "net": options.net}
    rows = [row for row in rows if row["setting"] == setting]
    generator = invert.load_generator("avatars-128")
    clean = torch.cat([picture(i) for i in range(options.images)])
    for name in wanted:
        for task in TASKS:
            if any(row["task"] == task and row["method"] == name for row in rows):
                continue
            operator, y = observed(task, clean)
            scores, images = measure(methods[name], operator, y, clean, generator, options)
            torch.save(images, options.out / f"{task.replace('/', '-')}.{name}.pt")
            new = [{"task": task, "method": name, "image": i, "setting": setting} | s for i, s in enumerate(scores)]
            with log.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)
            rows += new
            print(task, name, *(round(s["accuracy"], 3) for s in scores), f"{scores[0]['seconds']} s", flush=True)
    for task in TASKS:
        draw(options.out, task, list(methods), clean)
    for column in ("accuracy", "fidelity", "psnr", "seconds", "steps"):
        print(f"\n{table(rows, methods, column)}")


if __name__ == "__main__":
    main()
