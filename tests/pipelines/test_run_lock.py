"""Two runs never write into one folder, with locks and without them."""

import errno
import json
import os
import signal
from contextlib import nullcontext

import pytest

from pipelines import atomic, run_lock
from tests.conftest import AVATARS
from tests.processes import Forked, Started

from .shell import apply, copies, run, start_bench

pytestmark = pytest.mark.usefixtures("without_realism")  # test_metrics.py tests it


def test_concurrent_runs_leave_whole_results(tmp_path):
    """Each manifest names a picture that is there. A run beside another one does not begin."""
    folder = copies(tmp_path / "in", *(f"{i}.png" for i in range(8)))
    command = ["apply", folder, "-o", tmp_path / "out", "--overwrite", "--quiet", "--op"]
    operators = ("clamp", "jpeg:50", "clamp", "jpeg:50")
    runs = [Started(tmp_path, *command, operator) for operator in operators]
    ends = [run.wait() for run in runs]
    codes = [code for code, _ in ends]
    assert 0 in codes and set(codes) <= {0, 2}
    for code, error in ends:
        assert error.count("\n") == (code == 2) and ("another run (process" in error) == (code == 2)
    images = set()
    for manifest in (tmp_path / "out").glob("*.json"):
        record = json.loads(manifest.read_text())
        assert "begun" not in record
        images.add(record["image"])
    pictures = {path.name for path in (tmp_path / "out").glob("[!.]*") if path.suffix != ".json"}
    assert len(images) == 8 and pictures == images


def test_run_beside_another_is_refused_at_once(tmp_path):
    settings = {"command": "apply", "spec": "jpeg:50", "seed": 0}
    command = ["apply", AVATARS / "000.png", "-o", tmp_path / "new" / "out", "--op"]
    with run_lock.running(tmp_path / "new" / "out", settings):
        refused = run(*command, "clamp", "--overwrite")
        assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
        assert f"another run (process {os.getpid()})" in refused.stderr
        assert "--op 'jpeg:50' → 'clamp'" in refused.stderr
        bench = start_bench(tmp_path / "new" / "out")
        assert bench.exit_code == 2 and "command 'apply' → 'bench'" in bench.stderr
        assert run(*command, "jpeg:50").exit_code == 0  # equal settings share the folder
        assert run(*command, "clamp", "--overwrite").exit_code == 2
    assert run(*command, "clamp", "--overwrite").exit_code == 0
    assert not list((tmp_path / "new" / "out").glob(".degrade-*"))


def lock_and_die(folder):
    with run_lock.running(folder, {"command": "apply", "spec": "jpeg:50", "seed": 0}):
        os.kill(os.getpid(), signal.SIGKILL)


def test_lock_of_a_killed_run_does_not_block(tmp_path):
    (tmp_path / "printed").mkdir()
    exit_code, _ = Forked(tmp_path / "printed", lock_and_die, tmp_path / "out").wait()
    assert exit_code == -signal.SIGKILL
    tmp_path = tmp_path / "out"
    assert (tmp_path / run_lock.RUN_LOCK).exists()
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    assert {path.name for path in tmp_path.iterdir()} == {"000.png", "000.json"}


def refuse_locks(monkeypatch, system):
    """As on a network drive that has no locks, or on Windows."""

    def refuse(file, mode):
        raise OSError(errno.ENOLCK, "No locks available")

    if system == "network drive":
        monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(atomic, "fcntl", None)
        monkeypatch.setattr(run_lock, "fcntl", None)


@pytest.mark.parametrize("system", ["network drive", "windows"])
def test_folder_without_locks_is_written_to(tmp_path, monkeypatch, system):
    refuse_locks(monkeypatch, system)
    apply(AVATARS / "000.png", output=tmp_path / "a", op="clamp")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"000.png", "000.json"}
    with run_lock.running(tmp_path / "b" / "c", {}):
        pass
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("system", ["network drive", "windows"])
def test_other_runs_are_refused_without_locks(tmp_path, monkeypatch, system):
    refuse_locks(monkeypatch, system)
    mine, other = {"command": "apply", "spec": "clamp"}, {"command": "apply", "spec": "jpeg:50"}
    with run_lock.running(tmp_path, mine), run_lock.running(tmp_path, mine):
        with (
            pytest.raises(ValueError, match=r"another run \(process \d+\) .* 'clamp' → 'jpeg:50'"),
            run_lock.running(tmp_path, other),
        ):
            pass
        assert len(list(tmp_path.iterdir())) == 2
    with run_lock.running(tmp_path, other):
        pass
    assert not list(tmp_path.iterdir())


def lock_by_a_file_and_die(folder):
    run_lock.fcntl = None
    lock_and_die(folder)


def test_file_of_a_killed_run_does_not_block(tmp_path, monkeypatch):
    """If its process number has another process by now, the message says what to remove."""
    (tmp_path / "printed").mkdir()
    Forked(tmp_path / "printed", lock_by_a_file_and_die, tmp_path / "out").wait()
    tmp_path = tmp_path / "out"
    (leftover,) = tmp_path.glob(run_lock.RUN_FILES)
    refuse_locks(monkeypatch, "windows")
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    assert {path.name for path in tmp_path.iterdir()} == {"000.png", "000.json"}
    (tmp_path / ".degrade-run-a-b-c-d.lock").touch()  # of something else
    parts = leftover.name.split("-")
    parts[3] = str(os.getpid())
    (tmp_path / "-".join(parts)).touch()
    refused = run("apply", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp")
    assert refused.exit_code == 2 and f"or remove {'-'.join(parts)}" in refused.stderr


def test_run_leaves_no_empty_folder(tmp_path):
    with run_lock.running(tmp_path / "a" / "b", {}):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


def test_run_keeps_results_another_wrote_meanwhile(tmp_path, monkeypatch):
    """Also in a folder without locks."""
    from pipelines.apply import Apply

    plan = Apply.plan

    def plan_late(flow, source):
        planned = plan(flow, source)
        monkeypatch.setattr(Apply, "plan", plan)
        apply(AVATARS / "000.png", output=tmp_path, op="jpeg:50")
        return planned

    monkeypatch.setattr(Apply, "plan", plan_late)
    monkeypatch.setattr(run_lock, "running", lambda folder, settings: nullcontext())
    late = run("apply", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp")
    assert late.exit_code == 2 and "add --overwrite" in late.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"000.jpg", "000.json"}
