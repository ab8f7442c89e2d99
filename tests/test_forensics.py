"""Test `guess` on files with a known history: Pillow and numpy made them."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import degrade
from degrade import JPEG, Gaussian, Identity, PoissonGaussian, Resize, Shift, Turn, guess, parse
from degrade.forensics.webp import quantiser

from .jpeg_reference import encode

AVATARS = sorted((Path(__file__).parents[1] / "examples" / "avatars").glob("*.png"))


def scene(height: int = 256, width: int = 272, grey: bool = False) -> numpy.ndarray:
    """Smooth hills with sharp discs on them: no noise, no texture and no clipped areas."""
    generator = numpy.random.default_rng(3)
    y, x = numpy.mgrid[:height, :width]
    channels = []
    for across, down, phase in generator.uniform(9, 40, (3, 3)):
        waves = numpy.sin(x / across + phase) * numpy.cos(y / down)
        channels.append(128 + 50 * waves)
    image = numpy.stack(channels, 2)
    lowest = (0, 0, 4, 40, 40, 40)
    highest = (height, width, 30, 215, 215, 215)
    for top, left, radius, *colour in generator.uniform(lowest, highest, (60, 6)):
        squared_distance = (y - top) ** 2 + (x - left) ** 2
        image[squared_distance < radius**2] = colour
    pixels = image.round().astype(numpy.uint8)
    return pixels[..., 0] if grey else pixels


def saved(x: numpy.ndarray, kind: str = "PNG", **options) -> bytes:
    """The bytes of a file that Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, kind, **options)
    return file.getvalue()


def opened(file: bytes) -> numpy.ndarray:
    """The pixels that Pillow reads from the bytes of a file."""
    return numpy.asarray(Image.open(io.BytesIO(file)))


def noisy(x: numpy.ndarray, sigma: float) -> numpy.ndarray:
    """Add Gaussian noise and round to 8 bits; sigma in levels."""
    noise = numpy.random.default_rng(0).normal(0, sigma, x.shape)
    levels = (x + noise).round()
    return levels.clip(0, 255).astype(numpy.uint8)


def tensor(x: numpy.ndarray) -> torch.Tensor:
    """8-bit pixels [H, W] or [H, W, C] as an image [1, C, H, W] in [0, 1]."""
    height, width = x.shape[:2]
    channels_last = torch.tensor(x.reshape(height, width, -1))
    return channels_last.permute(2, 0, 1)[None].float() / 255


def only(file: bytes, kind: type) -> degrade.Operator:
    """The first stage of a class in the guess for a file."""
    return next(stage for stage in guess(file).operator if isinstance(stage, kind))


@pytest.mark.parametrize("path", [AVATARS[i] for i in (2, 34)], ids=lambda path: path.stem)
def test_guess_of_clean_drawing_is_identity(path):
    result = guess(path)
    assert result.operator == Identity()
    assert not result.findings


def test_guess_of_clean_scene_is_identity():
    result = guess(saved(scene()))
    assert result.operator == Identity() and result.alternatives == ()


# EXIF's value of Orientation → how a viewer turns the stored picture upright
VIEWER_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", VIEWER_TURNS)
def test_guess_reproduces_rotated_jpeg(orientation):
    """The operator maps the displayed picture before compression to the displayed pixels."""
    stored = Image.fromarray(scene(75, 93))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(numpy.asarray(stored), "JPEG", quality=70, exif=exif)
    decoded = Image.open(io.BytesIO(file))
    turn = VIEWER_TURNS[orientation]
    if turn is not None:
        stored = stored.transpose(turn)
        decoded = decoded.transpose(turn)
    f = guess(file).operator
    displayed_before = tensor(numpy.asarray(stored))
    displayed_after = tensor(numpy.asarray(decoded))
    assert torch.equal(f(displayed_before), displayed_after)
    assert "jpeg:70" in str(f)
    assert len(f) == (1 if turn is None else 3)


@pytest.mark.parametrize(
    "options", [{"quality": 92, "subsampling": 0}, {"qtables": [list(range(3, 67))] * 2}]
)
def test_guess_reproduces_jpeg_of_any_tables(options):
    for picture in (scene(64, 81), scene(64, 81, grey=True)):
        file = saved(picture, "JPEG", **options)
        f = guess(file).operator
        assert torch.equal(f(tensor(picture)), tensor(opened(file)))


@pytest.mark.parametrize("sampling", ["4:4:0", "4:1:1"])
def test_guess_reproduces_jpeg_of_rare_sampling(sampling):
    x = tensor(scene(64, 81))
    pixels = x[0].mul(255).round().byte()
    file = encode(pixels, sampling, quality=80)
    f = guess(file).operator
    assert str(f) == f"jpeg:80,subsampling={sampling}"
    assert torch.equal(f(x), tensor(opened(file)))


@pytest.mark.parametrize(("factors", "sampling"), [(0x21, "1x1:2x1:1x1"), (0x12, "1x1:1x2:1x1")])
def test_guess_names_sampling_of_unequal_chroma(factors, sampling):
    file = saved(scene(64, 64), "JPEG", quality=80, subsampling="4:4:4")
    position = file.index(b"\xff\xc0") + 14  # of Cb's sampling factors in the frame header
    changed = file[:position] + bytes([factors]) + file[position + 1 :]
    assert str(guess(changed).operator) == f"jpeg:80,subsampling={sampling}"


def test_turn_equals_numpy():
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5) / 120
    visible = x[:1, :1]
    for quarters in range(4):
        for mirror in range(2):
            f = Turn(quarters, mirror)
            y = f(x)
            expected = numpy.rot90(x.numpy(), quarters, (2, 3))
            if mirror:
                expected = numpy.flip(expected, 3)
            assert numpy.array_equal(y, expected)
            assert torch.equal((f >> f.inverse)(x), x)
            assert torch.equal(f.adjoint(y), x)
            assert f.output_shape(x.shape) == y.shape
            assert f.input_shape(y.shape) == x.shape
            assert parse(str(f)) == f
            assert f.visible(x.shape) is None
            assert torch.equal(f.visible(x.shape, visible), y[:1, :1])
    with pytest.raises(ValueError, match="quarters=4 must be an integer from 0 to 3"):
        Turn(4, 0)
    with pytest.raises(ValueError, match="mirror=2"):
        Turn(0, 2)


@pytest.mark.parametrize(
    ("quality", "subsampling"),
    [
        (40, "4:2:0"),
        pytest.param(75, "4:4:4", marks=pytest.mark.slow),
        pytest.param(90, "4:2:2", marks=pytest.mark.slow),
    ],
)
def test_guess_finds_earlier_jpeg_in_png(quality, subsampling):
    jpeg_file = saved(scene(), "JPEG", quality=quality, subsampling=subsampling)
    png_file = saved(opened(jpeg_file))
    assert guess(png_file).operator == JPEG(quality, subsampling)


def test_guess_writes_later_crop_as_shift():
    source = scene()
    decoded = opened(saved(source, "JPEG", quality=60))
    cropped = decoded[3:, 5:]
    f = guess(saved(cropped)).operator
    assert str(f) == "shift:3,5 >> jpeg:60 >> shift:-3,-5"
    # rows and columns that were cut off are guessed, so that the blocks at two edges differ
    inner = (..., slice(18, -20), slice(18, -20))
    reproduced = f(tensor(source[3:, 5:]))
    assert torch.equal(reproduced[inner], tensor(cropped)[inner])


def test_guess_finds_both_jpegs_of_resaved_file():
    file = saved(scene(), "JPEG", quality=50)
    assert str(guess(file).operator) == "jpeg:50"
    resaved = saved(opened(file), "JPEG", quality=90)
    assert str(guess(resaved).operator) == "jpeg:50 >> jpeg:90"


@pytest.mark.slow
def test_guess_finds_both_jpegs_of_cropped_file():
    file = saved(scene(), "JPEG", quality=50)
    cropped_and_resaved = saved(opened(file)[2:, 1:], "JPEG", quality=92)
    shift, first_jpeg, shift_back, last_jpeg = guess(cropped_and_resaved).operator
    assert shift == Shift(2, 1)
    assert abs(first_jpeg.quality - 50) <= 2
    assert shift_back == Shift(-2, -1)
    assert last_jpeg == JPEG(92)


@pytest.mark.parametrize(
    ("quality", "sigma"), [(50, 1.5), pytest.param(60, 2.5, marks=pytest.mark.slow)]
)
def test_guess_puts_noise_after_a_blurred_comb(quality, sigma):
    """Noise that came before the JPEG would leave multiples of its steps sharp."""
    once = opened(saved(scene(), "JPEG", quality=quality))
    first, noise, *_ = guess(saved(noisy(once, sigma))).operator
    assert first == JPEG(quality, "4:2:0")
    assert noise.sigma == pytest.approx(sigma / 255, rel=0.1)


def test_alternative_leaves_out_an_uncertain_stage():
    once = opened(saved(scene(), "JPEG", quality=50))
    result = guess(saved(noisy(once, 2.5)))
    (alternative,) = result.alternatives
    assert str(alternative.operator) == "jpeg:50"
    assert alternative.stage.startswith("gaussian:") and not alternative.added
    assert alternative.kind == "noise"
    assert 0.2 <= alternative.likelihood <= 1


def test_guess_of_clear_history_has_no_alternative():
    once = opened(saved(scene(), "JPEG", quality=50))
    assert guess(saved(once)).alternatives == ()


@pytest.mark.parametrize(
    ("sigma", "quality", "grey"),
    [
        (9, 90, False),
        pytest.param(3, None, False, marks=pytest.mark.slow),
        pytest.param(3, 95, True, marks=pytest.mark.slow),
    ],
)
def test_guess_measures_noise_through_jpeg(sigma, quality, grey):
    picture = noisy(scene(grey=grey), sigma)
    file = saved(picture, "JPEG", quality=quality) if quality else saved(picture)
    result = guess(file)
    (noise,) = (stage for stage in result.operator if isinstance(stage, Gaussian))
    assert noise.sigma == pytest.approx(sigma / 255, rel=0.15)
    assert " >> clamp >> quantize" in result.findings[0].stage


def test_guess_finds_poisson_noise():
    ramp = numpy.broadcast_to(numpy.linspace(20, 235, 512), (256, 512))
    generator = numpy.random.default_rng(1)
    counts = generator.poisson(ramp / 255 * 300)
    read_noise = generator.normal(0, 2, ramp.shape)
    levels = counts / 300 * 255 + read_noise
    pixels = levels.round().clip(0, 255).astype(numpy.uint8)
    f = only(saved(pixels), PoissonGaussian)
    assert f.peak == pytest.approx(300, rel=0.15)
    assert f.sigma * 255 < 4


def test_guess_reports_noise_hidden_by_jpeg():
    file = saved(noisy(scene(), 2), "JPEG", quality=20)
    first = guess(file).findings[0]
    assert first.stage == ""
    assert "hidden" in first.why


@pytest.mark.parametrize(
    ("factor", "filter"),
    [
        (1.5, Image.BILINEAR),
        pytest.param(6, Image.LANCZOS, marks=pytest.mark.slow),
        pytest.param(2, Image.BICUBIC, marks=pytest.mark.slow),
    ],
)
def test_guess_finds_enlargement(factor, filter):
    small_side = round(384 / factor)
    large_side = round(small_side * factor)
    small_picture = Image.fromarray(scene(small_side, small_side))
    large_picture = small_picture.resize((large_side, large_side), filter)
    f = guess(saved(numpy.asarray(large_picture))).operator
    reduction, enlargement = (stage for stage in f if isinstance(stage, Resize))
    found_factor = enlargement.size / reduction.size
    assert found_factor == pytest.approx(large_side / small_side, rel=0.02)
    assert enlargement.size == large_side


def test_guess_takes_the_usual_factor_where_no_other_can_be_told():
    """A factor of 2.503 would be as likely, and would give a height of 265 pixels."""
    small = Image.fromarray(scene(266, 178))
    large = small.resize((445, 665), Image.BICUBIC)
    assert guess(saved(numpy.asarray(large))).operator[0] == Resize((266, 178))


def test_guess_clipped_ignores_single_pixels():
    picture = scene()
    picture[:64] = 255
    picture[100::9, ::9] = 0  # single black pixels
    assert guess(saved(picture)).clipped == pytest.approx(64 / 256, abs=0.01)


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
