"""Every example runs and leaves what it says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script, tmp_path):
    out = subprocess.run([sys.executable, script, str(tmp_path / "result.png")], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip()
