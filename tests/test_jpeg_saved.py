"""Test data consistency with the coefficients that an observed JPEG file stores."""

import io
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import degrade
from degrade import JPEG, Downsample, Gaussian, Turn, jpeg_bytes, jpeg_coefficients
from degrade.jpeg.saved import SavedJPEG, with_coefficients

from .conftest import picture
from .jpeg_reference import content, decode


def opened(file):
    """The pixels [1, C, H, W] of a file, as Pillow shows them."""
    return decode(file)[None] / 255


def blurred(x):
    return F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)


@pytest.fixture(scope="module")
def sharp():
    pytest.importorskip("jpeglib")
    return picture(1)[..., 3:115, 5:117]  # whole MCUs


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "4:4:0"])
def test_saved_jpeg_project_gives_the_files_pixels(sharp, sampling):
    f = JPEG(90, sampling)
    file = jpeg_bytes(sharp, 90, sampling)[0]
    y = opened(file)
    saved = with_coefficients(f, file, y)
    near = saved.project(blurred(sharp), y)
    assert torch.equal(f(near), y)
    assert (near - blurred(sharp)).abs().mean() < (y - blurred(sharp)).abs().mean()


def test_saved_jpeg_at_quality_95_misses_no_mcu(sharp):
    """From pixels alone, more than a tenth of the picture is missed."""
    f = JPEG(95)
    file = jpeg_bytes(sharp, 95)[0]
    y = opened(file)
    saved = with_coefficients(f, file, y)
    assert torch.equal(f(saved.project(blurred(sharp), y)), y)
    assert (f(f.project(blurred(sharp), y)) != y).any(1).float().mean() > 0.1


def test_saved_jpeg_in_a_chain_with_a_turn(sharp):
    """A photo that EXIF turns upright was saved as it lay."""
    f = degrade.parse("turn:3,0 >> jpeg:90 >> turn:1,0")
    turned = Turn(3, 0)(sharp)
    file = jpeg_bytes(turned, 90)[0]
    y = Turn(1, 0)(opened(file))
    saved = with_coefficients(f, file, y)
    assert isinstance(saved[1], SavedJPEG)
    assert torch.equal(f(saved.project(blurred(sharp), y)), y)


def test_saved_jpeg_part_knows_its_coefficients(sharp):
    f = JPEG(95)
    file = jpeg_bytes(sharp, 95)[0]
    y = opened(file)
    window = (slice(32, 96), slice(16, 112))
    part, _ = with_coefficients(f, file, y).part(sharp.shape, window)
    rows, columns = window
    near = part.project(blurred(sharp)[..., rows, columns], y[..., rows, columns])
    whole = y.clone()
    whole[..., rows, columns] = near
    inner = jpeg_coefficients(near, 95).components
    stored = JPEG.coefficients_from_file(file).components
    assert torch.equal(inner[0], stored[0][:, 4:12, 2:14])
    assert torch.equal(inner[1], stored[1][:, 2:6, 1:7])


def test_saved_jpeg_of_other_pixels_is_the_plain_jpeg(sharp):
    f = JPEG(80)
    file = jpeg_bytes(sharp, 80)[0]
    saved = with_coefficients(f, file, opened(file))
    other = f(picture(2)[..., :112, :112])
    near = blurred(picture(2)[..., :112, :112])
    assert torch.equal(saved.project(near, other), f.project(near, other))
    assert torch.equal(saved(sharp), f(sharp))


def test_saved_jpeg_text_is_that_of_jpeg(sharp):
    file = jpeg_bytes(sharp, 80, "4:4:4")[0]
    f = Downsample(2) >> JPEG(80, "4:4:4", surrogate="ste")
    saved = with_coefficients(f, file, opened(file))
    assert isinstance(saved[-1], SavedJPEG)
    assert str(saved) == str(f)
    assert degrade.to_json(saved) == degrade.to_json(f)
    assert degrade.parse(str(saved)) == f
    again = pickle.loads(pickle.dumps(saved))
    assert again == saved
    assert torch.equal(again[-1].pixels, saved[-1].pixels)


def test_saved_jpeg_needs_the_file_of_the_observation(sharp):
    """Without the right file an operator stays as it is."""
    file = jpeg_bytes(sharp, 80)[0]
    y = opened(file)
    png = io.BytesIO()
    Image.new("RGB", (112, 112)).save(png, "PNG")
    for f, data, pixels in (
        (JPEG(81), file, y),
        (JPEG(80, "4:4:4"), file, y),
        (JPEG(80), file, sharp),
        (JPEG((80, 80)), file, y),
        (JPEG(80) >> Gaussian(0.1), file, y),
        (Downsample(2), file, y),
        (JPEG(80), png.getvalue(), y),
        (JPEG(80), b"no picture", y),
    ):
        assert with_coefficients(f, data, pixels) is f


def test_saved_jpeg_of_a_file_that_changed(sharp, tmp_path):
    """A file is read twice. What the second reading finds may be gone, or of another size."""
    file = jpeg_bytes(sharp, 80)[0]
    small = jpeg_bytes(sharp[..., :16, :16], 80)[0]
    y = opened(file)
    window = degrade.parse("crop:32,32,height=48,width=48")
    mask = degrade.Mask(torch.ones(1, 1, *y.shape[2:]))
    for f, source, pixels in (
        (JPEG(80), tmp_path / "gone.jpg", y),
        (JPEG(80), tmp_path, y),
        (JPEG(80), small, y),
        (JPEG(80) >> window, small, window(y)),
        (JPEG(80) >> mask, small, y),
    ):
        assert with_coefficients(f, source, pixels) is f


def test_saved_jpeg_of_grayscale_file():
    pytest.importorskip("jpeglib")
    x = content("picture", 40, 48, 1, 4)
    file = jpeg_bytes(x, 92)[0]
    y = opened(file)
    saved = with_coefficients(JPEG(92), file, y)
    assert torch.equal(JPEG(92)(saved.project(blurred(x), y)), y)


def test_saved_jpeg_without_jpeglib_is_the_plain_jpeg(monkeypatch):
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    file = jpeg_bytes(content("flat", 16, 16, 3, 0), 80)[0]
    f = JPEG(80)
    assert with_coefficients(f, file, opened(file)) is f
