"""Test `guess` on files of every kind, mode and size."""

import io

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import degrade
from degrade import Identity, guess, parse
from degrade.forensics.webp import quantiser

from .forensic_files import noisy, opened, saved, scene


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_guess_reads_every_image_mode(mode):
    image = Image.fromarray(scene(40, 50)).convert(mode)
    file = io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    result = guess(file.getvalue())
    assert result.operator == Identity()
    names_cmyk = any("CMYK" in finding.why for finding in result.findings)
    assert names_cmyk or mode != "CMYK"


@pytest.mark.parametrize(
    ("grey", "quality"),
    [
        (False, 80),
        pytest.param(True, 20, marks=pytest.mark.slow),
        pytest.param(False, 20, marks=pytest.mark.slow),
        pytest.param(True, 80, marks=pytest.mark.slow),
    ],
)
def test_guess_reads_the_quality_of_webp(quality, grey):
    (codec,) = guess(saved(scene(grey=grey), "WEBP", quality=quality)).operator
    assert codec.format == "webp" and abs(codec.quality - quality) <= 2


def test_guess_of_lossless_webp_is_identity():
    assert guess(saved(scene(64, 64), "WEBP", lossless=True)).operator == Identity()


def test_guess_reads_webp_with_metadata():
    """A file with metadata has other chunks before its frame."""
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    (codec,) = guess(saved(scene(), "WEBP", quality=60, exif=exif)).operator
    assert abs(codec.quality - 60) <= 2


@pytest.mark.parametrize("length", [0, 1, 15, 25, 40])
def test_quantiser_of_a_cut_webp_raises_nothing(length):
    value = quantiser(saved(scene(64, 64), "WEBP")[:length])
    assert value is None or 0 <= value <= 127


def test_guess_names_other_codecs_without_stage():
    findings = guess(saved(scene(64, 64), "JPEG2000")).findings
    assert [finding.stage for finding in findings if "JPEG2000" in finding.why] == [""]


def test_guess_of_large_picture_keeps_block_grid():
    large = numpy.tile(scene(), (7, 8, 1))  # 1792 × 2176
    decoded = opened(saved(large, "JPEG", quality=70))
    assert str(guess(saved(decoded, compress_level=0)).operator) == "jpeg:70"


@given(st.binary(max_size=300))
def test_guess_rejects_any_bytes_in_one_line(data):
    with pytest.raises(ValueError, match="^file ") as error:
        guess(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", [None, 3, "no/such.png", ""])
def test_guess_rejects_non_files_in_one_line(file):
    with pytest.raises(ValueError, match="^file=") as error:
        guess(file)
    assert "\n" not in str(error.value)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([0, 5, 60]),
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]),
)
def test_guess_of_small_picture_keeps_its_shape(height, width, channels, sigma, kind):
    shape = (height, width, channels) if channels > 1 else (height, width)
    picture = noisy(numpy.full(shape, 90), sigma)
    if kind == "JPEG" and channels == 4:
        picture = picture[..., :3]  # JPEG has no transparency
    file = saved(picture, kind)
    result = guess(file)
    assert parse(str(result.operator)) == result.operator
    assert guess(file).operator == result.operator
    assert result.operator.output_shape((1, 3, height, width)) == (1, 3, height, width)
    assert 0 <= result.clipped <= 1
    assert all(0 <= finding.confidence <= 1 for finding in result.findings)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_guess_reports_repeated_pixels(factor):
    picture = scene(64, 80).repeat(factor, 0).repeat(factor, 1)
    result = guess(saved(picture))
    assert result.operator == Identity()
    assert "repeated" in result.findings[0].why


def test_guess_finds_no_enlargement_in_smooth_picture():
    """Rounding to 8 bits makes steps at regular distances, which look like an enlargement."""
    rows, columns = numpy.mgrid[0:240, 0:320]
    red = 100 + 60 * rows / 240
    green = 140 + 50 * rows / 240
    blue = 220 + 20 * rows / 240
    downward = numpy.stack([red, green, blue], -1)
    rightward = columns * 0.5 + 50
    for levels in (downward, rightward):
        pixels = levels.round().astype("uint8")
        assert guess(saved(pixels)).operator == Identity()


def test_guess_finds_no_enlargement_in_cmyk_jpeg():
    """The blocks of a codec without a model come at regular distances too."""
    file = io.BytesIO()
    Image.fromarray(scene()).convert("CMYK").save(file, "JPEG", quality=70)
    result = guess(file.getvalue())
    assert result.operator == Identity()
    assert all(finding.stage == "" for finding in result.findings)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_guess_names_settings_of_cmyk_that_pillow_saved(subsampling):
    file = io.BytesIO()
    image = Image.fromarray(scene(40, 56)).convert("CMYK")
    image.save(file, "JPEG", quality=70, subsampling=subsampling)
    words = " ".join(finding.why for finding in guess(file.getvalue()).findings)
    sampling = {0: "4:4:4", 2: "2x2:1x1:1x1:1x1"}[subsampling]
    assert f"it was saved as jpeg:70,subsampling={sampling},colour=cmyk" in words


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("libjpeg-turbo", "saved as jpeg:50,colour=ycck"),
        ("ijg9e", "the tables are those of IJG's libjpeg 9e and 9f"),
        ("mozjpeg-notrellis", "the tables are MozJPEG's of quality 50"),
    ],
)
def test_guess_names_quality_and_encoder_of_ycck(encoder, words):
    """`tests/test_jpeg_components.py` compares such files with jpeglib's."""
    x = torch.rand(1, 4, 40, 56, generator=torch.Generator().manual_seed(0))
    coefficients = degrade.jpeg_coefficients(x, 50, encoder=encoder, colour="ycck")
    findings = guess(coefficients.encode()[0]).findings
    assert any(words in finding.why for finding in findings)


@pytest.mark.slow
def test_guess_finds_no_enlargement_in_webp():
    f = guess(saved(scene(), "WEBP", quality=50)).operator
    assert [stage.name for stage in f] == ["codec"]
