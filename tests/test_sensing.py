import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, stats

from degrade import CompressedSensing, Range, Strokes, parse
from degrade.sensing import draw_sensing

from .conftest import picture, rng

FALSE_ALARM = 1e-4


def matrix(f, shape):
    """The matrix [m, n] of a linear operator: what it makes of each pixel alone."""
    n = shape[0] * shape[1] * shape[2]
    return torch.cat(
        [f(e.view(1, *shape)).flatten()[:, None] for e in torch.eye(n, dtype=torch.float64)], 1
    )


@given(
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.floats(0.01, 1),
    st.integers(0, 2**32 - 1),
)
def test_sensing_equals_dense_circulant_matrix(c, h, w, ratio, seed):
    n = c * h * w
    m = max(1, round(ratio * n))
    g, signs, kept = (t.numpy() for t in draw_sensing(seed, n, m))
    full = linalg.circulant(g) @ numpy.diag(signs) / numpy.sqrt(n)
    assert len(set(kept)) == m and set(abs(signs)) == {1}
    assert numpy.allclose(
        matrix(CompressedSensing(ratio, seed), (c, h, w)).numpy(), full[kept], atol=1e-12
    )


@given(
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.integers(1, 4),
    st.floats(0.01, 1),
    st.integers(0, 2**32 - 1),
)
def test_sensing_adjoint_is_transpose(c, h, w, ratio, seed):
    f, shape = CompressedSensing(ratio, seed), (1, c, h, w)
    y = torch.randn(f.output_shape(shape), generator=rng(), dtype=torch.float64)
    assert torch.allclose(
        f.adjoint(y, shape).flatten(), y.flatten() @ matrix(f, shape[1:]), atol=1e-12
    )


def test_sensing_draws_follow_their_laws():
    g, signs, kept = draw_sensing(5, 40_000, 10_000)
    assert stats.kstest(g.numpy(), "norm").pvalue > FALSE_ALARM
    assert stats.binomtest(int((signs > 0).sum()), 40_000).pvalue > FALSE_ALARM
    assert stats.kstest(kept.numpy() / 40_000, "uniform").pvalue > FALSE_ALARM


def test_sensing_measurements_are_as_large_as_pixels():
    x = picture(1).double()
    y = CompressedSensing(0.1, 3)(x).flatten()
    assert (
        stats.kstest(y.numpy(), "norm", args=(0, float((x**2).mean().sqrt()))).pvalue > FALSE_ALARM
    )


def test_sensing_seed_is_drawn_by_sample():
    x = torch.rand(2, 3, 8, 8, generator=rng())
    f = CompressedSensing(0.25).sample(x.shape, rng())
    assert len(set(f.seed)) == 2 and f.approx() == f and parse(str(f)) == f
    assert torch.equal(f(x), f(x)) and f(x).shape == f.output_shape(x.shape) == (2, 1, 1, 48)
    for i in range(2):
        assert torch.equal(f(x)[i : i + 1], CompressedSensing(0.25, f.seed[i])(x[i : i + 1]))


def test_sensing_visible_is_share_of_image():
    shape = (1, 3, 16, 16)
    seen = (Strokes(3, seed=1) >> CompressedSensing(0.1, 2)).visible(shape)
    assert torch.allclose(seen, Strokes(3, seed=1).visible(shape).mean()) and seen.shape == (
        1,
        1,
        1,
        77,
    )
    assert CompressedSensing(0.1, 2).visible(shape) is None


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: CompressedSensing(0), "ratio=0 must be a number above 0 to 1"),
        (lambda: CompressedSensing(1.5), "ratio=1.5"),
        (lambda: CompressedSensing((0.1, 0.2)), "must be one number for all images"),
        (lambda: CompressedSensing(0.1, seed=-1), "seed=-1"),
        (
            lambda: CompressedSensing(0.1, seed=(1, 2, 3))(torch.zeros(2, 1, 4, 4)),
            "seed has 3 values for 2 images",
        ),
        (
            lambda: CompressedSensing(0.1, 2).adjoint(torch.zeros(1, 1, 1, 5)),
            "give adjoint its shape",
        ),
        (lambda: CompressedSensing(Range(0.1, 0.2)).output_shape((1, 1, 4, 4)), "not decided yet"),
    ],
)
def test_sensing_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()
