"""The command line: mistakes, help, options, output that cannot be written."""

import errno
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image

import degrade
from pipelines import cli, console, files, history, options
from tests.conftest import AVATARS
from tests.processes import start

from .shell import FAST, run, without_torch


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
            "--op jpeg:12|30 has a quality for each image of a batch",
        ),
        (
            ["apply", "{ok}", "-o", "{tmp}/o", "--op", "clamp >> maybe:0.5(haze:0.1|0.2|0.3)"],
            "give one beta, or a range low..high, which is drawn for each",
        ),
        (
            ["apply", "{ok}", "-o", "{tmp}/o", "--op", "perimage(jpeg:10 ; jpeg:20)"],
            "has an operator for each image of a batch",
        ),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--op", "gaussian:0.1|0.2"],
            "--op gaussian:0.1|0.2 has a sigma for each image of a batch",
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
        (["restore", "{ok}", "-o", "{tmp}/o", "--clean", "{tmp}/no"], "no does not exist; check"),
        (["restore", "{ok}", "-o", "{tmp}/o", "--init", "{tmp}/no"], "no does not exist; check"),
        (
            ["restore", "{ok}", "-o", "{tmp}/o", "--keep-visible", "--no-keep-visible"],
            "--keep-visible is given 2 times; give it once",
        ),
        (["restore", "{ok}", "-o", "{tmp}/o", "--steps", "-3"], "'--steps': '-3'. Input should"),
        (["apply", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--seed", "x"], "'--seed': 'x'. Inp"),
        (["bench", "--images", "{ok}", "-o", "{tmp}/o", "--limit", "0"], "'--limit': '0'. Input"),
        (["apply", "{ok}", "-o", "/proc/no", "--op", "clamp"], "/proc/no cannot be made: "),
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


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--method", "magic"], "error: method='magic' must be one of robust"),
        (["--method", "robust"], "error: method='robust' needs a generator, such as the prior av"),
        (
            ["--method", "pnp", *AVATAR],
            "error: method='pnp' needs a denoiser, such as the prior ph",
        ),
        (["--class", "3", *AVATAR], "error: --class: this prior has no classes; leave it out"),
        (["--perceptual", "eye"], "error: perceptual='eye' must be one of vgg, alex"),
    ],
)
def test_mistake_in_an_option_is_told_once_for_all_pictures(tmp_path, more, told):
    pictures = [AVATARS / "000.png", AVATARS / "001.png"]
    result = run("restore", *pictures, "-o", tmp_path / "o", "--op", "clamp", *more)
    assert result.exit_code == 2 and result.stderr.count("error") == 1
    assert result.stderr.startswith(told)


@pytest.mark.parametrize("command", ["apply", "restore"])
def test_output_that_cannot_be_written_to_is_named(tmp_path, monkeypatch, command):
    """As a read-only folder is; root, who may run the tests, may write everywhere."""
    opened = Path.open

    def refused(path, *arguments, **options):
        if path.name.startswith(".degrade-") and path.suffix == ".tmp":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    more = FAST if command == "restore" else ()
    result = run(command, AVATARS / "000.png", "-o", tmp_path / "o", "--op", "clamp", *more)
    told = f"{tmp_path}/o cannot be written to: Permission denied; choose another --output"
    assert result.exit_code == 2 and told in result.stderr and ".tmp" not in result.stderr


def test_bad_file_does_not_stop_the_others(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_text("x")
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "in" / "good.png")
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "jpeg:50")
    assert result.exit_code == 3 and "bad.png" in result.output
    assert (tmp_path / "out" / "good.jpg").exists()


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


@pytest.mark.slow
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
