import pytest

from .shell import start_bench


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A finished benchmark; to be read only."""
    folder = tmp_path_factory.mktemp("bench")
    result = start_bench(folder)
    assert result.exit_code == 0, result.output
    return folder
