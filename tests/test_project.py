"""Projections, each against the equation that it solves, and against Pillow where possible."""

import numpy
import pytest
import torch
import torch.nn.functional as nn
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import invert
from degrade import (
    JPEG,
    Box,
    Clamp,
    Crop,
    Downsample,
    Gray,
    Identity,
    Mask,
    Maybe,
    PerImage,
    Pixels,
    Pool,
    Quantize,
    Resize,
    Shift,
    Strokes,
    Uncrop,
    jpeg_coefficients,
    parse,
    register,
    tasks,
)
from degrade.jpeg.layout import SAMPLINGS
from degrade.registry import REGISTRY

from .conftest import picture, rng
from .invert.solving import lively
from .jpeg_reference import KINDS, codec, content

sides, samplings = st.integers(1, 40), st.sampled_from(list(SAMPLINGS))


def away(a, b):
    return (a - b).abs().max().item()


def in_bits(x):
    return (x * 255).round() / 255


def blurred(x, size=5):
    return nn.avg_pool2d(nn.pad(x, [size // 2] * 4, mode="replicate"), size, 1)


def drawn(h, w, seed=0, c=3, low=0.0, dtype=torch.float32):
    return torch.rand(1, c, h, w, generator=rng(seed), dtype=dtype) * (1 - 2 * low) + low


# Masks --------------------------------------------------------------------------------------------

masks = st.sampled_from([Box(), Uncrop(), Strokes(4, seed=3), Pixels(0.5, seed=1)])


@given(masks, st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_project_restores_visible_pixels_exactly(f, h, w, seed):
    x0, x = drawn(h, w, seed), drawn(h, w, seed + 1)
    mask, near = f.visible(x.shape), f.project(x, f(x0))
    assert torch.equal((near * mask)[(mask == 1).expand_as(x)], f(x0)[(mask == 1).expand_as(x)])
    assert (
        away(f(near)[(mask >= 1 / 64).expand_as(x)], f(x0)[(mask >= 1 / 64).expand_as(x)]) < 1e-6
        or not mask.any()
    )


@given(st.integers(0, 99))
def test_project_divides_by_a_soft_mask(seed):
    x0, x, mask = drawn(20, 30, seed), drawn(20, 30, seed + 1), drawn(20, 30, seed + 2, c=1)
    near, told = Mask(mask).project(x, Mask(mask)(x0)), (mask >= 1 / 64).expand_as(x)
    assert away((mask * near)[told], (mask * x0)[told]) < 1e-6 and away(near[told], x0[told]) < 1e-4


def test_project_feathers_the_seam():
    """The residual goes on across the edge and is gone a few pixels further."""
    x0, f = picture(3), Box(0.5, 0.5)
    x, hidden = blurred(x0) * 0.8, f.visible(x0.shape) == 0
    near, pasted = f.project(x, f(x0)), torch.where(hidden, x, x0)
    jumps = [
        (image[..., 32, 32:96] - image[..., 31, 32:96]).abs().mean() for image in (near, pasted, x0)
    ]
    assert jumps[0] - jumps[2] < 0.1 * (jumps[1] - jumps[2])
    changed = (near != x).any(1)[0]
    assert changed[32:36].any() and not changed[40:88, 40:88].any()


def test_project_keeps_image_if_nothing_is_visible():
    x, f = drawn(8, 9), Pixels(1, seed=0)
    assert torch.equal(f.project(x, f(drawn(8, 9, 1))), x)


# Resampling ---------------------------------------------------------------------------------------

FILTERS = ["box", "bilinear", "hamming", "bicubic", "lanczos", "nearest"]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-7)])
@given(
    st.sampled_from(FILTERS),
    st.integers(2, 9),
    st.integers(16, 60),
    st.integers(16, 60),
    st.integers(0, 99),
)
def test_project_meets_a_downsampled_image(dtype, tolerance, filter, factor, h, w, seed):
    """Inside the gamut; both near enough to it, as a restoration is."""
    x0 = blurred(drawn(h, w, seed, low=0.2, dtype=dtype))
    x = x0 + 0.1 * (drawn(h, w, seed + 1, dtype=dtype) - 0.5)
    for f in (Downsample(factor, filter), Pool(factor), Resize(scale=1 / factor, filter=filter)):
        near = f.project(x, f(x0))
        assert away(f(near), f(x0)) < tolerance
        # the smallest change: what of it f does not see is nothing
        if filter != "nearest":
            assert away(f.adjoint(f(near) - f(x0), x.shape), 0 * x) < tolerance
            free = f.project(near, f(near) + 0)  # once more changes nothing
            assert torch.equal(free, near)


@pytest.mark.parametrize("filter", FILTERS)
def test_project_in_8_bits_agrees_with_pillow(filter):
    """Measured: all pixels within one level; 0.9 % are one off for box, less for the others."""
    x0 = picture(3)

    def small(x):
        pixels = Image.fromarray((x[0] * 255).round().byte().permute(1, 2, 0).numpy())
        return numpy.array(pixels.resize((16, 16), Image.Resampling[filter.upper()])).astype(int)

    y = torch.from_numpy(small(x0)).permute(2, 0, 1)[None].float() / 255
    near = Downsample(8, filter).project(blurred(x0), y)
    off = numpy.abs(small(near) - small(x0))
    assert off.max() <= 1 and (off > 0).mean() < 0.02
    assert numpy.abs(small(blurred(x0)) - small(x0)).max() > 1 or filter in ("box", "nearest")


@given(st.sampled_from(FILTERS[1:-1]), st.integers(4, 20), st.integers(4, 20), st.floats(1, 3))
def test_project_solves_upsampling_by_least_squares(filter, h, w, scale):
    x0, f = drawn(h, w, low=0.3, dtype=torch.float64), Resize(scale=scale, filter=filter)
    noise = 1e-3 * torch.randn(f(x0).shape, generator=rng(1), dtype=torch.float64)
    near = f.project(torch.full_like(x0, 0.5), f(x0) + noise)
    if near.min() > 0 and near.max() < 1:
        assert away(f.adjoint(f(near) - f(x0) - noise, x0.shape), 0 * x0) < 1e-6


# JPEG ---------------------------------------------------------------------------------------------

jpegs = (
    st.sampled_from(KINDS),
    sides,
    sides,
    st.sampled_from([1, 3]),
    samplings,
    st.integers(1, 100),
    st.integers(0, 9),
)


@given(*jpegs)
def test_project_jpeg_saved_again_gives_the_file(kind, h, w, channels, sampling, quality, seed):
    """Everywhere, where the observation is what its own pixels are saved as."""
    y = content(kind, h, w, channels, seed)
    for _ in range(8):
        y = codec(y, sampling, quality=quality)
    if not torch.equal(codec(y, sampling, quality=quality), y):
        return
    x = blurred(content(kind, h, w, channels, seed + 1))
    near = JPEG(quality, sampling).project(x, y)
    assert torch.equal(near, in_bits(near)) or torch.equal(near, x)
    assert torch.equal(codec(near, sampling, quality=quality), y)


@given(*jpegs[:4], *jpegs[5:])
def test_project_jpeg_beats_saving_the_pixels_again(kind, h, w, channels, quality, seed):
    """Of any file with independent blocks, also if no image gives it or saturation hides it."""
    y = codec(content(kind, h, w, channels, seed), "4:4:4", quality=quality)
    x = blurred(content(kind, h, w, channels, seed))
    found = [
        codec(in_bits(image), "4:4:4", quality=quality)
        for image in (JPEG(quality, "4:4:4").project(x, y), y)
    ]
    errors = [
        nn.avg_pool2d((again - y).abs().sum(1, keepdim=True), 8, ceil_mode=True) for again in found
    ]
    assert (errors[0] <= errors[1] + 1e-6).all()


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "4:4:0"])
@pytest.mark.parametrize("quality, most", [(10, 0.0), (50, 0.01), (75, 0.02), (90, 0.06)])
def test_project_meets_nearly_all_of_a_real_jpeg(quality, most, sampling):
    """Though its pixels, saved again, give other ones in up to half of the picture."""
    x0 = picture(1)[..., 3:120, 5:118]
    y = codec(x0, sampling, quality=quality)
    near = JPEG(quality, sampling).project(blurred(x0), y)
    missed = (codec(near, sampling, quality=quality) != y).any(1).float().mean()
    assert missed <= most
    assert torch.equal(JPEG(quality, sampling).project(x0, y), x0)


@pytest.mark.parametrize("sampling, most", [("4:4:4", 0.01), ("4:2:2", 0.05), ("4:2:0", 0.1)])
@pytest.mark.parametrize(
    "quality, side", [(97, 48), (98, 48), pytest.param(99, 112, marks=pytest.mark.slow)]
)
def test_project_meets_coefficients_of_steps_1_and_2(quality, side, sampling, most):
    """Pillow saves the image as the file, though rounding its pixels moves most coefficients."""
    x0 = picture(1)[..., 3 : 3 + side, 5 : 5 + side]
    y = jpeg_coefficients(x0, quality, sampling)
    near = JPEG(quality, sampling).project(blurred(x0), y)
    saved = codec(x0, sampling, quality=quality)
    missed = (codec(near, sampling, quality=quality) != saved).any(1)
    assert missed.float().mean() <= most


def test_project_jpeg_tables_and_quality_per_image():
    tables = torch.randint(20, 60, (2, 64), generator=rng(4)).tolist()
    x0 = picture(2)[..., :50, :39]
    y = codec(x0, "4:2:2", qtables=tables)
    near = JPEG(tables=tables, subsampling="4:2:2").project(blurred(x0), y)
    assert (codec(near, "4:2:2", qtables=tables) != y).any(1).float().mean() < 0.02
    two, f = torch.cat([x0, x0]), JPEG((20, 40))
    near = f.project(blurred(two), f(two))
    assert torch.equal(near[1:], JPEG(40).project(blurred(x0), JPEG(40)(x0)))


# Levels, colour, place ----------------------------------------------------------------------------


@given(st.integers(2, 1000), st.integers(0, 99))
def test_project_quantize_takes_the_nearest_value(levels, seed):
    f, x0, x = (
        Quantize(levels),
        drawn(6, 7, seed, dtype=torch.float64),
        drawn(6, 7, seed + 1, dtype=torch.float64),
    )
    near, half = f.project(x, f(x0)), 0.5 / (levels - 1)
    assert torch.allclose(f(near), f(x0))
    nearest = torch.minimum(torch.maximum(x, f(x0) - half), f(x0) + half)
    assert away(near, nearest) <= half / 32 + 1e-12


def test_project_clamp_keeps_values_beyond_the_ends():
    x, y = torch.tensor([-0.5, 0.5, 0.5, 1.5, 0.5]), torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0])
    near = Clamp().project(x.view(1, 1, 1, 5), y.view(1, 1, 1, 5))
    assert near.flatten().tolist() == [-0.5, 0.0, 0.25, 1.5, 1.0]


@given(st.integers(0, 99))
def test_project_gray_is_the_smallest_change(seed):
    x0, x = (drawn(9, 8, seed + i, dtype=torch.float64) ** 3 for i in (0, 1))
    near = Gray().project(x, Gray()(x0))
    assert away(Gray()(near), Gray()(x0)) < 1e-9 and near.min() >= 0 and near.max() <= 1
    inside = ((near > 1e-9) & (near < 1 - 1e-9)).all(1)
    red, green, blue = ((near - x)[:, i][inside] for i in range(3))  # along the weights
    assert torch.allclose(red * 0.587, green * 0.299) and torch.allclose(red * 0.114, blue * 0.299)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12))
def test_project_undoes_a_shift(h, w, dy, dx):
    x0, x, f = drawn(h, w), drawn(h, w, 1), Shift(dy, dx)
    near = f.project(x, f(x0))
    assert torch.equal(f(near), f(x0))
    assert ((near == x0) | (near == x)).all()


def test_project_puts_a_crop_back():
    x0, x, f = drawn(9, 8), drawn(9, 8, 1), Crop(2, 3, 4, 4)
    inside = Crop(2, 3, 4, 4).adjoint(torch.ones(1, 3, 4, 4), x.shape) > 0
    assert torch.equal(f.project(x, f(x0)), torch.where(inside, x0, x))
    assert torch.equal(Identity().project(x, x0), x0)


# Chains and the verb itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, levels",
    [
        ("downsample:4 >> clamp >> quantize", 0),
        ("pool:8 >> clamp >> quantize", 0),
        ("strokes:5,seed=2 >> clamp >> quantize", 0.5),
        ("crop:8,8,96,96 >> pool:3 >> quantize", 0),
        ("shift:3,-4 >> gray >> quantize", 0),
        ("jpeg:40 >> box", 20),  # the blocks at its edge
        ("downsample:2 >> clamp >> quantize >> jpeg:30", 1),
    ],
)
def test_project_a_chain_from_its_end(spec, levels):
    """Every stage: mean difference in 8-bit levels, all but none."""
    x0, f = picture(4), parse(spec)
    x, y = blurred(x0), f(x0)
    found = [(f(image) - y).abs().mean().item() * 255 for image in (x, f.project(x, y))]
    assert found[1] <= min(0.5 * found[0], levels + 1e-3)


def test_project_keeps_image_under_random_stages():
    x0, x = drawn(32, 32), drawn(32, 32, 1)
    for spec in (
        "poisson:9",
        "deadpixels:0.3",
        "pool:2 >> gaussian:0.1 >> clamp",
        "maybe:0.5(gray)",
        "jpeg:5..30",
        "downsample:4,filter=any",
        "strokes:3",
        "blur:gaussian,2",
        "pool:2 >> codec:webp,20",
    ):
        f = parse(spec)
        assert not f.certain and torch.equal(f.project(x, f(x0)), x), spec
    assert parse("maybe:1(gray)").sample(x.shape, rng()).certain and Maybe(1, Gray()).varies


def test_project_uses_agree_of_a_user_operator():
    @register("halved")
    class Halved(Identity):
        def forward(self, x, rng):
            return x / 2

        def agree(self, x, y):
            return y * 2

    try:
        x0, x = drawn(4, 4), drawn(4, 4, 1)
        assert torch.equal((Halved() >> Quantize(3)).project(x0, (Halved() >> Quantize(3))(x0)), x0)
        assert torch.equal(Halved().project(x, Halved()(x0)), x0)
    finally:
        del REGISTRY["halved"]


@pytest.mark.parametrize(
    "name", ["upsampling/M", "inpainting/M", "deartifacting/M", "UAP", "cri/colorization"]
)
def test_project_rows_are_independent(name):
    x0 = torch.cat([picture(i) for i in range(2)])
    f = tasks[name].sample(x0.shape, [rng(0), rng(1)])
    x, y = blurred(x0), f(x0)
    before = x.clone(), y.clone()
    near = f.project(x, y)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1]) and near.dtype == x.dtype
    for i in range(2):
        assert torch.equal(near[i : i + 1], f.row(i, 2).project(x[i : i + 1], y[i : i + 1]))
    assert not f.project(x.requires_grad_(), y).requires_grad
    half = f.project(x.detach().bfloat16(), y.bfloat16())
    assert half.dtype == torch.bfloat16 and half.shape == x.shape
    assert torch.equal(PerImage(f.row(0, 2), f.row(1, 2)).project(x.detach(), y), near)


@pytest.mark.parametrize(
    "x, y, words",
    [
        (
            drawn(8, 8),
            drawn(8, 8),
            r"y is \[1, 3, 8, 8\], but pool:2 turns \[1, 3, 8, 8\] into \[1, 3, 4, 4\]",
        ),
        (drawn(8, 8), drawn(4, 4) * torch.nan, "NaN"),
        (drawn(8, 8)[0], drawn(4, 4), "shape"),
        (torch.cat([drawn(8, 8)] * 2), drawn(4, 4), "but pool:2 turns"),
    ],
)
def test_project_rejects_bad_images(x, y, words):
    with pytest.raises(ValueError, match=words):
        Pool(2).project(x, y)


def test_project_holds_a_restoration_to_y():
    G, f = lively(), Pool(4) >> Clamp() >> Quantize()
    y = f(drawn(32, 32))
    free, held = (
        invert.restore(y, f, G, steps=2, perceptual="alex", consistency=consistency)
        for consistency in (False, True)
    )
    assert torch.equal(held.image, f.project(free.image, y).clamp(0, 1))
    assert torch.equal(held.latent, free.latent) and away(f(held.image), y) < away(f(free.image), y)
