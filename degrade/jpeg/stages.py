"""The linear stages of a JPEG round trip in libjpeg-turbo's integers, and their transposes.

A plane is never permuted into blocks: an 8×8 block is 8 of its rows and 8 of its columns. With
`exact`, a stage rounds where libjpeg shifts, and no sum exceeds 2^24, the largest range in which
float32 holds every integer. Without `exact` it is the linear map that a gradient goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from .sampling import (
    Sampling,
    divide_up,
    enlarge,
    enlarge_t,
    grow,
    pad,
    reduce,
    reduce_t,
    shrink,
    up8,
)

# libjpeg's integer DCT; each row is a frequency. It is 2^13·√8 times the orthonormal DCT and
# keeps libjpeg's irregular last digits.
M = torch.tensor(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ],
    dtype=torch.float32,
    device="cpu",
)
_HIGH = (M / 128).round()
_LOW = M / 128 - _HIGH
# M = 128·(high + low), each as two equal diagonal blocks: one product over 16 columns is faster
# than two products over 8 columns.
_BLOCKS = [torch.block_diag(m, m) for m in (M, _HIGH, _LOW)]
DCT = torch.stack(_BLOCKS)

# Weights in 1/65536 of R, G, B, and of Y, Cb - 128, Cr - 128
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
TO_RGB = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))
# What is added before the floor: it rounds (chroma rounds half down), and centres Y at 0
_OFFSETS = [0.5 - 128, 32767 / 65536, 32767 / 65536]

# (plane, sampling, exact) → the plane with fewer or more samples
Resampling = Callable[[Tensor, Sampling, bool], Tensor]

# Blocks: planes [planes, height, width] of 8×8 blocks ---------------------------------------------


def forward_dct(x: Tensor, dct: Tensor) -> Tensor:
    """8 times the DCT of every block, rounded after each of its two passes as libjpeg does."""
    row_transform = dct[0].T / 2**11
    lines = x.view(-1, 16)
    rows = lines @ row_transform  # sums below 2^23, so that M need not be split
    rows.add_(0.5).floor_()
    width = x.shape[2]
    blocks = rows.view(-1, 8, width)
    column_transforms = _of_one_block(dct)
    spectra = _transform_columns(column_transforms, blocks, 15)
    return spectra.view_as(x)


def inverse_dct(c: Tensor, dct: Tensor) -> Tensor:
    """The rounded inverse DCT of every block of coefficients."""
    _, high, low = dct
    width = c.shape[2]
    spectra = c.reshape(-1, 8, width)
    column_transforms = _of_one_block(dct).mT
    columns = _transform_columns(column_transforms, spectra, 11)
    lines = columns.view(-1, 16)
    rows: Tensor = lines @ low
    rows.add_(2**10).floor_()
    scale = 2.0**-11
    rows.addmm_(lines, high, beta=scale, alpha=scale)
    rows.floor_()
    return rows.view(c.shape)


def _of_one_block(m: Tensor) -> Tensor:
    """The 8×8 matrix that a matrix for 16 columns holds twice, as its diagonal blocks."""
    return m[..., :8, :8]


def _transform_columns(dct: Tensor, x: Tensor, bits: int) -> Tensor:
    """⌊(M x + 2^(bits-1)) / 2^bits⌋ for x [n, 8, width], in sums below 2^24.

    With M = 128·(high + low) this is ⌊(⌊low·x + 2^(bits-8)⌋ + high·x) / 2^(bits-7)⌋.
    """
    _, high, low = dct
    scale = 2.0 ** (7 - bits)
    half = 2.0 ** (bits - 8)
    y = torch.matmul(low, x)
    y.add_(half).floor_()
    count = x.shape[0]
    repeated = high.expand(count, 8, 8)
    y.baddbmm_(repeated, x, beta=scale, alpha=scale)
    return y.floor_()


def analyse(x: Tensor, m: Tensor) -> Tensor:
    """M x Mᵀ / 2^29 in every block: the transposed inverse DCT."""
    width = x.shape[2]
    lines = x.reshape(-1, 16)
    transformed = lines @ m.T
    rows = transformed.view(-1, 8, width)
    column_transform = _of_one_block(m)
    spectra = torch.matmul(column_transform, rows)
    count = x.shape[0]
    return spectra.view(count, -1, 8, width)


def weigh(x: Tensor, slope: Tensor | None, m: Tensor) -> Tensor:
    """Mᵀ (slope · (M x Mᵀ)) M / 2^58: the gradient's way through both DCTs and the quantiser."""
    spectra = analyse(x, m)
    if slope is not None:
        spectra.mul_(slope)
    return synthesise(spectra, m)


def synthesise(spectra: Tensor, m: Tensor) -> Tensor:
    """Mᵀ x M / 2^29 in every block [planes, rows, 8, width]: the transpose of `analyse`."""
    count, _, _, width = spectra.shape
    blocks = spectra.reshape(-1, 8, width)
    inverse_transform = _of_one_block(m).T
    columns = torch.matmul(inverse_transform, blocks)
    lines = columns.view(-1, 16)
    pixels = lines @ m
    return pixels.view(count, -1, width)


def per_table(c: Tensor, batch: int) -> Tensor:
    """The sum over all blocks [batch, planes of an image, 8, 8]."""
    blocks = c.unflatten(3, (-1, 8))
    sums = blocks.sum((1, 3))
    by_image: Tensor = sums.unflatten(0, (-1, batch))
    return by_image.transpose(0, 1)


# Colour and sampling: image [B, C, H, W] ↔ luma [B, h, w], chroma [2·B, h, w], in whole blocks ----


def to_planes(
    image: Tensor, sampling: Sampling, exact: bool = True, reduce_chroma: Resampling = reduce
) -> list[Tensor]:
    """Convert to YCbCr, reduce chroma, and pad every plane to whole blocks."""
    padded_size = _in_whole_blocks(image)
    if image.shape[1] == 1:
        luma = image[:, 0]
        if exact:
            luma = luma - 128
        grown = grow(luma, *padded_size)
        return [grown]
    colours = image.unbind(1)
    ycc = _mix(colours, _TO_YCC)
    if exact:
        offsets = ycc.new_tensor(_OFFSETS)
        offset_of_plane = offsets.view(3, 1, 1, 1)
        ycc.add_(offset_of_plane)
        ycc.floor_()
    luma = grow(ycc[0], *padded_size)
    chroma = ycc[1:].flatten(0, 1)
    reduced = reduce_chroma(chroma, sampling, exact)
    return [luma, reduced]


def to_planes_t(planes: list[Tensor], shape: torch.Size, sampling: Sampling) -> Tensor:
    """The transpose of `to_planes` without its rounding."""
    batch, _, height, width = shape
    luma = shrink(planes[0], height, width)
    if len(planes) == 1:
        return luma[:, None]
    full_size = reduce_t(planes[1], sampling, (height, width))
    blue, red = full_size.unflatten(0, (2, batch))
    image = luma.new_empty(shape)
    colours = image.unbind(1)
    transposed = zip(*_TO_YCC, strict=True)
    _mix((luma, blue, red), transposed, colours)
    return image


def to_image(
    planes: list[Tensor],
    sampling: Sampling,
    out: Tensor,
    exact: bool = True,
    weights: Sequence[Sequence[int]] = TO_RGB,
    enlarge_chroma: Resampling = enlarge,
) -> Tensor:
    """Fill `out` [B, C, H, W] with levels that are not yet clamped; `exact` changes the planes."""
    batch, _, height, width = out.shape
    luma = planes[0]
    if exact:
        luma.add_(128)
    luma = luma[:, :height, :width]
    if len(planes) == 1:
        return out.copy_(luma[:, None])
    chroma = planes[1]
    rows, columns = _chroma_size(out, sampling)
    chroma = chroma[:, :rows, :columns]
    enlarged = enlarge_chroma(chroma, sampling, exact)
    chroma = enlarged[:, :height, :width]
    blue, red = chroma.unflatten(0, (2, batch))
    colours = out.unbind(1)
    _mix((luma, blue, red), weights, colours)
    if exact:
        out.round_()  # a sum never ends in exactly ½
    return out


def to_image_t(grad: Tensor, sampling: Sampling) -> list[Tensor]:
    """The transpose of `to_image` without its rounding."""
    padded_size = _in_whole_blocks(grad)
    if grad.shape[1] == 1:
        grey = grad[:, 0]
        luma = pad(grey, *padded_size)
        return [luma]
    across, down = sampling
    rows, columns = _chroma_size(grad, sampling)
    colours = grad.unbind(1)
    transposed = zip(*TO_RGB, strict=True)
    ycc = _mix(colours, transposed)
    chroma = ycc[1:].flatten(0, 1)
    enlarged = pad(chroma, rows * down, columns * across)
    chroma = enlarge_t(enlarged, sampling)
    chroma = pad(chroma, up8(rows), up8(columns))
    luma = pad(ycc[0], *padded_size)
    return [luma, chroma]


def _in_whole_blocks(image: Tensor) -> tuple[int, int]:
    """Height and width of an image, rounded up to whole blocks."""
    height, width = image.shape[2:]
    return up8(height), up8(width)


def _chroma_size(image: Tensor, sampling: Sampling) -> tuple[int, int]:
    """Height and width of an image's chroma planes, without the padding of blocks."""
    across, down = sampling
    height, width = image.shape[2:]
    rows = divide_up(height, down)
    columns = divide_up(width, across)
    return rows, columns


def _mix(
    planes: Sequence[Tensor], rows: Iterable[Sequence[int]], out: Sequence[Tensor] | None = None
) -> Tensor:
    """Σ rows[i][j] / 2^16 · planes[j] for each i, stacked, or written into the planes of `out`."""
    mixed = torch.empty(0)
    targets = out
    if targets is None:
        first = planes[0]
        mixed = first.new_empty(3, *first.shape)
        targets = mixed.unbind()
    for target, weights in zip(targets, rows, strict=True):
        _weighted_sum(planes, weights, target)
    return mixed


def _weighted_sum(planes: Sequence[Tensor], weights: Sequence[int], target: Tensor) -> None:
    """Write Σ weights[j] / 2^16 · planes[j] into `target`; a weight of 0 costs nothing."""
    filled = False
    for weight, plane in zip(weights, planes, strict=True):
        if weight == 0:
            continue
        factor = weight / 65536
        if filled:
            target.add_(plane, alpha=factor)
        else:
            target.copy_(plane)
            target.mul_(factor)
            filled = True
