"""Instances of every registered operator; test_laws fails when one has none."""

import torch
from hypothesis import strategies as st

from degrade import (
    JPEG,
    Blur,
    Box,
    Clamp,
    Codec,
    CompressedSensing,
    Crop,
    DeadPixels,
    Downsample,
    Gamma,
    Gaussian,
    Gray,
    HotPixels,
    Identity,
    Mask,
    Maybe,
    OneOf,
    PerImage,
    Pixels,
    Place,
    Poisson,
    PoissonGaussian,
    Pool,
    Quantize,
    Range,
    Resize,
    SaltPepper,
    Shift,
    Sinc,
    Speckle,
    Strokes,
    Turn,
    Uncrop,
    Uniform,
)

factors = st.integers(1, 9)
unit = st.floats(0, 1)
seeds = st.none() | st.integers(0, 2**32 - 1)
filters = st.sampled_from(["box", "bilinear", "hamming", "bicubic", "lanczos", "nearest", "any"])
sides = st.integers(1, 24)
kernels = st.sampled_from([1, 3, 5]).flatmap(
    lambda k: st.lists(st.floats(-1, 1), min_size=k * k, max_size=k * k)
)

STRATEGIES = {
    "blur": st.builds(Blur, st.just("gaussian"), st.floats(0, 3))
    | st.builds(Blur, st.just("motion"), st.floats(1, 9), st.floats(-360, 360))
    | st.builds(Blur, st.just("defocus"), st.floats(0, 5))
    | st.builds(Blur, kernels),
    "box": st.builds(Box, unit, unit, st.none() | unit, st.none() | unit),
    "clamp": st.just(Clamp()),
    "codec": st.builds(Codec, st.sampled_from(["webp", "avif", "jpeg2000"]), st.integers(1, 100)),
    "compressedsensing": st.builds(CompressedSensing, st.floats(0.01, 1), seeds),
    "crop": st.builds(
        Crop, st.just(0), st.just(0), st.none() | st.just(1), st.none() | st.just(1)
    ),  # fits every image
    "deadpixels": st.builds(DeadPixels, unit, seeds),
    "downsample": st.builds(Downsample, factors, filters),
    "gamma": st.builds(Gamma, st.floats(0.01, 5)),
    "gaussian": st.builds(Gaussian, st.floats(0, 2)),
    "gray": st.just(Gray()),
    "hotpixels": st.builds(HotPixels, unit, seeds),
    "identity": st.just(Identity()),
    "jpeg": st.builds(JPEG, st.integers(1, 100), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"])),
    "pixels": st.builds(Pixels, unit, seeds),
    "place": st.builds(
        lambda side, turn, at, size: Place((side, -turn, at, turn, side, at), size),
        st.floats(1, 20),
        st.floats(-20, 20),
        st.floats(-9, 20),
        st.tuples(sides, sides),
    ),
    "poisson": st.builds(Poisson, st.floats(0.1, 1e4), st.sampled_from(["exact", "gaussian"])),
    "poissongaussian": st.builds(PoissonGaussian, st.floats(0.1, 1e4), unit),
    "pool": st.builds(Pool, factors),
    "quantize": st.builds(Quantize, st.integers(2, 1000), st.sampled_from(["cubic", "ste"])),
    "resize": st.builds(Resize, sides | st.tuples(sides, sides), st.none(), filters)
    | st.builds(Resize, st.none(), st.floats(0.1, 1.5), filters),
    "saltpepper": st.builds(SaltPepper, unit, unit),
    "shift": st.builds(Shift, st.integers(-30, 30), st.integers(-30, 30)),
    "sinc": st.builds(Sinc, st.floats(0.1, 3.14), st.sampled_from([1, 3, 7, 21])),
    "speckle": st.builds(Speckle, unit),
    "strokes": st.builds(Strokes, st.integers(0, 9), st.floats(0.01, 0.5), seeds),
    "turn": st.builds(Turn, st.integers(0, 3), st.integers(0, 1)),
    "uncrop": st.builds(Uncrop, st.floats(0.01, 1), st.sampled_from(["corner", "center"])),
    "uniform": st.builds(Uniform, unit),
}
# of what keeps the size, since the rows of a batch must agree on one
STRATEGIES["maybe"] = st.builds(
    Maybe, unit, st.one_of(STRATEGIES["strokes"], STRATEGIES["jpeg"], STRATEGIES["poisson"])
)
STRATEGIES["oneof"] = st.builds(
    OneOf, st.just(Gaussian(Range(0.1, 0.3))), st.builds(JPEG, st.just(Range(3, 90)))
)
# these fit one size or number of images, so they cannot be drawn apart from them
SIZED = {
    "mask": lambda b, c, h, w: Mask(torch.linspace(0, 1, h * w).view(1, 1, h, w)),
    "perimage": lambda b, c, h, w: PerImage(*(JPEG(10 + i) >> Gaussian(0.1) for i in range(b))),
}


# The declared gradient, element by element, of each operator that is not linear once it is sampled:
# slope(f, x, run), where run(g) is what g makes of x with the draws that f had.
def _poisson(f, x, run):
    if f == Poisson(f.peak):
        return 1 + (run(f) - x) / (2 * (x + 1e-3 / f.peak))
    rate = f.peak * x
    return 1 + (f.peak * run(f) - rate + 0.5) / (rate + 1e-3) / 2


def _cubic(f, x, run):
    return (
        torch.ones_like(x)
        if f.surrogate == "ste"
        else 0.2 + 2.4 * ((run(f) - x) * (f.levels - 1)) ** 2
    )


def _one(f, x, run):
    return torch.ones_like(x)


def _untouched(f, x, run):
    return (run(f) == x).to(x)


SLOPES = {
    "clamp": lambda f, x, run: 0.5 / torch.cosh(x - 0.5) ** 2,
    "codec": _one,
    "gamma": lambda f, x, run: f.gamma * x.clamp(min=1e-3) ** (f.gamma - 1),
    "gaussian": _one,
    "hotpixels": _untouched,
    "jpeg": _one,
    "poisson": _poisson,
    "poissongaussian": lambda f, x, run: (
        1 + (run(PoissonGaussian(f.peak, 0)) - x) / (2 * (x + 1e-3 / f.peak))
    ),
    "quantize": _cubic,
    "saltpepper": _untouched,
    "speckle": lambda f, x, run: run(f) / x,
    "uniform": _one,
}

operators = st.one_of(*STRATEGIES.values())
chains = st.lists(operators, min_size=1, max_size=5)


@st.composite
def images(draw, channels=(1, 3), batch=(1, 2, 3), largest=20, dtype=torch.float32):
    """Random images [B, C, H, W], on the 8-bit grid or off it."""
    size = [draw(st.sampled_from(batch)), draw(st.sampled_from(channels))]
    size += [draw(st.integers(1, largest)) for _ in range(2)]
    x = torch.rand(
        size, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1))), dtype=dtype
    )
    return (x * 255).round() / 255 if draw(st.booleans()) else x
