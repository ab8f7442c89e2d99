"""A type checker sees types, not Any: tests/typing_usage.py is what a user writes, with the mistakes it must find."""

import subprocess
import sys
from pathlib import Path

import pytest

import degrade
import invert
import pipelines

ROOT = Path(__file__).parent.parent


def test_what_users_write_type_checks_and_their_mistakes_do_not(request):
    kept = request.config.cache.mkdir("mypy")  # torch's types take 10 s to read the first time
    out = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", kept], cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr


@pytest.mark.parametrize("package", [degrade, invert, pipelines], ids=lambda package: package.__name__)
def test_a_package_says_that_it_is_typed(package):
    assert (Path(package.__file__).parent / "py.typed").exists()
