"""The command line as a user has it, in this process."""

import json
import shutil
import sys
from pathlib import Path

import numpy
from PIL import Image
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.realism import Reference
from tests.conftest import AVATARS

# as pip installed it, for tests that need a process
COMMAND = Path(sys.executable).with_name("degrade")
FOURFOLD = "downsample:2,filter=any >> poisson:48 >> deadpixels:0.08 >> jpeg:18 >> strokes:5"

AVATARS_128 = ("--perceptual", "alex", "--generator", "avatars-128")
FAST = ("--steps", 1, *AVATARS_128)  # the shortest solve
BENCH = ("--perceptual", "alex", "--steps", 2, "--batch", 2)
TASKS = "upsampling/XS,upsampling/XL,denoising/M,UNAP"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def apply(*inputs, output, op, seed=0):
    result = run("apply", *inputs, "--output", output, "--op", op, "--seed", seed)
    assert result.exit_code == 0, result.output
    return result


def pixels(path):
    return numpy.array(Image.open(path).convert("RGB"))


def start_bench(output, *more, tasks=TASKS, methods="robust,pulse", limit=2, images=AVATARS):
    return run(
        "bench",
        *BENCH,
        "--images",
        images,
        "-o",
        output,
        "--tasks",
        tasks,
        "--methods",
        methods,
        "--limit",
        limit,
        *more,
    )


def leave_out_realism(replace=setattr):
    """Leave the metrics of sets of pictures out of reports, which take most of a short run.

    They are empty, as for a folder without clean pictures. `replace` sets an attribute.
    """
    for name in ("crops", "whole", "niqe_model"):
        replace(Reference, name, None)


def observations(folder, count):
    """So many pictures to begin with, some in a folder of their own."""
    for i in range(count):
        path = folder / ("deep" if i % 3 == 0 else "") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(AVATARS / f"{i % 4:03}.png", path)
    return folder


def contents(folder):
    """What a user finds there: (file → bytes), and the rows of a benchmark without their times."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith(".degrade-"):
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    found.pop("results.jsonl", None)
    rows = folder / "results.jsonl"
    lines = [line for line in rows.read_bytes().split(b"\n") if line] if rows.exists() else []
    return found, sorted(json.dumps(json.loads(line) | {"seconds": 0}) for line in lines)
