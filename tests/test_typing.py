"""A type checker sees types, not Any: it finds the mistakes in tests/typing_usage.py, and none in the examples."""

import subprocess
import sys
from pathlib import Path

import pytest

import degrade
import invert
import pipelines

ROOT = Path(__file__).parent.parent


def test_what_users_write_type_checks_and_their_mistakes_do_not(request):
    kept = request.config.cache.mkdir(
        "mypy"
    )  # the first time, torch's types take some seconds to read
    out = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stdout + out.stderr


@pytest.mark.parametrize(
    "package", [degrade, invert, pipelines], ids=lambda package: package.__name__
)
def test_a_package_says_that_it_is_typed(package):
    assert (Path(package.__file__).parent / "py.typed").exists()
