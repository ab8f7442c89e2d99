"""Instances of every registered operator; test_laws fails when one has none."""

import torch
from hypothesis import strategies as st

from degrade import (
    JPEG,
    Clamp,
    DeadPixels,
    Downsample,
    Gaussian,
    Identity,
    Mask,
    Maybe,
    OneOf,
    PerImage,
    Poisson,
    Pool,
    Quantize,
    Range,
    Strokes,
)

factors = st.integers(1, 9)
unit = st.floats(0, 1)

STRATEGIES = {
    "clamp": st.just(Clamp()),
    "deadpixels": st.builds(DeadPixels, unit, st.none() | st.integers(0, 2**32 - 1)),
    "downsample": st.builds(
        Downsample, factors, st.sampled_from(["box", "bilinear", "hamming", "bicubic", "lanczos", "any"])
    ),
    "gaussian": st.builds(Gaussian, st.floats(0, 2)),
    "identity": st.just(Identity()),
    "jpeg": st.builds(JPEG, st.integers(1, 100), st.sampled_from(["4:4:4", "4:2:2", "4:2:0"])),
    "poisson": st.builds(Poisson, st.floats(0.1, 1e4), st.sampled_from(["exact", "gaussian"])),
    "pool": st.builds(Pool, factors),
    "quantize": st.builds(Quantize, st.integers(2, 1000), st.sampled_from(["cubic", "ste"])),
    "strokes": st.builds(Strokes, st.integers(0, 9), st.floats(0.01, 0.5), st.none() | st.integers(0, 2**32 - 1)),
}
# of what keeps the size, since the rows of a batch must agree on one
STRATEGIES["maybe"] = st.builds(Maybe, unit, st.one_of(STRATEGIES["strokes"], STRATEGIES["jpeg"], STRATEGIES["poisson"]))
STRATEGIES["oneof"] = st.builds(OneOf, st.just(Gaussian(Range(0.1, 0.3))), st.builds(JPEG, st.just(Range(3, 90))))
# these fit one size or number of images, so they cannot be drawn apart from them
SIZED = {
    "mask": lambda b, c, h, w: Mask(torch.linspace(0, 1, h * w).view(1, 1, h, w)),
    "perimage": lambda b, c, h, w: PerImage(*(JPEG(10 + i) >> Gaussian(0.1) for i in range(b))),
}

operators = st.one_of(*STRATEGIES.values())
chains = st.lists(operators, min_size=1, max_size=5)


@st.composite
def images(draw, channels=(1, 3), batch=(1, 2, 3), largest=20, dtype=torch.float32):
    """Random images [B, C, H, W], on the 8-bit grid or off it."""
    size = [draw(st.sampled_from(batch)), draw(st.sampled_from(channels))]
    size += [draw(st.integers(1, largest)) for _ in range(2)]
    x = torch.rand(size, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1))), dtype=dtype)
    return (x * 255).round() / 255 if draw(st.booleans()) else x
