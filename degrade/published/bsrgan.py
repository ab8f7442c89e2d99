"""BSRGAN's degradation, and those of restorers that took it over."""

from __future__ import annotations

from .entry import DOWN, Pipeline, levels, number, one_of, span

_DEPARTURES = (
    "Levels of Gaussian noise are drawn between 2 and 25; the authors draw integers.",
    "The sides of the result are those of the clean image / 4, rounded down. The authors crop the "
    "clean image to sides that 4 divides.",
    "The camera model, which is not published and never runs, is left out.",
    "Random crops are left to the loader.",
)
_CORRELATED = f"correlated:{number(25 / 255)}"  # whatever the drawn level is, as published


def _blur(factor: int) -> str:
    variance = 4 + factor
    sigma = span(0, variance**0.5, power=2)
    turned = f"blur:gaussian,{sigma},across={sigma},angle=-180..0,side=7..25"
    return f"oneof({turned} ; blur:gaussian,{span(0, 2 + 0.2 * factor)},side=7..25)"


def _noise() -> str:
    gaussian = f"gaussian:{levels(2, 25)},gray=0.5"
    return f"{one_of((0.8, gaussian), (0.2, _CORRELATED))} >> clamp"


def _bsrgan_stages(factor: int) -> str:
    """The shuffled stages that shrink by a factor."""
    blur = _blur(factor)
    resize = f"resize:scale={span(0.5 / factor, 1, power=-1)},filter=any-cv2,{DOWN}"
    subsample = f"subsample:{factor},{span(0.1, 0.6 * factor)}"
    shrink = f"{one_of((0.75, resize), (0.25, subsample))} >> clamp"
    to_size = f"resize:scale={number(1 / factor)},filter=any-cv2,{DOWN},of=frame >> clamp"
    noise = _noise()
    stages = [blur, blur, shrink, to_size, noise, "maybe:0.9(jpeg:30..95)"]
    return f"frame(shuffle:keep=3|4({' ; '.join(stages)}))"


def _bsrgan(source: str, departures: tuple[str, ...] = ()) -> Pipeline:
    halve_cv2 = f"resize:scale=0.5,filter=any-cv2,{DOWN}"
    halve_matlab = f"resize:scale=0.5,filter=matlab-bicubic,{DOWN}"
    halved = f"oneof({halve_cv2} ; {halve_matlab}) >> clamp >> {_bsrgan_stages(2)}"
    shuffled = one_of((0.75, _bsrgan_stages(4)), (0.25, halved))
    return Pipeline(f"{shuffled} >> jpeg:30..95", source, (*_DEPARTURES, *departures))


def _bsrgan_plus() -> Pipeline:
    factor = 4
    resize = f"resize:scale={{}},filter=any-cv2,{DOWN}"
    grown = resize.format(span(1, 2))
    shrunk = resize.format(span(0.5 / factor, 1))
    scaled = f"{one_of((0.2, grown), (0.7, shrunk), (0.1, 'identity'))} >> clamp"
    photons = "clamp >> quantize >> scaledpoisson:1,gray=0.5,peak=100..10000^0 >> clamp"
    speckle = f"speckle:{levels(2, 25)},gray=0.5"
    multiplied = one_of((0.8, speckle), (0.2, f"{_CORRELATED},form=multiplied"))
    noises = [_noise(), f"maybe:0.1({photons})", f"maybe:0.1(clamp >> {multiplied} >> clamp)"]
    blurred = [_blur(factor), scaled]
    jpeg = "jpeg:30..95"
    any_order = " ; ".join([*blurred, *noises, jpeg, *blurred, *noises])
    half = f"{' >> '.join(blurred)} >> shuffle({' ; '.join(noises)})"
    orders = f"oneof(shuffle({any_order}) ; {half} >> {jpeg} >> {half})"
    back = f"resize:scale={number(1 / factor)},filter=any-cv2,{DOWN},of=frame"
    return Pipeline(
        f"usm >> frame({orders} >> {back}) >> {jpeg}",
        "Zhang et al. 2021, BSRGAN: degradation_bsrgan_plus with sf=4 and shuffle_prob=0.5",
        (
            *_DEPARTURES,
            "The luma of grey photon noise is 0.2989 R + 0.587 G + 0.114 B; the authors have 0.299 "
            "R.",
            "The chain begins with the sharpening of the clean image, which is also the target.",
        ),
    )


PIPELINES = {
    "bsrgan-plus": _bsrgan_plus(),
    "bsrgan": _bsrgan("Zhang et al. 2021, BSRGAN: degradation_bsrgan with sf=4"),
    "swinir": _bsrgan(
        "Liang et al. 2021, SwinIR real-world x4: KAIR's train_swinir_sr_realworld_x4_*.json",
        ("KAIR crops the clean image before it is degraded.",),
    ),
}
