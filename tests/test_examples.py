"""Every example runs, and leaves the pictures that it names where it was told to."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example(script, tmp_path):
    out = subprocess.run(
        [sys.executable, script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=script.parent,
        timeout=600,
    )
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip()
    named = [line for line in out.stdout.splitlines() if line.endswith(".png")]
    assert sorted(named) == sorted(map(str, tmp_path.iterdir()))
    for path in named:
        with Image.open(path) as picture:
            assert (
                len(picture.convert("L").resize((64, 64)).getcolors(4096)) > 16
            )  # something to see


def test_there_are_five():
    assert len(EXAMPLES) == 5
