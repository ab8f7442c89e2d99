"""What guess finds in files that Pillow and numpy made, whose history is known."""

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
    draw, (y, x) = numpy.random.default_rng(3), numpy.mgrid[:height, :width]
    hills = numpy.stack(
        [
            128 + 50 * numpy.sin(x / a + c) * numpy.cos(y / b)
            for a, b, c in draw.uniform(9, 40, (3, 3))
        ],
        2,
    )
    for top, left, radius, *colour in draw.uniform(
        (0, 0, 4, *[40] * 3), (height, width, 30, *[215] * 3), (60, 6)
    ):
        hills[(y - top) ** 2 + (x - left) ** 2 < radius**2] = colour
    return hills.round().astype(numpy.uint8)[..., 0 if grey else slice(None)]


def saved(x: numpy.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, kind, **options)
    return file.getvalue()


def opened(file: bytes) -> numpy.ndarray:
    return numpy.asarray(Image.open(io.BytesIO(file)))


def noisy(x: numpy.ndarray, sigma: float) -> numpy.ndarray:
    y = x + numpy.random.default_rng(0).normal(0, sigma, x.shape)
    return y.round().clip(0, 255).astype(numpy.uint8)


def tensor(x: numpy.ndarray) -> torch.Tensor:
    return torch.tensor(x.reshape(*x.shape[:2], -1)).permute(2, 0, 1)[None].float() / 255


def only(file: bytes, kind: type) -> degrade.Operator:
    return next(op for op in guess(file).operator if isinstance(op, kind))


@pytest.mark.parametrize("path", [AVATARS[i] for i in (0, 2, 17, 34)], ids=lambda path: path.stem)
def test_guess_of_clean_drawing_is_identity(path):
    found = guess(path)
    assert found.operator == Identity() and not found.findings


def test_guess_of_clean_scene_is_identity():
    assert guess(saved(scene())).operator == Identity()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_guess_reproduces_rotated_jpeg(orientation):
    """The operator maps the displayed picture before compression to the displayed pixels."""
    turns = [
        None,
        0,
        Image.Transpose.ROTATE_180,
        1,
        5,
        Image.Transpose.ROTATE_270,
        6,
        Image.Transpose.ROTATE_90,
    ]
    source, exif = scene(75, 93), Image.Exif()
    exif[0x0112] = orientation
    file = saved(source, "JPEG", quality=70, exif=exif)
    how = turns[orientation - 1]
    shown = (
        Image.fromarray(source)
        if how is None
        else Image.fromarray(source).transpose(Image.Transpose(how))
    )
    decoded = Image.open(io.BytesIO(file))
    decoded = decoded if how is None else decoded.transpose(Image.Transpose(how))
    f = guess(file).operator
    assert torch.equal(f(tensor(numpy.asarray(shown))), tensor(numpy.asarray(decoded)))
    assert "jpeg:70" in str(f) and len(f) == (1 if how is None else 3)


@pytest.mark.parametrize(
    "options", [{"quality": 92, "subsampling": 0}, {"qtables": [list(range(3, 67))] * 2}]
)
def test_guess_reproduces_jpeg_of_any_tables(options):
    for x in (scene(64, 81), scene(64, 81, grey=True)):
        file = saved(x, "JPEG", **options)
        assert torch.equal(guess(file).operator(tensor(x)), tensor(opened(file)))


def test_guess_reproduces_440_jpeg():
    x = scene(64, 81)
    file = encode(tensor(x)[0].mul(255).round().byte(), "4:4:0", quality=80)
    found = guess(file)
    assert str(found.operator) == "jpeg:80,subsampling=4:4:0"
    assert torch.equal(found.operator(tensor(x)), tensor(opened(file)))


@pytest.mark.parametrize(
    ("factors", "words"), [(0x41, "sampling factors 4x1, 1x1, 1x1"), (0x14, "1x4, 1x1, 1x1")]
)
def test_jpeg_header_without_a_model_is_a_finding_in_words(factors, words):
    file = saved(scene(64, 64), "JPEG", quality=80, subsampling="4:4:4")
    at = file.index(b"\xff\xc0") + 11
    findings = guess(file[:at] + bytes([factors]) + file[at + 1 :]).findings
    assert [f.stage for f in findings if words in f.why] == [""]


def test_turn_equals_numpy():
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5) / 120
    for quarters in range(4):
        for mirror in range(2):
            f = Turn(quarters, mirror)
            y = numpy.rot90(x.numpy(), quarters, (2, 3))
            assert numpy.array_equal(f(x), numpy.flip(y, 3) if mirror else y)
            assert torch.equal((f >> f.inverse)(x), x) and torch.equal(f.adjoint(f(x)), x)
            assert f.output_shape(x.shape) == f(x).shape and f.input_shape(f(x).shape) == x.shape
            assert parse(str(f)) == f and f.visible(x.shape) is None
            assert torch.equal(f.visible(x.shape, x[:1, :1]), f(x)[:1, :1])
    with pytest.raises(ValueError, match="quarters=4 must be an integer from 0 to 3"):
        Turn(4, 0)
    with pytest.raises(ValueError, match="mirror=2"):
        Turn(0, 2)


@pytest.mark.parametrize(("quality", "subsampling"), [(40, "4:2:0"), (75, "4:4:4"), (90, "4:2:2")])
def test_guess_finds_earlier_jpeg_in_png(quality, subsampling):
    file = saved(opened(saved(scene(), "JPEG", quality=quality, subsampling=subsampling)))
    assert guess(file).operator == JPEG(quality, subsampling)


def test_guess_writes_later_crop_as_shift():
    source = scene()
    once = opened(saved(source, "JPEG", quality=60))
    f = guess(saved(once[3:, 5:])).operator
    assert str(f) == "shift:3,5 >> jpeg:60 >> shift:-3,-5"
    again = f(tensor(source[3:, 5:]))[..., 18:-20, 18:-20]
    # rows and columns that were cut off are guessed, so that the blocks at two edges differ
    assert torch.equal(again, tensor(once[3:, 5:])[..., 18:-20, 18:-20])


def test_guess_finds_both_jpegs_of_resaved_file():
    once = opened(saved(scene(), "JPEG", quality=50))
    assert str(guess(saved(once, "JPEG", quality=90)).operator) == "jpeg:50 >> jpeg:90"
    there, first, back, last = guess(saved(once[2:, 1:], "JPEG", quality=92)).operator
    assert (there, back, last) == (Shift(2, 1), Shift(-2, -1), JPEG(92)) and abs(
        first.quality - 50
    ) <= 2
    assert str(guess(saved(scene(), "JPEG", quality=50)).operator) == "jpeg:50"


@pytest.mark.parametrize(("quality", "sigma"), [(50, 1.5), (60, 2.5)])
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
    assert guess(saved(scene())).alternatives == ()
    once = opened(saved(scene(), "JPEG", quality=50))
    assert guess(saved(once)).alternatives == ()


@pytest.mark.parametrize(
    ("sigma", "quality", "grey"), [(3, None, False), (9, 90, False), (3, 95, True)]
)
def test_guess_measures_noise_through_jpeg(sigma, quality, grey):
    x = noisy(scene(grey=grey), sigma)
    file = saved(x, "JPEG", quality=quality) if quality else saved(x)
    assert only(file, Gaussian).sigma == pytest.approx(sigma / 255, rel=0.15)
    assert " >> clamp >> quantize" in guess(file).findings[0].stage


def test_guess_finds_poisson_noise():
    ramp = numpy.broadcast_to(numpy.linspace(20, 235, 512), (256, 512))
    draw = numpy.random.default_rng(1)
    x = draw.poisson(ramp / 255 * 300) / 300 * 255 + draw.normal(0, 2, ramp.shape)
    f = only(saved(x.round().clip(0, 255).astype(numpy.uint8)), PoissonGaussian)
    assert f.peak == pytest.approx(300, rel=0.15) and f.sigma * 255 < 4


def test_guess_reports_noise_hidden_by_jpeg():
    found = guess(saved(noisy(scene(), 2), "JPEG", quality=20)).findings
    assert found[0].stage == "" and "hidden" in found[0].why


@pytest.mark.parametrize(
    ("factor", "filter"), [(1.5, Image.BILINEAR), (2, Image.BICUBIC), (6, Image.LANCZOS)]
)
def test_guess_finds_enlargement(factor, filter):
    part = scene(round(384 / factor), round(384 / factor))
    side = round(part.shape[0] * factor)
    file = saved(numpy.asarray(Image.fromarray(part).resize((side, side), filter)))
    small, large = (op for op in guess(file).operator if isinstance(op, Resize))
    assert large.size / small.size == pytest.approx(side / part.shape[0], rel=0.02)
    assert large.size == side


def test_guess_clipped_ignores_single_pixels():
    x = scene()
    x[:64] = 255
    x[100::9, ::9] = 0  # lone pixels do not count
    assert guess(saved(x)).clipped == pytest.approx(64 / 256, abs=0.01)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_guess_reads_every_image_mode(mode):
    image, file = Image.fromarray(scene(40, 50)).convert(mode), io.BytesIO()
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    found = guess(file.getvalue())
    assert found.operator == Identity()
    assert [f.why for f in found.findings if "CMYK" in f.why] or mode != "CMYK"


@pytest.mark.parametrize("quality", [20, 80])
@pytest.mark.parametrize("grey", [False, True])
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
    found = guess(saved(scene(64, 64), "JPEG2000"))
    assert [f.stage for f in found.findings if "JPEG2000" in f.why] == [""]


def test_guess_of_large_picture_keeps_block_grid():
    x = opened(saved(numpy.tile(scene(), (7, 8, 1)), "JPEG", quality=70))  # 1792 × 2176
    assert str(guess(saved(x, compress_level=0)).operator) == "jpeg:70"


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
    st.sampled_from([0, 1, 3, 4]),
    st.sampled_from([0, 5, 60]),
    st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]),
)
def test_guess_of_small_picture_keeps_its_shape(h, w, channels, grain, kind):
    x = noisy(numpy.full((h, w, channels) if channels else (h, w), 90), grain)
    if channels == 1:
        x = x[..., 0]
    file = saved(x if kind != "JPEG" or channels != 4 else x[..., :3], kind)
    found = guess(file)
    assert parse(str(found.operator)) == found.operator == guess(file).operator
    assert found.operator.output_shape((1, 3, h, w)) == (1, 3, h, w)
    assert 0 <= found.clipped <= 1 and all(0 <= f.confidence <= 1 for f in found.findings)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_guess_reports_repeated_pixels(factor):
    found = guess(saved(scene(64, 80).repeat(factor, 0).repeat(factor, 1)))
    assert found.operator == Identity() and "repeated" in found.findings[0].why


def test_guess_finds_no_enlargement_in_smooth_picture():
    """Rounding to 8 bits draws steps, and other codecs blocks, that come at regular distances."""
    rows, columns = numpy.mgrid[0:240, 0:320]
    slopes = [(100 + 60 * rows / 240), (140 + 50 * rows / 240), (220 + 20 * rows / 240)]
    assert guess(saved(numpy.stack(slopes, -1).round().astype("uint8"))).operator == Identity()
    assert guess(saved((columns * 0.5 + 50).round().astype("uint8"))).operator == Identity()
    cmyk, buffer = Image.fromarray(scene()).convert("CMYK"), io.BytesIO()
    cmyk.save(buffer, "JPEG", quality=70)
    assert guess(buffer.getvalue()).operator == Identity()
    assert [stage.name for stage in guess(saved(scene(), "WEBP", quality=50)).operator] == ["codec"]
