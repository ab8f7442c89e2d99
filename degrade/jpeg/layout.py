"""How the channels of an image become the components of a JPEG: their colours and their sampling.

A component has sampling factors, as in the header of a file: how many of its blocks an MCU holds,
across and down. Components with smaller factors have fewer samples. Source: ITU-T T.81, A.1.1 and
A.2; the colours are those that libjpeg and Pillow know.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..kinds import OptionKind
from ..params import check_choice, show
from .sampling import Sampling, divide_up

YCBCR, RGB, CMYK, YCCK = "ycbcr", "rgb", "cmyk", "ycck"
COLOURS = (YCBCR, RGB, CMYK, YCCK)
FOUR_CHANNELS = (CMYK, YCCK)
# How many pixels share a chroma sample: across, down. The last five have no name of the form a:b:c;
# theirs are the sampling factors of luma, where those of chroma are 1x1, as cjpeg takes them.
SAMPLINGS = {
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:2:0": (2, 2),
    "4:4:0": (1, 2),
    "4:1:1": (4, 1),
    "4:1:0": (4, 2),
    "4:4:1": (1, 4),
    "3x1": (3, 1),
    "3x2": (3, 2),
    "1x3": (1, 3),
    "2x3": (2, 3),
    "2x4": (2, 4),
}
# Samplings with a name whose chroma components differ
_UNEQUAL = {"4:2:1": "4x1:1x1:2x1"}
_DEFAULT, _FULL = "4:2:0", "4:4:4"
LARGEST_SIDE = 65500  # pixels of a file; libjpeg's limit
_MOST_BLOCKS = 10  # of an MCU, which libjpeg decodes at once
_FACTORS = re.compile(r"[1-4]x[1-4](:[1-4]x[1-4]){2,3}")


class Group(NamedTuple):
    """Neighbouring components with the same sampling: one stack of planes.

    sampling: how many pixels share a sample, across and down. factors: how many blocks of each
    component an MCU holds. is_luma: whether the components are no chroma. rows_together: to a
    multiple of how many rows the image is continued before it is reduced.
    """

    components: slice
    sampling: Sampling
    factors: Sampling
    is_luma: bool
    rows_together: int


class Layout(NamedTuple):
    """The components of a JPEG.

    samplings: how many pixels share a sample of each component: across, down. mcu: how many pixels
    an MCU has for each of the 8×8 of a block: across, down. mixes: whether the first three channels
    are converted to luma, Cb and Cr. inverted: how many of the last channels a file stores as
    255 - value.
    """

    samplings: tuple[Sampling, ...]
    mcu: Sampling = (1, 1)
    mixes: bool = False
    inverted: int = 0

    def factors(self, component: int) -> Sampling:
        """The sampling factors of a component, as in the header of a file: across, down."""
        across, down = self.samplings[component]
        return self.mcu[0] // across, self.mcu[1] // down

    def is_luma(self, component: int) -> bool:
        """Whether a component is no chroma."""
        return not self.mixes or component not in (1, 2)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The components in stacks, chroma apart."""
        return _groups(self)

    def blocks(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows and columns of blocks of each component of an image of this height and width."""
        height, width = size
        counts = []
        for across, down in self.samplings:
            counts.append((divide_up(height, 8 * down), divide_up(width, 8 * across)))
        return counts

    def parts(self) -> list[tuple[slice, Layout]]:
        """The channels that share no component, each with a layout of its own."""
        count = len(self.samplings)
        mixed = 3 if self.mixes else 0
        parts = []
        if mixed > 0:
            parts.append((slice(0, mixed), self._replace(samplings=self.samplings[:3], inverted=0)))
        for number in range(mixed, count):
            inverted = int(number >= count - self.inverted)
            samplings = self.samplings[number : number + 1]
            parts.append((slice(number, number + 1), Layout(samplings, self.mcu, False, inverted)))
        return parts


@functools.lru_cache(maxsize=64)
def _groups(layout: Layout) -> tuple[Group, ...]:
    groups: list[Group] = []
    begin = 0
    count = len(layout.samplings)
    for number in range(count):
        following = number + 1
        goes_on = (
            following < count
            and layout.samplings[following] == layout.samplings[number]
            and layout.is_luma(following) == layout.is_luma(number)
        )
        if goes_on:
            continue
        sampling = layout.samplings[number]
        rows_together = layout.mcu[1] if sampling[1] > 1 else 1
        components = slice(begin, following)
        factors = layout.factors(number)
        group = Group(components, sampling, factors, layout.is_luma(number), rows_together)
        groups.append(group)
        begin = following
    return tuple(groups)


GREY = Layout(((1, 1),))


def layout_of(colour: str, subsampling: str, channels: int) -> Layout:
    """The layout of images with so many channels. subsampling: as `sampling_with` returns it."""
    if channels == 1:
        return GREY
    mixes = colour in (YCBCR, YCCK)
    inverted = {CMYK: 4, YCCK: 1}.get(colour, 0)
    if subsampling in SAMPLINGS:
        chroma = SAMPLINGS[subsampling]
        samplings = [(1, 1), chroma, chroma, (1, 1)]
        return Layout(tuple(samplings[:channels]), chroma, mixes, inverted)
    factors = _parsed(_UNEQUAL.get(subsampling, subsampling))
    return Layout(_samplings(factors), _largest(factors), mixes, inverted)


def check_channels(colour: str, channels: int) -> None:
    """Raise ValueError unless a JPEG of this colour can hold images with so many channels."""
    has_black = colour in FOUR_CHANNELS
    if has_black and channels != 4:
        raise ValueError(
            f"x has {channels} channels, and a JPEG of colour={colour} has 4 (CMYK); picture files "
            f"are read as RGB or grey: leave colour={colour} out for them"
        )
    if not has_black and channels not in (1, 3):
        raise ValueError(
            f"x has {channels} channels; a JPEG has 1 (grayscale) or 3 (RGB), "
            "and 4 with colour=cmyk or colour=ycck"
        )


def sampling_name(given: object) -> object:
    """The name of a sampling: 420 and "420" mean "4:2:0", and "2x1,1x1,1x2" "2x1:1x1:1x2".

    Other values are returned unchanged.
    """
    if isinstance(given, str) and "x" in given:
        return given.replace(",", ":")
    name = ":".join(str(given))
    return name if name in SAMPLINGS or name in _UNEQUAL else given


@dataclass(frozen=True, kw_only=True)
class SamplingKind(OptionKind):
    """A sampling by its name, or the factors of all components as text."""

    names: tuple[str, ...] = (*SAMPLINGS, *_UNEQUAL)

    def check(self, name: str, given: object) -> object:
        return check_sampling(given)

    @property
    def text(self) -> str:
        return f"{super().text}, or the factors of each component, such as 2x2:1x2:1x1"


def check_sampling(given: object) -> str:
    """A sampling by its name, or the factors of all components as text."""
    name = sampling_name(given)
    if isinstance(name, str):
        if name in SAMPLINGS or name in _UNEQUAL:
            return name
        if _FACTORS.fullmatch(name) is not None:
            _check_factors(name)
            return name
    raise ValueError(
        f"subsampling={show(given)} must be one of {', '.join([*SAMPLINGS, *_UNEQUAL])}, "
        "or the factors of each component, such as 2x2:1x2:1x1"
    )


def _check_factors(text: str) -> None:
    """Raise ValueError for sampling factors that libjpeg does not decode."""
    factors = _parsed(text)
    most_across, most_down = _largest(factors)
    blocks = 0
    for across, down in factors:
        blocks += across * down
        if most_across % across != 0 or most_down % down != 0:
            raise ValueError(
                f"subsampling={text} has {across}x{down}, which does not divide "
                f"{most_across}x{most_down}; every factor must divide the largest"
            )
    if blocks > _MOST_BLOCKS:
        raise ValueError(
            f"subsampling={text} has {blocks} blocks in an MCU; give at most {_MOST_BLOCKS}"
        )


def sampling_with(colour: str, given: str) -> str:
    """The name of the sampling of a JPEG that stores colours so.

    RGB and CMYK have no chroma: the default, "4:2:0", is of no consequence there and means "4:4:4".
    Their components have fewer samples only by factors. Factors that have a name get it.
    """
    check_choice("colour", colour, COLOURS)
    has_chroma = colour in (YCBCR, YCCK)
    if given in SAMPLINGS:
        if has_chroma:
            return given
        if given not in (_DEFAULT, _FULL):
            across, down = SAMPLINGS[given]
            ones = ["1x1"] * (2 if colour == RGB else 3)
            example = ":".join([f"{across}x{down}", *ones])
            raise ValueError(
                f"subsampling={given} has no chroma to sample in colour={colour}; use 4:4:4, or "
                f"factors such as {example}"
            )
        return _FULL
    factors = _parsed(_UNEQUAL.get(given, given))
    count = 4 if colour in FOUR_CHANNELS else 3
    if len(factors) != count:
        raise ValueError(
            f"subsampling={given} has {len(factors)} components, but colour={colour} has {count}"
        )
    return sampling_of_factors(factors, has_chroma)


def sampling_of_factors(factors: Sequence[Sampling], has_chroma: bool) -> str:
    """The name of the sampling with these factors; only their ratios count."""
    samplings = _samplings(factors)
    for name, chroma in SAMPLINGS.items():
        named = ((1, 1), chroma, chroma, (1, 1))
        is_allowed = has_chroma or name == _FULL
        if is_allowed and samplings == named[: len(samplings)]:
            return name
    across = math.lcm(*[sampling[0] for sampling in samplings])
    down = math.lcm(*[sampling[1] for sampling in samplings])
    texts = [f"{across // sampling[0]}x{down // sampling[1]}" for sampling in samplings]
    text = ":".join(texts)
    for name, factors_of_name in _UNEQUAL.items():
        if has_chroma and factors_of_name == text:
            return name
    return text


def _parsed(text: str) -> list[Sampling]:
    """The factors in a text such as "2x2:1x2:1x1"."""
    factors = []
    for part in text.split(":"):
        across, down = part.split("x")
        factors.append((int(across), int(down)))
    return factors


def _largest(factors: Sequence[Sampling]) -> Sampling:
    """The largest factors of any component: across, down."""
    most_across = max(across for across, _ in factors)
    most_down = max(down for _, down in factors)
    return most_across, most_down


def _samplings(factors: Sequence[Sampling]) -> tuple[Sampling, ...]:
    """How many pixels share a sample of each component with these factors."""
    most_across, most_down = _largest(factors)
    samplings = []
    for across, down in factors:
        samplings.append((most_across // across, most_down // down))
    return tuple(samplings)


def base_tables(colour: str, base: Tensor) -> Tensor:
    """An encoder's tables of quality 50 for a JPEG of this colour, given those of luma and chroma.

    RGB and CMYK have that of luma for all components, and YCCK has it for black.
    """
    if colour in (RGB, CMYK):
        return base[:1]
    if colour == YCCK:
        return base[[0, 1, 1, 0]]
    return base
