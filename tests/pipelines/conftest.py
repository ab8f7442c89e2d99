import fcntl
import os

import pytest

from pipelines.studio.workspace import Workspace
from tests.conftest import AVATARS

from .shell import leave_out_realism, start_bench


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A finished benchmark without realism; to be read only.

    The first worker of a session makes it for all.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, finished = shared / "bench", shared / "bench.finished"
    with open(shared / "bench.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            with pytest.MonkeyPatch.context() as patch:
                leave_out_realism(patch.setattr)
                result = start_bench(folder)
            assert result.exit_code == 0, result.output
            finished.touch()
    return folder


@pytest.fixture
def without_realism():
    """Reports leave out the metrics of sets of pictures: see `leave_out_realism`."""
    with pytest.MonkeyPatch.context() as patch:  # `monkeypatch.undo` of a test leaves it alone
        leave_out_realism(patch.setattr)
        yield


@pytest.fixture
def visitor(tmp_path):
    """A visitor of the studio."""
    return Workspace.new(tmp_path)


@pytest.fixture
def portrait(visitor):
    return visitor.receive(AVATARS / "000.png")
