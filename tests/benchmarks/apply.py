"""Throughput of `degrade apply` against a plain Pillow loop: 200 pictures of 512², two workers.

    python tests/benchmarks/apply.py [count]

Both read PNG, reduce four times, save JPEG of quality 12; runs alternate, medians are compared.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli import app

AVATARS = sorted((Path(__file__).parents[2] / "examples" / "avatars").glob("*.png"))


def make_pictures(folder: Path, count: int) -> None:
    noise = numpy.random.default_rng(0)
    for i in range(count):
        avatar = Image.open(AVATARS[i % len(AVATARS)]).convert("RGB")
        picture = avatar.resize((512, 512), Image.BICUBIC)
        pixels = numpy.asarray(picture, dtype=float) + noise.normal(0, 6, (512, 512, 3))
        Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(folder / f"{i:03}.png")


def with_pillow(folder: Path, output: Path) -> None:
    output.mkdir()
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((128, 128), Image.BICUBIC)
        small.save(output / f"{path.stem}.jpg", quality=12)


def with_degrade(folder: Path, output: Path) -> None:
    operator = ["--op", "downsample:4 >> jpeg:12"]
    command = ["apply", str(folder), "-o", str(output), *operator, "--quiet"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output


def seconds(run, *arguments) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as root:
        pictures = Path(root, "in")
        pictures.mkdir()
        make_pictures(pictures, count)
        with_degrade(pictures, Path(root, "warm"))  # imports and caches
        pillow_times, degrade_times = [], []
        for i in range(3):
            pillow_times.append(seconds(with_pillow, pictures, Path(root, f"p{i}")))
            degrade_times.append(seconds(with_degrade, pictures, Path(root, f"d{i}")))
        for path in Path(root, "p0").iterdir():
            assert path.read_bytes() == Path(root, "d0", path.name).read_bytes(), path
    pillow = statistics.median(pillow_times)
    ours = statistics.median(degrade_times)
    print(f"Pillow loop  {count / pillow:7.1f} pictures/s")
    print(
        f"degrade      {count / ours:7.1f} pictures/s   "
        f"{pillow / ours:.2f} of Pillow's speed; equal files"
    )


if __name__ == "__main__":
    main()
