"""`degrade restore` with the bundled photo prior, which is the default."""

import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

import degrade
import invert
from degrade.forensics import Alternative, Guess
from degrade.imagefile import Note
from pipelines import files, history
from tests.conftest import AVATARS

from .shell import pixels, run


@pytest.fixture
def photo(tmp_path):
    """A small colour picture whose sides are no multiples of a block."""
    path = tmp_path / "photo.png"
    Image.open(AVATARS / "000.png").convert("RGB").crop((20, 10, 95, 71)).save(path)
    return path


def test_photo_is_restored_whole_and_says_how(photo, tmp_path):
    jpeg = tmp_path / "photo.jpg"
    Image.open(photo).save(jpeg, quality=15)
    result = run("restore", jpeg, "-o", tmp_path / "r")
    assert result.exit_code == 0, result.output
    assert "estimated degradation:" in result.stderr and "jpeg:15" in result.stderr
    assert "method pnp, prior photo" in result.stderr
    names = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert names == ["photo.json", "photo.png", "photo.sheet.png"]
    restored, damaged, clean = (
        pixels(path).astype(float) for path in (tmp_path / "r" / "photo.png", jpeg, photo)
    )
    assert restored.shape == clean.shape
    assert ((restored - clean) ** 2).mean() < ((damaged - clean) ** 2).mean()
    log = json.loads((tmp_path / "r" / "photo.json").read_text())
    assert log["method"] == "pnp" and log["prior"] == "photo"


def test_photo_result_is_not_solved_again(photo, tmp_path):
    command = ["restore", photo, "-o", tmp_path / "r", "--op", "gaussian:0.1"]
    assert run(*command).exit_code == 0
    written = (tmp_path / "r" / "photo.png").stat().st_mtime_ns
    assert run(*command).exit_code == 0
    assert (tmp_path / "r" / "photo.png").stat().st_mtime_ns == written


def test_photo_reduced_by_two_is_enlarged(photo, tmp_path):
    f = degrade.parse("downsample:2")
    even = files.read_image(photo)[..., :60, :74]
    files.to_pil(f(even)).save(tmp_path / "small.png")
    result = run("restore", tmp_path / "small.png", "-o", tmp_path / "r", "--op", "downsample:2")
    assert result.exit_code == 0, result.output
    restored = files.read_image(tmp_path / "r" / "small.png")
    assert restored.shape == even.shape
    bicubic = degrade.Resize((60, 74))(files.read_image(tmp_path / "small.png"))
    assert (restored - even).square().mean() < (bicubic - even).square().mean()


def test_photo_without_damage_is_kept(photo, tmp_path):
    result = run("restore", photo, "-o", tmp_path / "r", "--op", "clamp")
    assert result.exit_code == 0 and "nothing to undo" in result.stderr
    assert (pixels(tmp_path / "r" / "photo.png") == pixels(photo)).all()


@pytest.mark.slow
def test_photo_in_grey_stays_grey(photo, tmp_path):
    Image.open(photo).convert("L").save(tmp_path / "grey.png")
    result = run("restore", tmp_path / "grey.png", "-o", tmp_path / "r", "--op", "gaussian:0.1")
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "r" / "grey.png").mode == "L"


@pytest.mark.slow
def test_photo_of_16_bits_stays_deep(photo, tmp_path):
    levels = numpy.array(Image.open(photo).convert("L")).astype(numpy.uint16) * 257 + 1
    Image.fromarray(levels).save(tmp_path / "deep.png")
    result = run("restore", tmp_path / "deep.png", "-o", tmp_path / "r", "--op", "gaussian:0.05")
    assert result.exit_code == 0, result.output
    restored = numpy.array(Image.open(tmp_path / "r" / "deep.png"))
    assert len(numpy.unique(restored)) > 256


@pytest.mark.parametrize(
    "options, words",
    [
        (["--samples", 2], "gives one answer"),
        (["--box", "1,1,20,20"], "leave them out"),
        (["--method", "robust"], "needs a generator"),
        (["--op", "resize:50"], "resize:size=50 turns"),
        (["--op", "compressedsensing:0.1"], "restore them with a generator"),
        (["--prior", "nowhere"], "photo, avatars, avatars-128"),
    ],
)
def test_photo_options_for_generators_are_refused(photo, tmp_path, options, words):
    chain = [] if "--op" in options else ["--op", "gaussian:0.1"]
    result = run("restore", photo, "-o", tmp_path / "r", *chain, *options)
    assert result.exit_code == 2 and words in result.stderr, result.output
    assert "Traceback" not in result.output and not (tmp_path / "r" / "photo.png").exists()


def test_sheet_of_a_large_photo_shows_a_detail(photo, tmp_path):
    large = tmp_path / "large.png"
    Image.open(photo).resize((300, 244)).save(large)
    assert run("restore", large, "-o", tmp_path / "r", "--op", "gamma:2").exit_code == 0
    sheet = Image.open(tmp_path / "r" / "large.sheet.png")
    assert sheet.width == 4 * 264 + 8  # observed, restored, and the detail of both


@pytest.mark.slow
def test_photo_noise_of_unknown_strength_is_estimated(photo, tmp_path):
    noisy = degrade.parse("gaussian:0.06 >> clamp >> quantize")(files.read_image(photo), 1)
    files.to_pil(noisy).save(tmp_path / "noisy.png")
    result = run(
        "restore", tmp_path / "noisy.png", "-o", tmp_path / "r", "--op", "gaussian:0.01..1"
    )
    assert result.exit_code == 0, result.output
    refined = float(result.stderr.split("sigma refined from 0.01..1 to ")[1].split()[0])
    assert refined == pytest.approx(0.06, rel=0.15)


@pytest.mark.slow
def test_photo_history_is_chosen_among_alternatives(photo, tmp_path, monkeypatch):
    """The guess says one JPEG; the second alternative, two, predicts hidden pixels better."""
    once, twice = tmp_path / "once.jpg", tmp_path / "twice.jpg"
    Image.open(photo).resize((128, 128)).save(once, quality=40)
    Image.open(once).save(twice, quality=90)
    last, both = degrade.parse("jpeg:90"), degrade.parse("jpeg:40 >> jpeg:90")
    alternative = Alternative(both, 0.4, "jpeg:40", added=True, kind="jpeg")
    result = Guess(last, (), 0.0, (alternative,))
    monkeypatch.setattr(history, "guess", lambda path: result)
    source = files.Source(twice, Path("twice.jpg"))
    with pytest.warns(
        Note, match=r"jpeg:40 >> jpeg:90; in a trial .* of 255, against [\d.]+ with jpeg:90;"
    ):
        _, operator = history.what_happened(source, None, invert.load_prior("photo"))
    assert operator == both


def test_enlargement_of_a_photo_too_large_for_it_is_left_alone(photo, tmp_path, monkeypatch):
    """A photo enlarged by a factor that cannot be cut into parts is restored all the same."""
    path = tmp_path / "large.jpg"
    Image.open(photo).resize((130, 106), Image.BICUBIC).save(path, quality=30)
    enlarged = degrade.parse("resize:size=61|75 >> resize:size=106|130 >> jpeg:30")
    without = degrade.parse("jpeg:30")
    alternative = Alternative(without, 0.4, "resize", added=False, kind="enlargement")
    monkeypatch.setattr(history, "guess", lambda path: Guess(enlarged, (), 0.0, (alternative,)))
    monkeypatch.setattr("invert.trials.MOST_WHOLE", 1000)
    source = files.Source(path, Path("large.jpg"))
    with pytest.warns(Note, match=r"estimated degradation: jpeg:30; an enlargement .* stays"):
        _, operator = history.what_happened(source, None, invert.load_prior("photo"))
    assert operator == without


def test_photo_jpeg_is_restored_to_its_own_coefficients(photo, tmp_path):
    """The restored picture, saved as the file was, is the file again."""
    pytest.importorskip("jpeglib")
    path = tmp_path / "photo.jpg"
    Image.open(photo).crop((0, 0, 64, 48)).save(path, quality=95)
    result = run("restore", path, "-o", tmp_path / "r")
    assert result.exit_code == 0, result.output
    again = io.BytesIO()
    Image.open(tmp_path / "r" / "photo.png").save(again, "JPEG", quality=95)
    assert again.getvalue() == path.read_bytes()
