"""Instances of every registered operator; test_laws fails when one has none."""

import torch
from hypothesis import strategies as st

from degrade import (
    JPEG,
    Blur,
    Camera,
    Crop,
    Frame,
    Frost,
    Gaussian,
    Mask,
    Maybe,
    OneOf,
    PerImage,
    Place,
    Poisson,
    PoissonGaussian,
    Range,
    Resize,
    ShotRead,
    Shuffle,
)
from degrade.kinds import FlagKind, Kind, NumberKind, OptionKind
from degrade.registry import REGISTRY
from tests.conftest import rng

factors = st.integers(1, 9)
unit = st.floats(0, 1)
sides = st.integers(1, 24)
kernels = st.sampled_from([3, 5]).flatmap(
    lambda k: st.lists(st.floats(-1, 1), min_size=k * k, max_size=k * k)
)


def allowed(kind: Kind) -> st.SearchStrategy:
    """The values that a declared parameter may hold: one for all images, no Range."""
    if isinstance(kind, NumberKind) and kind.odd:
        values = st.integers(kind.low // 2, (kind.high - 1) // 2).map(lambda n: 2 * n + 1)
    elif isinstance(kind, NumberKind) and kind.integer:
        values = st.integers(kind.low, kind.high)
    elif isinstance(kind, NumberKind):
        values = st.floats(kind.low, kind.high, exclude_min=kind.above)
    elif isinstance(kind, OptionKind):
        values = st.sampled_from([*kind.names, *kind.undecided])
    elif isinstance(kind, FlagKind):
        values = st.booleans()
    else:
        raise TypeError(f"{kind} needs a strategy of its own")
    return st.none() | values if kind.optional else values


def declared(name: str, **own: st.SearchStrategy) -> st.SearchStrategy:
    """Operators with all that their parameters allow; `own` replaces it, to stay fast and small."""
    cls = REGISTRY[name]
    rest = {n: allowed(kind) for n, kind in cls.kinds.items() if n not in own}
    return st.builds(cls, **rest, **own)


moderate = {"peak": st.floats(0.1, 1e4)}

STRATEGIES = {
    "aberration": declared("aberration"),
    "affine": declared(
        "affine", scale=st.floats(0.3, 3), dy=st.floats(-20, 20), dx=st.floats(-20, 20)
    ),
    "blur": st.builds(Blur, st.just("gaussian"), st.floats(0, 3))
    | st.builds(Blur, st.just("motion"), st.floats(1, 9), st.floats(-360, 360))
    | st.builds(Blur, st.just("defocus"), st.floats(0, 5))
    | st.builds(
        Blur,
        st.sampled_from(["gaussian", "plateau"]),
        st.floats(0, 3),
        st.floats(-360, 360),
        across=st.floats(0, 3),
        beta=st.floats(0.5, 4),
        side=st.sampled_from([1, 3, 7, 21]),
    )
    | st.builds(
        Blur,
        st.just("trail"),
        st.floats(0, 3),
        st.floats(-360, 360),
        side=st.none() | st.sampled_from([1, 3, 7]),
        edge=st.sampled_from(["mirror", "nearest"]),
    )
    | st.builds(Blur, st.just("line"), st.floats(0.05, 3), st.floats(-360, 360))
    | st.builds(Blur, st.just("disc"), st.floats(0, 10), across=st.floats(0, 3))
    | st.builds(Blur, kernels, edge=st.sampled_from(["mirror", "nearest", "black"])),
    "box": declared("box"),
    "brightness": declared("brightness"),
    "camera": st.builds(
        Camera,
        st.sampled_from([Gaussian(0.01), ShotRead(0.01, 0.001)]),
        st.none() | st.just((0.7, 0.2, 0.1, 0.1, 0.8, 0.1, 0, 0.2, 0.8)),
        red=st.none() | st.floats(1, 3),
        blue=st.floats(1, 3),
        brightening=st.none() | st.floats(0.5, 2),
    ),
    "clamp": declared("clamp"),
    "codec": declared("codec", format=st.sampled_from(["webp", "avif", "jpeg2000"])),
    "compressedsensing": declared("compressedsensing", ratio=st.floats(0.01, 1)),
    "crop": st.builds(
        Crop, st.just(0), st.just(0), st.none() | st.just(1), st.none() | st.just(1)
    ),  # fits every image
    "deadpixels": declared("deadpixels"),
    "diffjpeg": declared("diffjpeg"),
    "downsample": declared("downsample", factor=factors),
    "elastic": declared(
        "elastic", strength=st.floats(0, 30), size=st.floats(0.3, 9), jitter=st.floats(0, 20)
    ),
    "fog": declared("fog", amount=st.floats(0, 3), decay=st.floats(1, 5)),
    "fouriermagnitude": declared("fouriermagnitude"),
    "gamma": declared("gamma", gamma=st.floats(0.01, 5)),
    "contrast": declared("contrast"),
    "correlated": declared("correlated", mix=st.none() | st.just((0.3, 0.1, 0, 0.2, 0.1, 0.3))),
    "gaussian": declared("gaussian"),
    "glass": declared("glass", delta=st.integers(1, 4), passes=st.integers(0, 3)),
    "gray": declared("gray"),
    "haze": declared("haze", beta=st.floats(0, 3), depth=st.none()),
    "hotpixels": declared("hotpixels"),
    "hsv": declared("hsv"),
    "hue": declared("hue"),
    "identity": declared("identity"),
    "jpeg": st.builds(
        JPEG, st.integers(1, 100), allowed(JPEG.kinds["subsampling"])
    ),  # with the default surrogate, whose slope is 1
    "motionpath": declared("motionpath", size=st.just(55)),
    "offset": declared("offset"),
    "perspective": declared("perspective", jitter=st.floats(0, 0.24), corners=st.none())
    | declared("perspective", jitter=st.none(), corners=st.just((0.2, 0.1, 0, -0.1, 0, 0, 0, 0.3))),
    "pixels": declared("pixels"),
    "place": st.builds(
        lambda side, turn, at, size: Place((side, -turn, at, turn, side, at), size),
        st.floats(1, 20),
        st.floats(-20, 20),
        st.floats(-9, 20),
        st.tuples(sides, sides),
    ),
    "poisson": declared("poisson", **moderate),
    "poissongaussian": declared("poissongaussian", **moderate),
    "pool": declared("pool", factor=factors),
    "quantize": declared("quantize", levels=st.integers(2, 1000)),
    "resize": declared(
        "resize",
        size=sides | st.tuples(sides, sides),
        scale=st.none(),
        rounding=st.just("round"),
        grid=st.just("size"),
        of=st.none(),
    )
    | declared(
        "resize",
        size=st.none(),
        scale=st.floats(0.1, 1.5),
        grid=st.just("size"),
        of=st.none() | st.tuples(sides, sides),
    )
    | declared(
        "resize",
        size=st.none(),
        scale=st.floats(0.1, 1.5),
        filter=st.sampled_from(["torch-bilinear", "torch-bicubic", "any-torch"]),
        grid=st.just("scale"),
        of=st.none(),
    ),
    "saltpepper": declared("saltpepper"),
    "saturation": declared(
        "saturation", weights=st.sampled_from([(0.2989, 0.587, 0.114), (0.3, 0.6, 0.1)])
    ),
    "scaledpoisson": declared(
        "scaledpoisson", scale=st.floats(0, 3), peak=st.none() | st.floats(1, 1e4)
    ),
    "shake": declared("shake", length=st.floats(1, 20)),
    "shift": declared("shift", dy=st.integers(-30, 30), dx=st.integers(-30, 30)),
    "shotread": declared("shotread", read=st.floats(1e-6, 1)),
    "sinc": declared("sinc", cutoff=st.floats(0.1, 3.14), size=st.sampled_from([1, 3, 7, 21])),
    "snow": declared("snow", length=st.sampled_from([1, 5, 21]), size=st.floats(0, 9)),
    "spatter": declared("spatter", size=st.floats(0.1, 4), amount=st.floats(0.1, 3)),
    "speckle": declared("speckle", sigma=unit),
    "strokes": declared("strokes", count=st.integers(0, 9), width=st.floats(0.01, 0.5)),
    "subsample": declared(
        "subsample",
        factor=st.integers(1, 5),
        size=st.floats(0, 4),
        side=st.sampled_from([1, 9, 25]),
    ),
    "turn": declared("turn"),
    "uncrop": declared("uncrop", keep=st.floats(0.01, 1)),
    "uniform": declared("uniform"),
    "usm": declared("usm", size=st.floats(0.1, 9), side=st.sampled_from([1, 9, 51])),
    "vignette": declared("vignette"),
    "zoomblur": declared("zoomblur", largest=st.floats(1, 3), step=st.floats(0.05, 1)),
}
# of what keeps the size, since the rows of a batch must agree on one
STRATEGIES["maybe"] = st.builds(
    Maybe, unit, st.one_of(STRATEGIES["strokes"], STRATEGIES["jpeg"], STRATEGIES["poisson"])
)
STRATEGIES["oneof"] = st.builds(
    OneOf,
    st.just(Gaussian(Range(0.1, 0.3))),
    st.builds(JPEG, st.just(Range(3, 90))),
    weights=st.none() | st.tuples(unit, st.just(0.5)),
)
STRATEGIES["shuffle"] = st.builds(
    Shuffle, st.just(Gaussian(Range(0.1, 0.3))), st.builds(JPEG, st.just(Range(3, 90)))
)
STRATEGIES["frame"] = st.builds(
    lambda scale: Frame(Resize(scale=scale) >> Resize(scale=1, of="frame")), st.floats(0.1, 1.5)
)
# these fit one size or number of images, so they cannot be drawn apart from them
SIZED = {
    "frost": lambda b, c, h, w: Frost(torch.linspace(0, 1, 3 * 30 * 30).view(1, 3, 30, 30)),
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
    if f.surrogate == "ste":
        return torch.ones_like(x)
    middle = 0.5 if f.rounding == "down" else 0
    return 0.2 + 2.4 * ((x - run(f)) * (f.levels - 1) - middle) ** 2


def _fog(f, x, run):
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (brightest / (brightest + f.amount)).expand_as(x)


def _share(f, x, run):
    """The share of the image, by the difference of two images."""
    black = f(0 * x, rng(1))
    return f(0 * x + 1, rng(1)) - black


def _one(f, x, run):
    return torch.ones_like(x)


def _correlated(f, x, run):
    """Each image has its own mix, and all of them one form."""
    first = f.row(0, len(x))
    return _one(f, x, run) if first.form == "added" else run(f) / x


def _untouched(f, x, run):
    return (run(f) == x).to(x)


SLOPES = {
    "clamp": lambda f, x, run: 0.5 / torch.cosh(x - 0.5) ** 2,
    "fog": _fog,
    "gamma": lambda f, x, run: f.gamma * x.clamp(min=1e-3) ** (f.gamma - 1),
    "correlated": _correlated,
    "diffjpeg": _one,
    "gaussian": _one,
    "haze": _share,
    "hotpixels": _untouched,
    "hsv": _one,
    "hue": _one,
    "jpeg": _one,
    "offset": _one,
    "poisson": _poisson,
    "poissongaussian": lambda f, x, run: (
        1 + (run(PoissonGaussian(f.peak, 0)) - x) / (2 * (x + 1e-3 / f.peak))
    ),
    "quantize": _cubic,
    "saltpepper": _untouched,
    "scaledpoisson": _one,
    "snow": lambda f, x, run: torch.full_like(x, f.keep),
    "spatter": _share,
    "shotread": lambda f, x, run: 1 + f.shot * (run(f) - x) / (2 * (f.shot * x + f.read)),
    "speckle": lambda f, x, run: run(f) / x,
    "uniform": _one,
    "usm": _one,
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
