"""A run that is killed leaves whole files or none, and the same command then completes it."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import AVATARS, EFFORT, slow_except
from tests.processes import Started, start

from .shell import (
    COMMAND,
    FOURFOLD,
    TINY_64,
    TINY_128,
    apply,
    contents,
    leave_out_realism,
    observations,
)

# A benchmark's seconds stand in these.
TIMED = {"results.csv", "results.json", "tables.md", "report.html"}
KILLS = EFFORT  # of each command


def commands(tmp_path):
    """A command at a time; those before it have ended."""
    quick = ["--steps", "1", "--quiet"]
    clean, few = observations(tmp_path / "clean", 60), observations(tmp_path / "few", 2)
    cells = ["--tasks", "UNAP,denoising/XL", "--methods", "pulse", "--batch", "2"]
    yield ["apply", clean, "--op", FOURFOLD]
    finish(tmp_path, "apply", few, "--op", FOURFOLD, "-o", tmp_path / "damaged")
    yield ["restore", tmp_path / "damaged", "--samples", "2", *TINY_128, *quick]
    yield ["bench", "--images", few, *cells, *TINY_64, *quick]


def finish(folder, *arguments):
    """Run a command in a process of its own, without the metrics of sets of pictures."""
    exit_code, errors = start(folder, *arguments, before=leave_out_realism)
    assert exit_code == 0, errors


def killed(folder, command, output, chance, duration):
    """Start it, kill it sometime, and return whether it ended before."""
    process = Started(folder, *command, "-o", output, before=leave_out_realism)
    end = time.monotonic() + chance.uniform(0, duration)
    among_writes = chance.random() < 0.7
    while among_writes and not process.ended and not list(output.rglob(".degrade-*.tmp")):
        time.sleep(0.0005)  # until something is being written
    time.sleep(chance.uniform(0, 0.004) if among_writes else max(0, end - time.monotonic()))
    process.send_signal(signal.SIGKILL)
    exit_code, errors = process.wait()
    assert exit_code in (-signal.SIGKILL, 0), errors
    return exit_code == 0


@pytest.mark.slow
def test_kill_at_any_moment_leaves_whole_files(tmp_path):
    chance = random.Random(0)
    for command in commands(tmp_path):
        name, started = command[0], time.monotonic()
        finish(tmp_path, *command, "-o", tmp_path / "whole" / name)
        duration = time.monotonic() - started
        wanted, rows = contents(tmp_path / "whole" / name)
        kills, output = 0, tmp_path / "cut" / name
        while kills < KILLS:
            if killed(tmp_path, command, output, chance, duration):
                shutil.rmtree(output)  # it got through: from the beginning
                continue
            kills += 1
            for file, data in contents(output)[0].items():
                if file.endswith(".json") and json.loads(data).get("begun"):
                    assert json.loads(data) == json.loads(wanted[file]) | {"begun": True}, (
                        file,
                        kills,
                    )
                elif file not in TIMED:
                    assert data == wanted[file], (file, kills)
        finish(tmp_path, *command, "-o", output)
        found, found_rows = contents(output)
        assert found_rows == rows
        assert {file for file in found if found[file] != wanted.get(file)} <= TIMED
        assert found.keys() == wanted.keys() and not list(output.rglob(".degrade-*"))


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    for command in commands(tmp_path):
        output = tmp_path / "cut" / command[0]
        process = Started(tmp_path, *command, "-o", output, before=leave_out_realism)
        while not list(output.rglob("*.png")) and not process.ended:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        exit_code, said = process.wait()
        ended = exit_code, said.count("\n")
        assert ended == (130, 1) and said.startswith("interrupted"), (command[0], ended, said)
        assert list(output.rglob("*.png")) and not list(output.rglob(".degrade-*"))


@pytest.mark.parametrize(
    "module", slow_except(("degrade", "torch"), ("degrade", "torch", "pipelines.files"))
)
def test_ctrl_c_while_it_starts_is_one_line(tmp_path, module):
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from pipelines.cli import app; app()"
    )
    arguments = ["apply", AVATARS / "000.png", "--op", "clamp", "-o", tmp_path]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (
        done.returncode == 130
        and done.stderr.startswith("interrupted")
        and done.stderr.count("\n") == 1
    )


@pytest.mark.parametrize(
    "command", slow_except(("apply", "restore"), ("apply", "restore", "bench"))
)
def test_concurrent_equal_runs_do_no_harm(tmp_path, command):
    folder = observations(tmp_path / "in", 12 if command == "apply" else 2)
    quick = ["--steps", "1", *(TINY_64 if command == "bench" else TINY_128)]
    more = {
        "apply": [folder, "--op", "clamp"],
        "restore": [folder, "--op", "clamp", *quick],
        "bench": [
            "--images",
            folder,
            "--tasks",
            "UNAP",
            "--methods",
            "pulse,brgm",
            "--batch",
            "1",
            *quick,
        ],
    }
    arguments = [command, *more[command], "--quiet", "-o"]
    finish(tmp_path, *arguments, tmp_path / "alone")
    both = []
    for _ in range(2):
        run = Started(tmp_path, *arguments, tmp_path / "both", before=leave_out_realism)
        both.append(run)
    assert [run.wait() for run in both] == [(0, "")] * 2
    (found, rows), (wanted, wanted_rows) = (contents(tmp_path / name) for name in ("both", "alone"))
    assert set(rows) == set(wanted_rows) and found.keys() == wanted.keys()
    assert {file for file in found if found[file] != wanted[file]} <= TIMED


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


@pytest.mark.parametrize("op", ["clamp", "jpeg:90"])
def test_full_disk_leaves_earlier_results(tmp_path, op):
    """The kernel itself refuses to write more than so many bytes to a file."""
    folder = observations(tmp_path / "in", 3)
    apply(folder, output=tmp_path / "out", op=op)
    os.truncate(folder / "01.png", 0)
    before = contents(tmp_path / "out")
    command = ["apply", folder, "--op", "clamp", "--overwrite", "-o", tmp_path / "out"]
    exit_code, errors = start(tmp_path, *command, before=limit_file_size)
    lines = errors.splitlines()
    assert exit_code == 2 and len(lines) == 3 and "Traceback" not in errors
    assert sum("too large" in line for line in lines) == 2
    assert contents(tmp_path / "out") == before and not list((tmp_path / "out").rglob(".degrade-*"))


def limit_memory():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def test_out_of_memory_fails_one_picture_only(tmp_path):
    folder = observations(tmp_path / "in", 2)
    Image.new("RGB", (9000, 9000)).save(folder / "large.png")
    command = ["apply", folder, "--op", "clamp", "--quiet", "-o", tmp_path / "out"]
    exit_code, errors = start(tmp_path, *command, before=limit_memory)
    large = folder / "large.png"
    assert exit_code == 3, errors
    assert errors == f"error: {large}: it does not fit into the memory of this machine\n"
    assert (tmp_path / "out" / "01.png").exists()


def test_unwritable_output_is_a_one_line_error(tmp_path):
    for output in ("/proc/results", AVATARS / "000.png"):
        for command in (
            ["apply", AVATARS / "001.png"],
            ["bench", "--images", AVATARS, "--tasks", "UNAP"],
        ):
            more = ["--op", "clamp"] if command[0] == "apply" else []
            exit_code, errors = start(tmp_path, *command, *more, "-o", output)
            assert exit_code == 2, errors
            assert errors.count("\n") == 1 and errors.startswith("error:")


@pytest.mark.slow
def test_ray_workers_end_with_the_run(tmp_path):
    folder = observations(tmp_path / "in", 2)
    options = ["--steps", "100000", *TINY_128, "--op", "clamp", "--engine", "ray", "--quiet"]
    process = subprocess.Popen(
        [COMMAND, "restore", folder, "-o", tmp_path / "out", *options], start_new_session=True
    )

    mark = os.fsencode(f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}")

    def living():
        """The commands of the run's processes, recognised by their environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes() and entry.name != str(os.getpid()):
                    found.append((entry / "cmdline").read_bytes())
        return found

    deadline = time.monotonic() + 120
    while not any(b"Worker" in command for command in living()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.kill()
    process.wait()
    begin = time.monotonic()
    while left := living():  # Ray's own agents look for a dead head for a minute before they end
        working = [command for command in left if b"Agent" not in command]
        assert time.monotonic() < begin + (60 if working else 180), left
        time.sleep(0.2)
