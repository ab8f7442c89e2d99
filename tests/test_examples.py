"""Each example runs, and writes the pictures that it prints into the folder it was given."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def name_of(path):
    return path.stem


def count_grey_levels(path):
    """The number of different grey values in a small copy of the picture."""
    with Image.open(path) as picture:
        small = picture.convert("L").resize((64, 64))
    return len(small.getcolors(4096))


@pytest.mark.parametrize("script", EXAMPLES, ids=name_of)
def test_example_writes_what_it_prints(script, tmp_path):
    result = subprocess.run(
        [sys.executable, script, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=script.parent,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    printed = [line for line in result.stdout.splitlines() if line.endswith(".png")]
    assert sorted(printed) == sorted(map(str, tmp_path.iterdir()))
    for path in printed:
        assert count_grey_levels(path) > 16  # a flat picture shows nothing


def test_examples_page_lists_every_script():
    page = (EXAMPLES[0].parent.parent / "docs" / "examples.md").read_text("utf-8")
    for script in EXAMPLES:
        assert f"../examples/{script.name}" in page
