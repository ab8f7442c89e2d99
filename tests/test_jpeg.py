"""Test that JPEG's pixels are those of Pillow, and that its arguments are checked."""

import math
import pickle

import pytest
import torch
import torch.nn.functional as nn
from hypothesis import example, given, settings
from hypothesis import strategies as st

from degrade import JPEG, Gaussian, Range, jpeg, parse
from degrade.jpeg import CLAMPS, SURROGATES
from degrade.jpeg.codec import exact_dtype
from degrade.jpeg.header import STANDARD
from degrade.jpeg.layout import SAMPLINGS

from .conftest import picture, rng
from .jpeg_reference import CHROMA, KINDS, LUMA, codec, content

pytestmark = pytest.mark.usefixtures("model_of_jpeg")


@settings(max_examples=400)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([1, 3]),
    st.sampled_from(list(SAMPLINGS)),
    st.integers(1, 100),
    st.integers(0, 999),
)
@example("noise", 1, 1, 3, "4:2:0", 1, 0)
@example("saturated", 17, 33, 3, "4:2:0", 1, 7)
@example("picture", 50, 50, 3, "4:2:2", 50, 3)
def test_jpeg_equals_pillow(kind, height, width, channels, sampling, quality, seed):
    x = content(kind, height, width, channels, seed)
    expected = codec(x, sampling, quality=quality)
    assert torch.equal(jpeg(x, quality, sampling), expected)


@pytest.mark.parametrize("channels, sampling", [(1, "4:2:0"), *((3, name) for name in SAMPLINGS)])
def test_jpeg_quality_per_image_equals_pillow(channels, sampling):
    photo = picture(5)[:, :channels, 20:65, 10:47]
    noise = content("noise", 45, 37, channels, 1)
    x = torch.cat([photo, noise])
    qualities = list(range(1, 101))
    y = jpeg(x.repeat_interleave(100, 0), qualities * 2, sampling)
    by_quality = y.view(2, 100, channels, 45, 37)
    for i, quality in enumerate(qualities):
        expected = codec(x, sampling, quality=quality)
        assert torch.equal(by_quality[:, i], expected), quality


def test_jpeg_of_large_picture_equals_pillow():
    enlarged = nn.interpolate(picture(7), (517, 1033), mode="bicubic")
    x = enlarged.clamp(0, 1).mul(255).round() / 255
    assert torch.equal(jpeg(x, 60), codec(x, quality=60))


@settings(max_examples=60)
@given(
    st.integers(1, 3),
    st.sampled_from([2, 40, 255, 2000, 8191]),
    st.sampled_from(list(SAMPLINGS)),
    st.integers(0, 99),
)
def test_jpeg_custom_tables_equal_pillow(count, largest, sampling, seed):
    tables = torch.randint(1, largest + 1, (count, 64), generator=rng(seed)).tolist()
    kind = "picture" if seed % 2 else "noise"
    x = content(kind, 30, 41, 3, seed)
    y = JPEG(tables=tables, subsampling=sampling)(x)
    assert torch.equal(y, codec(x, sampling, qtables=tables))


def test_jpeg_grayscale_uses_one_table():
    x = content("noise", 20, 20, 1, 0)
    assert torch.equal(JPEG(tables=[LUMA])(x), codec(x, qtables=[LUMA]))


def test_jpeg_input_is_clamped_and_rounded():
    x = torch.randn(2, 3, 19, 21, generator=rng()) * 0.5 + 0.5
    x[0, 0, 0, :4] = torch.tensor([0.5, 1.5, 2.5, 3.5]) / 255
    clamped = (x * 255).clamp(0, 255)
    rounded = clamped.round() / 255
    assert torch.equal(jpeg(x, 40), jpeg(rounded, 40))


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_jpeg_matmul_precision_changes_no_bit(precision):
    """Some CPUs would not show a difference, so the dtype of the products is checked too."""
    """The dtype of the products is checked too, since some CPUs would not show a difference."""
    x = content("noise", 64, 64, 3, 0)
    precision_before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        uses_float32 = exact_dtype(x.device) == torch.float32
        assert uses_float32 == (precision == "highest")
        assert torch.equal(jpeg(x, 95), codec(x, quality=95))
    finally:
        torch.set_float32_matmul_precision(precision_before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_jpeg_keeps_dtype(dtype):
    x = content("picture", 24, 31, 3, 2).to(dtype)
    y = jpeg(x, 30)
    levels = (x.float() * 255).round()
    expected = jpeg(levels.double() / 255, 30)
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))


def test_jpeg_layout_and_autocast_change_no_bit():
    x = content("noise", 24, 31, 3, 2).repeat(2, 1, 1, 1)
    y = jpeg(x, 30)
    assert torch.equal(jpeg(x.to(memory_format=torch.channels_last), 30), y)
    assert torch.equal(jpeg(x.mT.contiguous().mT, 30), y)
    x_with_gradient = x.clone().requires_grad_()
    gradients = []
    for autocast in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            assert torch.equal(jpeg(x, 30), y)
            total = jpeg(x_with_gradient, 30, surrogate="cubic").sum()
            gradients += torch.autograd.grad(total, x_with_gradient)
    assert torch.equal(*gradients)


def test_jpeg_does_not_change_its_input():
    x = torch.rand(1, 3, 16, 16, generator=rng())
    before = x.clone()
    jpeg(x, 10)
    assert torch.equal(x, before)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("clamp", CLAMPS)
def test_jpeg_surrogate_does_not_change_values(surrogate, clamp):
    x = content("saturated", 17, 23, 3, 4)
    y = jpeg(x.clone().requires_grad_(), 20, surrogate=surrogate, clamp=clamp)
    assert torch.equal(y, codec(x, quality=20))


TEXTS = [
    (JPEG(12), "jpeg:12"),
    (JPEG(12, "4:4:4"), "jpeg:12,subsampling=4:4:4"),
    (JPEG((12, 30)), "jpeg:12|30"),
    (
        JPEG(torch.tensor([12, 30]), surrogate="cubic", clamp="hard"),
        "jpeg:12|30,surrogate=cubic,clamp=hard",
    ),
    (JPEG(tables=[LUMA]), "jpeg:tables=" + "|".join(map(str, LUMA))),
    (JPEG(tables=(LUMA, CHROMA), subsampling="4:2:2"), None),
]


@pytest.mark.parametrize("f, text", TEXTS)
def test_jpeg_text_repr_and_pickle_round_trip(f, text):
    assert str(f) == text or text is None
    parsed = parse(str(f))
    assert parsed == f
    assert hash(parsed) == hash(f)
    assert eval(repr(f)) == f
    assert pickle.loads(pickle.dumps(f)) == f


def test_jpeg_is_its_own_approximation():
    for f, _ in TEXTS:
        assert f.approx() is f


def test_jpeg_text_takes_keyword_or_position():
    assert parse("jpeg:quality=12,subsampling=4:2:0") == JPEG(12)
    assert parse("jpeg:12") == JPEG(12)
    assert (JPEG(12) >> Gaussian(0.1))[0] == JPEG(12)


@pytest.mark.parametrize("given, name", [(420, "4:2:0"), ("422", "4:2:2"), (444, "4:4:4")])
def test_jpeg_subsampling_without_colons(given, name):
    expected = JPEG(12, name)
    assert JPEG(12, given) == expected
    assert parse(f"jpeg:12,subsampling={given}") == expected
    x = content("picture", 20, 20, 3, 1)
    assert torch.equal(jpeg(x, 12, given), jpeg(x, 12, name))


def test_jpeg_tables_are_tuples_of_64():
    flat = [*LUMA, *CHROMA]
    nested = (LUMA, CHROMA)
    array = STANDARD.view(2, 8, 8).numpy()
    for tables in (flat, nested, array):
        assert JPEG(tables=tables).tables == (LUMA, CHROMA)


@pytest.mark.parametrize(
    "text",
    [
        "jpeg",
        "jpeg:",
        "jpeg:0",
        "jpeg:quality=101",
        "jpeg:12.5",
        "jpeg:high",
        "jpeg:12,3:1:1",
        "jpeg:12,surrogate=best",
        "jpeg:12,clamp=soft",
        "jpeg:tables=1|2|3",
        "jpeg:12,tables=" + "|".join(["1"] * 64),
        "jpeg:tables=" + "|".join(["0"] * 64),
        "jpeg:tables=" + "|".join(["1.5"] * 64),
        "jpeg:tables=abc",
    ],
)
def test_jpeg_rejects_wrong_text(text):
    with pytest.raises(ValueError, match="jpeg"):
        parse(text)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"quality": 0}, "quality=0"),
        ({"quality": 37.5}, "quality=37.5"),
        ({"quality": [9, 9, 9]}, "3 values for 2"),
        ({"subsampling": "3:1:1"}, "4:4:4, 4:2:2, 4:2:0"),
        ({"surrogate": "none"}, "residual"),
        ({"clamp": "none"}, "sigmoid"),
        ({"quality": 9, "tables": (LUMA,)}, "exclude"),
        ({"tables": torch.ones(65)}, "[n, 8, 8]"),
        ({"tables": torch.ones(0, 8, 8)}, "[n, 8, 8]"),
        ({"tables": torch.full((1, 8, 8), math.nan)}, "from 1 to 32767"),
        ({"tables": torch.zeros(1, 8, 8)}, "from 1 to"),
        ({"tables": torch.full((1, 8, 8), 32768.0)}, "from 1 to"),
        ({"tables": torch.ones(3, 1, 8, 8)}, "3 values for 2"),
        ({"tables": [[40000] * 64]}, "40000"),
        ({"quality": torch.tensor(101)}, "from 1 to 100"),
        ({"quality": torch.tensor(0.4)}, "from 1 to 100"),
        ({"quality": torch.tensor([True])}, "torch.bool"),
        ({"quality": True}, "quality=True"),
        ({"quality": "75"}, "quality='75'"),
        ({"quality": 10**30}, "quality=1000"),
        ({"quality": [[1, 2], [3]]}, "quality=[[1, 2], [3]]"),
        ({"quality": 50 + 0j}, "quality=(50+0j)"),
        ({"quality": Range(5, 9)}, "quality=5..9"),
        ({"subsampling": ["4:2:0"]}, "subsampling=['4:2:0']"),
    ],
)
def test_jpeg_rejects_wrong_argument(arguments, message):
    with pytest.raises(ValueError) as error:
        jpeg(torch.rand(2, 3, 8, 8), **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [2, 4])
def test_jpeg_rejects_other_channel_counts(channels):
    with pytest.raises(ValueError, match=f"{channels} channels"):
        JPEG(50)(torch.rand(1, channels, 8, 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_jpeg_keeps_all_levels_in_16_bits(dtype):
    levels = torch.arange(256)
    assert torch.equal((levels / 255).to(dtype).float().mul(255).round(), levels.float())
    x = content("picture", 24, 31, 3, 1).to(dtype)
    y = jpeg(x, 50)
    assert y.dtype == dtype
    assert torch.equal((y.float() * 255).round() / 255, jpeg(x.float(), 50))


def test_two_qualities_for_other_batch_name_the_range():
    """torchvision's JPEG((5, 30)) draws a quality; here a tuple is one per image."""
    for call in (JPEG((5, 30)), lambda x: jpeg(x, (5, 30))):
        with pytest.raises(ValueError, match=r"2 values for 3 images; .* range, jpeg:5\.\.30"):
            call(torch.rand(3, 3, 8, 8))
