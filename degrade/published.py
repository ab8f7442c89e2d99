"""The degradations that published restorers were trained on, by name, as lines of text.

`degrade.pipelines["real-esrgan-x4"]` is an operator; `sample` draws one concrete chain of it. The
names also stand in texts: `parse("gfpgan >> jpeg:50")`. The constants are those of the authors'
code, which may differ from their papers; numbers have six digits. Where a pipeline draws once for a
whole batch, as Real-ESRGAN does its scales and filters, each image draws for itself here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .presets import Presets
from .registry import ALIASES

PER_BATCH = (
    "Scales, filters, kinds of noise and the order of the last stages are drawn for each image; "
    "the authors draw them once for a batch and mend this with a pool of pairs."
)
GRAY_FIELD = (
    "Grey noise is drawn for each image; the authors' code has one field of grey Gaussian noise "
    "for a batch."
)
CROPS = "Flips, padding and crops of the clean image are left to the loader."
_DOWN = "rounding=floor"


@dataclass(frozen=True)
class Pipeline:
    """A published degradation: its text, where it is from, and what differs from that code."""

    text: str
    source: str
    departures: tuple[str, ...] = ()


def _number(value: float) -> str:
    return f"{value:.6g}"


def _span(low: float, high: float, power: int = 1) -> str:
    """The text of a range; of one number if both ends are equal."""
    if low == high:
        return _number(low)
    text = f"{_number(low)}..{_number(high)}"
    return text if power == 1 else f"{text}^{power}"


def _levels(low: float, high: float) -> str:
    """A range of levels of 255 in units of [0, 1]."""
    return _span(low / 255, high / 255)


def _one_of(*choices: tuple[float, str]) -> str:
    """The text that draws one of several by their weights."""
    weights = "|".join(_number(weight) for weight, _ in choices)
    texts = " ; ".join(text for _, text in choices)
    return f"oneof:weights={weights}({texts})"


# Real-ESRGAN and what follows it ------------------------------------------------------------------

_SHORT_CUTOFFS = "1.0472..3.14159"  # from π/3 to π, of kernels with sides below 13
_LONG_CUTOFFS = "0.628319..3.14159"  # from π/5
_LONGEST_SHORT = 11


@dataclass(frozen=True)
class _Stage:
    """The constants of one of Real-ESRGAN's two stages."""

    sigma: tuple[float, float]  # of kernels
    scale: tuple[float, float]
    directions: tuple[float, float, float]  # weights: enlarge, shrink, keep
    gaussian: tuple[float, float]  # levels
    poisson: tuple[float, float]
    quality: tuple[float, float]
    beta_gaussian: tuple[float, float] = (0.5, 4)
    beta_plateau: tuple[float, float] = (1, 2)
    sides: tuple[int, int] = (7, 21)  # of kernels, odd


_FIRST = _Stage(
    sigma=(0.2, 3),
    scale=(0.15, 1.5),
    directions=(0.2, 0.7, 0.1),
    gaussian=(1, 30),
    poisson=(0.05, 3),
    quality=(30, 95),
)
_SECOND = _Stage(
    sigma=(0.2, 1.5),
    scale=(0.3, 1.2),
    directions=(0.3, 0.4, 0.3),
    gaussian=(1, 25),
    poisson=(0.05, 2.5),
    quality=(30, 95),
)


def _kernels(stage: _Stage) -> str:
    """A sinc filter with probability 0.1, else a blur with one of six kinds of kernels."""
    size = _span(*stage.sigma)
    shortest, longest = stage.sides
    side = f"side={shortest}..{longest}"
    round_kernel = f"{size},{side}"
    turned_kernel = f"{size},across={size},angle=-180..180,{side}"
    choices = [(0.405, f"blur:gaussian,{round_kernel}"), (0.225, f"blur:gaussian,{turned_kernel}")]
    for name, (low, high) in (("gaussian", stage.beta_gaussian), ("plateau", stage.beta_plateau)):
        for weight, kernel in ((0.054, round_kernel), (0.0135, turned_kernel)):
            # the exponent is below 1 as often as above it
            choices.append((weight, f"blur:{name},{kernel},beta={_span(low, 1)}"))
            choices.append((weight, f"blur:{name},{kernel},beta={_span(1, high)}"))
    sides = range(shortest, longest + 1, 2)
    short_sides = range(shortest, _LONGEST_SHORT + 1, 2)
    share_of_short = len(short_sides) / len(sides)
    short = f"sinc:{_SHORT_CUTOFFS},size={_span(shortest, _LONGEST_SHORT)}"
    long = f"sinc:{_LONG_CUTOFFS},size={_span(_LONGEST_SHORT + 2, longest)}"
    choices += [(0.1 * share_of_short, short), (0.1 * (1 - share_of_short), long)]
    return _one_of(*choices)


def _scaled(stage: _Stage, unit: float, form: str) -> str:
    """A resize by a drawn scale in multiples of `unit`."""
    up, down, keep = stage.directions
    smallest, largest = stage.scale
    resize = f"resize:scale={{}},filter=any-torch,{_DOWN},{form}"
    grown = resize.format(_span(unit, largest * unit))
    shrunk = resize.format(_span(smallest * unit, unit))
    kept = "identity" if unit == 1 else resize.format(_number(unit))
    return _one_of((up, grown), (down, shrunk), (keep, kept))


def _noise(stage: _Stage) -> str:
    gaussian = f"gaussian:{_levels(*stage.gaussian)},gray=0.4"
    poisson = f"scaledpoisson:{_span(*stage.poisson)},gray=0.4"
    return f"oneof({gaussian} ; {poisson}) >> clamp"


def _two_stages(
    first: _Stage, second: _Stage, second_blur: float, factor: int, second_stage: float = 1
) -> str:
    """Real-ESRGAN's degradation without the rounding at its end, within a frame.

    second_blur, second_stage: the probabilities of the second blur and of the whole second stage.
    """
    unit = 1 / factor
    jpeg = f"clamp >> diffjpeg:{_span(*second.quality)}"
    shortest, longest = second.sides
    last_sinc = f"maybe:0.8(sinc:{_SHORT_CUTOFFS},size={shortest}..{longest})"
    back = f"resize:scale={_number(unit)},filter=any-torch,{_DOWN},of=frame >> {last_sinc}"
    again = [
        f"maybe:{_number(second_blur)}({_kernels(second)})",
        _scaled(second, unit, "of=frame"),
        _noise(second),
    ]
    repeated = " >> ".join(again)
    stages = [
        _kernels(first),
        _scaled(first, 1, "grid=scale"),
        _noise(first),
        f"diffjpeg:{_span(*first.quality)}",
        repeated if second_stage == 1 else f"maybe:{_number(second_stage)}({repeated})",
        f"oneof({back} >> {jpeg} ; {jpeg} >> {back})",
    ]
    return " >> ".join(stages)


def _real_esrgan(factor: int) -> Pipeline:
    chain = _two_stages(_FIRST, _SECOND, 0.8, factor)
    return Pipeline(
        f"usm >> frame({chain}) >> clamp >> quantize",
        f"Wang et al. 2021, Real-ESRGAN: feed_data and RealESRGANDataset, x{factor}plus",
        (
            PER_BATCH,
            GRAY_FIELD,
            CROPS,
            "The chain begins with the sharpening of the clean image, which is also the target of "
            "two of the losses there.",
        ),
    )


def _res_shift() -> Pipeline:
    first = replace(_FIRST, sides=(3, 19))
    second = replace(_SECOND, sides=(3, 13))
    chain = _two_stages(first, second, 0.8, 4, second_stage=0.5)
    return Pipeline(
        f"frame({chain}) >> clamp >> quantize",
        "Yue et al. 2023, ResShift: prepare_data and realsr_swinunet_realesrgan256.yaml",
        (
            PER_BATCH,
            GRAY_FIELD,
            "The crop of the clean image to a square, its reduction to 256 pixels, flips and the "
            "scaling to [-1, 1] are left to the loader.",
        ),
    )


def _stable_sr() -> Pipeline:
    first = replace(
        _FIRST,
        sigma=(0.2, 1.5),
        scale=(0.3, 1.5),
        gaussian=(1, 15),
        poisson=(0.05, 2),
        quality=(60, 95),
        beta_gaussian=(0.5, 2),
        beta_plateau=(1, 1.5),
    )
    second = replace(
        _SECOND,
        sigma=(0.2, 1),
        scale=(0.6, 1.2),
        gaussian=(1, 12),
        poisson=(0.05, 1),
        quality=(60, 100),
        beta_gaussian=(0.5, 2),
        beta_plateau=(1, 1.5),
    )
    chain = _two_stages(first, second, 0.5, 4)
    back = "clamp >> resize:scale=1,filter=torch-bicubic,of=frame >> clamp"
    return Pipeline(
        f"usm >> maybe:0.99(frame({chain} >> {back}))",
        "Wang et al. 2023, StableSR: get_input and v2-finetune_text_T_512.yaml",
        (
            PER_BATCH,
            GRAY_FIELD,
            CROPS,
            "A batch that contains NaN, which the authors replace by the clean one, does not "
            "occur. The scaling to [-1, 1] is left to the reader of the result.",
        ),
    )


# BSRGAN -------------------------------------------------------------------------------------------

_CORRELATED = f"correlated:{_number(25 / 255)}"  # whatever the drawn level is, as published


def _bsrgan_stages(factor: int) -> str:
    """The shuffled stages that shrink by a factor."""
    variance = 4 + factor
    sigma = _span(0, variance**0.5, power=2)
    turned = f"blur:gaussian,{sigma},across={sigma},angle=-180..0,side=7..25"
    blur = f"oneof({turned} ; blur:gaussian,{_span(0, 2 + 0.2 * factor)},side=7..25)"
    resize = f"resize:scale={_span(0.5 / factor, 1, power=-1)},filter=any-cv2,{_DOWN}"
    subsample = f"subsample:{factor},{_span(0.1, 0.6 * factor)}"
    shrink = f"{_one_of((0.75, resize), (0.25, subsample))} >> clamp"
    to_size = f"resize:scale={_number(1 / factor)},filter=any-cv2,{_DOWN},of=frame >> clamp"
    gaussian = f"gaussian:{_levels(2, 25)},gray=0.5"
    noise = f"{_one_of((0.8, gaussian), (0.2, _CORRELATED))} >> clamp"
    stages = [blur, blur, shrink, to_size, noise, "maybe:0.9(jpeg:30..95)"]
    return f"frame(shuffle:keep=3|4({' ; '.join(stages)}))"


def _bsrgan(source: str, departures: tuple[str, ...] = ()) -> Pipeline:
    halve_cv2 = f"resize:scale=0.5,filter=any-cv2,{_DOWN}"
    halve_matlab = f"resize:scale=0.5,filter=matlab-bicubic,{_DOWN}"
    halved = f"oneof({halve_cv2} ; {halve_matlab}) >> clamp >> {_bsrgan_stages(2)}"
    shuffled = _one_of((0.75, _bsrgan_stages(4)), (0.25, halved))
    return Pipeline(
        f"{shuffled} >> jpeg:30..95",
        source,
        (
            "Levels of Gaussian noise are drawn between 2 and 25; the authors draw integers.",
            "The sides of the result are those of the clean image / 4, rounded down. The authors "
            "crop the clean image to sides that 4 divides.",
            "The camera model, which is not published and never runs, is left out.",
            "Random crops are left to the loader.",
            *departures,
        ),
    )


# Blind faces --------------------------------------------------------------------------------------

_JITTER = (
    "maybe:0.3(shuffle(brightness:0.5..1.5 >> clamp ; contrast:0.5..1.5 >> clamp"
    " ; saturation:0..1.5 >> clamp ; hue:-0.1..0.1))"
)
_SHIFT = _levels(-20, 20)
_FACE_COLOR = (
    f" >> maybe:0.3(offset:{_SHIFT},{_SHIFT},{_SHIFT} >> clamp) >> maybe:0.01(gray) >> {_JITTER}"
)
_FACE_DEPARTURES = (
    "The flip is left to the loader, and so is the scaling to [-1, 1].",
    "Qualities are integers, as OpenCV reads them; the highest of a range has no chance.",
)


def _face(
    sigma: tuple[float, float],
    shrink: tuple[float, float],
    noise: tuple[float, float],
    quality: tuple[int, int],
    side: str = "41",
    color: str = "",
) -> str:
    """Blur, shrink, noise, JPEG, and back to the size."""
    size = _span(*sigma)
    turned = f"blur:gaussian,{size},across={size},angle=-180..180,side={side}"
    smallest, largest = shrink
    scale = _span(1 / largest, 1 / smallest, power=-1)
    lowest, highest = quality
    stages = [
        f"oneof(blur:gaussian,{size},side={side} ; {turned})",
        f"resize:scale={scale},filter=torch-bilinear,{_DOWN}",
        f"gaussian:{_levels(*noise)} >> clamp",
        f"jpeg:{lowest}..{highest - 1}",
        "resize:scale=1,filter=torch-bilinear,of=frame",
    ]
    return f"frame({' >> '.join(stages)}){color} >> clamp >> quantize"


_ENTRIES: dict[str, Pipeline] = {
    "real-esrgan-x4": _real_esrgan(4),
    "real-esrgan-x2": _real_esrgan(2),
    "stablesr": _stable_sr(),
    "resshift": _res_shift(),
    "bsrgan": _bsrgan("Zhang et al. 2021, BSRGAN: degradation_bsrgan with sf=4"),
    "swinir": _bsrgan(
        "Liang et al. 2021, SwinIR real-world x4: KAIR's train_swinir_sr_realworld_x4_*.json",
        ("KAIR crops the clean image before it is degraded.",),
    ),
    "gfpgan": Pipeline(
        _face((0.1, 10), (0.8, 8), (0, 20), (60, 100), color=_FACE_COLOR),
        "Wang et al. 2021, GFPGAN: FFHQDegradationDataset and train_gfpgan_v1.yml",
        _FACE_DEPARTURES,
    ),
    "codeformer": Pipeline(
        _face((1, 15), (4, 30), (0, 20), (30, 80)),
        "Zhou et al. 2022, CodeFormer: FFHQBlindDataset and CodeFormer_stage2.yml",
        (
            *_FACE_DEPARTURES,
            "Motion kernels, which are switched off in the published code, are left out.",
        ),
    ),
    "restoreformer": Pipeline(
        _face((0.1, 10), (0.8, 8), (0, 20), (60, 100), side="39..41"),
        "Wang et al. 2022, RestoreFormer: FFHQDegradationDataset and its configuration",
        _FACE_DEPARTURES,
    ),
    "vqfr": Pipeline(
        _face((0.1, 10), (0.8, 8), (0, 20), (60, 100)),
        "Gu et al. 2022, VQFR: its degradation dataset and the options of version 1",
        _FACE_DEPARTURES,
    ),
    "vqfr-v2": Pipeline(
        _face((1, 15), (1, 30), (0, 20), (30, 90)),
        "Gu et al. 2022, VQFR: its degradation dataset and the options of version 2",
        _FACE_DEPARTURES,
    ),
    "difface": Pipeline(
        _face((0.1, 15), (0.8, 32), (0, 20), (30, 100), color=" >> maybe:0.01(gray)"),
        "Yue & Loy 2022, DifFace: its blind-face dataset; ResShift's and StableSR's faces too",
        (*_FACE_DEPARTURES, "Where the result is made grey, the authors make the target grey too."),
    ),
}


class Pipelines(Presets):
    """Maps a pipeline's name to its operator; `about` says where it is from."""

    def about(self, name: str) -> Pipeline:
        """The text, the source and the departures of a pipeline."""
        self.check(name)
        return _ENTRIES[name]


for _name, _entry in _ENTRIES.items():
    ALIASES[_name] = _entry.text

pipelines = Pipelines(ALIASES, "pipeline", "real-esrgan-x4 or gfpgan")
