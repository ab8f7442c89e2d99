"""BSRGAN's degradation, and those of restorers that took it over."""

from __future__ import annotations

from .entry import DOWN, Pipeline, levels, number, one_of, span

_CORRELATED = f"correlated:{number(25 / 255)}"  # whatever the drawn level is, as published


def _bsrgan_stages(factor: int) -> str:
    """The shuffled stages that shrink by a factor."""
    variance = 4 + factor
    sigma = span(0, variance**0.5, power=2)
    turned = f"blur:gaussian,{sigma},across={sigma},angle=-180..0,side=7..25"
    blur = f"oneof({turned} ; blur:gaussian,{span(0, 2 + 0.2 * factor)},side=7..25)"
    resize = f"resize:scale={span(0.5 / factor, 1, power=-1)},filter=any-cv2,{DOWN}"
    subsample = f"subsample:{factor},{span(0.1, 0.6 * factor)}"
    shrink = f"{one_of((0.75, resize), (0.25, subsample))} >> clamp"
    to_size = f"resize:scale={number(1 / factor)},filter=any-cv2,{DOWN},of=frame >> clamp"
    gaussian = f"gaussian:{levels(2, 25)},gray=0.5"
    noise = f"{one_of((0.8, gaussian), (0.2, _CORRELATED))} >> clamp"
    stages = [blur, blur, shrink, to_size, noise, "maybe:0.9(jpeg:30..95)"]
    return f"frame(shuffle:keep=3|4({' ; '.join(stages)}))"


def _bsrgan(source: str, departures: tuple[str, ...] = ()) -> Pipeline:
    halve_cv2 = f"resize:scale=0.5,filter=any-cv2,{DOWN}"
    halve_matlab = f"resize:scale=0.5,filter=matlab-bicubic,{DOWN}"
    halved = f"oneof({halve_cv2} ; {halve_matlab}) >> clamp >> {_bsrgan_stages(2)}"
    shuffled = one_of((0.75, _bsrgan_stages(4)), (0.25, halved))
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


PIPELINES = {
    "bsrgan": _bsrgan("Zhang et al. 2021, BSRGAN: degradation_bsrgan with sf=4"),
    "swinir": _bsrgan(
        "Liang et al. 2021, SwinIR real-world x4: KAIR's train_swinir_sr_realworld_x4_*.json",
        ("KAIR crops the clean image before it is degraded.",),
    ),
}
