"""The command line as a user has it, in this process."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy
import pytest
from PIL import Image
from typer.testing import CliRunner

import invert
from pipelines.cli import app
from pipelines.realism import Reference
from tests.conftest import AVATARS
from tests.invert.solving import lively

# as pip installed it, for tests that need a process
COMMAND = Path(sys.executable).with_name("degrade")
FOURFOLD = "downsample:2,filter=any >> poisson:48 >> deadpixels:0.08 >> jpeg:18 >> strokes:5"


class Tiny:
    """A random generator of few channels. Its file is written when a command line names it.

    It draws no faces, and costs a fraction of the bundled generator.
    """

    def __init__(self, resolution):
        self.resolution = resolution

    def __str__(self):
        return str(tiny_file(self.resolution))

    __fspath__ = __str__  # for a command in a process of its own


FOLDER = tempfile.TemporaryDirectory(prefix="degrade-tests-")  # removed when the tests end


@cache
def tiny_file(resolution):
    path = Path(FOLDER.name) / f"tiny-{resolution}.safetensors"
    invert.save_generator(lively(resolution=resolution), path)
    return path


AVATARS_128 = ("--perceptual", "alex", "--generator", "avatars-128")
TINY_128 = ("--perceptual", "alex", "--generator", Tiny(128))
TINY_64 = ("--perceptual", "alex", "--generator", Tiny(64))
FAST = ("--steps", 1, *TINY_128)  # the shortest solve
BENCH = ("--steps", 2, "--batch", 2, *TINY_64)
TASKS = "upsampling/XS,upsampling/XL,denoising/M,UNAP"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refusal(function, *arguments):
    """The message of a refusal, which is one line."""
    with pytest.raises(ValueError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def apply(*inputs, output, op, seed=0):
    result = run("apply", *inputs, "--output", output, "--op", op, "--seed", seed)
    assert result.exit_code == 0, result.output
    return result


def restore(source, output, *more, steps=2):
    return run("restore", source, "-o", output, *TINY_128, "--steps", steps, *more)


def pixels(path):
    return numpy.array(Image.open(path).convert("RGB"))


def small(number):
    """An avatar as a benchmark of a generator of 64² sees it: each pixel is the mean of four."""
    with Image.open(AVATARS / f"{number:03}.png") as image:
        return image.convert("RGB").resize((64, 64), Image.Resampling.BOX)


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


def copies(folder, *names):
    """Write avatars under these names into a folder; return it."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(AVATARS / f"{i:03}.png", folder / name)
    return folder


def without_torch(*arguments, **environment):
    """What the installed command prints; it must not have loaded torch for it."""
    told = os.environ | environment | {"PYTHONPROFILEIMPORTTIME": "1"}  # every import, to stderr
    out = subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, check=True, env=told
    )
    assert "pipelines.cli" in out.stderr and not re.search(r"\| +torch\b", out.stderr)
    return out.stdout
