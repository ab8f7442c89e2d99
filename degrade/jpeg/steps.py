"""The step sizes of a JPEG's quantiser: from a quality or from tables, for each image of a batch.

The quantiser divides a DCT coefficient by its step. All roundings of a quality and of tables are
straight through.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..images import check_image
from ..params import Integers, Range, check_numbers, show
from ..surrogate import declare
from ..transforms import values_are_readable
from .header import LARGEST, STANDARD, Tables, check_tables, quality_tables
from .layout import YCBCR, check_channels, check_sampling, sampling_with

Quality = int | Sequence[int] | Tensor | None
GivenTables = Sequence[Sequence[int]] | Tensor | None


def check_arguments(
    x: Tensor, quality: Quality, subsampling: str | int, tables: GivenTables, colour: str = YCBCR
) -> tuple[Tensor | None, Tables | Tensor | None, str]:
    """(quality, tables, name of the sampling) of a function on images x.

    Either quality or tables is None. The numbers in tensors are checked by `quantiser_tables`.
    """
    check_image(x)
    sampling = sampling_with(colour, check_sampling(subsampling))
    check_channels(colour, x.shape[1])
    if quality is not None and tables is not None:
        raise ValueError("quality and tables exclude each other; give one of them")
    if tables is not None:
        checked_tables = tables if isinstance(tables, Tensor) else check_tables(tables)
        return None, checked_tables, sampling
    checked_quality = quality if isinstance(quality, Tensor) else _qualities(quality)
    return checked_quality, None, sampling


def _qualities(quality: int | Sequence[int] | None) -> Tensor:
    """The given qualities as a tensor on the CPU; 75 for None."""
    given = 75 if quality is None else quality
    plain = check_numbers("quality", given, 1, 100, integer=True)
    if isinstance(plain, Range):
        raise ValueError(f"quality={quality} is drawn by an operator; write JPEG(quality)(x)")
    return torch.tensor(plain, device="cpu")


def quantiser_steps(
    quality: Integers | Tensor | None,
    tables: Sequence[Sequence[int]] | Tensor | None,
    x: Tensor,
    base: Tensor = STANDARD,
) -> Tensor:
    """The quantiser's step sizes [B, C, 8, 8], one table for each component of x."""
    by_table = quantiser_tables(quality, tables, x, base)
    return steps_of_components(by_table, x.shape[1])


def quantiser_tables(
    quality: Integers | Tensor | None,
    tables: Sequence[Sequence[int]] | Tensor | None,
    x: Tensor,
    base: Tensor = STANDARD,
) -> Tensor:
    """The tables [B, n, 8, 8] of a quality, or those given, in x's type; n is 1 to 4.

    base: the encoder's tables that a quality scales.
    """
    batch = x.shape[0]
    if tables is None:
        name = "quality"
        qualities = _rounded(name, quality, 100, x).reshape(-1)
        by_image = quality_tables(qualities, base)
    else:
        name = "tables"
        entries = _rounded(name, tables, LARGEST, x)
        by_image = _as_tables(entries)
    count = by_image.shape[0]
    if count not in (1, batch):
        words = "give one, or one per image"
        if count == 2 and name == "quality":
            low, high = qualities.detach().tolist()
            words += f"; a random quality is a range, jpeg:{low:g}..{high:g}"
        raise ValueError(f"{name} has {count} values for {batch} images; {words}")
    return by_image.expand(batch, -1, -1, -1)


def steps_of_components(tables: Tensor, channels: int) -> Tensor:
    """Of tables [B, n, 8, 8], the table of each component [B, C, 8, 8]."""
    missing = channels - tables.shape[1]
    if missing <= 0:
        return tables[:, :channels]
    last = tables[:, -1:].expand(-1, missing, -1, -1)
    return torch.cat([tables, last], 1)


def table_indices(count: int, channels: int) -> list[int]:
    """Which of `count` tables each component uses: one after the other, and the last for more."""
    last = count - 1
    return [min(number, last) for number in range(channels)]


def _as_tables(steps: Tensor) -> Tensor:
    """Tables of any accepted shape as [1 or B, n, 8, 8]."""
    is_flat = steps.ndim < 4
    if is_flat and steps.numel() in (64, 128, 192, 256):
        return steps.reshape(1, -1, 8, 8)
    shape = list(steps.shape)
    if len(shape) != 4 or shape[1] not in (1, 2, 3, 4) or shape[2:] != [8, 8]:
        raise ValueError(
            f"tables have shape {shape}; give [n, 8, 8] or [B, n, 8, 8], n from 1 to 4"
        )
    return steps


def _rounded(name: str, given: object, high: int, x: Tensor) -> Tensor:
    """A parameter's values as integers from 1 to `high`, of x's type, straight through."""
    values = given if isinstance(given, Tensor) else torch.tensor(given, device="cpu")
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{name} is a tensor of {values.dtype}; give real numbers")
    values = values.to(x.dtype)
    integers = values.detach().round()
    if values_are_readable(integers):
        not_below = integers >= 1
        not_above = integers <= high
        in_range = not_below & not_above
        if not in_range.all():
            quoted = show(values.tolist())
            raise ValueError(f"{name}={quoted} must be from 1 to {high}")
    return declare(values, integers).to(x.device)
