"""Test that JPEG files equal Pillow's byte for byte, and that files can be read back."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, JPEGCoefficients, jpeg, jpeg_bytes, jpeg_coefficients
from degrade.jpeg.header import ZIGZAG
from degrade.jpeg.layout import SAMPLINGS

from .conftest import cases, picture, rng
from .jpeg_reference import IMAGES, KINDS, WRITTEN_BY_PILLOW, content, decode

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

MODES = {
    "baseline": {},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "progressive optimised": {"progressive": True, "optimize": True},
}


def pillow_bytes(image, **options):
    """The file that Pillow writes for an image [C, H, W] of k/255."""
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    if len(image) == 1:
        pixels = pixels[..., 0]
    file = io.BytesIO()
    try:
        Image.fromarray(numpy.ascontiguousarray(pixels)).save(file, "JPEG", **options)
    except OSError:  # Pillow's buffer is too small for some progressive files of noise
        reject()
    return file.getvalue()


@pytest.fixture(scope="module")
def photo():
    """[1, 3, 512, 512]"""
    path = Path(__file__).parent.parent / "examples" / "photos" / "astronaut.jpg"
    return decode(path.read_bytes())[None] / 255


restarts = st.fixed_dictionaries(
    {},
    optional={
        "restart_marker_blocks": st.integers(1, 30),
        "restart_marker_rows": st.integers(1, 4),
    },
)


@cases(300)
@given(
    **IMAGES,
    sampling=st.sampled_from([None, *WRITTEN_BY_PILLOW]),
    quality=st.integers(1, 100),
    mode=st.sampled_from(list(MODES)),
    restart=restarts,
    seed=st.integers(0, 999),
)
def test_jpeg_bytes_equal_pillow(
    kind, height, width, channels, sampling, quality, mode, restart, seed
):
    x = content(kind, height, width, channels, seed)
    options = {"quality": quality, **MODES[mode], **restart}
    expected = pillow_bytes(x[0], subsampling=sampling or -1, **options)
    assert jpeg_bytes(x, subsampling=sampling, **options) == [expected]


@cases(60)
@given(
    count=st.integers(1, 3),
    largest=st.sampled_from([2, 40, 255, 256, 2000, 8191]),
    channels=st.sampled_from([1, 3]),
    mode=st.sampled_from(list(MODES)),
    seed=st.integers(0, 99),
)
def test_jpeg_bytes_with_own_tables_equal_pillow(count, largest, channels, mode, seed):
    tables = torch.randint(1, largest + 1, (count, 64), generator=rng(seed)).tolist()
    kind = "picture" if seed % 2 else "noise"
    x = content(kind, 30, 41, channels, seed)
    expected = pillow_bytes(x[0], qtables=tables, **MODES[mode])
    assert jpeg_bytes(x, tables=tables, **MODES[mode]) == [expected]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("quality", [10, 75, 95])
def test_jpeg_bytes_of_large_photo_equal_pillow(photo, quality, mode):
    """Progressive files of a photo have runs of zeros in every kind of scan."""
    options = {"quality": quality, **MODES[mode]}
    assert jpeg_bytes(photo, **options) == [pillow_bytes(photo[0], **options)]


def test_jpeg_bytes_of_many_flat_blocks_equal_pillow():
    """One end-of-band code counts at most 32,767 blocks; here there are 40,000."""
    x = torch.full((1, 1, 1600, 1600), 0.6)
    x[:, :, 3, 5] = 0
    assert jpeg_bytes(x, progressive=True) == [
        pillow_bytes(x[0].mul(255).round() / 255, progressive=True)
    ]


STEP = 16  # of a quantiser that finds the same coefficients in rounded pixels again


def image_with(blocks):
    """The grayscale image whose coefficients are `blocks` [rows, columns, 64], in zigzag order."""
    natural = torch.zeros_like(blocks)
    natural[..., ZIGZAG] = blocks
    component = natural.unflatten(2, (8, 8))[None]
    tables = torch.full((1, 1, 8, 8), STEP)
    size = (8 * component.shape[1], 8 * component.shape[2])
    coefficients = JPEGCoefficients((component,), tables, "4:4:4", size)
    image = coefficients.decode()
    saved = jpeg_coefficients(image, tables=tables, subsampling="4:4:4")
    assert torch.equal(saved.components[0], component)
    return image


def assert_saved_as_pillow_does(x, **options):
    table = [[STEP] * 64]
    assert jpeg_bytes(x, tables=table, **options) == [pillow_bytes(x[0], qtables=table, **options)]


def test_jpeg_bytes_of_many_corrections_equal_pillow():
    """Blocks without new coefficients hold back at most 937 correction bits."""
    draws = torch.rand(120, 120, 63, generator=rng(0))
    density = torch.rand(120, 120, 1, generator=rng(1)) * 0.15
    signs = torch.randint(0, 2, draws.shape, generator=rng(2)) * 2 - 1
    blocks = torch.zeros(120, 120, 64, dtype=torch.int16)
    blocks[..., 1:] = (draws < density) * signs * 4
    assert_saved_as_pillow_does(image_with(blocks), progressive=True)


def test_jpeg_bytes_with_long_codes_equal_pillow():
    """Counts like the Fibonacci numbers make Huffman codes longer than the 16 bits allowed."""
    counts = [1, 1]
    while len(counts) < 20:
        counts.append(counts[-1] + counts[-2])
    side = 140
    kinds = torch.arange(20).repeat_interleave(torch.tensor(counts))
    symbols = torch.zeros(side * side, dtype=torch.long)
    symbols[: len(kinds)] = kinds
    blocks = torch.zeros(side * side, 64, dtype=torch.int16)
    position = 1 + symbols % 10
    value = 1 + 2 * (symbols // 10)
    blocks[torch.arange(side * side), position] = value.to(torch.int16)
    assert_saved_as_pillow_does(image_with(blocks.view(side, side, 64)), optimize=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_jpeg_bytes_open_as_the_pixels_of_jpeg(sampling, mode):
    x = content("picture", 45, 37, 3, 4)
    file = jpeg_bytes(x, 60, sampling, restart_marker_rows=1, **MODES[mode])[0]
    assert torch.equal(decode(file) / 255, jpeg(x, 60, sampling)[0])
    assert JPEG.from_file(file).subsampling == sampling


def test_jpeg_bytes_per_image_equal_pillow():
    x = torch.cat([content("picture", 33, 41, 3, 1), content("noise", 33, 41, 3, 2)])
    expected = [pillow_bytes(x[0], quality=20), pillow_bytes(x[1], quality=90)]
    assert jpeg_bytes(x, [20, 90]) == expected
    tables = torch.randint(1, 200, (2, 2, 8, 8), generator=rng(0))
    files = jpeg_bytes(x, tables=tables)
    for image, file, own in zip(x, files, tables.flatten(2).tolist(), strict=True):
        assert file == pillow_bytes(image, qtables=own)


def test_jpeg_bytes_clamp_round_and_ignore_dtype():
    x = content("picture", 24, 31, 3, 2)
    expected = jpeg_bytes(x, 50)
    assert jpeg_bytes(x.double(), 50) == expected
    assert jpeg_bytes(x + 0.4 / 255, 50) == expected
    assert jpeg_bytes(x.to(memory_format=torch.channels_last), 50) == expected


@pytest.mark.parametrize(
    "options, message",
    [
        ({"restart_marker_rows": -1}, "restart_marker_rows=-1 must be an integer from 0 to 65535"),
        ({"restart_marker_rows": 1.5}, "restart_marker_rows=1.5 must be an integer"),
        ({"restart_marker_blocks": "2"}, "restart_marker_blocks='2' must be an integer"),
        ({"restart_marker_blocks": 70000}, "restart_marker_blocks=70000"),
        ({"quality": 0}, "quality=0"),
        ({"quality": 50, "tables": [[1] * 64]}, "exclude each other"),
        ({"subsampling": "3:1:1"}, "subsampling"),
    ],
)
def test_jpeg_bytes_reject_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        jpeg_bytes(content("flat", 8, 8, 3, 0), **options)


def test_jpeg_bytes_reject_sides_above_65500():
    with pytest.raises(ValueError, match="65501.*at most 65500"):
        jpeg_bytes(torch.zeros(1, 1, 1, 65501))


def test_jpeg_bytes_reject_what_is_no_image():
    with pytest.raises(TypeError, match="x is a list"):
        jpeg_bytes([1.0])


def test_jpeg_bytes_do_not_depend_on_default_device_and_dtype():
    x = content("picture", 24, 31, 3, 2)
    expected = jpeg_bytes(x, 50)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert jpeg_bytes(x, 50) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_jpeg_bytes_reject_two_channels():
    with pytest.raises(ValueError, match="2 channels"):
        jpeg_bytes(torch.zeros(1, 2, 8, 8))


def test_jpeg_bytes_take_integers_of_numpy():
    x = content("picture", 24, 31, 3, 2)
    expected = jpeg_bytes(x, restart_marker_rows=1)
    assert jpeg_bytes(x, restart_marker_rows=numpy.int64(1)) == expected
    assert jpeg_bytes(x, restart_marker_blocks=numpy.uint8(2)) == jpeg_bytes(
        x, restart_marker_blocks=2
    )


def test_jpeg_bytes_refuse_torch_func():
    def loss(x):
        jpeg_bytes(x)
        return x.sum()

    with pytest.raises(ValueError, match="torch.func cannot transform bytes; call it outside"):
        torch.func.grad(loss)(torch.zeros(1, 3, 8, 8))


# Coefficients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_coefficients_decode_to_the_pixels_of_jpeg(sampling, channels):
    x = torch.cat([content(kind, 35, 43, channels, 5) for kind in KINDS])
    coefficients = jpeg_coefficients(x, 45, sampling)
    assert torch.equal(coefficients.decode(), jpeg(x, 45, sampling))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_coefficients_are_those_of_the_file(channels, sampling, mode, tmp_path):
    pytest.importorskip("jpeglib")
    x = content("picture", 45, 37, channels, 3)
    own = jpeg_coefficients(x, 70, sampling)
    file = jpeg_bytes(x, 70, sampling, restart_marker_blocks=3, **MODES[mode])[0]
    path = tmp_path / "picture.jpg"
    path.write_bytes(file)
    for source in (file, bytearray(file), path, str(path)):
        stored = JPEG.coefficients_from_file(source)
        assert len(stored.components) == channels
        for a, b in zip(stored.components, own.components, strict=True):
            assert torch.equal(a, b)
        assert stored.size == own.size
        assert torch.equal(stored.decode(), own.decode())


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [2, 100])
def test_coefficients_from_file_refuse_truncated(missing, progressive):
    """jpeglib would return zeros where the file ends."""
    pytest.importorskip("jpeglib")
    file = jpeg_bytes(content("noise", 40, 40, 3, 0), progressive=progressive)[0]
    with pytest.raises(ValueError, match="this JPEG cannot be read: image file is truncated"):
        JPEG.coefficients_from_file(file[:-missing])


def test_coefficients_decode_under_autocast():
    x = content("picture", 24, 31, 3, 2)
    expected = jpeg(x, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(jpeg_coefficients(x, 50).decode(), expected)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"size": (99, 31)},
            r"components\[0\] is torch.int16 .* give torch.int16 \[1, 13, 4, 8, 8\]",
        ),
        ({"subsampling": "4:4:4"}, r"components\[1\] .* \[1, 3, 4, 8, 8\]"),
        ({"subsampling": "420"}, "subsampling='420' must be written '4:2:0'"),
        ({"tables": torch.ones(2, 2, 8, 8)}, r"tables .* give \[1, n, 8, 8\]"),
        ({"components": ()}, "components are 0; give 1"),
    ],
)
def test_coefficients_reject_other_shapes(changes, message):
    coefficients = jpeg_coefficients(content("flat", 24, 31, 3, 0))
    with pytest.raises(ValueError, match=message):
        replace(coefficients, **changes)


@pytest.mark.parametrize("place, number", [(0, -1025), (0, 1024), (1, -1024), (63, 1024)])
def test_encode_rejects_coefficients_without_a_code(place, number):
    coefficients = jpeg_coefficients(content("flat", 8, 8, 1, 0))
    coefficients.components[0].flatten()[place] = number
    with pytest.raises(ValueError, match=f"a coefficient is {number}; a file holds -1023"):
        coefficients.encode()


def test_file_of_coefficients_is_the_file_of_pixels():
    x = content("picture", 45, 37, 3, 3)
    coefficients = jpeg_coefficients(x, 70)
    assert coefficients.encode(progressive=True) == jpeg_bytes(x, 70, progressive=True)


def test_project_to_coefficients_of_the_file(tmp_path):
    """Pixels do not tell all coefficients at high qualities; the file does."""
    x0 = picture(1)[..., 3:120, 5:118]
    x = torch.nn.functional.avg_pool2d(x0, 3, 1, 1, count_include_pad=False)
    f = JPEG(90)
    y = jpeg_coefficients(x0, 90)
    near = f.project(x, y)
    pairs = zip(jpeg_coefficients(near, 90).components, y.components, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(f(near), y.decode())
    assert not torch.equal(f(f.project(x, f(x0))), y.decode())
    assert (near - x).abs().mean() < (y.decode() - x).abs().mean()
    assert torch.equal(f.project(x0, y), x0)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_project_to_coefficients_of_large_image(photo, sampling):
    """Larger than the parts that are solved one by one."""
    x = photo[:, :, 100:141, 20:323]
    y = jpeg_coefficients(x, 60, sampling)
    near = JPEG(60, sampling).project(y.decode(), y)
    pairs = zip(jpeg_coefficients(near, 60, sampling).components, y.components, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_project_to_coefficients_rejects_other_settings():
    x = content("picture", 24, 24, 3, 0)
    y = jpeg_coefficients(x, 50)
    with pytest.raises(ValueError, match="other tables than jpeg:60"):
        JPEG(60).project(x, y)
    with pytest.raises(ValueError, match="4:2:0, but"):
        JPEG(50, "4:4:4").project(x, y)
    with pytest.raises(ValueError, match="shape"):
        JPEG(50).project(x[..., :20], y)
    with pytest.raises(TypeError, match="y is a list"):
        JPEG(50).project(x, [1.0])


def test_reading_coefficients_without_jpeglib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    file = jpeg_bytes(content("flat", 8, 8, 3, 0))[0]
    with pytest.raises(ValueError, match=r"pip install 'degrade\[jpeg\]'"):
        JPEG.coefficients_from_file(file)
