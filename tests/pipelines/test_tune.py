"""`degrade tune`: a real search, durable and repeatable, whose result the benchmark shows."""

import json
import math

import pytest

from invert import METHODS
from pipelines import tune
from tests.conftest import AVATARS

from .shell import TINY_64, run

pytestmark = pytest.mark.usefixtures("without_realism")  # test_metrics.py tests it

QUICK = (*TINY_64, "--steps", 3, "--images", AVATARS, "--limit", 1)


class Bowl:
    """Results whose accuracy is lowest where lr is tripled and the geodesic term is a fifth."""

    def __init__(self):
        self.found, self.asked = {}, 0

    def run(self, cells):
        for cell in cells:
            assert cell.task == "t"
            self.asked += cell.label not in self.found
            phase, published = cell.method.phases[0], METHODS["pulse"].phases[0]
            lr, geodesic = (
                phase.optimiser.lr / published.optimiser.lr,
                phase.loss[1].weight / published.loss[1].weight,
            )
            self.found[cell.label] = math.log(lr / 3) ** 2 + math.log(geodesic * 5) ** 2
        return [
            {"task": "t", "method": cell.label, "accuracy": self.found[cell.label]}
            for cell in cells
        ]


def test_tune_finds_the_minimum_and_repeats_its_search():
    bowl = Bowl()
    result = tune.tune("pulse", METHODS["pulse"], "t", 80, 0, bowl.run)
    best, published, accuracy = result.factors, result.published, result.accuracy
    assert published == bowl.found["pulse"] == pytest.approx(math.log(3) ** 2 + math.log(5) ** 2)
    assert accuracy == min(bowl.found.values()) < 0.15 and bowl.asked == len(bowl.found) <= 80
    assert set(best) == {"lr", "geodesic"} and abs(math.log(best["lr"] / 3)) < 0.4
    shorter = Bowl()
    shorter.found = dict(list(bowl.found.items())[:40])  # as a killed search leaves it
    assert tune.tune("pulse", METHODS["pulse"], "t", 80, 0, shorter.run) == result
    assert shorter.asked == len(bowl.found) - 40
    other = Bowl()
    tune.tune("pulse", METHODS["pulse"], "t", 16, 1, other.run)
    assert set(other.found) != set(list(bowl.found)[:16])


@pytest.mark.slow
def test_bench_shows_what_tune_found(tmp_path):
    command = (
        "tune",
        *QUICK,
        "--method",
        "pulse",
        "--tasks",
        "upsampling/M",
        "--trials",
        9,
        "-o",
        tmp_path / "t",
    )
    result = run(*command)
    assert result.exit_code == 0, result.output
    rows = [
        json.loads(line) for line in (tmp_path / "t" / "results.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 9 and rows[0]["method"] == "pulse"
    before = (tmp_path / "t" / "tuned.json").read_bytes()
    again = run(*command)
    assert again.stdout == result.stdout and (tmp_path / "t" / "tuned.json").read_bytes() == before
    assert (
        len((tmp_path / "t" / "results.jsonl").read_text().splitlines()) == 9
    )  # nothing was computed again
    told = run(*command, "--oracle-mask")
    assert told.exit_code == 2 and "--oracle-mask no → yes" in told.stderr

    best = min(rows, key=lambda row: row["accuracy"])
    factors = json.loads(before)["factors"]["pulse"]["upsampling/M"]
    assert (
        tune.label("pulse", factors) == best["method"] and best["accuracy"] <= rows[0]["accuracy"]
    )
    bench = (
        "bench",
        *QUICK,
        "--methods",
        "pulse",
        "--tasks",
        "upsampling/M,UNAP",
        "-o",
        tmp_path / "b",
    )
    shown = run(*bench, "--tuned", tmp_path / "t" / "tuned.json")
    assert shown.exit_code == 0, shown.output
    found = {}
    for line in (tmp_path / "b" / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        found[row["task"], row["method"]] = row["accuracy"]
    assert found["upsampling/M", "pulse tuned"] == best["accuracy"]
    assert (
        found["upsampling/M", "pulse"] == rows[0]["accuracy"]
        and ("UNAP", "pulse tuned") not in found
    )
    assert "| accuracy pulse | accuracy pulse tuned |" in (tmp_path / "b" / "tables.md").read_text()
    assert (
        f"pulse tuned on upsampling/M is {best['method']}."
        in (tmp_path / "b" / "tables.md").read_text()
    )

    changed = (
        tmp_path / "other.json"
    )  # other constants under the same name: computed anew, and these count
    tune.write_tuned(changed, "pulse", "upsampling/M", {"lr": 9.0})
    assert run(*bench, "--tuned", changed).exit_code == 0
    lines = (tmp_path / "b" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4 and json.loads(lines[-1])["note"] == "pulse lr×9"

    other_task = list(command)
    other_task[other_task.index("upsampling/M")] = "UP"
    more = run(*other_task)  # nothing is mixed, nothing is lost
    assert more.exit_code == 0, more.output
    kept = json.loads((tmp_path / "t" / "tuned.json").read_text())["factors"]["pulse"]
    assert set(kept) == {"upsampling/M", "UP"} and kept["upsampling/M"] == factors


def test_tune_uses_only_the_pictures_it_was_given(tmp_path):
    command = ("tune", *QUICK[:-2], "--methods", "pulse", "--tasks", "UP", "--trials", 2, "--quiet")
    assert run(*command, "--limit", 2, "-o", tmp_path / "t").exit_code == 0
    for folder in ("t", "u"):
        assert run(*command, "--limit", 1, "-o", tmp_path / folder).exit_code == 0
    assert (tmp_path / "t" / "tuned.json").read_bytes() == (
        tmp_path / "u" / "tuned.json"
    ).read_bytes()


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "does not exist"),
        ("{}", "not a tuned"),
        ('{"kind": "tuned", "format": 1, "factors": {"x": {"UNAP": {}}}}', "='x'"),
        (
            '{"kind": "tuned", "format": 1, "factors": {"pulse": {"UNAP": {"depth": 2}}}}',
            "no 'depth' to tune",
        ),
        (
            '{"kind": "tuned", "format": 1, "factors": {"pulse": {"UNAP": {"lr": "fast"}}}}',
            "cannot be used",
        ),
        ('{"kind": "tuned", "format": 1, "factors": [1]}', "cannot be used"),
        (
            '{"kind": "tuned", "format": 1, "factors": {"pulse": {"UNAP": {"lr": 0}}}}',
            "factor 0 must be",
        ),
    ],
)
def test_bench_refuses_a_file_that_tune_did_not_write(tmp_path, text, words):
    if text is not None:
        (tmp_path / "t.json").write_text(text)
    result = run("bench", *QUICK, "-o", tmp_path / "b", "--tuned", tmp_path / "t.json")
    assert result.exit_code == 2 and words in result.stderr and "Traceback" not in result.output
