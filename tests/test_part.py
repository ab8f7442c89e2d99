"""What an operator does to a part of its images is what it does there to the whole."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import degrade
from degrade import JPEG, Downsample, Pool, Resize, Strokes, Turn
from tests.conftest import cases, picture, rng

from .properties.examples import STRATEGIES

SHAPE = (1, 3, 96, 128)
BLOCK = 32  # pixels: a multiple of JPEG's blocks, but for chroma samplings by three
# they have a part wherever whole blocks are cut, whatever their parameters
CUTTABLE = (
    "blur",
    "box",
    "clamp",
    "gamma",
    "gray",
    "identity",
    "jpeg",
    "pixels",
    "quantize",
    "shift",
    "sinc",
    "strokes",
    "turn",
    "uncrop",
)


@st.composite
def windows(draw):
    spans = []
    for n in SHAPE[2:]:
        first, last = sorted(
            draw(st.lists(st.integers(0, n // BLOCK), min_size=2, max_size=2, unique=True))
        )
        spans.append(slice(first * BLOCK, last * BLOCK))
    return tuple(spans)


def assert_same_inside(f, x, window):
    """The part of f is f of the part, farther from the cut than what f carries over it."""
    g, there = f.part(x.shape, window)
    whole, own = f(x, rng())[(..., *there)], g(x[(..., *window)], rng())
    assert own.shape == whole.shape
    sizes = f.output_shape(x.shape)[2:]
    scale = min(n / m for n, m in zip(sorted(x.shape[2:]), sorted(sizes), strict=True))
    reach = math.ceil(min(max(SHAPE), f.reach(x.shape)) / scale)  # in pixels of f(x)
    cuts = [
        (reach if s.start else 0, reach if s.stop < n else 0)
        for s, n in zip(there, sizes, strict=True)
    ]
    inside = [
        slice(before, max(0, n - after))  # none is left if f reaches over the whole part
        for (before, after), n in zip(cuts, own.shape[2:], strict=True)
    ]
    assert torch.allclose(own[(..., *inside)], whole[(..., *inside)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", STRATEGIES)
@cases(10)
@given(data=st.data())
def test_part_equals_the_whole_away_from_cuts(name, data):
    x = torch.rand(SHAPE, generator=rng(data.draw(st.integers(0, 99))))
    f = data.draw(STRATEGIES[name]).sample(x.shape, rng())
    window = data.draw(windows())
    found = f.part(x.shape, window)
    samples_by_three = name == "jpeg" and "3" in f.subsampling
    if name in CUTTABLE and not samples_by_three:
        assert found is not None
    if found is None or not torch.equal(f(x, rng(1)), f(x, rng(2))):  # other sizes get other draws
        return
    assert_same_inside(f, x, window)


@pytest.mark.parametrize(
    "name", ["gaussian", "maybe", "poisson", "poissongaussian", "saltpepper", "speckle", "uniform"]
)
@given(data=st.data())
def test_part_of_noise_is_the_same_operator(name, data):
    """The operator is itself; where a choice is not made yet there is no part."""
    f, window = data.draw(STRATEGIES[name]), (slice(16, 48), slice(0, 80))
    assert f.part(SHAPE, window) == (None if name == "maybe" else (f, window))


def test_reach_of_a_chain_adds_up_over_scales():
    assert degrade.parse("downsample:4 >> blur:gaussian,1").reach(SHAPE) == 3 * 4 + 4 * (4 * 1 + 1)
    assert degrade.parse("turn:1,0 >> shift:0,3 >> turn:3,0").reach(SHAPE) == 3
    # the sides are swapped, but nothing is turned: a pixel across becomes three quarters of one
    assert degrade.parse("resize:128x96 >> shift:0,3").reach(SHAPE) == pytest.approx(
        (3 + 3) * 128 / 96
    )
    assert math.isinf(degrade.parse("jpeg:30 >> codec:webp,50").reach(SHAPE))


@cases(30)
@given(
    st.lists(
        st.sampled_from(
            [
                "turn:1,0",
                "turn:2,1",
                "jpeg:30",
                "strokes:4,seed=2",
                "downsample:2",
                "pool:2",
                "resize:scale=2",
                "shift:2,-1",
                "blur:gaussian,1",
                "mask",
                "box",
                "gamma:2",
            ]
        ),
        min_size=1,
        max_size=4,
    ),
    windows(),
)
def test_part_of_a_chain_is_that_of_its_stages(names, window):
    x = torch.rand(SHAPE, generator=rng())
    stages, shape = [], SHAPE
    for name in names:
        soft = torch.linspace(0, 1, shape[2] * shape[3]).view(1, 1, *shape[2:])
        stages.append(degrade.Mask(soft) if name == "mask" else degrade.parse(name))
        shape = stages[-1].output_shape(shape)
    f = degrade.operator.compose(stages)
    if f.part(SHAPE, window) is not None:  # a block may be cut where a stage made it small
        assert_same_inside(f, x, window)


@pytest.mark.parametrize(
    "f",
    [
        JPEG(20),
        JPEG(20, "4:4:4") >> Turn(2, 0),
        Turn(1, 0) >> JPEG(20) >> Turn(3, 0),
        Turn(1, 1) >> JPEG(30) >> Turn(1, 1),
        Strokes(5, seed=3) >> JPEG(40),
        degrade.Gray(),
        Downsample(4) >> JPEG(20),
        Pool(2) >> degrade.Quantize(16),
        Resize(256) >> JPEG(30) >> Resize(512),
        Resize(scale=0.5) >> Resize(512),
    ],
    ids=str,
)
def test_part_equals_a_window_of_the_result(f):
    """But for what reaches over its border."""
    x = torch.nn.functional.interpolate(picture(3), scale_factor=4, mode="bicubic").clamp(0, 1)
    window = slice(128, 384), slice(256, 512)  # whole blocks in all sizes
    own, there = f.part(x.shape, window)
    whole, part = f(x), own(x[(..., *window)])
    times = 512 // whole.shape[3]
    rows, columns = window if f[-1] != Turn(2, 0) else (window[0], slice(0, 256))
    assert there == tuple(slice(s.start // times, s.stop // times) for s in (rows, columns))
    end, inner = whole[(..., *there)], slice(80 // times, -80 // times)
    assert part.shape == end.shape and torch.equal(part[..., inner, inner], end[..., inner, inner])


def test_part_is_none_where_a_part_differs():
    """Seeds draw for one size, nested operators and codecs use the whole image, and the edges of a
    window must not cut pixels or blocks."""
    window = (slice(0, 32), slice(16, 64))
    for spec in (
        "crop:3,5",
        "deadpixels:0.2,seed=5",
        "perimage(strokes:5,seed=3)",
        "codec:webp,50",
        "resize:49",
        "shift:1,0 >> codec:webp,50",
        "maybe:1(jpeg:30)",
        "downsample:2 >> resize:25",
    ):
        assert degrade.parse(spec).part((1, 3, 64, 64), window) is None, spec
    assert JPEG(50).part((1, 3, 64, 64), (slice(0, 32), slice(8, 64))) is None
    assert JPEG(50, "3x1").part((1, 3, 64, 96), (slice(0, 32), slice(32, 96))) is None
    assert JPEG(50, "3x1").part((1, 3, 64, 96), (slice(0, 32), slice(48, 96))) is not None


@pytest.mark.parametrize(
    "rows",
    [
        slice(None, 32),
        slice(0, -16),
        slice(0, 100),
        slice(40, 20),
        slice(0, 0),
        slice(0, 64, 2),
        slice(-32, -16),
    ],
)
def test_part_names_a_window_outside_the_image(rows):
    with pytest.raises(ValueError, match="must be from a first to a last of 96 pixels"):
        Downsample(2).part(SHAPE, (rows, slice(0, 64)))


@pytest.mark.parametrize(
    "spec", ["strokes:5", "turn:0..3,0", "downsample:2..4", "resize:size=20..40"]
)
def test_part_refuses_unsampled_operators(spec):
    with pytest.raises(ValueError, match="not decided yet"):
        degrade.parse(spec).part(SHAPE, (slice(0, 64), slice(0, 64)))


@pytest.mark.parametrize(
    "spec", ["resize:scale=0.25,filter=matlab-bicubic", "resize:scale=0.3,rounding=floor"]
)
def test_part_of_a_resize_by_scale_knows_its_input_size(spec):
    """A solver asks for it, since it sees the observation alone."""
    f = degrade.parse(spec)
    shape = (1, 3, 100, 120)
    window = (slice(40, 80), slice(0, 40))
    part, place = f.part(shape, window)
    observed = (1, 3, *[span.stop - span.start for span in place])
    assert part.input_shape(observed) == (1, 3, 40, 40)
    assert_same_inside(f, torch.rand(shape, generator=rng()), window)
