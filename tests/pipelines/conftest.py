import pytest

from .shell import leave_out_realism, start_bench


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A finished benchmark; to be read only."""
    folder = tmp_path_factory.mktemp("bench")
    result = start_bench(folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def without_realism(monkeypatch):
    """Reports leave out the metrics of sets of pictures: see `leave_out_realism`."""
    leave_out_realism(monkeypatch.setattr)
