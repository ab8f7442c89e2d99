"""The degradations of blind face restoration: blur, shrink, noise, JPEG, and back to the size."""

from __future__ import annotations

from .entry import DOWN, Pipeline, levels, span

_JITTER = (
    "maybe:0.3(shuffle(brightness:0.5..1.5 >> clamp ; contrast:0.5..1.5 >> clamp"
    " ; saturation:0..1.5 >> clamp ; hue:-0.1..0.1))"
)
_SHIFT = levels(-20, 20)
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
    size = span(*sigma)
    turned = f"blur:gaussian,{size},across={size},angle=-180..180,side={side}"
    smallest, largest = shrink
    scale = span(1 / largest, 1 / smallest, power=-1)
    lowest, highest = quality
    stages = [
        f"oneof(blur:gaussian,{size},side={side} ; {turned})",
        f"resize:scale={scale},filter=torch-bilinear,{DOWN}",
        f"gaussian:{levels(*noise)} >> clamp",
        f"jpeg:{lowest}..{highest - 1}",
        "resize:scale=1,filter=torch-bilinear,of=frame",
    ]
    return f"frame({' >> '.join(stages)}){color} >> clamp >> quantize"


PIPELINES = {
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
    "diffbir-v1": Pipeline(
        _face((0.1, 12), (1, 12), (0, 15), (30, 100)),
        "Lin et al. 2024, DiffBIR: CodeformerDataset and train_stage1.yaml, for all photos",
        _FACE_DEPARTURES,
    ),
    "difface": Pipeline(
        _face((0.1, 15), (0.8, 32), (0, 20), (30, 100), color=" >> maybe:0.01(gray)"),
        "Yue & Loy 2022, DifFace: its blind-face dataset; ResShift's and StableSR's faces too",
        (*_FACE_DEPARTURES, "Where the result is made grey, the authors make the target grey too."),
    ),
}
