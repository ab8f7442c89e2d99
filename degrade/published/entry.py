"""What a published pipeline is, and the pieces of text that pipelines share."""

from __future__ import annotations

from dataclasses import dataclass

PER_BATCH = (
    "Scales, filters, kinds of noise and the order of the last stages are drawn for each image; "
    "the authors draw them once for a batch and mend this with a pool of pairs."
)
GRAY_FIELD = (
    "Grey noise is drawn for each image; the authors' code has one field of grey Gaussian noise "
    "for a batch."
)
CROPS = "Flips, padding and crops of the clean image are left to the loader."
DOWN = "rounding=floor"  # of the sides of a resized image


@dataclass(frozen=True)
class Pipeline:
    """A published degradation: its text, where it is from, and what differs from that code."""

    text: str
    source: str
    departures: tuple[str, ...] = ()


def number(value: float) -> str:
    return f"{value:.6g}"


def span(low: float, high: float, power: int = 1) -> str:
    """The text of a range; of one number if both ends are equal."""
    if low == high:
        return number(low)
    text = f"{number(low)}..{number(high)}"
    return text if power == 1 else f"{text}^{power}"


def levels(low: float, high: float) -> str:
    """A range of levels of 255 in units of [0, 1]."""
    return span(low / 255, high / 255)


def one_of(*choices: tuple[float, str]) -> str:
    """The text that draws one of several by their weights."""
    weights = "|".join(number(weight) for weight, _ in choices)
    texts = " ; ".join(text for _, text in choices)
    return f"oneof:weights={weights}({texts})"
