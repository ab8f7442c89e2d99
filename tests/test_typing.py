"""mypy finds no error in the packages and examples, and finds each mistake in typing_usage.py."""

import subprocess
import sys
from pathlib import Path

import pytest

import degrade
import invert
import pipelines

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_mypy_reports_no_error(request):
    """The files and flags are those of `[tool.mypy]`. `warn_unused_ignores` makes an expected
    mistake that mypy no longer reports an error, too."""
    cache = request.config.cache.mkdir("mypy")  # a run without it takes some 30 seconds
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def name_of(package):
    return package.__name__


@pytest.mark.parametrize("package", [degrade, invert, pipelines], ids=name_of)
def test_package_ships_a_py_typed_marker(package):
    assert (Path(package.__file__).parent / "py.typed").exists()
