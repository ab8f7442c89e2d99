"""The size of a JPEG file, with a gradient with respect to pixels, quality and tables.

The gradient is that of an estimate of a baseline file's size. The estimate is smooth in the
coefficients X = F/8q before rounding: it replaces "K is not zero" by a probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..surrogate import BackwardPass, declare, outside_transforms, refuse_second_order
from ..transforms import (
    NO_FORWARD_MODE,
    asks_for_forward_mode,
    fold_all,
    is_transformed,
    without_autocast,
)
from .codec import exact_levels, step_plane
from .coefficients import jpeg_bytes
from .header import ZIGZAG
from .layout import YCBCR, Layout, layout_of
from .sampling import Sampling
from .stages import DCT, forward_dct, synthesise, to_planes, to_planes_t
from .steps import check_arguments, quantiser_tables, steps_of_components

_SURELY_ZERO, _SURELY_NONZERO = 0.25, 0.75  # |X| whose K is taken for certain; true is 1/2
_LARGEST_PROBABILITY = 1 - 1e-6  # so that its logarithm has a gradient
_HEADER = {1: 261, 3: 487}  # bytes of a file with 1 or 3 components, without its data and tables
_TABLE, _WIDE_TABLE = 69, 133  # bytes of a quantisation table of 8 and of 16 bits


class _Weights(NamedTuple):
    """Bits of the AC coefficients of luma or of chroma in the standard Huffman tables.

    nonzero: of each that is not zero. size, squared_size: of s and s², s its size in bits.
    zero: of each zero before the last that is not. end: of each block whose last one is zero.
    """

    nonzero: float
    size: float
    squared_size: float
    zero: float
    end: float


# Fitted to the files of 50 crops of 10 photos at 13 qualities from 10 to 95, 4:2:0 and 4:4:4
_LUMA = _Weights(2.34, 0.66, 0.20, 1.07, 4)
_CHROMA = _Weights(2.74, 0.93, 0.18, 0.46, 2)


def jpeg_size(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str | int = "4:2:0",
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    exact: bool = True,
) -> Tensor:
    """The size in bytes [B] of the baseline JPEG files of images x, with a gradient.

    x: [B, C, H, W] in [0, 1] with C = 1 (grayscale) or 3.
    quality, subsampling, tables: as in `jpeg`. Tensors get a gradient.
    exact: whether the values are the sizes of the files, len of `jpeg_bytes`, which are written on
        the CPU. Otherwise they are an estimate, computed on x's device.

    The gradient is that of the estimate either way; roundings of x, quality and tables are straight
    through. On photos at qualities from 10 to 95 the estimate differs from the size by less than
    1 % on average. Raises ValueError as `jpeg` does.
    """
    checked_quality, checked_tables, name = check_arguments(x, quality, subsampling, tables)
    wide = x if x.dtype == torch.float64 else x.float()
    with without_autocast(x.device):
        by_image = quantiser_tables(checked_quality, checked_tables, wide)
        try:
            layout = layout_of(YCBCR, name, x.shape[1])
            estimate = _estimated_size(wide.contiguous(), by_image, layout)
        except NotImplementedError as error:
            if asks_for_forward_mode(error):
                raise ValueError(f"jpeg_size: {NO_FORWARD_MODE}") from error
            raise
        if not exact:
            return estimate
        return declare(estimate, _exact_size(wide, by_image, name))


def _exact_size(x: Tensor, tables: Tensor, subsampling: str) -> Tensor:
    """The size in bytes of each file [B], without a gradient.

    The files need the numbers in both tensors. They are joined, since a function outside the
    transforms of torch.func takes one tensor.
    """
    image_shape = x.shape[1:]
    pixels_of_image = image_shape.numel()

    def sizes(joined: Tensor) -> Tensor:
        images = joined[:, :pixels_of_image].unflatten(1, image_shape)
        entries = joined[:, pixels_of_image:]
        tables_of_images = entries.unflatten(1, (-1, 8, 8))
        files = jpeg_bytes(images, subsampling=subsampling, tables=tables_of_images)
        return joined.new_tensor([len(file) for file in files])

    parts = [x.flatten(1), tables.flatten(1)]
    joined = torch.cat(parts, 1)
    return outside_transforms(sizes, joined)


def _estimated_size(x: Tensor, tables: Tensor, layout: Layout) -> Tensor:
    """The estimated size in bytes of each file [B]."""
    batch, channels = x.shape[:2]
    steps = steps_of_components(tables, channels)
    by_component = steps.transpose(0, 1)
    total = _header_size(tables, channels)
    for group, spectra_of_images in zip(layout.groups, _Spectra.apply(x, layout), strict=True):
        spectra = spectra_of_images.transpose(0, 1).flatten(0, 1)
        width = spectra.shape[3]
        unrounded = spectra / step_plane(by_component[group.components], width)
        columns = unrounded.unflatten(3, (-1, 8))
        blocks = columns.transpose(2, 3).flatten(3)
        in_zigzag = blocks[..., ZIGZAG]
        bits = estimated_bits(in_zigzag, group.factors, group.is_luma)
        bits_of_planes = bits.view(-1, batch)
        total = total + bits_of_planes.sum(0) / 8
    return total


def _header_size(tables: Tensor, channels: int) -> Tensor:
    """How many bytes of each file [B] are not data."""
    used = tables.detach()[:, :channels]
    is_wide = (used > 255).flatten(2).any(2)
    table_bytes = torch.where(is_wide, _WIDE_TABLE, _TABLE)
    header: Tensor = _HEADER[channels] + table_bytes.sum(1)
    return header


def estimated_bits(x: Tensor, blocks_of_mcu: Sampling, is_luma: bool) -> Tensor:
    """The bits that the coefficients of each plane take: x [planes, rows, columns, 64] → [planes].

    x: the coefficients divided by their steps, not rounded, in zigzag order.
    blocks_of_mcu: across, down. The DC of a block is predicted from the block coded before it.
    """
    weights = _LUMA if is_luma else _CHROMA
    dc_bits = _dc_bits(x[..., 0], blocks_of_mcu, is_luma)
    ac_bits = _ac_bits(x[..., 1:], weights)
    return dc_bits + ac_bits.sum((1, 2))


def _ac_bits(x: Tensor, weights: _Weights) -> Tensor:
    """The bits of the AC coefficients of each block [..., 63] → [...]."""
    magnitude = x.abs()
    is_nonzero = _probability_of_nonzero(magnitude)
    size = _size_in_bits(magnitude)
    # Π (1 - p) from here on: the probability that this and all later ones are zero
    log_is_zero = torch.log1p(-is_nonzero.clamp(max=_LARGEST_PROBABILITY))
    from_last = log_is_zero.flip(-1)
    log_all_zero = from_last.cumsum(-1).flip(-1)
    all_zero = log_all_zero.exp()
    coefficients_up_to_last = (1 - all_zero).sum(-1)
    count = is_nonzero.sum(-1)
    sizes = is_nonzero * size
    squared_sizes = is_nonzero * size.square()
    bits = weights.nonzero * count
    bits = bits + weights.size * sizes.sum(-1)
    bits = bits + weights.squared_size * squared_sizes.sum(-1)
    bits = bits + weights.zero * (coefficients_up_to_last - count)
    return bits + weights.end * all_zero[..., -1]


def _probability_of_nonzero(magnitude: Tensor) -> Tensor:
    """A smooth step from 0 to 1 around ½."""
    width = _SURELY_NONZERO - _SURELY_ZERO
    share = ((magnitude - _SURELY_ZERO) / width).clamp(0, 1)
    probability: Tensor = share.square() * (3 - 2 * share)
    return probability


def _dc_bits(dc: Tensor, blocks_of_mcu: Sampling, is_luma: bool) -> Tensor:
    """The bits of the DC coefficients of each plane [planes, rows, columns] → [planes].

    The blocks that fill incomplete MCUs count, with their ends.
    """
    across, down = blocks_of_mcu
    rows, columns = dc.shape[1:]
    margins = (0, -columns % across, 0, -rows % down)
    filled = F.pad(dc, margins, mode="replicate")
    by_column = filled.unflatten(2, (-1, across))
    mcus = by_column.unflatten(1, (-1, down))
    in_order = mcus.transpose(2, 3).flatten(1)
    before = F.pad(in_order[:, :-1], (1, 0))
    size = _size_in_bits((in_order - before).abs())
    if is_luma:
        shortest = (size + 2).clamp(max=3)
        code = torch.maximum(shortest, size - 2)
        end = _LUMA.end
    else:
        code = size.clamp(min=2)
        end = _CHROMA.end
    added_blocks = in_order.shape[1] - rows * columns
    bits: Tensor = (size + code).sum(1) + end * added_blocks
    return bits


def _size_in_bits(magnitude: Tensor) -> Tensor:
    """About how many bits the rounded magnitude has: log2(|X| + ½) + ½, not below 0."""
    size: Tensor = torch.log2(magnitude + 0.5) + 0.5
    return size.clamp(min=0)


class _Spectra(torch.autograd.Function):
    """x [B, C, H, W] → the DCT of each group [B, planes, rows of blocks, 8, width].

    The values have libjpeg's roundings. The gradient is the transpose of the stages without them.
    """

    @staticmethod
    def forward(x: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        batch = len(x)
        image = exact_levels(x)
        dct = DCT.to(image)
        spectra = []
        for plane in to_planes(image, layout):
            f = forward_dct(plane, dct).to(x.dtype)
            blocks = f.unflatten(1, (-1, 8))
            blocks.div_(8)
            by_plane = blocks.unflatten(0, (-1, batch))
            spectra.append(by_plane.transpose(0, 1))
        return tuple(spectra)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, ctx.layout = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(x if is_transformed(x) else None)

    @staticmethod
    def vmap(info: Any, dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        return fold_all(_Spectra, info.batch_size, dims, arguments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        if x is not None:

            def gradients(x: Tensor, *tensors: Tensor) -> tuple[Tensor]:
                return (_transposed(ctx.layout, x.shape, tensors),)

            (gradient,) = BackwardPass.apply(gradients, x, *grads)
            return gradient, None
        refuse_second_order()
        return _transposed(ctx.layout, ctx.shape, grads), None


def _transposed(layout: Layout, shape: torch.Size, grads: tuple[Tensor, ...]) -> Tensor:
    """The gradient with respect to the image, from those of the spectra."""
    planes = []
    for grad in grads:
        m = DCT[0].to(grad) / 2**14.5
        by_plane = grad.transpose(0, 1).flatten(0, 1)
        planes.append(synthesise(by_plane, m))
    image = to_planes_t(planes, shape, layout)
    return image * 255
