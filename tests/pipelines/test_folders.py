"""Folders in every state: foreign files are never replaced, and interrupted runs go on."""

import json
import os
import resource
import shutil
import subprocess

import pytest

import invert
from pipelines.bench import Bench
from pipelines.bench_job import BenchSettings
from tests.conftest import AVATARS, slow_except
from tests.processes import start

from .shell import COMMAND, FAST, apply, contents, copies, pixels, run, start_bench

pytestmark = pytest.mark.usefixtures("without_realism")  # test_metrics.py tests it


def test_output_never_replaces_foreign_files(tmp_path):
    photos = copies(tmp_path / "photos", "a.png", "sub/a.png")
    before = contents(photos)
    result = run("apply", photos, "-o", photos / "sub", "--op", "downsample:2")
    assert result.exit_code == 2 and "sub/a.png is there" in result.stderr
    assert run("apply", photos / "sub", "-o", photos, "--op", "downsample:2").exit_code == 2
    apply(photos / "a.png", output=tmp_path / "seen", op="downsample:2")
    result = run("restore", tmp_path / "seen", "-o", photos, "--clean", photos, *FAST)
    assert result.exit_code == 2 and "a.png is there, and no log" in result.stderr
    assert contents(photos) == before
    command = ["restore", tmp_path / "seen", "-o", tmp_path / "r", *FAST]
    assert run(*command).exit_code == 0
    before = contents(tmp_path / "r")
    result = run(*command, "--init", tmp_path / "r" / "a.latent.safetensors")
    assert (
        result.exit_code == 2
        and "would be written over" in result.stderr
        and contents(tmp_path / "r") == before
    )


def test_results_that_share_a_file_fail_the_later_one(tmp_path):
    copies(tmp_path / "in", "a.png", "a.sheet.png")
    result = run("restore", tmp_path / "in", "-o", tmp_path / "r", "--op", "clamp", *FAST)
    assert (
        result.exit_code == 3
        and "would share one result, a.sheet.png" in result.stderr
        and pixels(tmp_path / "r" / "a.png").shape == (128, 128, 3)
    )


def test_results_below_the_input_are_not_inputs(tmp_path):
    folder = copies(tmp_path / "in", "a.png", "b/c.png")
    for _ in range(2):
        result = apply(folder, output=folder / "out", op="downsample:2")
        assert "left out" not in result.stderr
    assert sorted(
        p.relative_to(folder / "out").as_posix() for p in folder.glob("out/**/*.png")
    ) == ["a.png", "b/c.png"]
    folder = copies(tmp_path / "clean", "a.png")
    for _ in range(2):
        result = start_bench(folder / "b", images=folder, tasks="UNAP", methods="brgm")
        assert result.exit_code == 0 and "left out" not in result.stderr, result.output
    assert [path.name for path in (folder / "b" / "images" / "clean").iterdir()] == ["a.png"]
    result = start_bench(folder, images=folder, tasks="UNAP", methods="brgm")
    assert result.exit_code == 2 and "holds the pictures" in result.stderr


@pytest.mark.parametrize("command", ["apply", "restore", "bench"])
def test_pictures_left_out_of_the_output_folder_are_counted(tmp_path, command):
    """Results of an earlier run are not counted."""
    folder = copies(tmp_path / "in", "a.png", "out/b.png", "out/deep/c.png")
    inputs = {
        "apply": ["apply", folder, "--op", "clamp"],
        "restore": ["restore", folder, "--op", "clamp", *FAST],
        "bench": ["bench", "--images", folder, "--tasks", "UNAP", *FAST],
    }
    for _ in range(2):
        result = run(*inputs[command], "-o", folder / "out")
        assert result.exit_code == 0, result.output
        (said,) = [line for line in result.stderr.splitlines() if "left out" in line]
        assert f"pictures below it are left out: 2 in {folder / 'out'}" in said


def test_no_picture_outside_the_output_folder_is_told(tmp_path):
    folder = copies(tmp_path / "in", "out/b.png")
    result = run("apply", folder, "-o", folder / "out", "--op", "clamp")
    assert result.exit_code == 2
    assert f"no picture found outside {folder / 'out'}" in result.stderr


def test_picture_given_from_the_output_folder_is_not_left_out(tmp_path):
    folder = copies(tmp_path / "in", "a.png", "out/deep/b.png")
    inputs = [folder, folder / "out" / "deep"]
    result = run("apply", *inputs, "-o", folder / "out", "--op", "clamp")
    assert result.exit_code == 0 and "left out" not in result.stderr
    assert (folder / "out" / "b.png").exists()


def test_manifest_marked_begun_is_not_used(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path / "o", op="clamp")
    path = tmp_path / "o" / "000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"begun": True}))
    result = run("restore", tmp_path / "o", "-o", tmp_path / "r", *FAST)
    assert result.exit_code == 2 and "run it again" in result.stderr


def test_missing_results_are_made_again(tmp_path):
    command = ["restore", AVATARS / "000.png", "-o", tmp_path / "r", "--op", "clamp", *FAST]
    assert run(*command).exit_code == 0
    before = contents(tmp_path / "r")
    for name in ("000.png", "000.sheet.png", "000.latent.safetensors"):
        (tmp_path / "r" / name).unlink()
        assert run(*command).exit_code == 0 and contents(tmp_path / "r") == before
        (tmp_path / "r" / name).write_bytes(b"cut")
        assert run(*command).exit_code == 0 and contents(tmp_path / "r") == before
    start_bench(tmp_path / "b", tasks="UNAP", methods="robust")
    before = contents(tmp_path / "b")[0]
    pictures = {file: data for file, data in before.items() if file.startswith("images")}
    for gone in ("images", "images/UNAP/observed"):
        shutil.rmtree(tmp_path / "b" / gone)
        assert start_bench(tmp_path / "b", tasks="UNAP", methods="robust").exit_code == 0
        after = contents(tmp_path / "b")[0]
        assert {file: data for file, data in after.items() if file.startswith("images")} == pictures


@pytest.mark.parametrize("text", ["[" * 200_000, "{", "[1]", "\udcff", '{"kind": "manifest"}', ""])
def test_foreign_record_is_a_one_line_error(tmp_path, text):
    folder = copies(tmp_path / "in", "a.png")
    (folder / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    for command in (
        ["restore", folder, "-o", tmp_path / "r"],
        ["apply", AVATARS / "000.png", "-o", folder],
    ):
        more = ["--op", "clamp"] if command[0] == "apply" else []
        shutil.copy(folder / "a.json", folder / "000.json")
        result = run(*command, *more)
        said = [*filter(None, result.stderr.splitlines())]  # a progress bar ends with an empty one
        assert result.exit_code == 2 and all(line.startswith("error:") for line in said), (
            result.output
        )
        assert any(".json is not a" in line for line in said)


def test_damaged_rows_and_logs_are_recomputed(tmp_path):
    start_bench(tmp_path / "b", tasks="UNAP", methods="robust")
    rows = tmp_path / "b" / "results.jsonl"
    good = rows.read_bytes()
    rows.write_bytes(b"[" * 100_000 + b"\n\xff\n" + good.replace(b'"loss"', b'"lost"') + good)
    result = start_bench(tmp_path / "b", tasks="UNAP", methods="robust")
    assert result.exit_code == 0, result.output
    restore = ["restore", AVATARS / "000.png", "-o", tmp_path / "r", "--op", "clamp", *FAST]
    assert run(*restore).exit_code == 0
    log = tmp_path / "r" / "000.json"
    for loss in (None, "x", [None]):
        log.write_text(json.dumps(json.loads(log.read_text()) | {"loss": loss}))
        result = run(*restore, "--report")
        assert result.exit_code == 0 and len(json.loads(log.read_text())["loss"]) == 1, (
            result.output
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["restore", "{in}", "-o", "{out}"],
        ["apply", "{in}", "-o", "{in}/out", "--op", "clamp"],
        ["apply", "{in}/a.png", "-o", "{out}", "--op", "mask:{pipe}"],
        ["restore", "{in}/a.png", "-o", "{out}", "--op", "clamp", "--init", "{pipe}"],
        ["restore", "{in}/a.png", "-o", "{out}", "--op", "clamp", "--clean", "{pipe}"],
        ["bench", "--images", "{in}", "-o", "{out}", "--tasks", "UNAP", "--tuned", "{pipe}"],
        ["apply", "{in}/a.png", "-o", "{out}", "--op", "mask:/dev/zero"],
    ],
)
def test_pipes_and_devices_are_never_read(tmp_path, arguments):
    folder = copies(tmp_path / "in", "a.png")
    for pipe in ("in/a.json", "in/out/a.json", "pipe.png", "out/.degrade-x.tmp"):
        (tmp_path / pipe).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / pipe)
    known = {"in": folder, "out": tmp_path / "out", "pipe": tmp_path / "pipe.png"}
    (tmp_path / "printed").mkdir()
    command = [argument.format(**known) for argument in arguments]
    exit_code, errors = start(tmp_path / "printed", *command, seconds=60)
    lines = [line for line in errors.split("\n") if line]
    assert exit_code == 2 and "no ordinary file" in errors and len(lines) == 1, errors


@pytest.mark.parametrize(
    "redirection", slow_except(("> /dev/full",), ("| true", "> /dev/full", ">&- 2>&-"))
)
def test_output_streams_may_be_closed_or_full(tmp_path, redirection):
    folder = copies(tmp_path / "in", "a.png", "b.png", "c.png")
    command = (
        f"set -o pipefail; {COMMAND} apply {folder} -o {tmp_path / 'out'} --op clamp {redirection}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (
        len(list((tmp_path / "out").glob("*.png"))) == 3
        and done.returncode == 0
        and done.stderr == ""
    )


def test_control_characters_in_names_are_escaped(tmp_path):
    name = "e\x1b]0;title\x07\r\x1b[2Kok\x9b.png"
    (tmp_path / name).write_bytes(b"")
    shutil.copy(AVATARS / "000.png", tmp_path / f"good {name}")
    result = run("apply", tmp_path, "-o", tmp_path / "out", "--op", "clamp")
    assert (
        result.exit_code == 3
        and "\\x1b]0;title\\x07\\x0d" in result.stderr
        and "\\x9b" in result.stdout
    )
    assert not set(result.output) & set("\x1b\x07\r\x9b")


def test_report_takes_names_that_are_not_text(tmp_path):
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    shutil.copy(AVATARS / "000.png", folder + b"/b\xff.png")
    result = run(
        "bench", "--images", tmp_path / "in", "--tasks", "UNAP", "-o", tmp_path / "o", *FAST
    )
    assert result.exit_code == 0 and (tmp_path / "o" / "report.html").exists(), result.output


@pytest.mark.parametrize("content", [b"PK\x03\x04garbage", b"", b"\x93NUMPY"])
def test_damaged_statistics_are_a_one_line_error(tmp_path, content):
    (tmp_path / "s.npz").write_bytes(content)
    result = run(
        "bench",
        "--images",
        AVATARS,
        "--limit",
        1,
        "--tasks",
        "UNAP",
        "-o",
        tmp_path / "o",
        *FAST,
        "--reference",
        tmp_path / "s.npz",
    )
    assert result.exit_code == 2 and "neither a folder nor an .npz" in result.stderr


def test_rows_cut_by_a_full_disk_are_an_error(tmp_path):
    """The kernel takes as many bytes as a file may have, says how many, and refuses the next."""
    mine, row = (
        Bench(tmp_path, BenchSettings()),
        {"task": "UNAP", "method": "robust", "image": "a", "loss": [1.0]},
    )
    mine._append([row])
    size, usual = mine.rows_path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, usual[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            mine._append([row | {"image": "b"}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [r["image"] for r in mine.rows()] == ["a"]
    mine._append([row | {"image": "c"}])
    assert [r["image"] for r in mine.rows()] == ["a", "c"]


def test_checkpoint_is_never_its_own_output(tmp_path):
    invert.save_generator(invert.load_generator("avatars-128"), tmp_path / "g.safetensors")
    before = contents(tmp_path)
    for command in (
        ["inspect", tmp_path / "g.safetensors", "--samples", 1, "-o"],
        ["convert", tmp_path / "g.safetensors"],
    ):
        result = run(*command, tmp_path / "g.safetensors")
        assert (
            result.exit_code == 2
            and "is the input" in result.stderr
            and contents(tmp_path) == before
        )
