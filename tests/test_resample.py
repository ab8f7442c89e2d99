import numpy
import PIL
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from degrade import Downsample, Pool, Range, Resize, parse
from degrade.pillow_resize import resize

from .conftest import picture, rng

pytestmark = pytest.mark.usefixtures("model_of_resize")

FILTERS = {
    "box": Image.BOX,
    "bilinear": Image.BILINEAR,
    "hamming": Image.HAMMING,
    "bicubic": Image.BICUBIC,
    "lanczos": Image.LANCZOS,
    "nearest": Image.NEAREST,
}
sides = st.integers(1, 80)
OLD = int(PIL.__version__.split(".")[0]) < 13
VERTICAL_FIRST = pytest.param(
    (20, 200), marks=pytest.mark.skipif(OLD, reason="Pillow < 13 has one order of passes")
)


def pillow(array, size, filter):
    """Pillow ≥ 13's resize, on any Pillow: one axis at a time in its order."""
    (h, w), (oh, ow) = array.shape, size
    image, resample = Image.fromarray(array), FILTERS[filter]
    vertical_first = h > oh and h - oh > 2 * (w - ow)
    half = (w, oh) if vertical_first else (ow, h)
    return numpy.asarray(image.resize(half, resample).resize((ow, oh), resample))


@pytest.mark.parametrize("filter", FILTERS)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_resize_eight_bit_equals_pillow(filter, h, w, oh, ow, seed):
    pixels = numpy.random.default_rng(seed).integers(0, 256, (h, w), dtype=numpy.uint8)
    y = resize(torch.from_numpy(pixels)[None, None] / 255, (oh, ow), filter)
    assert torch.equal(y[0, 0], torch.from_numpy(pillow(pixels, (oh, ow), filter).copy()) / 255)


@pytest.mark.parametrize("filter", FILTERS)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_resize_float_equals_pillow_mode_f(filter, h, w, oh, ow, seed):
    values = numpy.random.default_rng(seed).normal(size=(h, w)).astype(numpy.float32)
    y = resize(torch.from_numpy(values)[None, None], (oh, ow), filter)
    assert numpy.allclose(y[0, 0].numpy(), pillow(values, (oh, ow), filter), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_downsample_photo_equals_pillow(filter, factor):
    x = picture(3)
    size = Downsample(factor).output_shape(x.shape)[2:]
    image = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy())
    expected = numpy.array(image.resize(size[::-1], FILTERS[filter]))
    assert torch.equal(
        Downsample(factor, filter)(x)[0].permute(1, 2, 0), torch.from_numpy(expected) / 255
    )


@pytest.mark.parametrize("size", range(1, 200, 7))
def test_nearest_picks_pixels_of_pillow(size):
    """Pillow sums its step in float64; (i + ½)·size/out gives other pixels for a fifth of sizes."""
    ramp = Image.fromarray(numpy.arange(size, dtype=numpy.float32)[None])
    x = torch.arange(size, dtype=torch.float32).view(1, 1, 1, -1) / 1000
    for out in range(1, 400):
        picked = resize(x, (1, out), "nearest")[0, 0, 0] * 1000
        assert torch.equal(
            picked.round(), torch.from_numpy(numpy.array(ramp.resize((out, 1), Image.NEAREST))[0])
        )


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize(
    "size", [(40, 60), (200, 150), (128, 300), (1, 1), (128, 128), VERTICAL_FIRST, (400, 64)]
)
def test_resize_photo_equals_pillow(filter, size):
    x = picture(5)
    image = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy())
    expected = numpy.array(image.resize(size[::-1], FILTERS[filter]))
    assert torch.equal(
        Resize(size, filter=filter)(x)[0].permute(1, 2, 0), torch.from_numpy(expected) / 255
    )


@given(sides, sides, st.floats(0.05, 3))
def test_resize_scale_rounds_sides(h, w, scale):
    expected = (
        ImageOps.scale(Image.new("L", (w, h)), scale).size
        if round(scale * h) and round(scale * w)
        else None
    )
    got = Resize(scale=scale).output_shape((1, 1, h, w))[2:]
    assert got == (expected[::-1] if expected else tuple(max(1, round(scale * n)) for n in (h, w)))


@given(sides, sides, sides, sides, st.sampled_from([*FILTERS]), st.integers(0, 2**32 - 1))
def test_resize_gradient_is_adjoint(h, w, oh, ow, filter, seed):
    g = rng(seed)
    x, y = (torch.rand(1, 2, *s, dtype=torch.float64, generator=g) for s in ((h, w), (oh, ow)))
    f = Resize((oh, ow), filter=filter)
    assert torch.allclose((f(x) * y).sum(), (x * f.adjoint(y, x.shape)).sum(), rtol=1e-9)


def test_resize_accepts_size_as_text():
    assert parse("resize:40") == Resize(40) == Resize((40, 40)) == parse("resize:40x40")
    assert parse("resize:40x60") == parse("resize:40|60") == Resize((40, 60)) == Resize("40x60")
    assert parse("resize:scale=0.5,filter=box") == Resize(scale=0.5, filter="box")
    for f in (Resize(40), Resize((40, 60), filter="any"), Resize(scale=0.25)):
        assert parse(str(f)) == f


def test_resize_approx_keeps_named_filter():
    assert Resize(40, filter="lanczos").approx() == Resize(40, filter="lanczos")
    assert Resize(40, filter="any").approx() == Resize(40, filter="bicubic")


def test_resize_approx_any_is_nearer_than_pool():
    x = picture(2)
    for size in (32, 80):
        drawn = [resize(x, (size, size), name) for name in ("bilinear", "bicubic", "lanczos")]
        pooled, assumed = (
            F.adaptive_avg_pool2d(x, (size, size)),
            Resize(size, filter="any").approx()(x),
        )
        distance = [sum((d - a).abs().mean() for d in drawn) for a in (assumed, pooled)]
        assert distance[0] < distance[1]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Resize(), "give either size or scale"),
        (lambda: Resize(40, scale=0.5), "give either size or scale"),
        (lambda: Resize(0), "size=0 must be an integer from 1"),
        (lambda: Resize((1, 2, 3)), "3 sides"),
        (lambda: Resize("40y60"), "size="),
        (lambda: Resize("40x"), "size="),
        (lambda: Resize(2**15), "more than 67108864 pixels"),
        (lambda: Resize(10**9), "size=1000000000"),
        (lambda: Resize(scale=0), "scale=0 must be a number above 0 to 64"),
        (lambda: Resize(scale=float("nan")), "scale=nan"),
        (lambda: Resize(scale=(0.5, 0.6)), "must be one number for all images"),
        (lambda: Resize(scale=64)(torch.zeros(1, 1, 200, 200)), "more than 67108864 pixels"),
        (lambda: resize(torch.zeros(1, 1, 1, 2**15), (1, 2**14), "box"), "memory"),
        (lambda: Resize(scale=Range(0.5, 0.6)).output_shape((1, 3, 4, 4)), "not decided yet"),
        (lambda: Downsample(Range(2, 3)).output_shape((1, 3, 4, 4)), "not decided yet"),
        (lambda: Downsample((2, 3)), "must be one number for all images"),
        (lambda: Downsample(2, "cubic"), "filter='cubic' must be one of"),
        (lambda: Downsample(2, ("box", "any")), "filter='any' must be one of"),
        (lambda: Downsample(2, ()), "filter="),
        (
            lambda: Resize(4, filter=("box", "bicubic"))(torch.zeros(3, 1, 4, 4)),
            "filter has 2 values for 3 images",
        ),
    ],
)
def test_resample_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_resize_scale_is_drawn_per_image():
    f = parse("resize:scale=0.5..1.5")
    scales = {f.sample((1, 3, 20, 20), rng(i)).scale for i in range(9)}
    assert len(scales) == 9 and min(scales) >= 0.5 and max(scales) <= 1.5
    with pytest.raises(ValueError, match="one by one"):
        f(torch.rand(4, 3, 20, 20, generator=rng()), rng())


@given(st.integers(1, 9), sides, sides)
def test_pool_is_mean_of_each_cell(factor, h, w):
    x = torch.rand(1, 2, h * factor, w * factor, dtype=torch.float64, generator=rng())
    cells = x.view(1, 2, h, factor, w, factor).mean((3, 5))
    assert torch.allclose(Pool(factor)(x), cells, rtol=1e-12)


@given(st.integers(1, 9), sides, sides)
def test_pool_keeps_constants_if_sides_do_not_divide(factor, h, w):
    y = Pool(factor)(torch.full((1, 1, h, w), 0.25))
    assert y.shape[2:] == (max(1, h // factor), max(1, w // factor)) and torch.allclose(
        y, torch.tensor(0.25)
    )


def test_downsample_approx_is_pool():
    assert (
        Downsample(4, "any").sample((1, 3, 8, 8), rng()).approx()
        == Downsample(4).approx()
        == Pool(4)
    )


def test_downsample_filter_is_drawn_per_image():
    f = Downsample(2, "any").sample((64, 3, 8, 8), rng())
    assert set(f.filter) == {"bilinear", "bicubic", "lanczos"}
    x = torch.rand(64, 3, 8, 8, generator=rng())
    assert torch.equal(f(x)[5:6], Downsample(2, f.filter[5])(x[5:6]))


def test_resize_of_mixed_batch_equals_single_images():
    eight_bit, free = picture(0), torch.rand(1, 3, 128, 128, generator=rng())
    together = Downsample(4)(torch.cat([eight_bit, free]))
    assert torch.equal(together, torch.cat([Downsample(4)(eight_bit), Downsample(4)(free)]))


def test_resize_eight_bit_gradient_is_linear_filter():
    x = picture(1).double().requires_grad_()
    (g,) = torch.autograd.grad(Downsample(4)(x).sum(), x)
    free = (x.detach() + 1e-3).requires_grad_()
    (expected,) = torch.autograd.grad(Downsample(4)(free).sum(), free)
    assert torch.allclose(g, expected) and torch.allclose(
        g.sum(), torch.tensor(3 * 32 * 32.0).double()
    )
    assert F.avg_pool2d(g, 4).std() < 0.05  # every pixel of the inside counts about 1/16
