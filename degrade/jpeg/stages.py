"""The linear stages of a JPEG round trip in libjpeg-turbo's integers, and their transposes.

A plane is never permuted into blocks: an 8×8 block is 8 of its rows and 8 of its columns. With
`exact`, a stage rounds where libjpeg shifts, and no sum exceeds 2^24, the largest range in which
float32 holds every integer. Without `exact` it is the linear map that a gradient goes through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

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
_TO_YCC = [(19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329)]
_TO_RGB = [(65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0)]
# What is added before the floor: it rounds (chroma rounds half down), and centres Y at 0
_OFFSETS = [0.5 - 128, 32767 / 65536, 32767 / 65536]
_NARROW = 2  # libjpeg repeats the columns of chroma planes up to this width

Sampling = tuple[int, int]  # across, down: how many pixels share a chroma sample

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
    count = len(x)
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
    count = len(x)
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


def to_planes(image: Tensor, sampling: Sampling, exact: bool = True) -> list[Tensor]:
    """Convert to YCbCr, halve chroma, and pad every plane to whole blocks."""
    padded_size = _in_whole_blocks(image)
    if image.shape[1] == 1:
        luma = image[:, 0]
        if exact:
            luma = luma - 128
        grown = _grow(luma, *padded_size)
        return [grown]
    colours = image.unbind(1)
    ycc = _mix(colours, _TO_YCC)
    if exact:
        offsets = ycc.new_tensor(_OFFSETS)
        offset_of_plane = offsets.view(3, 1, 1, 1)
        ycc.add_(offset_of_plane)
        ycc.floor_()
    luma = _grow(ycc[0], *padded_size)
    chroma = ycc[1:].flatten(0, 1)
    halved = _halve(chroma, sampling, exact)
    return [luma, halved]


def to_planes_t(planes: list[Tensor], shape: torch.Size, sampling: Sampling) -> Tensor:
    """The transpose of `to_planes` without its rounding."""
    batch, _, height, width = shape
    luma = _shrink(planes[0], height, width)
    if len(planes) == 1:
        return luma[:, None]
    full_size = _halve_t(planes[1], sampling, (height, width))
    blue, red = full_size.unflatten(0, (2, batch))
    image = luma.new_empty(shape)
    colours = image.unbind(1)
    transposed = zip(*_TO_YCC, strict=True)
    _mix((luma, blue, red), transposed, colours)
    return image


def to_image(planes: list[Tensor], sampling: Sampling, out: Tensor, exact: bool = True) -> Tensor:
    """Fill `out` [B, C, H, W] with levels that are not yet clamped; `exact` changes the planes."""
    batch, _, height, width = out.shape
    luma = planes[0]
    if exact:
        luma.add_(128)
    luma = luma[:, :height, :width]
    if len(planes) == 1:
        return out.copy_(luma[:, None])
    rows, columns = _chroma_size(out, sampling)
    chroma = planes[1]
    without_padding = chroma[:, :rows, :columns]
    doubled = _double(without_padding, sampling, exact)
    chroma = doubled[:, :height, :width]
    blue, red = chroma.unflatten(0, (2, batch))
    colours = out.unbind(1)
    _mix((luma, blue, red), _TO_RGB, colours)
    if exact:
        out.round_()  # a sum never ends in exactly ½
    return out


def to_image_t(grad: Tensor, sampling: Sampling) -> list[Tensor]:
    """The transpose of `to_image` without its rounding."""
    padded_size = _in_whole_blocks(grad)
    if grad.shape[1] == 1:
        grey = grad[:, 0]
        luma = _pad(grey, *padded_size)
        return [luma]
    across, down = sampling
    rows, columns = _chroma_size(grad, sampling)
    colours = grad.unbind(1)
    transposed = zip(*_TO_RGB, strict=True)
    ycc = _mix(colours, transposed)
    chroma = ycc[1:].flatten(0, 1)
    doubled = _pad(chroma, rows * down, columns * across)
    chroma = _double_t(doubled, sampling)
    chroma = _pad(chroma, _up8(rows), _up8(columns))
    luma = _pad(ycc[0], *padded_size)
    return [luma, chroma]


def _in_whole_blocks(image: Tensor) -> tuple[int, int]:
    """Height and width of an image, rounded up to whole blocks."""
    height, width = image.shape[2:]
    return _up8(height), _up8(width)


def _chroma_size(image: Tensor, sampling: Sampling) -> tuple[int, int]:
    """Height and width of an image's chroma planes, without the padding of blocks."""
    across, down = sampling
    height, width = image.shape[2:]
    rows = _divide_up(height, down)
    columns = _divide_up(width, across)
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


def _halve(c: Tensor, sampling: Sampling, exact: bool) -> Tensor:
    """The mean of 2 or 2×2 pixels. Where columns are halved, rounding alternates between them."""
    across, down = sampling
    height, width = c.shape[1:]
    columns = _divide_up(width, across)
    even_width = across * _up8(columns)
    c = _extend(c, 2, even_width)
    if down == 2:
        even_height = height + height % 2
        c = _extend(c, 1, even_height)
        upper = c[:, 0::2]
        lower = c[:, 1::2]
        c = upper + lower
    if across == 2:
        left = c[:, :, 0::2]
        right = c[:, :, 1::2]
        c = left + right
    shared = across * down
    if shared > 1:
        c.mul_(1 / shared)
        if exact:
            offsets = _halving_offsets(c, sampling)
            c.add_(offsets).floor_()
    rows = c.shape[1]
    c = _extend(c, 1, _up8(rows))
    return c.contiguous()


def _halving_offsets(c: Tensor, sampling: Sampling) -> Tensor:
    """What libjpeg adds before the shift that halves, for each column."""
    across, down = sampling
    width = c.shape[2]
    if across == 1:
        return c.new_full((width,), 1 / 2)
    columns = torch.arange(width, device=c.device)
    odd = columns % 2
    return (odd + down - 1) / (2 * down)


def _halve_t(g: Tensor, sampling: Sampling, size: tuple[int, int]) -> Tensor:
    """The transpose of `_halve` without its rounding."""
    across, down = sampling
    height, width = size
    shared = across * down
    if shared > 1:
        rows_of_chroma = _divide_up(height, down)
        g = _fold(g, 1, rows_of_chroma)
        g = g / shared
        count, rows, columns = g.shape
        pixels = g[:, :, None, :, None]
        repeated = pixels.expand(-1, -1, down, -1, across)
        g = repeated.reshape(count, rows * down, columns * across)
    return _shrink(g, height, width)


def _double(c: Tensor, sampling: Sampling, exact: bool) -> Tensor:
    """libjpeg's "fancy upsampling": linear interpolation at quarters, except of narrow planes.

    Planes whose rows alone are halved (4:4:0) are interpolated whatever their width.
    """
    across, down = sampling
    shared = across * down
    if shared == 1:
        return c
    width = c.shape[2]
    if across == 2 and width <= _NARROW:
        tall = c.repeat_interleave(down, 1)
        return tall.repeat_interleave(2, 2)
    c = c * (1 / shared**2)
    if down == 2:
        c = _interpolate(c, 1)
    if across == 2:
        c = _interpolate(c, 2)
    if exact:
        offsets = _doubling_offsets(c, sampling)
        c.add_(offsets).floor_()
    return c


def _doubling_offsets(c: Tensor, sampling: Sampling) -> Tensor:
    """What libjpeg adds before the shift that ends its interpolation: [rows, 1] or [columns]."""
    across, down = sampling
    height, width = c.shape[1:]
    if across == 1:
        pair = c.new_tensor((1 / 4, 1 / 2))
        by_row = pair.repeat(height // 2)
        return by_row[:, None]
    offsets = (1 / 2, 7 / 16) if down == 2 else (1 / 4, 1 / 2)
    pair = c.new_tensor(offsets)
    return pair.repeat(width // 2)


def _double_t(g: Tensor, sampling: Sampling) -> Tensor:
    """The transpose of `_double` without its rounding."""
    across, down = sampling
    shared = across * down
    if shared == 1:
        return g
    width = g.shape[2]
    if across == 2 and width <= 2 * _NARROW:
        columns = g.unflatten(2, (-1, 2))
        groups: Tensor = columns.unflatten(1, (-1, down))
        return groups.sum((2, 4))
    if down == 2:
        g = _interpolate_t(g, 1)
    if across == 2:
        g = _interpolate_t(g, 2)
    return g.mul_(1 / shared**2)


def _interpolate(c: Tensor, axis: int) -> Tensor:
    """Between every two: 3·near + far, the ends repeated."""
    size = c.shape[axis]
    last = size - 1
    even = c * 3
    without_first = even.narrow(axis, 1, last)
    before = c.narrow(axis, 0, last)
    without_first.add_(before)
    first = c.select(axis, 0)
    even.select(axis, 0).add_(first)
    odd = c * 3
    without_last = odd.narrow(axis, 0, last)
    after = c.narrow(axis, 1, last)
    without_last.add_(after)
    final = c.select(axis, last)
    odd.select(axis, last).add_(final)
    shape = list(c.shape)
    shape.insert(axis + 1, 2)
    both = c.new_empty(shape)  # torch.stack takes far longer
    both.select(axis + 1, 0).copy_(even)
    both.select(axis + 1, 1).copy_(odd)
    return both.flatten(axis, axis + 1)


def _interpolate_t(g: Tensor, axis: int) -> Tensor:
    """The transpose of `_interpolate`."""
    pairs: Tensor = g.unflatten(axis, (-1, 2))
    even, odd = pairs.unbind(axis + 1)
    size = even.shape[axis]
    last = size - 1
    c = (even + odd).mul_(3)
    without_last = c.narrow(axis, 0, last)
    after = even.narrow(axis, 1, last)
    without_last.add_(after)
    without_first = c.narrow(axis, 1, last)
    before = odd.narrow(axis, 0, last)
    without_first.add_(before)
    first = even.select(axis, 0)
    c.select(axis, 0).add_(first)
    final = odd.select(axis, last)
    c.select(axis, last).add_(final)
    return c


def _divide_up(n: int, divisor: int) -> int:
    """n / divisor, rounded up."""
    return -(-n // divisor)


def _up8(n: int) -> int:
    """The next multiple of 8."""
    return _divide_up(n, 8) * 8


def _extend(x: Tensor, axis: int, size: int) -> Tensor:
    """Repeat the last row (axis 1) or column (axis 2) up to `size`."""
    present = x.shape[axis]
    missing = size - present
    if missing == 0:
        return x
    last = x.narrow(axis, present - 1, 1)
    copies = last.repeat_interleave(missing, axis)
    return torch.cat([x, copies], axis)


def _fold(g: Tensor, axis: int, size: int) -> Tensor:
    """The transpose of `_extend`."""
    present = g.shape[axis]
    surplus = present - size
    if surplus == 0:
        return g
    folded = g.narrow(axis, 0, size).clone()
    copies = g.narrow(axis, size, surplus)
    sum_of_copies = copies.sum(axis, keepdim=True)
    last = folded.narrow(axis, size - 1, 1)
    last.add_(sum_of_copies)
    return folded


def _grow(x: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column up to a size."""
    tall = _extend(x, 1, height)
    grown = _extend(tall, 2, width)
    return grown.contiguous()


def _shrink(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of `_grow`."""
    narrow = _fold(g, 2, width)
    return _fold(narrow, 1, height)


def _pad(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of a crop."""
    below = height - g.shape[1]
    right = width - g.shape[2]
    margins = (0, right, 0, below)
    return F.pad(g, margins)
