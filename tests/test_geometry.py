import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from degrade import JPEG, Crop, Range, Shift, Strokes, jpeg, parse

from .conftest import picture, rng


@st.composite
def windows(draw):
    """An image's sides and a window within them."""
    h, w = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    top, left = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
    return h, w, top, left, draw(st.integers(1, h - top)), draw(st.integers(1, w - left))


@given(windows())
def test_crop_equals_slicing(window):
    h, w, top, left, height, width = window
    x = torch.rand(2, 3, h, w, generator=rng())
    f = Crop(top, left, height, width)
    assert torch.equal(f(x), x[:, :, top : top + height, left : left + width])
    assert torch.equal(Crop(top, left)(x), x[:, :, top:, left:])
    assert f.output_shape(x.shape) == f(x).shape and parse(str(f)) == f
    mask = Strokes(3, seed=1)
    assert (
        torch.equal((mask >> f).visible(x.shape), f(mask.visible(x.shape)))
        and f.visible(x.shape) is None
    )


@given(windows())
def test_crop_adjoint_pads_with_zeros(window):
    h, w, top, left, height, width = window
    y = torch.rand(1, 2, height, width, generator=rng())
    padded = numpy.pad(
        y.numpy(), ((0, 0), (0, 0), (top, h - top - height), (left, w - left - width))
    )
    f = Crop(top, left, height, width)
    assert numpy.array_equal(f.adjoint(y, (1, 2, h, w)).numpy(), padded)
    assert numpy.array_equal(f.adjoint(y).numpy(), padded[:, :, : top + height, : left + width])


def test_crop_shares_no_memory_with_input():
    x = torch.zeros(1, 1, 4, 4)
    Crop(0, 0)(x).fill_(1)
    assert x.max() == 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12))
def test_shift_repeats_edge(h, w, dy, dx):
    x = torch.rand(1, 3, h, w, generator=rng())
    padded = numpy.pad(x.numpy(), ((0, 0), (0, 0), (12, 12), (12, 12)), mode="edge")
    assert numpy.array_equal(
        Shift(dy, dx)(x).numpy(), padded[:, :, 12 - dy : 12 - dy + h, 12 - dx : 12 - dx + w]
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12))
def test_shift_gradient_is_adjoint(h, w, dy, dx):
    x, y = torch.rand(2, 1, 3, h, w, generator=rng(), dtype=torch.float64)
    f = Shift(dy, dx)
    assert torch.allclose((f(x) * y).sum(), (x * f.adjoint(y)).sum(), rtol=1e-12)


def test_shift_per_image_moves_visible_too():
    x, mask, f = torch.ones(2, 1, 12, 12), Strokes(2, seed=4), Shift((2, 0), (-3, 1))
    assert torch.equal((mask >> f).visible(x.shape), (mask >> f)(x))
    assert torch.equal((mask >> Shift(1, 1)).visible(x.shape), (mask >> Shift(1, 1))(x[:1]))
    assert Shift(1, 1).visible(x.shape) is None


def test_shift_between_jpegs_misaligns_blocks():
    """On one grid the second saving at the same quality changes less than on a shifted one."""
    x = picture(7)
    once = jpeg(x, 50)
    moved = Shift(3, 5)(once)
    aligned, misaligned = (
        (jpeg(once, 50) - once).abs().mean(),
        (jpeg(moved, 50) - moved).abs().mean(),
    )
    assert misaligned > 2 * aligned
    assert parse("jpeg:50 >> shift:3,5 >> jpeg:50") == JPEG(50) >> Shift(3, 5) >> JPEG(50)


def test_shift_range_draws_whole_pixels():
    drawn = {parse("shift:-7..7,0..7").sample((1, 3, 9, 9), rng(i)) for i in range(20)}
    assert (
        all(isinstance(f.dy, int) and -7 <= f.dy <= 7 and 0 <= f.dx <= 7 for f in drawn)
        and len(drawn) > 10
    )


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Crop(-1, 0), "top=-1 must be an integer from 0"),
        (lambda: Crop(0, 0, height=0), "height=0 must be an integer from 1"),
        (lambda: Crop(0, 0.5), "left=0.5 must be an integer"),
        (lambda: Crop((0, 1), 0), "must be one number for all images"),
        (
            lambda: Crop(4, 0)(torch.zeros(1, 1, 4, 4)),
            "pixels 4 to 4 are not within 4; give a window inside",
        ),
        (lambda: Crop(0, 2, width=3)(torch.zeros(1, 1, 4, 4)), "pixels 2 to 5 are not within 4"),
        (lambda: Crop(Range(0, 2), 0).output_shape((1, 1, 4, 4)), "not decided yet"),
        (lambda: Shift(0.5, 0), "dy=0.5 must be an integer"),
        (lambda: Shift(0, float("inf")), "dx=inf"),
        (lambda: Shift((1, 2, 3), 0)(torch.zeros(2, 1, 4, 4)), "dy has 3 values for 2 images"),
    ],
)
def test_geometry_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()
