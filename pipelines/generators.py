"""Generators for a person to see: which are there, what one is, what it draws."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from invert import Generator
from invert.generator import BUNDLED, StyleGenerator, find
from invert.generator.download import cache

from . import files

COLUMNS = 8


def show_all() -> None:
    """A line for each bundled generator, by name, and for each fetched file."""
    rows = [(name, "bundled", find(name)) for name in BUNDLED]
    fetched = sorted(p for p in cache().glob("*") if p.is_file() and not p.name.startswith("."))
    for name, where, path in [*rows, *((path, "fetched", path) for path in fetched)]:
        print(f"{path.stat().st_size / 1e6:9.1f} MB  {where}  {name}")


def describe(generator: Generator) -> None:
    """What the generator is, a line each."""
    facts = {
        "family": type(generator).__name__,
        "images": f"{generator.resolution}×{generator.resolution}, {generator.channels} channels",
        "spaces": ", ".join(f"{s} {list(generator.latent_shape(s))}" for s in generator.spaces),
        "z_dim": generator.z_dim,
        "classes": generator.c_dim or "none",
        "parameters": f"{sum(p.numel() for p in generator.parameters()):,}",
    }
    if isinstance(generator, StyleGenerator):
        facts |= {
            "architecture": getattr(generator.synthesis, "architecture", "alias-free"),
            "w_dim": generator.w_dim,
            "‖w_avg‖": f"{generator.w_avg.norm(dim=-1).mean():.3f}",
            "mean ‖w - w_avg‖": f"{generator.w_spread:.3f}",
        }
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, str(value))
    Console(soft_wrap=True).print(table)


def draw(generator: Generator, count: int, seed: int, path: Path) -> None:
    """A sheet of `count` images of z ~ N(0, I), and of classes in turn where there are any."""
    draws = torch.Generator().manual_seed(seed)
    rows = []
    for i in range(count):  # one by one, for generators that fill the memory
        z = torch.randn(1, generator.z_dim, generator=draws)
        with torch.no_grad():
            if isinstance(generator, StyleGenerator):
                z = generator.mapping(z, i % generator.c_dim if generator.c_dim else None)
            rows.append(files.to_pil(generator.synthesize(z)))
    side, columns = generator.resolution, min(count, COLUMNS)
    sheet = Image.new(rows[0].mode, (columns * side, -(-count // columns) * side))
    for i, picture in enumerate(rows):
        sheet.paste(picture, (i % columns * side, i // columns * side))
    files.write(path, files.encode(sheet))
