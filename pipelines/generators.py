"""`degrade generators`, and what `degrade inspect` says of one."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from rich.text import Text

import invert
from invert import Generator
from invert.generator import BUNDLED, StyleGenerator, find
from invert.generator.download import cache

from . import atomic, files, tables

COLUMNS = 8  # pictures side by side in a sheet of samples


def show_all() -> None:
    """Print a line for each bundled generator, by name, and for each downloaded file."""
    downloads = []
    for path in sorted(cache().glob("*")):
        if path.is_file() and not path.name.startswith("."):
            downloads.append(path)
    for name in BUNDLED:
        _print_line(find(name), "bundled", name)
    for path in downloads:
        _print_line(path, "fetched", str(path))


def _print_line(path: Path, origin: str, name: str) -> None:
    tables.show(Text(f"{path.stat().st_size / 1e6:9.1f} MB  {origin}  {name}"))


def load(what: str) -> Generator:
    """Load a generator. Raises ValueError, which names both kinds, for a file of neither."""
    try:
        return invert.load_generator(what)
    except ValueError as error:
        if not Path(what).is_file():
            raise
        raise ValueError(
            f"{what} is neither a picture nor a checkpoint of a generator ({error})"
        ) from error


def describe(generator: Generator) -> None:
    """Print what a generator is, a line for each fact."""
    spaces = [f"{space} {list(generator.latent_shape(space))}" for space in generator.spaces]
    side = generator.resolution
    facts = {
        "family": type(generator).__name__,
        "images": f"{side}×{side}, {generator.channels} channels",
        "spaces": ", ".join(spaces),
        "z_dim": str(generator.z_dim),
        "classes": str(generator.c_dim or "none"),
        "parameters": f"{sum(tensor.numel() for tensor in generator.parameters()):,}",
    }
    if isinstance(generator, StyleGenerator):
        facts["architecture"] = getattr(generator.synthesis, "architecture", "alias-free")
        facts["w_dim"] = str(generator.w_dim)
        facts["‖w_avg‖"] = f"{generator.w_avg.norm(dim=-1).mean():.3f}"
        facts["mean ‖w - w_avg‖"] = f"{generator.w_spread:.3f}"
    tables.show(tables.facts(facts))


def draw(generator: Generator, count: int, seed: int, path: Path) -> None:
    """Draw a sheet of `count` images of z ~ N(0, I), one class after another if there are some."""
    random = torch.Generator().manual_seed(seed)
    pictures = []
    for i in range(count):  # one by one, since some generators fill the memory
        z = torch.randn(1, generator.z_dim, generator=random)
        with torch.no_grad():
            if isinstance(generator, StyleGenerator):
                z = generator.mapping(z, i % generator.c_dim if generator.c_dim else None)
            pictures.append(files.to_pil(generator.synthesize(z)))
    side, columns = generator.resolution, min(count, COLUMNS)
    rows = -(-count // columns)
    sheet = Image.new(pictures[0].mode, (columns * side, rows * side))
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        sheet.paste(picture, (column * side, row * side))
    atomic.write(path, files.encode(sheet))
