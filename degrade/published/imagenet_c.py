"""ImageNet-C: corruptions by which classifiers are tested, each at five severities."""

from __future__ import annotations

from collections.abc import Sequence

from .entry import DOWN, Pipeline

SEVERITIES = range(1, 6)
_TO_8_BITS = "clamp >> quantize:rounding=down"
_SOURCE = "Hendrycks & Dietterich 2019, ImageNet-C: {} in make_imagenet_c.py"
_SIZE = (
    "The authors' code is for images of 224 x 224 pixels, which their loader cuts out; lengths in "
    "pixels are the same for images of other sizes."
)
_JPEG = (
    "The published data set was then saved as JPEG with quality 85; append `>> jpeg:85` for that."
)
_NOISE = {
    "gaussian_noise": ("gaussian:{}", (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": ("poisson:{}", (60, 25, 12, 5, 3)),
    "impulse_noise": ("saltpepper:{},each=channel", (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": ("speckle:{}", (0.15, 0.2, 0.35, 0.45, 0.6)),
}
_BLUR = {
    "gaussian_blur": ("blur:gaussian,{},edge=nearest", (1, 2, 3, 4, 6)),
    "defocus_blur": ("blur:disc,{},across={}", ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": (
        "blur:gaussian,{0},edge=nearest >> quantize:rounding=down >> glass:{1},passes={2}"
        " >> blur:gaussian,{0},edge=nearest",
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "zoom_blur": (
        "zoomblur:{},step={}",
        ((1.11, 0.01), (1.15, 0.01), (1.2, 0.02), (1.24, 0.02), (1.3, 0.03)),
    ),
}
_WEATHER = {
    "fog": ("fog:{},decay={}", ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "snow": (
        "snow:{},{},zoom={},threshold={},length={},size={},keep={}",
        (
            (0.1, 0.3, 3, 0.5, 21, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 25, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 25, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 25, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 25, 12, 0.55),
        ),
    ),
    "spatter": (
        "spatter:{},{},{},{},{},{}",
        (
            ("water", 0.65, 0.3, 4, 0.69, 0.6),
            ("water", 0.65, 0.3, 3, 0.68, 0.6),
            ("water", 0.65, 0.3, 2, 0.68, 0.5),
            ("mud", 0.65, 0.3, 1, 0.65, 1.5),
            ("mud", 0.67, 0.4, 1, 0.65, 1.5),
        ),
    ),
}
_COLOR = {
    "brightness": ("hsv:value={}", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": ("contrast:{},mean=channel", (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": ("hsv:{},saturation={}", ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
}
# strength, size and jitter, of which the authors write each as a multiple of 244
_ELASTIC = (
    (488, 170.8, 24.4),
    (488, 19.52, 48.8),
    (12.2, 2.44, 4.88),
    (17.08, 2.44, 4.88),
    (29.28, 2.44, 4.88),
)
_ENDING = {  # of texts that do not end as the others do
    "motion_blur": (
        "blur:trail,{1},side={0},angle=135..225,edge=nearest"
        " >> quantize:65536 >> quantize:rounding=down",
        ((21, 3), (31, 5), (31, 8), (31, 12), (41, 15)),
    ),
    "pixelate": (
        "frame(resize:scale={},filter=box," + DOWN + " >> resize:scale=1,filter=box,of=frame)",
        (0.6, 0.5, 0.4, 0.3, 0.25),
    ),
    "jpeg_compression": ("jpeg:{}", (25, 18, 15, 10, 7)),
}
_DEPARTURES = {
    "elastic_transform": (
        "Positions are exact, as in OpenCV 5; warpAffine of earlier versions rounds them to 1/32 "
        "pixel. The three points lie about the centre also of an image that is no square."
    ),
    "glass_blur": (
        "The authors mean to swap two pixels; their code copies one of them, and so it does here."
    ),
    "spatter": "An image on which no drop falls stays as it is; the authors divide by 0 there.",
}
_FROST = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))


def _texts(template: str, constants: Sequence[object]) -> list[str]:
    """The text of each severity."""
    texts = []
    for values in constants:
        numbers = values if isinstance(values, tuple) else (values,)
        texts.append(template.format(*numbers))
    return texts


def _all_texts() -> dict[str, list[str]]:
    """The texts by the authors' names of the corruptions."""
    texts = {}
    for group in (_NOISE, _BLUR, _WEATHER, _COLOR):
        for name, (template, constants) in group.items():
            with_ending = f"{template} >> {_TO_8_BITS}"
            texts[name] = _texts(with_ending, constants)
    elastic = "elastic:{},{},jitter={} >> " + _TO_8_BITS
    texts["elastic_transform"] = _texts(elastic, _ELASTIC)
    for name, (template, constants) in _ENDING.items():
        texts[name] = _texts(template, constants)
    return texts


def _pipelines() -> dict[str, Pipeline]:
    pipelines = {}
    for corruption, texts in _all_texts().items():
        departures = [_SIZE, _JPEG]
        if corruption in _DEPARTURES:
            departures.append(_DEPARTURES[corruption])
        source = _SOURCE.format(corruption)
        for severity, text in zip(SEVERITIES, texts, strict=True):
            name = f"imagenet-c/{corruption}/{severity}"
            pipelines[name] = Pipeline(text, source, tuple(departures))
    return pipelines


PIPELINES = _pipelines()
# The names without a pipeline, and what to write instead
WITHOUT_FILES: dict[str, str] = {}
for _severity, (_keep, _weight) in zip(SEVERITIES, _FROST, strict=True):
    WITHOUT_FILES[f"imagenet-c/frost/{_severity}"] = (
        "needs the authors' photographs of frost (github.com/hendrycks/robustness); with one of "
        f"them, write frost:FILE,{_keep},{_weight} >> {_TO_8_BITS}"
    )
