"""The notebooks are made from the scripts, hold what they need, and run."""

import importlib.util
import json
import os
from functools import partial
from pathlib import Path

import pytest

import invert

from .conftest import slow_except
from .processes import Forked
from .test_examples import restore_briefly

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
QUICK = "own_operator"  # the others restore, train or write many pictures


def builder():
    """examples/notebooks/build.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = sorted(builder().PICTURES)


def notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


def code_of(name):
    """The code cells of a notebook, each as one text."""
    cells = notebook(name)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cells_in(folder, codes):
    """Execute cells in order in a folder, with short restorations."""
    os.chdir(folder)
    invert.restore = partial(restore_briefly, invert.restore)
    names = {"__name__": "__main__"}
    for number, code in enumerate(codes, 1):
        exec(compile(code, f"cell {number}", "exec"), names)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_has_the_cells_of_its_script(name):
    """`python examples/notebooks/build.py` makes it anew."""
    written = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook(name)["cells"]]
    assert written == builder().cells(name)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_holds_the_outputs_of_one_run(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < 400_000
    counts, kinds = [], set()
    for cell in notebook(name)["cells"]:
        if cell["cell_type"] == "code":
            counts.append(cell["execution_count"])
            kinds.update(output["output_type"] for output in cell["outputs"])
    assert counts == list(range(1, len(counts) + 1))
    assert "stream" in kinds and "error" not in kinds
    text = path.read_text(encoding="utf-8")
    assert ('"image/jpeg"' in text) == (name != "jpeg_in_training")  # which prints a table
    assert str(ROOT) not in text and "/tmp/" not in text


def test_notebooks_are_named_in_the_page_of_examples():
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"../examples/notebooks/{name}.ipynb" in page


@pytest.mark.parametrize("name", slow_except((QUICK,), NAMES))
def test_notebook_runs_with_nothing_but_its_file(name, tmp_path):
    """Its folder holds no picture before, and only what the cells write after."""
    work = tmp_path / "work"
    work.mkdir()
    process = Forked(tmp_path, run_cells_in, work, code_of(name))
    exit_code, errors = process.wait(900)
    assert exit_code == 0, errors
    assert process.output.strip()
    assert {path.name for path in work.iterdir()} <= {"avatars", "out"}
