"""Pictures of every kind: modes, depth, transparency, colour profile, orientation, frames."""

import io
import json
import shutil
import struct
import zlib

import numpy
import pytest
from PIL import Image, ImageCms

import degrade
from tests.conftest import AVATARS

from .handmade import chunk, linear_profile, tiff
from .shell import pixels, run

RED, BLUE = (200, 30, 60), (10, 90, 250)


def shown(tmp_path, image, name="in.png", **options):
    """What `degrade apply` makes of the picture when it does nothing to it, and what it says."""
    image.save(tmp_path / name, **options)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)  # an earlier picture's result
    result = run("apply", tmp_path / name, "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 0, result.output
    return pixels(tmp_path / "out" / "in.png"), result.stderr


def test_transparency_is_laid_over_white(tmp_path):
    image = Image.new("RGBA", (3, 2), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 1), (*BLUE, 128))
    found, said = shown(tmp_path, image)
    assert (found[0, 0] == RED).all() and (found[0, 1] == 255).all()
    mixed = (128 * numpy.array(BLUE) + 127 * 255) / 255
    assert abs(found[1, 2] - mixed).max() <= 1
    assert said.count("note:") == 1 and "laid over white" in said
    assert shown(tmp_path, Image.new("RGBA", (3, 2), (*RED, 255)))[1] == ""


def test_transparency_notes_name_every_file(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (3, 2), (*RED, 9)).save(tmp_path / "in" / name)
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "clamp")
    notes = sorted(result.stderr.splitlines())
    assert len(notes) == 2 and "a.png: it is transparent" in notes[0] and "b.png" in notes[1]


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA", "PA", "CMYK"])
def test_modes_of_pillow_are_all_read(tmp_path, mode):
    image = (
        Image.open(AVATARS / "000.png")
        .convert("RGB")
        .convert("P" if mode in ("P", "PA") else mode)
        .convert(mode)
    )
    found, _ = shown(tmp_path, image, "in.tif" if mode not in ("P", "1", "L", "LA") else "in.png")
    assert (found == numpy.array(image.convert("RGB"))).all()


def test_tiff_in_ycbcr_is_read_as_pillow_reads_it(tmp_path):
    """Compressed, since Pillow 12.3 cannot read an uncompressed one that it wrote itself."""
    image = Image.open(AVATARS / "000.png").convert("YCbCr")
    found, _ = shown(tmp_path, image, "in.tif", compression="tiff_lzw")
    assert (found == numpy.array(Image.open(tmp_path / "in.tif").convert("RGB"))).all()
    assert abs(found.astype(int) - numpy.array(image.convert("RGB"))).max() <= 2


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    found, _ = shown(tmp_path, image, transparency=1)
    assert (found[0, 0] == RED).all() and (found[0, 1] == 255).all()


@pytest.mark.parametrize("name", ["in.png", "in.tif"])
def test_grey_16_bits_are_kept(tmp_path, name):
    grey = numpy.array([[0, 65535, 32896, 128, 129, 257]], numpy.uint16)
    Image.fromarray(grey).save(tmp_path / name)
    result = run("apply", tmp_path / name, "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 0 and result.stderr == ""
    assert (numpy.array(Image.open(tmp_path / "out" / "in.png")) == grey).all()
    manifest = json.loads((tmp_path / "out" / "in.json").read_text())
    assert manifest["operator"].endswith("clamp >> quantize:levels=65536")


def test_grey_16_bits_lost_in_a_stage_are_reported(tmp_path):
    grey = numpy.array([[0, 65535, 32896, 128, 129, 257]] * 8, numpy.uint16)
    Image.fromarray(grey).save(tmp_path / "in.png")
    chain = "gamma:1.2 >> quantize >> clamp"
    result = run("apply", tmp_path / "in.png", "-o", tmp_path / "out", "--op", chain)
    assert result.exit_code == 0
    assert "in.png: 16 bits become 8, because quantize works in 8 bits" in result.stderr
    assert Image.open(tmp_path / "out" / "in.png").mode == "L"


def test_colour_16_bits_read_as_8_are_reported(tmp_path):
    """Pillow cannot write such a PNG, so it is written by hand."""
    rows = b"".join(b"\0" + struct.pack(">6H", *([300 * i] * 6)) for i in range(2))
    head = chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    result = run("apply", tmp_path / "in.png", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 0 and "in.png: 16 bits per colour channel become 8" in result.stderr


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_stays_grey(tmp_path, mode):
    image = Image.open(AVATARS / "000.png").convert("L").convert(mode)
    image.save(tmp_path / "in.png")
    for op, suffix in (("gaussian:0.1", ".png"), ("jpeg:40", ".jpg")):
        output = tmp_path / op.partition(":")[0]
        result = run("apply", tmp_path / "in.png", "-o", output, "--op", op)
        assert result.exit_code == 0, result.output
        assert Image.open(output / f"in{suffix}").mode == "L"
    expected = io.BytesIO()
    image.convert("L").save(expected, "JPEG", quality=40)
    assert (tmp_path / "jpeg" / "in.jpg").read_bytes() == expected.getvalue()


def test_grey_16_bits_with_a_transparent_value(tmp_path):
    grey = Image.fromarray(numpy.array([[256, 257, 40000]], numpy.uint16))
    found, said = shown(tmp_path, grey, transparency=257)
    assert found[0, :, 0].tolist() == [1, 255, 156] and "laid over white" in said


@pytest.mark.parametrize(
    "data, wanted",
    [
        (tiff(16, [struct.pack("<3H", 0, 257, 65535)], photometric=0), [65535, 65278, 0]),
        (tiff(12, [bytes([0xFF, 0xF0, 0x00])]), [65535, 0]),
    ],
)
def test_tiff_grey_honours_depth_and_white_is_zero(tmp_path, data, wanted):
    (tmp_path / "in.tif").write_bytes(data)
    result = run("apply", tmp_path / "in.tif", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 0, result.output
    kept = numpy.array(Image.open(tmp_path / "out" / "in.png"))
    assert kept[0].tolist() == wanted


def test_tiff_planes_that_pillow_mixes_up_are_refused(tmp_path):
    (tmp_path / "in.tif").write_bytes(
        tiff(16, [struct.pack("<2H", 0, 257)] * 3, photometric=2, planes=2)
    )
    result = run("apply", tmp_path / "in.tif", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 2 and "separate planes" in result.stderr


def test_mask_file_is_scaled_and_turned_upright(tmp_path):
    image, exif = Image.fromarray(numpy.array([[0, 65535, 30000]], numpy.uint16)), Image.Exif()
    exif[0x0112] = 6  # turned
    image.save(tmp_path / "mask.png", exif=exif)
    seen = degrade.Mask(str(tmp_path / "mask.png")).visible((1, 3, 3, 1))
    assert seen.flatten().tolist() == pytest.approx([0, 1, 117 / 255])


def test_float_tiff_of_unknown_range_is_refused(tmp_path):
    Image.fromarray(numpy.array([[0.5, 70000.0]], numpy.float32)).save(tmp_path / "in.tif")
    result = run("apply", tmp_path / "in.tif", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 2 and "in.tif" in result.stderr and "no known range" in result.stderr


@pytest.mark.parametrize(
    "orientation, turn",
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: numpy.rot90(x, -1)),
        (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda x: numpy.rot90(x)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turn):
    image, exif = (
        Image.open(AVATARS / "000.png").convert("RGB").crop((10, 20, 60, 50)),
        Image.Exif(),
    )
    exif[0x0112] = orientation
    found, _ = shown(tmp_path, image, exif=exif)
    assert (found == turn(numpy.array(image))).all()


@pytest.mark.parametrize("name", [b"linear light", b"GIMP built-in Linear sRGB"])
def test_icc_conversion_is_reported_for_each_file(tmp_path, name):
    grey = numpy.arange(256, dtype=numpy.uint8).reshape(16, 16)
    image = Image.fromarray(numpy.dstack([grey, grey, grey]))
    (tmp_path / "in").mkdir()
    for file in "abc":
        image.save(tmp_path / "in" / f"{file}.png", icc_profile=linear_profile(name))
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 0
    notes = sorted(result.stderr.splitlines())  # pictures are degraded side by side
    assert len(notes) == 3
    for file, note in zip("abc", notes, strict=True):
        assert f"{file}.png: its colours are converted to sRGB by its colour profile" in note
    light = grey / 255
    wanted = 255 * numpy.where(
        light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055
    )
    assert abs(pixels(tmp_path / "out" / "b.png") - wanted[..., None]).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_written_png_is_marked_as_srgb(tmp_path, mode):
    """The mark is that of the PNG standard: a chunk sRGB, before the pixels."""
    picture = Image.new("I;16" if mode == "I;16" else mode, (4, 4))
    picture.save(tmp_path / "in.png")
    assert run("apply", tmp_path / "in.png", "-o", tmp_path / "out", "--op", "clamp").exit_code == 0
    data = (tmp_path / "out" / "in.png").read_bytes()
    with Image.open(tmp_path / "out" / "in.png") as written:
        assert written.info["srgb"] == 0 and written.mode == mode
        assert "icc_profile" not in written.info
    assert data.index(b"sRGB") < data.index(b"IDAT")


def test_icc_profile_of_rgb_on_grey_is_converted(tmp_path):
    grey = Image.fromarray(numpy.full((2, 2), 51, numpy.uint8))
    found, said = shown(tmp_path, grey, icc_profile=linear_profile(b"linear"))
    assert abs(int(found[0, 0, 0]) - 124) <= 1 and "converted" in said


def test_icc_profile_of_srgb_or_broken_changes_nothing(tmp_path):
    image = Image.open(AVATARS / "001.png").convert("RGB")
    found, said = shown(
        tmp_path,
        image,
        icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    )
    assert (found == numpy.array(image)).all() and said == ""
    found, said = shown(tmp_path, image, icc_profile=b"no profile at all")
    assert (found == numpy.array(image)).all() and "left out" in said


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    found, said = shown(tmp_path, frames[0], save_all=True, append_images=frames[1:])
    assert (found == RED).all() and "the first is taken" in said


def test_mpo_second_frame_is_not_reported(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    found, said = shown(
        tmp_path, frames[0], "in.jpg", format="MPO", save_all=True, append_images=frames[1:]
    )
    assert abs(found - numpy.array(RED, float)).max() <= 3 and said == ""


def test_suffix_may_be_wrong_and_picture_one_pixel(tmp_path):
    found, _ = shown(tmp_path, Image.new("RGB", (1, 1), RED), "in.jpg", format="PNG")
    assert (found == RED).all()


def test_measurements_cut_to_pixel_values_are_reported(tmp_path):
    Image.new("RGB", (6, 4), "white").save(tmp_path / "in.png")
    command = ("apply", tmp_path / "in.png", "-o", tmp_path / "out", "--op", "fouriermagnitude")
    result = run(*command)
    assert result.exit_code == 0
    assert "in.png: the result is one row of numbers; .png keeps them within" in result.stderr
