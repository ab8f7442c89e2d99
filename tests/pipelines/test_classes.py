"""`--class`: one class for all pictures, or a class for each of them in a CSV file."""

import json
import shutil
from pathlib import Path

import pytest

import invert
from pipelines.classes import Classes
from pipelines.files import Source, read_image
from tests.conftest import AVATARS
from tests.invert.checkpoints import conditional_xl, stylegan2

from .shell import apply, run

ALEX = ("--perceptual", "alex", "--steps", 2)


def source(name):
    return Source(Path("in") / name, Path(name))


def test_classes_come_from_a_number_or_a_csv(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("\ufeffpicture,breed,class\na.png,beagle,2\ndeep/b.png,pug, 0\n", "utf-8")
    classes = Classes.read(str(path))
    assert [classes.of(source(name)) for name in ("a.png", "deep/b.png")] == [2, 0]
    assert Classes.read("7").of(source("any.png")) == 7
    assert Classes.read(None).of(source("any.png")) is None
    assert not Classes.read(None).given and Classes.read("0").given and classes.given
    with pytest.raises(ValueError, match="has no line for b.png; add one"):
        classes.of(source("b.png"))


@pytest.mark.parametrize(
    "text, words",
    [
        ("name,class\na.png,1\n", "has no columns picture and class"),
        ("picture,class\na.png,dog\n", "line 2: 'dog' is no class; give a number"),
        ("picture,class\na.png\n", "line 2: '' is no class"),
        ("class,picture\n\n2\n", "has no line for a.png"),
        ("picture,class\na.png,1\na.png,2\n", "line 3: a.png has two classes; remove one line"),
        ("picture,class\n" + "a" * 200_000 + ",1\n", "is no CSV file: field larger"),
        ("picture,class\n", "has no lines"),
    ],
)
def test_class_file_errors_name_the_line(tmp_path, text, words):
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        Classes.read(str(path)).of(source("a.png"))
    with pytest.raises(ValueError, match="class='-1' is no class and no file"):
        Classes.read("-1")


def test_class_file_may_have_spaces_and_any_line_ending(tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes(b"picture, class\ra.png , 2\r")
    assert Classes.read(str(path)).of(source("a.png")) == 2


@pytest.fixture
def conditional(tmp_path, without_realism):
    """The file of a generator of 32² images with three classes, and the classes of two pictures."""
    path = tmp_path / "g.safetensors"
    generator = stylegan2(resolution=32, width=9, c_dim=3)
    for layer in (generator.mapping.fc0, generator.mapping.fc1):
        layer.weight.mul_(200)  # so that classes look different
    invert.save_generator(generator, path)
    (tmp_path / "in").mkdir()
    for name in ("000.png", "001.png"):
        shutil.copy(AVATARS / name, tmp_path / "in" / name)
    (tmp_path / "c.csv").write_text("picture,class\n000.png,2\n001.png,0\n")
    return path


def bench(tmp_path, output, generator, *more):
    return run(
        *("bench", "--images", tmp_path / "in", "-o", tmp_path / output, "--generator", generator),
        *("--tasks", "UP", "--methods", "robust", *ALEX, *more),
    )


def rows_of(folder):
    rows = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["image"]] = row
    return rows


def test_bench_restores_every_picture_in_its_class(tmp_path, conditional):
    result = bench(tmp_path, "each", conditional, "--class", tmp_path / "c.csv")
    assert result.exit_code == 0, result.output
    each = rows_of(tmp_path / "each")
    assert {name: row["class"] for name, row in each.items()} == {"000": 2, "001": 0}
    assert bench(tmp_path, "all", conditional, "--class", 2).exit_code == 0
    common = rows_of(tmp_path / "all")
    assert common["000"]["loss"][0] == pytest.approx(each["000"]["loss"][0], rel=1e-2)
    assert common["001"]["loss"][0] != pytest.approx(each["001"]["loss"][0], rel=1e-2)

    (tmp_path / "c.csv").write_text("picture,class\n000.png,2\n001.png,1\n")  # one class changes
    assert bench(tmp_path, "each", conditional, "--class", tmp_path / "c.csv").exit_code == 0
    changed = rows_of(tmp_path / "each")  # the last line of a picture counts
    assert changed["001"]["class"] == 1 and changed["000"]["class"] == 2


def brightest(observation):
    """A classifier: the channel that is brightest."""
    return observation.mean((2, 3))


CLASSIFIER = "tests.pipelines.test_classes:brightest"


def test_bench_takes_a_classifier_of_the_observations(tmp_path, conditional):
    assert bench(tmp_path, "seen", conditional, "--class", CLASSIFIER).exit_code == 0
    seen = rows_of(tmp_path / "seen")
    classes = []
    for name in ("000", "001"):
        observed = read_image(tmp_path / "seen" / "images" / "UP" / "observed" / f"{name}.png")
        classes.append(int(brightest(observed).argmax()))
    assert seen["000"]["notes"] == [f"the classifier says: classes {classes[0]}, {classes[1]}"]
    lines = [f"{name}.png,{number}\n" for name, number in zip(seen, classes, strict=True)]
    (tmp_path / "c.csv").write_text("picture,class\n" + "".join(lines))
    assert bench(tmp_path, "told", conditional, "--class", tmp_path / "c.csv").exit_code == 0
    told = rows_of(tmp_path / "told")
    for name in told:
        assert told[name]["loss"] == seen[name]["loss"] and seen[name]["class"] == CLASSIFIER
    text = (tmp_path / "seen" / "results.jsonl").read_text()
    assert bench(tmp_path, "seen", conditional, "--class", CLASSIFIER).exit_code == 0
    assert (tmp_path / "seen" / "results.jsonl").read_text() == text  # nothing is computed again
    unknown = bench(tmp_path, "seen", conditional, "--class", "tests.pipelines.test_classes:none")
    assert unknown.exit_code == 2 and "has no function 'none'" in unknown.stderr


@pytest.mark.parametrize("method", ["calibrated", "robust", "cri", "cri-xl"])
def test_bench_searches_a_stylegan_xl_with_classes(tmp_path, conditional, method):
    """It has no W++, so the searches that go on to W++ end in W+."""
    path = tmp_path / "xl.safetensors"
    invert.save_generator(conditional_xl(), path)
    result = run(
        *("bench", "--images", tmp_path / "in", "-o", tmp_path / "xl", "--generator", path),
        *("--tasks", "UP", "--methods", method, *ALEX[:2], "--steps", 6, "--limit", 1),
        *("--class", tmp_path / "c.csv"),
    )
    assert result.exit_code == 0, result.output
    row = rows_of(tmp_path / "xl")["000"]
    assert row["class"] == 2 and row["finite"] and row["steps"] >= 4
    left_out = any("phase W++ was left out" in note for note in row["notes"])
    assert left_out == (method in ("calibrated", "robust"))


def test_restore_takes_a_classifier(tmp_path, conditional):
    apply(tmp_path / "in", output=tmp_path / "o", op="resize:32 >> downsample:2")
    result = run(
        *("restore", tmp_path / "o", "-o", tmp_path / "r", "--prior", conditional, *ALEX),
        *("--op", "downsample:2", "--class", CLASSIFIER, "--force"),
    )
    assert result.exit_code == 0, result.output
    log = json.loads((tmp_path / "r" / "000.json").read_text())
    number = int(brightest(read_image(tmp_path / "o" / "000.png")).argmax())
    assert log["class_label"] == CLASSIFIER
    assert f"the classifier says: class {number}" in log["notes"]


def test_bench_asks_for_classes_and_refuses_useless_ones(tmp_path, conditional):
    result = bench(tmp_path, "none", conditional)
    assert result.exit_code == 2 and "is conditional; give --class a number" in result.stderr
    result = bench(tmp_path, "useless", "avatars-128", "--class", 1)
    assert result.exit_code == 2 and "no prior of this benchmark has classes" in result.stderr


def test_restore_takes_a_class_for_each_picture(tmp_path, conditional):
    apply(tmp_path / "in", output=tmp_path / "o", op="resize:32 >> downsample:2")

    def restore(output, classes):
        result = run(
            *("restore", tmp_path / "o", "-o", tmp_path / output, "--prior", conditional, *ALEX),
            *("--op", "downsample:2", "--class", classes, "--force"),
        )
        assert result.exit_code == 0, result.output
        logs = {}
        for name in ("000", "001"):
            logs[name] = json.loads((tmp_path / output / f"{name}.json").read_text())
        return logs

    each = restore("each", tmp_path / "c.csv")
    assert [each[name]["class_label"] for name in ("000", "001")] == [2, 0]
    common = restore("all", 2)
    assert common["000"]["loss"] == each["000"]["loss"]
    assert common["001"]["loss"] != each["001"]["loss"]
