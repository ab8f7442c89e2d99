"""The command line: mistakes, help, and what it tells of operators and generators."""

import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import typer
from PIL import Image

import degrade
import invert
from invert.generator import BUNDLED
from invert.perceptual import NETS
from pipelines import cli, files, options
from pipelines.completion import operator_names
from pipelines.tasks import SUITES
from tests.conftest import AVATARS, rng

from .shell import pixels, run


def test_quiet_prints_nothing(tmp_path):
    out = run("apply", AVATARS / "000.png", "-o", tmp_path / "o", "--op", "clamp", "--quiet")
    assert (out.exit_code, out.output) == (0, "")
    out = run(
        "restore",
        tmp_path / "o",
        "-o",
        tmp_path / "r",
        "--steps",
        1,
        "--perceptual",
        "alex",
        "--quiet",
    )
    assert (out.exit_code, out.output) == (0, "")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (
            ["apply", "{tmp}/none.png", "-o", "{tmp}/o", "--op", "jpeg:12"],
            "none.png does not exist",
        ),
        (["apply", "{tmp}/text.png", "-o", "{tmp}/o", "--op", "jpeg:12"], "is not an image"),
        (["apply", "{tmp}/cut.png", "-o", "{tmp}/o", "--op", "jpeg:12"], "cut.png"),
        (["apply", "{tmp}/empty", "-o", "{tmp}/o", "--op", "jpeg:12"], "no picture found"),
        (["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpg:12"], "did you mean jpeg"),
        (["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpeg:0"], "quality=0"),
        (["apply", "{ok}", "-o", "{tmp}/o", "--op", "mask:none.png"], "none.png"),
        (["apply", "{ok}", "-o", "{tmp}/text.png/o", "--op", "jpeg:12"], "text.png"),
        (
            ["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpeg:12|30"],
            "quality has 2 values for 1 images",
        ),
        (["apply", "{ok}", "-o", "{tmp}/annotated", "--op", "clamp"], "000.json is not a manifest"),
        (["apply", "{tmp}/small.png", "-o", "{tmp}", "--op", "jpeg:12"], "holds the input"),
        (
            ["apply", "{tmp}/small.png", "{tmp}/small.jpg", "-o", "{tmp}/o", "--op", "clamp"],
            "share one result",
        ),
        (
            ["restore", "{tmp}/small.png", "-o", "{tmp}/o", "--op", "resize:50"],
            "leads to no picture of",
        ),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--generator", "nosuch"],
            "avatars-128",
        ),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--method", "magic"],
            "must be one of robust",
        ),
        (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--perceptual", "eye"], "vgg, alex"),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--device", "warp"],
            "use cpu or auto",
        ),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--device", "meta"],
            "use cpu or auto",
        ),
        (
            ["restore", "{ok}", "-o", "{tmp}/annotated", "--op", "clamp", "--steps", "1"],
            "000.json is not a log",
        ),
        (["restore", "{ok}", "-o", "{tmp}/o", "--op", "strokes:3"], "sample"),
        (
            [
                "restore",
                "{ok}",
                "-o",
                "{tmp}/o",
                "--op",
                "clamp",
                "--clean",
                "{tmp}/none.png",
                "--steps",
                "1",
            ],
            "none.png",
        ),
        (["apply", "{ok}", "-o", "{tmp}/o"], "--op"),
        (["inspect", "{tmp}/text.png"], "is not an image that can be read"),
        (["inspect", "{tmp}/none.jpg"], "cannot be read"),
        (["inspect", "nosuch"], "avatars-128"),
        (["inspect", "{tmp}/empty"], "no picture found"),
        (["inspect", "{tmp}/notes.txt"], "neither a picture nor a checkpoint"),
        (["inspect", "{tmp}", "--samples", "2"], "--samples draws from a generator"),
        (["convert", "avatars-128", "{tmp}/o.pkl"], "must end in .safetensors"),
        (["nosuch"], "No such command"),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((AVATARS / "000.png").read_bytes()[:1500])
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("eggs, milk")
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "000.json").write_text('{"boxes": []}')
    for name in ("small.png", "small.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    result = run(*(a.format(tmp=tmp_path, ok=AVATARS / "000.png") for a in arguments))
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.tmp"))


def test_bad_file_does_not_stop_the_others(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_text("x")
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "in" / "good.png")
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "jpeg:50")
    assert result.exit_code == 3 and "bad.png" in result.output
    assert (tmp_path / "out" / "good.jpg").exists()


def without_torch(*arguments, **environment):
    """What the installed command prints; it must not have loaded torch for it."""
    told = os.environ | environment | {"PYTHONPROFILEIMPORTTIME": "1"}  # every import, to stderr
    command = [Path(sys.executable).parent / "degrade", *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=told)
    assert "pipelines.cli" in out.stderr and not re.search(r"\| +torch\b", out.stderr)
    return out.stdout


def test_help_does_not_load_torch():
    assert "restore" in without_torch("--help")


def test_version_names_every_library_used():
    ours, python, *libraries, jpeg = without_torch("--version").splitlines()
    assert (
        ours == f"degrade {degrade.__version__}" and python == f"python {platform.python_version()}"
    )
    assert libraries[0].split("+")[0] == f"torch {torch.__version__.split('+')[0]}"
    assert [line.split()[0] for line in libraries] == ["torch", "kornia", "lpips", "pillow"]
    assert re.fullmatch(r"libjpeg(-turbo)? [\d.]+", jpeg)


def test_completion_offers_method_names():
    tab = {
        "_DEGRADE_COMPLETE": "complete_bash",
        "COMP_WORDS": "degrade restore --method p",
        "COMP_CWORD": "3",
    }
    assert without_torch(**tab).split() == ["pti", "pulse", "pulse-original"]


def test_completion_lists_equal_the_declarations():
    assert options.METHODS("") == sorted(invert.METHODS)
    assert (
        options.GENERATORS("") == list(BUNDLED)
        and options.NETS("") == list(NETS)
        and options.SUITES("") == list(SUITES)
    )


@pytest.mark.parametrize("name, command", typer.main.get_command(cli.app).commands.items())
def test_help_examples_are_valid_commands(name, command):
    lines = [line.strip() for line in command.help.splitlines()]
    examples = [shlex.split(line) for line in lines if line.startswith("degrade ")]
    assert (
        1 <= len(examples) <= 3 and max(map(len, lines[1:])) <= 78
    )  # the first is wrapped, the others not
    for _, verb, *arguments in examples:
        said = command.make_context(verb, arguments).params  # refuses what it does not know
        assert verb == name and degrade.parse(said.get("op") or "clamp")


def test_ops_lists_every_operator():
    result = run("ops")
    assert result.exit_code == 0
    rows = result.output.splitlines()
    for name, cls in degrade.registry.REGISTRY.items():
        (row,) = (row for row in rows if row.split()[1:2] == [name])
        assert cls.gradient in row and "…" not in row  # a pipe cuts nothing


def test_methods_lists_all_and_shows_constants():
    listed = run("methods").output
    assert all(name in listed for name in invert.METHODS)
    shown = run("methods", "pulse").output
    for word in (
        "Menon",
        "250 steps of Adam(lr=0.8",
        "Sphere()",
        "100 × MSE(floor=0.002)",
        "0.05 × Geodesic(",
    ):
        assert word in shown
    assert "stops at Below(term='lpips', limit=0.06)" in run("methods", "pti").output
    assert "Kawar" in run("methods", "ddrm").output
    wrong = run("methods", "magic")
    assert wrong.exit_code == 2 and "method='magic' must be one of" in wrong.stderr


def test_generator_is_described_sampled_and_converted(tmp_path):
    said = run("inspect", "avatars-128", "--samples", 3, "--seed", 1, "-o", tmp_path / "s.png")
    assert said.exit_code == 0, said.output
    for fact in ("128×128", "3,544,901", "W++ [12, 192, 256]", "7.5"):
        assert fact in said.output
    G = invert.load_generator("avatars-128")
    draws = rng(1)
    for i in range(3):
        image = G.synthesize(G.mapping(torch.randn(1, 128, generator=draws)))
        assert (
            pixels(tmp_path / "s.png")[:, 128 * i : 128 * i + 128]
            == numpy.array(files.to_pil(image))
        ).all()
    nvidia = Path(__file__).parent.parent / "data" / "nvlabs-like.pkl"
    assert run("convert", nvidia, tmp_path / "c.safetensors").exit_code == 0
    w = torch.randn(1, 48, generator=rng())
    both = [
        invert.load_generator(path).synthesize(w) for path in (nvidia, tmp_path / "c.safetensors")
    ]
    assert torch.equal(*both)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("c")] == ["c.safetensors"]


def test_generators_lists_bundled_and_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("DEGRADE_CACHE", str(tmp_path))
    (tmp_path / "0123-ffhq.pkl").write_bytes(b"x")
    said = run("generators")
    assert (
        said.exit_code == 0
        and "avatars-128" in said.output
        and str(tmp_path / "0123-ffhq.pkl") in said.output
    )
