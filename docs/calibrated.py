"""Draw the pictures of docs/calibrated.md, and print its table of residuals.

    python docs/calibrated.py

They show what the method asks the operator, how much it explains step by step, and what it restores
beside the published search.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import degrade
import invert
from degrade.rng import child_seed
from invert.calibrated import Energy, distance, pyramid
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

DOCS = Path(__file__).parent
AVATARS = DOCS.parent / "examples" / "avatars"
NOISY = "poisson:24 >> deadpixels:0.16 >> clamp >> quantize"
TASKS = ("UNAP", "NA", "deartifacting/M", "inpainting/M")
SCALES = 4  # that are shown
SEARCHED = ("UNAP", "denoising/M", "upsampling/L", "deartifacting/M")
SHOWN_STEPS = (1, 8, 16, 23, 31, 38, 45)  # 16 and 31 begin in W+ and in W++
SIDE = 128


def stream(*names: object) -> torch.Generator:
    """A random stream for a purpose."""
    return torch.Generator().manual_seed(child_seed(0, *names))


def stacked(rows: list[Image.Image]) -> Image.Image:
    """Pictures of one width, one below the other."""
    height = sum(row.height for row in rows)
    page = Image.new("RGB", (rows[0].width, height), "white")
    top = 0
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


def panel(picture: Tensor) -> Image.Image:
    """A picture of a scale, with its pixels enlarged to the size of the others."""
    return to_pil(picture.clamp(0, 1)).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def scales() -> Image.Image:
    """Two draws of an operator at each scale, and how much the scale counts."""
    f = degrade.parse(NOISY).approx()
    clean = read_image(AVATARS / "003.png")
    first = pyramid(f(clean, stream("first")))
    second = pyramid(f(clean, stream("second")))
    floor = Energy().floor
    rows = []
    for a, b in list(zip(first, second, strict=True))[:SCALES]:
        noise = distance(a, b).item() / 2
        certainty = floor / (floor + noise)
        height = a.shape[2]
        panels = {
            f"first draw, {height} pixels": panel(a),
            "second draw": panel(b),
            f"difference: {noise:.3f}": panel(0.5 + (a - b) / 2),
            f"counts {certainty:.2f}": panel(torch.full_like(a, certainty)),
        }
        rows.append(sheet(panels))
    return stacked(rows)


def restored(task: str, name: str, generator: invert.Generator) -> Image.Image:
    """A picture restored by both searches in 45 steps."""
    clean = read_image(AVATARS / f"{name}.png")
    f = degrade.tasks[task].sample(clean.shape, stream(task))
    observed = f(clean, stream(task, "noise"))
    panels = {"clean": clean, task: observed}
    for method in ("robust", "calibrated"):
        found = invert.restore(observed, f.approx(), generator, method, steps=45)
        panels[method] = found.image
    return sheet({label: panel(picture) for label, picture in panels.items()})


def residuals(task: str, generator: invert.Generator) -> list[str]:
    """A row of the table: the operator's noise at the end, and the residual at some steps."""
    clean = read_image(AVATARS / "000.png")
    f = degrade.tasks[task].sample(clean.shape, stream(task))
    observed = f(clean, stream(task, "noise"))
    assumed = f.approx()
    found: list[float] = []

    def measure(step: invert.Step) -> None:
        if step.step in SHOWN_STEPS:
            found.append(distance(step.prediction, observed).item())

    image = invert.restore(observed, assumed, generator, steps=45, callback=measure).image
    first = assumed(image, stream("first"))
    second = assumed(image, stream("second"))
    noise = distance(first, second).item()
    return [task, f"{noise:.3f}", *[f"{value:.3f}" for value in found]]


def table_of_residuals(generator: invert.Generator) -> str:
    """How the residual approaches the operator's noise, one row per task."""
    rows = [["task", "noise", *[f"step {step}" for step in SHOWN_STEPS]]]
    rows.append(["---"] * len(rows[0]))
    for task in SEARCHED:
        rows.append(residuals(task, generator))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    generator = invert.load_generator("avatars-128")
    print(table_of_residuals(generator))
    write(DOCS / "calibrated-scales.png", encode(scales()))
    rows = []
    for number, task in enumerate(TASKS):
        rows.append(restored(task, f"{number:03}", generator))
    write(DOCS / "calibrated-restored.png", encode(stacked(rows)))


if __name__ == "__main__":
    main()
