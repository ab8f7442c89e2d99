"""A photo is read as its file stores it, and a PNG keeps what the file held."""

import io
from functools import cache

import numpy
import pytest
from PIL import Image, ImageCms

from degrade.imagefile import Note
from degrade.photofile import decode_photo
from pipelines.png import png

RNG = numpy.random.default_rng(0)


def random_levels(channels, dtype, height=300, width=7):
    """Random pixels, higher than a band of rows that is filtered at a time."""
    largest = numpy.iinfo(dtype).max
    return RNG.integers(0, largest, (height, width, channels), dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_8_bits_is_what_pillow_reads(channels):
    levels = random_levels(channels, numpy.uint8)
    image = Image.open(io.BytesIO(png(levels)))
    assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert (numpy.asarray(image).reshape(levels.shape) == levels).all()
    assert image.info["srgb"] == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_every_level(channels):
    levels = random_levels(channels, numpy.uint16)
    photo = decode_photo(png(levels), "photo")
    colours = 1 if channels < 3 else 3
    assert photo.bits == 16 and (photo.levels == levels[..., :colours]).all()
    if channels in (2, 4):
        assert (photo.alpha == levels[..., -1]).all()
    else:
        assert photo.alpha is None
    high_bytes = numpy.asarray(Image.open(io.BytesIO(png(levels))).convert("RGB"))
    if channels == 3:
        assert (high_bytes == levels >> 8).all()


def test_png_keeps_profile_and_exif():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    exif = Image.Exif()
    exif[271] = "a maker"
    image = Image.open(io.BytesIO(png(random_levels(3, numpy.uint8), profile, exif.tobytes())))
    assert image.info["icc_profile"] == profile
    assert image.getexif()[271] == "a maker" and "srgb" not in image.info


@cache
def wide_gamut():
    """An ICC profile of colours other than sRGB's: sRGB's, with two primaries exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def test_photo_keeps_its_numbers_under_a_profile():
    levels = random_levels(3, numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", icc_profile=wide_gamut())
    photo = decode_photo(buffer.getvalue(), "photo")
    assert (photo.levels == levels).all() and photo.profile == wide_gamut()


def test_photo_keeps_the_colours_under_its_alpha():
    levels = random_levels(4, numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "WEBP", lossless=True, exact=True)
    photo = decode_photo(buffer.getvalue(), "photo")
    assert (photo.levels == levels[..., :3]).all() and (photo.alpha == levels[..., 3]).all()
    assert (photo.hidden == (levels[..., 3] == 0)).all()
    levels[..., 3] = 255
    assert decode_photo(png(levels), "photo").alpha is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_upright_and_its_exif_says_so(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "a maker"
    exif.get_ifd(34665).update({33434: 0.01, 40962: 7, 40963: 300})
    levels = random_levels(3, numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", exif=exif)
    photo = decode_photo(buffer.getvalue(), "photo")
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    assert (photo.levels == numpy.asarray(expected)).all()
    kept = Image.open(io.BytesIO(png(photo.levels, exif=photo.exif))).getexif()
    assert dict(kept) == {271: "a maker", 34665: kept[34665]}
    assert set(kept.get_ifd(34665)) == {33434}


def test_photo_of_cmyk_becomes_rgb_and_says_so():
    levels = random_levels(4, numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels, "CMYK").save(buffer, "JPEG")
    with pytest.warns(Note, match="CMYK colours are converted"):
        photo = decode_photo(buffer.getvalue(), "photo")
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        assert (photo.levels == numpy.asarray(image.convert("RGB"))).all()


def test_photo_without_a_usable_profile_is_srgb():
    buffer = io.BytesIO()
    Image.fromarray(random_levels(3, numpy.uint8)).save(buffer, "PNG", icc_profile=b"broken")
    with pytest.warns(Note, match="profile is broken"):
        assert decode_photo(buffer.getvalue(), "photo").profile is None
