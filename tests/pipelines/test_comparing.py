"""`degrade compare`, and `degrade bench --results` that scores somebody's restorations."""

import hashlib
import json
import math
import shutil

import numpy
import pytest
from PIL import Image

import degrade
from degrade import parse
from pipelines import comparing, files
from pipelines.bench_job import given_cells
from pipelines.comparing import Difference, interval
from pipelines.metrics import METRICS

from .shell import pixels, run, start_bench

ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
PSNR = next(metric for metric in METRICS if metric.name == "psnr")


def test_interval_is_that_of_a_normal_mean():
    values = numpy.random.default_rng(1).normal(0.3, 2.0, 400)
    low, high = interval(values, map(str, range(400)))
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_counts_pictures_not_results():
    """Four equal results of each picture say no more than one."""
    values = numpy.random.default_rng(2).normal(0, 1, 50)
    names = [f"{number:02}" for number in range(50)]
    assert interval(numpy.repeat(values, 4), numpy.repeat(names, 4)) == pytest.approx(
        interval(values, names)
    )


@pytest.mark.parametrize(
    "metric, low, high, better",
    [
        (ACCURACY, -0.2, -0.1, "B"),
        (ACCURACY, 0.1, 0.2, "A"),
        (PSNR, 1.0, 2.0, "B"),
        (PSNR, -2.0, -1.0, "A"),
        (PSNR, -1.0, 1.0, ""),
    ],
)
def test_better_follows_the_direction_of_the_metric(metric, low, high, better):
    assert Difference("t", metric, 0, (low + high) / 2, low, high, 9).better == better


def test_compare_writes_paired_differences(results, tmp_path):
    result = run(
        "compare", f"{results}:robust", f"{results}:pulse", "-o", tmp_path / "difference.json"
    )
    assert result.exit_code == 0, result.output
    assert "all tasks" in result.output and "accuracy" in result.output
    rows = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    written = json.loads((tmp_path / "difference.json").read_text())
    by_key = {(row["task"], row["metric"]): row for row in written["rows"]}
    for task in ("UNAP", "all tasks"):
        means = {}
        for method in ("robust", "pulse"):
            values = []
            for row in rows:
                if row["method"] == method and task in (row["task"], "all tasks"):
                    values.append(row["psnr"])
            means[method] = numpy.mean(values)
        row = by_key[task, "psnr"]
        assert row["difference"] == pytest.approx(means["pulse"] - means["robust"])
        assert row["low"] <= row["difference"] <= row["high"]
    assert by_key["all tasks", "psnr"]["pairs"] == 8 and by_key["UNAP", "psnr"]["pairs"] == 2


def test_compare_refuses_other_observations(results, tmp_path):
    shutil.copytree(results, tmp_path / "other")
    observed = tmp_path / "other" / "images" / "UNAP" / "observed" / "000.png"
    image = Image.open(observed)
    image.putpixel((0, 0), (1, 2, 3))
    image.save(observed)
    result = run("compare", f"{results}:robust", f"{tmp_path / 'other'}:robust")
    assert result.exit_code == 2
    assert "did not restore the same observation of 000 in UNAP" in result.stderr


@pytest.mark.parametrize(
    "text, words",
    [
        ("{results}", "holds pulse, robust; give .*:METHOD"),
        ("{results}/results.json", "holds pulse, robust; give .*results.json:METHOD"),
        ("{results}/results.jsonl:robust", "is not a file of benchmark results of degrade's"),
        ("{results}:magic", "holds no results of 'magic', only pulse, robust"),
        ("{empty}:robust", "holds no results of degrade bench"),
        ("nowhere", "nowhere holds no results of degrade bench"),
    ],
)
def test_compare_errors_name_the_argument(results, tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        comparing.entry_of(text.format(results=results, empty=tmp_path))


def test_results_file_replaces_the_folder(results, tmp_path):
    """results.json alone gives the same differences as the folder with all pictures."""
    alone = tmp_path / "theirs.json"
    shutil.copy(results / "results.json", alone)
    pulse = comparing.entry_of(f"{results}:pulse")
    of_folder = comparing.differences(comparing.entry_of(f"{results}:robust"), pulse)
    of_file = comparing.differences(comparing.entry_of(f"{alone}:robust"), pulse)
    assert of_file == of_folder

    record = json.loads(alone.read_text())
    assert record["machine"]["cores"] >= 1 and record["settings"]["seed"] == 0
    assert any(line.startswith("torch ") for line in record["versions"])
    problem = record["problems"]["UNAP"]
    assert parse(problem["operator"]) == degrade.tasks["UNAP"]
    problem["observations"]["000"] = "0" * 64
    alone.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="did not restore the same observation of 000 in UNAP"):
        comparing.differences(comparing.entry_of(f"{alone}:robust"), pulse)
    del problem["observations"]["000"]
    alone.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="names no observation of 000 in UNAP"):
        comparing.differences(comparing.entry_of(f"{alone}:robust"), pulse)


def test_pixel_digest_is_that_of_pixels_not_of_the_file(results, tmp_path):
    path = results / "images" / "UNAP" / "observed" / "000.png"
    pixel_values = pixels(path)
    height, width, _ = pixel_values.shape
    again = tmp_path / "again.png"
    Image.fromarray(pixel_values).save(again, compress_level=0)
    assert again.read_bytes() != path.read_bytes()
    head = f"RGB {width}x{height}\n".encode()
    expected = hashlib.sha256(head + pixel_values.tobytes()).hexdigest()
    assert files.pixel_digest(again) == files.pixel_digest(path) == expected


def test_bench_keeps_a_results_file_of_another_program(tmp_path):
    out = tmp_path / "b"
    out.mkdir()
    (out / "results.json").write_text("{}")
    result = start_bench(out, tasks="UNAP", methods="none", limit=1)
    assert result.exit_code == 2 and "results.json is not a file of" in result.stderr
    assert (out / "results.json").read_text() == "{}"


def test_compare_skips_what_is_no_result(results, tmp_path):
    """Damaged lines and scores are left out, and a note tells how many."""
    other = tmp_path / "other"
    shutil.copytree(results, other)
    path = other / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    of_robust = [row for row in rows if row["method"] == "robust"]
    of_robust[0]["psnr"] = "high"
    of_robust[1]["psnr"] = math.nan
    of_robust[2]["image"] = 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = tmp_path / "difference.json"
    result = run("compare", f"{other}:robust", f"{results}:pulse", "-o", written)
    assert result.exit_code == 0, result.output
    assert "note: 1 results are left out" in result.stderr
    differences = json.loads(written.read_text())["rows"]
    for difference in differences:
        if difference["task"] == "all tasks":
            pairs = 8 - 3 if difference["metric"] == "psnr" else 8 - 1
            assert difference["pairs"] == pairs
    result = run("compare", f"{other}:robust", f"{results}:pulse", "-o", tmp_path)
    assert result.exit_code == 2 and "is a folder; give --output a file" in result.stderr


def test_bench_scores_restorations_of_somebody_else(tmp_path, without_realism):
    """The first run writes the observations; perfect restorations then score 0."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()

    def score():
        out = tmp_path / "b"
        return start_bench(out, "--results", theirs, tasks="UNAP", methods="none", limit=1)

    result = score()
    assert result.exit_code == 2
    missing = theirs / "UNAP" / "000.png"
    assert f"{missing} does not exist; write the restoration of 000 there" in result.stderr
    assert (tmp_path / "b" / "images" / "UNAP" / "observed" / "000.png").exists()
    missing.parent.mkdir()
    clean = tmp_path / "b" / "images" / "clean" / "000.png"
    shutil.copy(clean, missing)
    assert score().exit_code == 0
    row = json.loads((tmp_path / "b" / "results.jsonl").read_text())
    assert (row["method"], row["accuracy"], row["psnr"]) == ("theirs", 0, 100)
    assert "accuracy theirs" in (tmp_path / "b" / "tables.md").read_text()

    Image.fromarray(255 - pixels(clean)).save(missing)  # other pictures of the same name
    assert score().exit_code == 0
    last = (tmp_path / "b" / "results.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["accuracy"] > 0.1

    missing.write_bytes(b"no picture")
    observed = tmp_path / "b" / "images" / "UNAP" / "observed" / "000.png"
    observed.unlink()
    result = score()
    assert result.exit_code == 3 and "000.png is not an image" in result.stderr
    assert observed.exists()

    Image.new("RGB", (64, 32)).save(missing)
    result = score()
    assert result.exit_code == 3 and "000.png is 64×32; it must be 64×64" in result.stderr


def test_bench_refuses_results_without_a_folder_or_name(tmp_path):
    for folder, words in (("none", "none is no folder"), ("robust", "has the name of a method")):
        if folder == "robust":
            (tmp_path / folder).mkdir()
        more = ("--results", tmp_path / folder)
        result = start_bench(tmp_path / "b", *more, tasks="UNAP", methods="robust")
        assert result.exit_code == 2 and words in result.stderr


def test_results_reject_equal_names_and_empty_parts(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "theirs").mkdir(parents=True)
    folders = f"{tmp_path}/a/theirs,{tmp_path}/b/theirs"
    with pytest.raises(ValueError, match="b/theirs has the name of a method or of another folder"):
        given_cells(folders, ["UNAP"], [])
    with pytest.raises(ValueError, match="has an empty part; remove a comma"):
        given_cells(f"{tmp_path}/a/theirs,", ["UNAP"], [])
