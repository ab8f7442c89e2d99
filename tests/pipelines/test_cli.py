"""The command line: mistakes, help, and what it tells of operators and generators."""

import inspect
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy
import pytest
import torch
import typer
from PIL import Image, ImageCms

import degrade
import invert
from degrade.params import described
from invert.generator import BUNDLED
from invert.perceptual import NETS
from pipelines import cli, console, files, history, options
from pipelines.completion import operator_names
from pipelines.tasks import SUITES
from tests.conftest import AVATARS, rng
from tests.processes import start

from .shell import FAST, pixels, run


def test_quiet_prints_nothing(tmp_path):
    out = run("apply", AVATARS / "000.png", "-o", tmp_path / "o", "--op", "clamp", "--quiet")
    assert (out.exit_code, out.output) == (0, "")
    out = run("restore", tmp_path / "o", "-o", tmp_path / "r", *FAST, "--quiet")
    assert (out.exit_code, out.output) == (0, "")


AVATAR = ["--prior", "avatars-128"]


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
            ["restore", "{tmp}/small.png", "-o", "{tmp}/o", "--op", "resize:50", *AVATAR],
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
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
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
    offered = without_torch(**tab).split()
    assert offered == ["pigdm", "pnp", "pti", "pti-original", "pulse", "pulse-original"]


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
    assert "stops at Below(term='lpips', limit=0.06)" in run("methods", "pti-original").output
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


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["apply", "{ok}", "-o", "{tmp}", "--op", "clamp", "--op", "jpeg:3"], "--op is given 2"),
        (["apply", "{ok}", "-o", "{tmp}", "--op", "clamp", "--seed", 1, "--seed", 1], "--seed is"),
        (
            ["bench", "--images", "{tmp}", "-o", "b", "--methods", "a", "--methods", "b"],
            "--methods",
        ),
        (["apply", "{ok}", "-o", "", "--op", "clamp"], "--output is empty"),
        (["apply", "", "-o", "{tmp}", "--op", "clamp"], "IN... is empty"),
        (["restore", "{ok}", "-o", "{tmp}/o", "--clean", ""], "--clean is empty"),
        (["inspect", ""], "WHAT is empty"),
        (["ops", "jpg"], "did you mean jpeg"),
        (["ops", "zzzzz"], "`degrade ops` lists them"),
    ],
)
def test_ambiguous_arguments_are_refused(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    given = [str(a).format(tmp=tmp_path, ok=AVATARS / "000.png") for a in arguments]
    result = run(*given)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_flags_and_plugins_may_be_repeated(tmp_path):
    result = run(
        "apply",
        AVATARS / "000.png",
        "-o",
        tmp_path,
        "--op",
        "clamp",
        "--quiet",
        "--quiet",
        "--plugin",
        "json",
        "--plugin",
        "csv",
    )
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("name", ["", *typer.main.get_command(cli.app).commands])
def test_h_prints_the_help_page(name):
    arguments = [name] if name else []
    assert run(*arguments, "-h").output == run(*arguments, "--help").output != ""


def command(*arguments, code="from pipelines.__main__ import main; main()", **options):
    """The command in a process of its own, as the installed script starts it."""
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, stderr=subprocess.PIPE, text=True, timeout=120, **options)


def test_ops_shows_a_published_pipeline():
    output = run("ops", "codeformer").output
    assert "Zhou et al. 2022" in output and "Motion kernels" in output
    assert "resize:scale=0.0333333..0.25^-1" in output.replace("\n", "").replace(" ", "")
    assert "real-esrgan-x4" in run("ops").output


FULL = "error: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_full_disk_under_stdout_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        result = command(*arguments, stdout=full)
    assert (result.returncode, result.stderr) == (1, FULL)


def print_to_a_full_disk():
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["ops", "generators"])
def test_full_disk_under_a_list_is_one_line(tmp_path, name):
    assert start(tmp_path, name, before=print_to_a_full_disk) == (1, FULL)


def test_closed_stdout_does_not_stop_a_folder(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), "teal").save(tmp_path / f"{name}.png")
    line = f"exec {sys.executable} -m pipelines apply {tmp_path} -o {tmp_path}/o --op clamp >&-"
    result = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "o").glob("*.png")} == {"a.png", "b.png"}


def test_interrupt_during_imports_is_one_line():
    code = (
        "import builtins\n"
        "real = builtins.__import__\n"
        "def stop(name, *rest, **options):\n"
        "    if name == 'typer':\n"
        "        raise KeyboardInterrupt\n"
        "    return real(name, *rest, **options)\n"
        "builtins.__import__ = stop\n"
        "from pipelines.__main__ import main\n"
        "main()\n"
    )
    result = command("ops", code=code, stdout=subprocess.DEVNULL)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_entry_point_is_the_guarded_main():
    project = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text("utf-8")
    assert 'degrade = "pipelines.__main__:main"' in project


def test_shared_options_reach_every_search_command():
    commands = typer.main.get_command(cli.app).commands
    for name in ("restore", "bench", "tune"):
        parameters = {parameter.name: parameter for parameter in commands[name].params}
        for kind in (options.SearchOptions, options.DeviceOptions):
            for field in fields(kind):
                given = parameters[field.name].default
                assert (given or None) == (getattr(kind(), field.name) or None)


def test_completion_offers_operator_names():
    ours = []
    for name, cls in degrade.registry.REGISTRY.items():
        if cls.__module__.startswith("degrade."):
            ours.append(name)
    assert operator_names("") == sorted(ours)
    assert operator_names("poisson") == ["poisson", "poissongaussian"]


@pytest.mark.parametrize("name", operator_names(""))
def test_ops_shows_one_operator_in_full(name):
    result = run("ops", name)
    assert result.exit_code == 0, result.output
    cls = degrade.registry.REGISTRY[name]
    text = " ".join(result.output.replace("│", " ").split())
    for parameter in described(cls):
        assert f"{parameter.name} {parameter.description.split()[0]}" in text
    assert " ".join(inspect.getdoc(cls).split()[:4]) in text
    example = text.partition(" example ")[2].split("└")[0].strip()
    assert degrade.parse(example)[0].name == name


def test_inspect_tells_mode_depth_alpha_and_profile(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGBA", (8, 9), (9, 9, 9, 99)).save(tmp_path / "alpha.png", icc_profile=srgb)
    Image.new("P", (8, 9)).save(tmp_path / "palette.png")
    Image.fromarray(numpy.full((9, 8), 40_000, numpy.uint16)).save(tmp_path / "deep.png")
    expected = {
        "alpha": ("RGBA, 8 bits", "laid over white", "sRGB built-in"),
        "palette": ("P, 1 bit per pixel", "1 colours", "none; sRGB is assumed"),
        "deep": ("I;16, 16 bits", "8×9", "transparency none"),
    }
    for name, words in expected.items():
        result = run("inspect", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
        text = " ".join(result.output.replace("│", " ").split())
        for word in words:
            assert word in text
    (tmp_path / "broken.png").write_text("x")
    (tmp_path / "empty.png").touch()
    listed = run("inspect", tmp_path)
    assert listed.exit_code == 3 and listed.stderr.count("error: ") == 2
    for name in ("broken", "empty"):
        assert f"error: {tmp_path}/{name}.png " in listed.stderr
        single = run("inspect", tmp_path / f"{name}.png")
        assert single.stderr.startswith(f"error: {tmp_path}/{name}.png ")
    assert all(f"{name}.png" in listed.stdout for name in expected)


def test_inspect_folder_tells_of_a_jpeg_without_a_model(tmp_path):
    """A JPEG of chroma sampling 3:1:1 is no untouched picture, which `identity` would say."""
    Image.open(AVATARS / "000.png").convert("RGB").save(tmp_path / "a.jpg", subsampling=0)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    data[data.index(b"\xff\xc0") + 11] = 0x31
    (tmp_path / "a.jpg").write_bytes(data)
    for what in (tmp_path, tmp_path / "a.jpg"):
        text = " ".join(run("inspect", what).output.replace("│", " ").split())
        assert "the file is a JPEG, but this JPEG has sampling factors 3x1" in text
    assert "identity" not in run("inspect", tmp_path).output


@pytest.mark.parametrize(
    "content", [b"", b"rubbish" * 9, b"\xff" * 64, b"\x08" + 7 * b"\0" + b"{x}     "]
)
def test_rubbish_as_safetensors_is_said_in_words(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    inspected = run("inspect", tmp_path / "a.safetensors")
    assert (
        inspected.exit_code == 2 and "it is no checkpoint that is known, or a" in inspected.stderr
    )
    mask = f"mask:{tmp_path / 'a.safetensors'}"
    masked = run("apply", AVATARS / "000.png", "-o", tmp_path / "o", "--op", mask)
    assert masked.exit_code == 2 and "no .safetensors file, or a damaged one" in masked.stderr
    for result in (inspected, masked):
        assert "header" not in result.stderr and "deserializ" not in result.stderr


def test_clean_folder_without_the_picture_is_named(tmp_path):
    (tmp_path / "clean").mkdir()
    command = ["restore", AVATARS / "000.png", "-o", tmp_path / "r", "--op", "clamp"]
    result = run(*command, "--clean", tmp_path / "clean")
    assert result.exit_code == 2
    assert f"clean={tmp_path / 'clean'} holds no 000.png for " in result.stderr


def test_clean_picture_may_have_another_extension(tmp_path):
    source = files.Source(tmp_path / "a.jpg", Path("a.jpg"))
    clean = tmp_path / "clean"
    clean.mkdir()
    for name in ("a.png", "a.txt", "ab.png"):
        (clean / name).touch()
    assert history.clean_of(source, None, clean) == clean / "a.png"
    (clean / "a.webp").touch()
    with pytest.raises(ValueError, match=r"holds a.png and a.webp for .*; give one as --clean"):
        history.clean_of(source, None, clean)
    with pytest.raises(ValueError, match=r"holds no a.jpg for .*; add it"):
        history.clean_of(source, {"source": "a.jpg"}, clean)


def test_long_lists_are_shortened(tmp_path):
    numbers = "|".join(str(i / 441) for i in range(441))
    assert console.shortened(f"blur:kernel={numbers}").endswith("… (441 numbers)")
    assert console.shortened("place:1|0|8|0|1|8,16x16") == "place:1|0|8|0|1|8,16x16"
    quality_tables = [[7] * 64, list(range(1, 65))]
    Image.open(AVATARS / "000.png").convert("RGB").save(tmp_path / "t.jpg", qtables=quality_tables)
    result = run("inspect", tmp_path / "t.jpg")
    assert "(128 numbers)" in result.stdout and "|11|12|13" not in result.stdout
