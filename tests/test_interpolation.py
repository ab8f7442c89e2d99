"""Resampling against torch itself, OpenCV's and MATLAB's laws restated in numpy, and sizes."""

import math

import numpy
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from degrade import Resize, check, parse
from degrade.interpolation import interpolate

from .authors import area_enlarging, area_shrinking, matlab_row
from .conftest import rng

sides = st.integers(1, 40)
MODES = {"torch-bilinear": "bilinear", "torch-bicubic": "bicubic", "torch-area": "area"}


def noise(h, w, seed=0):
    return torch.rand(1, 3, h, w, generator=rng(seed), dtype=torch.float64)


@pytest.mark.parametrize("filter", MODES)
@given(sides, sides, sides, sides)
def test_interpolation_to_a_size_equals_torch(filter, h, w, oh, ow):
    x = noise(h, w)
    expected = F.interpolate(x, size=(oh, ow), mode=MODES[filter])
    assert torch.allclose(Resize((oh, ow), filter=filter)(x), expected, atol=1e-12)


@pytest.mark.parametrize("filter", MODES)
@given(st.integers(7, 40), st.integers(7, 40), st.floats(0.15, 1.5))
def test_interpolation_by_a_scale_factor_equals_torch(filter, h, w, scale):
    """Positions follow the scale, though the sides are rounded down."""
    x = noise(h, w)
    expected = F.interpolate(x, scale_factor=scale, mode=MODES[filter])
    f = Resize(scale=scale, filter=filter, rounding="floor", grid="scale")
    assert torch.allclose(f(x), expected, atol=1e-11)


def test_scale_grid_differs_from_size_grid():
    x = noise(13, 13)
    by_size = Resize(scale=0.3, filter="torch-bilinear", rounding="floor")(x)
    by_scale = Resize(scale=0.3, filter="torch-bilinear", rounding="floor", grid="scale")(x)
    assert (by_size - by_scale).abs().max() > 0.01


@given(sides, sides, sides, sides)
def test_cv2_area_equals_its_two_laws(h, w, oh, ow):
    """OpenCV takes the law of enlarging on both axes if one of them grows."""
    x = noise(h, w)
    law = area_shrinking if h >= oh and w >= ow else area_enlarging
    expected = law(h, oh) @ x[0].numpy() @ law(w, ow).T
    assert numpy.allclose(Resize((oh, ow), filter="cv2-area")(x)[0].numpy(), expected, atol=1e-10)


# OpenCV 5.0.0: cv2.resize of arange(n)² (n × 1, float64) to m × 1 with INTER_AREA
CV2_AREA = {(7, 3): [1.0, 9.571429, 28.428572], (5, 8): [0.0, 0.4, 1.0, 3.4, 5.0, 9.0, 13.2, 16.0]}


@pytest.mark.parametrize("size, out", CV2_AREA)
def test_cv2_area_equals_recorded_values_of_cv2(size, out):
    x = torch.arange(size, dtype=torch.float64).square().view(1, 1, -1, 1)
    y = interpolate(x, (out, 1), "cv2-area")
    assert numpy.allclose(y.flatten().numpy(), CV2_AREA[size, out], atol=1e-5)


@given(st.integers(3, 30), st.sampled_from([0.5, 1 / 3, 0.4, 0.25, 1.5, 2]))
def test_matlab_bicubic_equals_imresize(size, scale):
    x = noise(1, size)
    expected = [matlab_row(row, scale) for row in x[0, :, 0].tolist()]
    step = 1 / scale
    y = interpolate(x, (1, math.ceil(size * scale)), "matlab-bicubic", step)
    # along the single row the result is the row itself
    assert numpy.allclose(y[0, :, 0].numpy(), expected, atol=1e-12)


def test_rounding_of_scaled_sides():
    sizes = {}
    for rounding in ("round", "floor", "ceil"):
        f = Resize(scale=0.5, rounding=rounding)
        sizes[rounding] = f.output_shape((1, 3, 7, 5))[2:]
    assert sizes == {"round": (4, 2), "floor": (3, 2), "ceil": (4, 3)}
    assert Resize(scale=0.01, rounding="floor").output_shape((1, 3, 7, 5))[2:] == (1, 1)


def test_frame_returns_to_the_size_of_its_beginning():
    f = parse("frame(resize:scale=0.3..0.9 >> blur:gaussian,1 >> resize:scale=1,of=frame)")
    for seed in range(5):
        drawn = f.sample((1, 3, 40, 31), rng(seed))
        assert drawn[-1] == Resize(scale=1, of=(40, 31)) and "frame" not in str(drawn)
        assert drawn.output_shape((1, 3, 40, 31)) == (1, 3, 40, 31)
    check(f)


def test_frame_refers_to_its_own_beginning_only():
    """A frame within a frame has its own size; stages before a frame do not matter."""
    inner = "frame(resize:scale=0.5 >> resize:scale=1,of=frame)"
    f = parse(f"resize:20 >> frame(resize:scale=0.5 >> {inner} >> resize:scale=2,of=frame)")
    drawn = f.sample((1, 3, 64, 64), 0)
    assert [drawn[:i].output_shape((1, 3, 64, 64))[2] for i in range(1, 6)] == [20, 10, 5, 10, 40]


def test_frame_reaches_into_choices():
    f = parse("frame(shuffle(oneof(resize:scale=0.25,of=frame,rounding=floor) ; jpeg:30))")
    assert f.sample((1, 3, 41, 35), 0).output_shape((1, 3, 41, 35)) == (1, 3, 10, 8)


def test_frame_applies_to_a_batch():
    x = torch.rand(3, 3, 20, 16, generator=rng())
    f = parse("frame(gaussian:0..0.3 >> resize:scale=0.5 >> resize:scale=1,of=frame)")
    together = f(x, [1, 2, 3])
    for i in range(3):
        assert torch.equal(together[i : i + 1], f(x[i : i + 1], i + 1))


def test_resize_gives_an_image_the_same_bits_in_any_batch():
    """One image in 540 differed when a batch went through one matrix product."""
    f = parse("frame(resize:scale=0.1015625 >> resize:scale=1,of=frame)")
    for seed in range(60):
        x = torch.rand(3, 1, 33, 30, generator=rng(seed), dtype=torch.float64).float()
        together = f(x)
        for i in range(3):
            assert torch.equal(f(x[i : i + 1]), together[i : i + 1])


@pytest.mark.parametrize("rounding", ["round", "floor", "ceil"])
def test_resize_input_shape_is_a_size_that_gives_it(rounding):
    for percent in range(5, 100, 7):
        f = Resize(scale=percent / 100, rounding=rounding)
        for side in (1, 5, 22, 55):
            shape = (1, 3, side, side + 1)
            assert f.output_shape(f.input_shape(shape)) == shape


def test_resize_with_positions_of_a_scale_takes_its_size_only():
    f = parse("resize:scale=0.5,filter=torch-bilinear,grid=scale,of=8x6")
    assert f(noise(8, 6)).shape[2:] == (4, 3)
    with pytest.raises(ValueError, match=r"for images of this size, and not of \(9, 6\)"):
        f(noise(9, 6))


@pytest.mark.parametrize(
    "text, words",
    [
        ("resize:20,rounding=floor", "rounding='floor' belongs to a scale"),
        ("resize:20,of=30x40", "belongs to a scale"),
        ("resize:scale=0.5,grid=scale", "grid=scale does not fit filter=bicubic"),
        ("resize:scale=0.5,grid=scale,filter=cv2-area", "grid=scale does not fit filter=cv2-area"),
        ("resize:scale=1,of=frame,grid=scale,filter=torch-area", "leave out grid=scale"),
        ("resize:scale=1,of=whole", "of='whole' must be frame"),
    ],
)
def test_resize_refuses_what_does_not_fit(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_frame_size_outside_a_frame_is_refused():
    with pytest.raises(ValueError, match="write frame"):
        parse("resize:scale=1,of=frame")(noise(8, 8))
    with pytest.raises(ValueError, match="write frame"):
        parse("frame(clamp) >> resize:scale=1,of=frame").sample((1, 3, 8, 8))


@pytest.mark.parametrize("name, filters", [("any-torch", 3), ("any-cv2", 3)])
def test_any_filter_of_a_library_is_drawn(name, filters):
    drawn = {Resize(9, filter=name).sample((1, 3, 8, 8), i).filter for i in range(40)}
    assert len(drawn) == filters
