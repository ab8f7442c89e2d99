"""Each example runs, and writes the pictures that it prints into the folder it was given."""

from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import invert

from .conftest import slow_except
from .processes import Forked, run_script

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
QUICK = ("own_operator",)
STEPS = 6  # of a restoration; the pictures are looked at in docs/examples.md


def run_with_short_restorations(script, folder):
    """Run an example; its restorations take `STEPS` steps, whatever it asks for."""
    invert.restore = partial(restore_briefly, invert.restore)
    run_script(script, str(folder))


def restore_briefly(restore, *arguments, steps=None, **options):
    assert steps is None or steps > STEPS
    return restore(*arguments, steps=STEPS, **options)


def count_grey_levels(path):
    """The number of different grey values in a small copy of the picture."""
    with Image.open(path) as picture:
        small = picture.convert("L").resize((64, 64))
    return len(small.getcolors(4096))


@pytest.mark.parametrize("name", slow_except(QUICK, [path.stem for path in EXAMPLES]))
def test_example_writes_what_it_prints(name, tmp_path, tmp_path_factory):
    script = EXAMPLES[0].with_stem(name)
    process = Forked(
        tmp_path_factory.mktemp("printed"), run_with_short_restorations, script, tmp_path
    )
    exit_code, errors = process.wait(600)
    assert exit_code == 0, errors
    assert process.output.strip()
    printed = [line for line in process.output.splitlines() if line.endswith(".png")]
    assert sorted(printed) == sorted(map(str, tmp_path.iterdir()))
    for path in printed:
        assert count_grey_levels(path) > 16  # a flat picture shows nothing


def test_examples_page_lists_every_script():
    page = (EXAMPLES[0].parent.parent / "docs" / "examples.md").read_text("utf-8")
    for script in EXAMPLES:
        assert f"../examples/{script.name}" in page
