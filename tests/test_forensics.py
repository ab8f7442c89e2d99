"""Test `guess` on files with a known history: Pillow and numpy made them."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import degrade
from degrade import JPEG, Gaussian, Identity, PoissonGaussian, Resize, Shift, Turn, guess, parse

from .forensic_files import noisy, opened, saved, scene, tensor
from .jpeg_reference import encode

AVATARS = sorted((Path(__file__).parents[1] / "examples" / "avatars").glob("*.png"))


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
