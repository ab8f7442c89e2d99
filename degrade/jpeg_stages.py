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
DCT = torch.stack([torch.block_diag(m, m) for m in (M, _HIGH, _LOW)])

# Weights in 1/65536 of R, G, B, and of Y, Cb - 128, Cr - 128
_TO_YCC = [(19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329)]
_TO_RGB = [(65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0)]
# What is added before the floor: it rounds (chroma rounds half down), and centres Y at 0
_OFFSETS = [0.5 - 128, 32767 / 65536, 32767 / 65536]
_NARROW = 2  # libjpeg repeats the columns of chroma planes up to this width

# Blocks: planes [planes, height, width] of 8×8 blocks ---------------------------------------------


def forward_dct(x: Tensor, dct: Tensor) -> Tensor:
    """8 times the DCT of every block, rounded after each of its two passes as libjpeg does."""
    row_transform = dct[0].T / 2**11
    rows = x.view(-1, 16) @ row_transform  # sums below 2^23, so that M need not be split
    rows.add_(0.5).floor_()
    rows = rows.view(-1, 8, x.shape[2])
    return _transform_columns(dct[:, :8, :8], rows, 15).view_as(x)


def inverse_dct(c: Tensor, dct: Tensor) -> Tensor:
    """The rounded inverse DCT of every block of coefficients."""
    _, high, low = dct
    spectra = c.reshape(-1, 8, c.shape[2])
    columns = _transform_columns(dct[:, :8, :8].mT, spectra, 11)
    x = columns.view(-1, 16)
    rows: Tensor = x @ low
    rows.add_(2**10).floor_()
    rows.addmm_(x, high, beta=2**-11, alpha=2**-11)
    return rows.floor_().view(c.shape)


def _transform_columns(dct: Tensor, x: Tensor, bits: int) -> Tensor:
    """⌊(M x + 2^(bits-1)) / 2^bits⌋ for x [n, 8, width], in sums below 2^24.

    With M = 128·(high + low) this is ⌊(⌊low·x + 2^(bits-8)⌋ + high·x) / 2^(bits-7)⌋.
    """
    _, high, low = dct
    scale = 2.0 ** (7 - bits)
    y = torch.matmul(low, x)
    y.add_(2.0 ** (bits - 8)).floor_()
    y.baddbmm_(high.expand(len(x), 8, 8), x, beta=scale, alpha=scale)
    return y.floor_()


def analyse(x: Tensor, m: Tensor) -> Tensor:
    """M x Mᵀ / 2^29 in every block: the transposed inverse DCT."""
    width = x.shape[2]
    rows = x.reshape(-1, 16) @ m.T
    rows = rows.view(-1, 8, width)
    spectra = torch.matmul(m[:8, :8], rows)
    return spectra.view(len(x), -1, 8, width)


def weigh(x: Tensor, slope: Tensor | None, m: Tensor) -> Tensor:
    """Mᵀ (slope · (M x Mᵀ)) M / 2^58: the gradient's way through both DCTs and the quantiser."""
    spectra = analyse(x, m)
    if slope is not None:
        spectra.mul_(slope)
    spectra = spectra.view(-1, 8, x.shape[2])
    columns = torch.matmul(m[:8, :8].T, spectra)
    rows = columns.view(-1, 16) @ m
    return rows.view(x.shape)


def per_table(c: Tensor, batch: int) -> Tensor:
    """The sum over all blocks [batch, planes of an image, 8, 8]."""
    blocks = c.unflatten(3, (-1, 8))
    sums = blocks.sum((1, 3))
    by_image: Tensor = sums.unflatten(0, (-1, batch))
    return by_image.transpose(0, 1)


# Colour and sampling: image [B, C, H, W] ↔ luma [B, h, w], chroma [2·B, h, w], in whole blocks ----


def to_planes(image: Tensor, sampling: tuple[int, int], exact: bool = True) -> list[Tensor]:
    """Convert to YCbCr, halve chroma, and pad every plane to whole blocks."""
    height, width = image.shape[2:]
    padded_size = _up8(height), _up8(width)
    if image.shape[1] == 1:
        luma = image[:, 0]
        if exact:
            luma = luma - 128
        return [_grow(luma, *padded_size)]
    ycc = _mix(image.unbind(1), _TO_YCC)
    if exact:
        offsets = ycc.new_tensor(_OFFSETS)
        ycc.add_(offsets.view(3, 1, 1, 1)).floor_()
    luma = _grow(ycc[0], *padded_size)
    chroma = ycc[1:].flatten(0, 1)
    return [luma, _halve(chroma, *sampling, exact)]


def to_planes_t(planes: list[Tensor], shape: torch.Size, sampling: tuple[int, int]) -> Tensor:
    """The transpose of `to_planes` without its rounding."""
    batch, _, height, width = shape
    luma = _shrink(planes[0], height, width)
    if len(planes) == 1:
        return luma[:, None]
    chroma = _halve_t(planes[1], *sampling, height, width)
    blue, red = chroma.unflatten(0, (2, batch))
    image = luma.new_empty(shape)
    transposed = zip(*_TO_YCC, strict=True)
    _mix((luma, blue, red), transposed, image.unbind(1))
    return image


def to_image(
    planes: list[Tensor], sampling: tuple[int, int], out: Tensor, exact: bool = True
) -> Tensor:
    """Fill `out` [B, C, H, W] with levels that are not yet clamped; `exact` changes the planes."""
    batch, _, height, width = out.shape
    luma = planes[0]
    if exact:
        luma.add_(128)
    luma = luma[:, :height, :width]
    if len(planes) == 1:
        return out.copy_(luma[:, None])
    across, down = sampling
    rows, columns = _divide_up(height, down), _divide_up(width, across)
    chroma = planes[1][:, :rows, :columns]  # without the padding of blocks
    chroma = _double(chroma, across, down, exact)
    chroma = chroma[:, :height, :width]
    blue, red = chroma.unflatten(0, (2, batch))
    _mix((luma, blue, red), _TO_RGB, out.unbind(1))
    if exact:
        out.round_()  # a sum never ends in exactly ½
    return out


def to_image_t(grad: Tensor, sampling: tuple[int, int]) -> list[Tensor]:
    """The transpose of `to_image` without its rounding."""
    height, width = grad.shape[2:]
    padded_size = _up8(height), _up8(width)
    if grad.shape[1] == 1:
        return [_pad(grad[:, 0], *padded_size)]
    across, down = sampling
    rows, columns = _divide_up(height, down), _divide_up(width, across)
    ycc = _mix(grad.unbind(1), zip(*_TO_RGB, strict=True))
    chroma = _pad(ycc[1:].flatten(0, 1), rows * down, columns * across)
    chroma = _double_t(chroma, across, down)
    chroma = _pad(chroma, _up8(rows), _up8(columns))
    return [_pad(ycc[0], *padded_size), chroma]


def _mix(
    planes: Sequence[Tensor], rows: Iterable[Sequence[int]], out: Sequence[Tensor] | None = None
) -> Tensor:
    """Σ rows[i][j] / 2^16 · planes[j] for each i, stacked, or written into the planes of `out`."""
    mixed = torch.empty(0)
    targets = out
    if targets is None:
        mixed = planes[0].new_empty(3, *planes[0].shape)
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
        if filled:
            target.add_(plane, alpha=weight / 65536)
        else:
            target.copy_(plane).mul_(weight / 65536)
            filled = True


def _halve(c: Tensor, across: int, down: int, exact: bool) -> Tensor:
    """The mean of 2 or 2×2 pixels. Where columns are halved, rounding alternates between them."""
    height, width = c.shape[1:]
    columns = _up8(_divide_up(width, across))
    c = _extend(c, 2, across * columns)
    if down == 2:
        c = _extend(c, 1, height + height % 2)
        c = c[:, 0::2] + c[:, 1::2]
    if across == 2:
        c = c[:, :, 0::2] + c[:, :, 1::2]
    if across * down > 1:
        c.mul_(1 / (across * down))
        if exact:
            c.add_(_halving_offsets(c, across, down)).floor_()
    c = _extend(c, 1, _up8(c.shape[1]))
    return c.contiguous()


def _halving_offsets(c: Tensor, across: int, down: int) -> Tensor:
    """What libjpeg adds before the shift that halves, for each column."""
    width = c.shape[2]
    if across == 1:
        return c.new_full((width,), 1 / 2)
    odd = torch.arange(width, device=c.device) % 2
    return (odd + down - 1) / (2 * down)


def _halve_t(g: Tensor, across: int, down: int, height: int, width: int) -> Tensor:
    """The transpose of `_halve` without its rounding."""
    if across * down > 1:
        g = _fold(g, 1, _divide_up(height, down))
        g = g / (across * down)
        count, rows, columns = g.shape
        repeated = g[:, :, None, :, None].expand(-1, -1, down, -1, across)
        g = repeated.reshape(count, rows * down, columns * across)
    return _shrink(g, height, width)


def _double(c: Tensor, across: int, down: int, exact: bool) -> Tensor:
    """libjpeg's "fancy upsampling": linear interpolation at quarters, except of narrow planes.

    Planes whose rows alone are halved (4:4:0) are interpolated whatever their width.
    """
    if across * down == 1:
        return c
    if across == 2 and c.shape[2] <= _NARROW:
        tall = c.repeat_interleave(down, 1)
        return tall.repeat_interleave(2, 2)
    c = c * (1 / (across * down) ** 2)
    if down == 2:
        c = _interpolate(c, 1)
    if across == 2:
        c = _interpolate(c, 2)
    if exact:
        c.add_(_doubling_offsets(c, across, down)).floor_()
    return c


def _doubling_offsets(c: Tensor, across: int, down: int) -> Tensor:
    """What libjpeg adds before the shift that ends its interpolation: [rows, 1] or [columns]."""
    height, width = c.shape[1:]
    if across == 1:
        by_row = c.new_tensor((1 / 4, 1 / 2)).repeat(height // 2)
        return by_row[:, None]
    pair = (1 / 2, 7 / 16) if down == 2 else (1 / 4, 1 / 2)
    return c.new_tensor(pair).repeat(width // 2)


def _double_t(g: Tensor, across: int, down: int) -> Tensor:
    """The transpose of `_double` without its rounding."""
    if across * down == 1:
        return g
    if across == 2 and g.shape[2] <= 2 * _NARROW:
        columns = g.unflatten(2, (-1, 2))
        groups: Tensor = columns.unflatten(1, (-1, down))
        return groups.sum((2, 4))
    if down == 2:
        g = _interpolate_t(g, 1)
    if across == 2:
        g = _interpolate_t(g, 2)
    return g.mul_(1 / (across * down) ** 2)


def _interpolate(c: Tensor, axis: int) -> Tensor:
    """Between every two: 3·near + far, the ends repeated."""
    last = c.shape[axis] - 1
    even, odd = c * 3, c * 3
    even.narrow(axis, 1, last).add_(c.narrow(axis, 0, last))
    even.select(axis, 0).add_(c.select(axis, 0))
    odd.narrow(axis, 0, last).add_(c.narrow(axis, 1, last))
    odd.select(axis, last).add_(c.select(axis, last))
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
    last = even.shape[axis] - 1
    c = (even + odd).mul_(3)
    c.narrow(axis, 0, last).add_(even.narrow(axis, 1, last))
    c.narrow(axis, 1, last).add_(odd.narrow(axis, 0, last))
    c.select(axis, 0).add_(even.select(axis, 0))
    c.select(axis, last).add_(odd.select(axis, last))
    return c


def _divide_up(n: int, divisor: int) -> int:
    """n / divisor, rounded up."""
    return -(-n // divisor)


def _up8(n: int) -> int:
    """The next multiple of 8."""
    return _divide_up(n, 8) * 8


def _extend(x: Tensor, axis: int, size: int) -> Tensor:
    """Repeat the last row (axis 1) or column (axis 2) up to `size`."""
    missing = size - x.shape[axis]
    if missing == 0:
        return x
    last = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([x, last.repeat_interleave(missing, axis)], axis)


def _fold(g: Tensor, axis: int, size: int) -> Tensor:
    """The transpose of `_extend`."""
    surplus = g.shape[axis] - size
    if surplus == 0:
        return g
    folded = g.narrow(axis, 0, size).clone()
    repeated = g.narrow(axis, size, surplus)
    folded.narrow(axis, size - 1, 1).add_(repeated.sum(axis, keepdim=True))
    return folded


def _grow(x: Tensor, height: int, width: int) -> Tensor:
    """Repeat the last row and column up to a size."""
    tall = _extend(x, 1, height)
    return _extend(tall, 2, width).contiguous()


def _shrink(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of `_grow`."""
    narrow = _fold(g, 2, width)
    return _fold(narrow, 1, height)


def _pad(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of a crop."""
    right = width - g.shape[2]
    below = height - g.shape[1]
    return F.pad(g, (0, right, 0, below))
