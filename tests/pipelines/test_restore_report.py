"""`degrade restore --report`: what it measures, and which files it replaces."""

import json
import shutil

import pytest

import degrade
import invert
from pipelines import files
from tests.conftest import AVATARS

from .shell import FAST, TINY_128, apply, restore, run


@pytest.mark.slow
def test_report_measures_a_folder_of_restorations(tmp_path):
    shutil.copytree(
        AVATARS, tmp_path / "in", ignore=lambda folder, names: set(names) - {"000.png", "001.png"}
    )
    apply(tmp_path / "in", output=tmp_path / "o", op="downsample:4 >> jpeg:40")
    result = restore(tmp_path / "o", tmp_path / "r", "--report")
    assert result.exit_code == 0, result.output
    assert "accuracy" not in (tmp_path / "r" / "tables.md").read_text().replace("Accuracy", "")
    assert (
        restore(tmp_path / "o", tmp_path / "r", "--report", "--clean", tmp_path / "in").exit_code
        == 0
    )
    table, page = ((tmp_path / "r" / name).read_text() for name in ("tables.md", "report.html"))
    rows = (tmp_path / "r" / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "accuracy calibrated" in table and "patch-FD (VGG) calibrated" in table
    f = degrade.parse(json.loads((tmp_path / "o" / "000.json").read_text())["operator"])
    restored = files.read_image(tmp_path / "r" / "000.png")
    fidelity = invert.perceptual.lpips(f(restored), files.read_image(tmp_path / "o" / "000.jpg"))
    written = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert float(written["fidelity"]) == pytest.approx(fidelity.item(), abs=1e-4)
    assert page.count("data:image/") >= 6 and str(tmp_path) not in page


def test_report_leaves_out_failures_and_other_runs(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "o", op="pool:2")
    command = ("restore", tmp_path / "o", "-o", tmp_path / "r", *TINY_128, "--report", "--steps")
    assert run(*command, 2).exit_code == 0
    (tmp_path / "o" / "001.png").write_bytes(b"no picture")
    result = run(*command, 1, "--overwrite")
    assert result.exit_code == 3 and "001.png" in result.stderr
    rows = (tmp_path / "r" / "results.csv").read_text().splitlines()
    assert (
        len(rows) == 2
        and ",000," in rows[1]
        and "Shortened: 1 steps" in (tmp_path / "r" / "tables.md").read_text()
    )


@pytest.mark.parametrize("name", ["report.html", "tables.md", "results.csv"])
def test_report_does_not_replace_other_files(tmp_path, name):
    """Neither after a restoration nor after a benchmark, and both say so before they begin."""
    (tmp_path / name).write_text("mine")
    quick = [*FAST, "-o", tmp_path]
    for command in (
        ["restore", AVATARS / "000.png", "--op", "clamp", "--report"],
        ["bench", "--images", AVATARS, "--limit", 1, "--tasks", "UNAP"],
    ):
        result = run(*command, *quick)
        assert (
            result.exit_code == 2
            and f"{name} exists, and degrade did not write it" in result.stderr
        )
        assert [path.name for path in tmp_path.iterdir()] == [name] and (
            tmp_path / name
        ).read_text() == "mine"


def test_overwrite_removes_an_outdated_report(tmp_path):
    command = ["restore", AVATARS / "000.png", "--op", "clamp", "-o", tmp_path / "r", *FAST]
    names = {"report.html", "results.csv", "tables.md"}
    assert run(*command, "--report").exit_code == 0
    again = run(*command)  # nothing is replaced, so the report is still right
    assert again.exit_code == 0 and "report" not in again.stderr
    assert names <= {path.name for path in (tmp_path / "r").iterdir()}
    other = run(*command, "--overwrite", "--seed", 1)
    assert other.exit_code == 0 and "its report described results that are replaced" in other.stderr
    assert not names & {path.name for path in (tmp_path / "r").iterdir()}
    (tmp_path / "r" / "report.html").write_text("mine")
    assert run(*command, "--overwrite", "--seed", 2).exit_code == 0
    assert (tmp_path / "r" / "report.html").read_text() == "mine"
