"""A file is written whole or not at all, whenever a run is killed or the power fails."""

import fcntl
import os
import shutil

import pytest

from pipelines import atomic, records
from tests.conftest import AVATARS

from .shell import FAST, apply, contents, copies, run


def test_write_keeps_the_old_file_on_failure(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        atomic.write(tmp_path / "a.png", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


class Killed(BaseException):
    """Ends a run as a kill does: nothing of ours catches it."""


def overwrite_despite_kills(folder, monkeypatch, first, second, wanted):
    """Kill `second` before each of its renames in turn, and repeat it; it must end as `wanted`.

    Both commands lack the folder of their results, in which `first` ran before.
    """
    replace = os.replace
    assert run(*first, folder / "first").exit_code == 0
    for last in range(9):
        output, done = folder / str(last), 0
        shutil.copytree(folder / "first", output)

        def stop(*paths, last=last):
            nonlocal done
            if done == last:
                raise Killed
            done += 1
            replace(*paths)

        monkeypatch.setattr(os, "replace", stop)
        try:
            killed = run(*second, output).exit_code != 0
        except Killed:
            killed = True
        monkeypatch.undo()
        assert run(*second, output).exit_code == 0
        assert contents(output) == contents(wanted)
        if not killed:
            break
    assert last > 1


@pytest.mark.parametrize("ops", [("jpeg:90", "clamp"), ("clamp", "jpeg:90")])
def test_apply_survives_a_kill_at_any_rename(tmp_path, monkeypatch, ops):
    picture = AVATARS / "000.png"
    apply(picture, output=tmp_path / "wanted", op=ops[1])
    first = ["apply", picture, "--op", ops[0], "-o"]
    second = ["apply", picture, "--op", ops[1], "--overwrite", "-o"]
    overwrite_despite_kills(tmp_path / "cut", monkeypatch, first, second, tmp_path / "wanted")


def test_restore_survives_a_kill_at_any_rename(tmp_path, monkeypatch):
    """The earlier results are more files than the later ones."""
    apply(AVATARS / "000.png", output=tmp_path / "seen", op="clamp")
    restore = ["restore", tmp_path / "seen", *FAST]
    assert run(*restore, "-o", tmp_path / "wanted").exit_code == 0
    first = [*restore, "--samples", 2, "-o"]
    second = [*restore, "--overwrite", "-o"]
    overwrite_despite_kills(tmp_path / "cut", monkeypatch, first, second, tmp_path / "wanted")


def test_sweep_between_create_and_lock_is_harmless(tmp_path, monkeypatch):
    lock, swept = fcntl.flock, []

    def late(file, how):
        if how == fcntl.LOCK_EX and not swept:
            swept.extend(tmp_path.glob(".degrade-*.tmp"))
            atomic.sweep(tmp_path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    atomic.write(tmp_path / "x", b"all of it")
    assert swept and not swept[0].exists() and (tmp_path / "x").read_bytes() == b"all of it"


def test_sweep_stays_in_the_folders_of_results(tmp_path):
    copies(tmp_path / "in", "a.png", "sub/a.png")
    leftovers = []
    for folder in ("out", "out/sub", "out/else"):
        (tmp_path / folder).mkdir(parents=True)
        leftovers.append(tmp_path / folder / ".degrade-0.tmp")
        leftovers[-1].touch()
    apply(tmp_path / "in", output=tmp_path / "out", op="clamp")
    assert [path.exists() for path in leftovers] == [False, False, True]


def test_fsync_comes_before_each_rename(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor):
        events.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def replace(source, target):
        events.append(("rename", os.stat(source).st_ino))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    made = {tmp_path / "a.png": b"a", tmp_path / "b.png": b"b"}
    (tmp_path / "a.json").touch()
    records.write_result(tmp_path / "a.json", "log", {}, made)
    with atomic.replacing(tmp_path / "c") as temporary:
        temporary.write_bytes(b"c")
    renamed = [file for event, file in events if event == "rename"]
    assert len(renamed) == 5
    for file in renamed:
        assert events.index(("sync", file)) < events.index(("rename", file))
    folder = ("sync", tmp_path.stat().st_ino)
    first, last = events.index(("rename", renamed[0])), events.index(("rename", renamed[3]))
    assert folder in events[first:last] and events[-1] == folder


def test_fsync_of_every_folder_comes_before_the_record(tmp_path, monkeypatch):
    """The clean picture of a pair lies in another folder than the record."""
    events = []
    sync, rename = atomic._sync_folder, os.replace

    def sync_folder(folder):
        events.append(folder.name)
        sync(folder)

    def replace(source, target):
        events.append(target.name)
        rename(source, target)

    monkeypatch.setattr(atomic, "_sync_folder", sync_folder)
    monkeypatch.setattr(os, "replace", replace)
    record = tmp_path / "LQ" / "a.json"
    records.write_result(record, "log", {}, {tmp_path / "HQ" / "a.png": b"a"})
    assert events == ["a.json", "LQ", "a.png", "HQ", "a.json", "LQ"]
