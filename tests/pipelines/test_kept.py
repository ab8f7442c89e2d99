"""What `degrade restore` keeps of a photo: upright pixels, EXIF, profile, alpha, grey, 16 bits."""

import numpy
import pytest
from PIL import Image

from degrade.photofile import read_photo
from pipelines.png import png
from tests.conftest import AVATARS
from tests.test_photofile import wide_gamut

from .shell import run


def clean(channels=3):
    """A small picture, [h, w, channels], in [0, 1]."""
    image = Image.open(AVATARS / "000.png").crop((30, 20, 94, 76))
    values = numpy.asarray(image.convert("L" if channels == 1 else "RGB")) / 255
    return values.reshape(56, 64, channels)


def noisy(levels, bits, sigma=0.08):
    """The levels with Gaussian noise."""
    draws = numpy.random.default_rng(3).normal(0, sigma, levels.shape)
    largest = 2**bits - 1
    values = numpy.rint((levels + draws).clip(0, 1) * largest)
    return values.astype(numpy.uint8 if bits == 8 else numpy.uint16)


def restored(path, tmp_path, *more):
    """The result for a photo, and what was said on the way."""
    result = run("restore", path, "-o", tmp_path / "r", "--op", "gaussian:0.08", *more)
    assert result.exit_code == 0, result.output
    return read_photo(tmp_path / "r" / path.with_suffix(".png").name), result.stderr


def error(photo, truth):
    return ((photo.levels / (2**photo.bits - 1) - truth) ** 2).mean()


@pytest.mark.parametrize(
    ("channels", "bits"),
    [
        (1, 16),
        (3, 8),
        pytest.param(1, 8, marks=pytest.mark.slow),
        pytest.param(3, 16, marks=pytest.mark.slow),
    ],
)
def test_restore_keeps_alpha_and_depth(tmp_path, channels, bits):
    truth = clean(channels)
    alpha = numpy.linspace(0, 2**bits - 1, 64).astype(numpy.uint8 if bits == 8 else numpy.uint16)
    levels = noisy(truth, bits)
    plane = numpy.broadcast_to(alpha[None, :, None], (56, 64, 1))
    path = tmp_path / "photo.png"
    path.write_bytes(png(numpy.concatenate([levels, plane], 2)))
    photo, said = restored(path, tmp_path)
    assert photo.bits == bits and photo.channels == channels
    assert (photo.alpha == plane[..., 0]).all()
    assert error(photo, truth) < 0.5 * error(read_photo(path), truth)
    assert "rounded" not in said and "laid over white" not in said and "become 8" not in said


def test_alpha_is_enlarged_with_its_photo(tmp_path):
    levels = numpy.concatenate([noisy(clean()[:28, :32], 8), noisy(clean(1)[:28, :32], 8)], 2)
    path = tmp_path / "photo.png"
    path.write_bytes(png(levels))
    result = run("restore", path, "-o", tmp_path / "r", "--op", "downsample:2")
    assert result.exit_code == 0, result.output
    photo = read_photo(tmp_path / "r" / "photo.png")
    assert photo.levels.shape == (56, 64, 3) and photo.alpha.shape == (56, 64)


def test_noise_under_alpha_is_noticed(tmp_path):
    """Also where half of the photo is transparent, and black as most programs leave it."""
    image = Image.open(AVATARS / "000.png").convert("RGB").resize((256, 256))
    levels = noisy(numpy.asarray(image) / 255, 8)
    alpha = numpy.zeros((256, 256, 1), numpy.uint8)
    alpha[:, :128] = 255
    path = tmp_path / "photo.png"
    path.write_bytes(png(numpy.concatenate([levels * (alpha > 0), alpha], 2)))
    result = run("inspect", path)
    assert result.exit_code == 0 and "gaussian:0.0" in result.stdout, result.output


def test_restore_keeps_exif_and_profile(tmp_path):
    """A photo of a phone that was held upright; its numbers are restored as they are."""
    truth = clean()
    exif = Image.Exif()
    exif[271], exif[274] = "a phone", 6
    path = tmp_path / "photo.png"
    lying = numpy.rot90(noisy(truth, 8))
    Image.fromarray(lying).save(path, exif=exif, icc_profile=wide_gamut())
    photo, said = restored(path, tmp_path)
    assert photo.levels.shape == (56, 64, 3) and photo.profile == wide_gamut()
    assert error(photo, truth) < 0.5 * error(read_photo(path), truth)
    image = Image.open(tmp_path / "r" / "photo.png")
    assert dict(image.getexif()) == {271: "a phone"}
    assert "converted" not in said
    sheet = Image.open(tmp_path / "r" / "photo.sheet.png")
    assert sheet.info["icc_profile"] == wide_gamut()


def test_restore_says_what_was_assumed(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(noisy(clean(), 8)))
    assert run("apply", path, "-o", tmp_path / "o", "--op", "jpeg:40").exit_code == 0
    result = run("restore", tmp_path / "o", "-o", tmp_path / "r")
    assert "method pnp, prior photo; assumed jpeg:40" in result.stderr, result.output
