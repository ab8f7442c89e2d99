"""Real-ESRGAN's degradation, and those of restorers that took it over with other constants."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .entry import CROPS, DOWN, GRAY_FIELD, PER_BATCH, Pipeline, levels, number, one_of, span

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
    only_gaussian: bool = False  # no other kernels than Gaussian ones


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
    size = span(*stage.sigma)
    shortest, longest = stage.sides
    side = f"side={shortest}..{longest}"
    round_kernel = f"{size},{side}"
    turned_kernel = f"{size},across={size},angle=-180..180,{side}"
    if stage.only_gaussian:
        return one_of(
            (0.65, f"blur:gaussian,{round_kernel}"), (0.35, f"blur:gaussian,{turned_kernel}")
        )
    choices = [(0.405, f"blur:gaussian,{round_kernel}"), (0.225, f"blur:gaussian,{turned_kernel}")]
    for name, (low, high) in (("gaussian", stage.beta_gaussian), ("plateau", stage.beta_plateau)):
        for weight, kernel in ((0.054, round_kernel), (0.0135, turned_kernel)):
            # the exponent is below 1 as often as above it
            choices.append((weight, f"blur:{name},{kernel},beta={span(low, 1)}"))
            choices.append((weight, f"blur:{name},{kernel},beta={span(1, high)}"))
    sides = range(shortest, longest + 1, 2)
    short_sides = range(shortest, _LONGEST_SHORT + 1, 2)
    share_of_short = len(short_sides) / len(sides)
    short = f"sinc:{_SHORT_CUTOFFS},size={span(shortest, _LONGEST_SHORT)}"
    long = f"sinc:{_LONG_CUTOFFS},size={span(_LONGEST_SHORT + 2, longest)}"
    choices += [(0.1 * share_of_short, short), (0.1 * (1 - share_of_short), long)]
    return one_of(*choices)


def _scaled(stage: _Stage, unit: float, form: str) -> str:
    """A resize by a drawn scale in multiples of `unit`."""
    up, down, keep = stage.directions
    smallest, largest = stage.scale
    resize = f"resize:scale={{}},filter=any-torch,{DOWN},{form}"
    grown = resize.format(span(unit, largest * unit))
    shrunk = resize.format(span(smallest * unit, unit))
    kept = "identity" if unit == 1 else resize.format(number(unit))
    return one_of((up, grown), (down, shrunk), (keep, kept))


def _noise(stage: _Stage) -> str:
    gaussian = f"gaussian:{levels(*stage.gaussian)},gray=0.4"
    poisson = f"scaledpoisson:{span(*stage.poisson)},gray=0.4"
    return f"oneof({gaussian} ; {poisson}) >> clamp"


def _two_stages(
    first: _Stage, second: _Stage, second_blur: float, factor: int, second_stage: float = 1
) -> str:
    """Real-ESRGAN's degradation without the rounding at its end, within a frame.

    second_blur, second_stage: the probabilities of the second blur and of the whole second stage.
    """
    unit = 1 / factor
    jpeg = f"clamp >> diffjpeg:{span(*second.quality)}"
    shortest, longest = second.sides
    last_sinc = f"maybe:0.8(sinc:{_SHORT_CUTOFFS},size={shortest}..{longest})"
    back = f"resize:scale={number(unit)},filter=any-torch,{DOWN},of=frame >> {last_sinc}"
    again = [
        f"maybe:{number(second_blur)}({_kernels(second)})",
        _scaled(second, unit, "of=frame"),
        _noise(second),
    ]
    repeated = " >> ".join(again)
    stages = [
        _kernels(first),
        _scaled(first, 1, "grid=scale"),
        _noise(first),
        f"diffjpeg:{span(*first.quality)}",
        repeated if second_stage == 1 else f"maybe:{number(second_stage)}({repeated})",
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


def _seesr_of_dape() -> Pipeline:
    first = replace(_FIRST, scale=(0.3, 1.5), gaussian=(1, 15), poisson=(0.05, 2), quality=(60, 95))
    second = replace(
        _SECOND, scale=(0.6, 1.2), gaussian=(1, 12), poisson=(0.05, 1), quality=(60, 100)
    )
    chain = _two_stages(first, second, 0.5, 4)
    return Pipeline(
        f"frame({chain} >> resize:scale=1,filter=any-torch,of=frame) >> clamp >> quantize",
        "Wu et al. 2024, SeeSR: degrade_process and params_realesrgan.yml, with which DAPE is "
        "trained",
        (GRAY_FIELD, "The flip is left to the loader."),
    )


def _diffbir() -> Pipeline:
    chain = _two_stages(_FIRST, _SECOND, 0.8, 4)
    back = "resize:scale=1,filter=torch-bicubic,of=frame"
    return Pipeline(
        f"usm >> frame({chain} >> {back}) >> clamp >> quantize",
        "Lin et al. 2024, DiffBIR v2.1: RealESRGANBatchTransform and train_stage2_v2.1.yaml",
        (
            PER_BATCH,
            GRAY_FIELD,
            CROPS,
            "The sides of the second resize are those of the image / 4 times the scale; the "
            "authors round the quotient before they multiply, which makes no difference for their "
            "512 pixels.",
        ),
    )


def _one_stage(stage: _Stage, factor: int) -> str:
    """DASR's weak and standard degradations: the first stage, and back to the size of the low one.

    They have neither a second stage nor a sinc filter.
    """
    return " >> ".join(
        [
            _kernels(stage),
            _scaled(stage, 1, "grid=scale"),
            _noise(stage),
            f"diffjpeg:{span(*stage.quality)}",
            f"resize:scale={number(1 / factor)},filter=any-torch,{DOWN},of=frame",
        ]
    )


def _dasr() -> Pipeline:
    first = replace(_FIRST, sides=(9, 21), only_gaussian=True)
    second = replace(_SECOND, sides=(9, 21), only_gaussian=True)
    weak = replace(
        first,
        sigma=(0.2, 0.8),
        scale=(0.85, 1.2),
        directions=(0.1, 0.2, 0.7),
        gaussian=(1, 10),
        poisson=(0.05, 0.5),
        quality=(90, 95),
    )
    standard = replace(
        first,
        sigma=(0.2, 1.5),
        scale=(0.5, 1.2),
        directions=(0.3, 0.4, 0.3),
        gaussian=(1, 20),
        poisson=(0.05, 1.5),
        quality=(50, 95),
    )
    severe = _two_stages(first, second, 0.8, 4)
    degrees = one_of((0.3, _one_stage(weak, 4)), (0.3, _one_stage(standard, 4)), (0.4, severe))
    return Pipeline(
        f"usm >> frame({degrees}) >> clamp >> quantize",
        "Liang et al. 2022, DASR: feed_data of DASRModel and train_DASR.yml",
        (PER_BATCH, "The degree, too, is drawn for each image.", GRAY_FIELD, CROPS),
    )


def _seesr() -> Pipeline:
    return replace(
        _real_esrgan(4),
        source="Wu et al. 2024, SeeSR: make_paired_data.py, the same chain as Real-ESRGAN's",
    )


PIPELINES = {
    "real-esrgan-x4": _real_esrgan(4),
    "real-esrgan-x2": _real_esrgan(2),
    "stablesr": _stable_sr(),
    "resshift": _res_shift(),
    "seesr": _seesr(),
    "seesr-dape": _seesr_of_dape(),
    "diffbir": _diffbir(),
    "dasr": _dasr(),
}
