"""The linear stages of a JPEG round trip in libjpeg-turbo's integers, and their transposes.

An 8×8 block is 8 rows of a plane and 8 of its columns; nothing is ever permuted into blocks.
`exact` stages floor where libjpeg shifts, and no sum exceeds what float32 holds, 2^24; without it
they are the linear maps that a gradient goes through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# libjpeg's integer DCT, row = frequency: 2^13·√8 times the orthonormal one, with its irregular last digits
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
# M = 128·(high + low), in diagonal blocks of two: a product over 16 columns is faster than two over 8
DCT = torch.stack([torch.block_diag(m, m) for m in (M, _HIGH, M / 128 - _HIGH)])

# in 1/65536, of R, G, B and of Y, Cb - 128, Cr - 128; the offsets round (half down for chroma) and shift Y by -128
_TO_YCC = [(19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329)]
_TO_RGB = [(65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0)]
_NARROW = 2  # chroma planes up to this width are not interpolated but repeated
_OFFSETS = [0.5 - 128, 32767 / 65536, 32767 / 65536]

# Blocks: planes [planes, height, width] of 8×8 blocks ---------------------------------------------


def forward_dct(x: Tensor, dct: Tensor) -> Tensor:
    whole = (x.view(-1, 16) @ (dct[0].T / 2**11)).add_(0.5).floor_()  # below 2^23, no need to split
    return _columns(dct[:, :8, :8], whole.view(-1, 8, x.shape[2]), 15).view_as(x)


def inverse_dct(c: Tensor, dct: Tensor) -> Tensor:
    _, high, low = dct
    x = _columns(dct[:, :8, :8].mT, c.reshape(-1, 8, c.shape[2]), 11).view(-1, 16)
    rows = (x @ low).add_(2**10).floor_()
    return rows.addmm_(x, high, beta=2**-11, alpha=2**-11).floor_().view(c.shape)


def _columns(dct: Tensor, x: Tensor, bits: int) -> Tensor:
    """⌊(M x + 2^(bits-1)) / 2^bits⌋ for x [n, 8, width], in sums below 2^24: with M = 128·(high + low),
    ⌊(⌊low·x + 2^(bits-8)⌋ + high·x) / 2^(bits-7)⌋."""
    _, high, low = dct
    share = 2.0 ** (7 - bits)
    y = torch.matmul(low, x).add_(2.0 ** (bits - 8)).floor_()
    return y.baddbmm_(high.expand(len(x), 8, 8), x, beta=share, alpha=share).floor_()


def analyse(x: Tensor, m: Tensor) -> Tensor:
    """M x Mᵀ / 2^29 in every block: the transposed inverse DCT."""
    rows = (x.reshape(-1, 16) @ m.T).view(-1, 8, x.shape[2])
    return torch.matmul(m[:8, :8], rows).view(len(x), -1, 8, x.shape[2])


def weigh(x: Tensor, slope: Tensor | None, m: Tensor) -> Tensor:
    """Mᵀ (slope · (M x Mᵀ)) M / 2^58: the gradient's way through both DCTs and the quantiser."""
    c = analyse(x, m)
    c = (c if slope is None else c.mul_(slope)).view(-1, 8, x.shape[2])
    return (torch.matmul(m[:8, :8].T, c).view(-1, 16) @ m).view(x.shape)


def per_table(c: Tensor, batch: int) -> Tensor:
    """The sum over all blocks [batch, planes of an image, 8, 8]."""
    return c.unflatten(3, (-1, 8)).sum((1, 3)).unflatten(0, (-1, batch)).transpose(0, 1)


# Colour and sampling: image [B, C, H, W] ↔ luma [B, h, w], chroma [2·B, h, w], in whole blocks -----


def to_planes(image: Tensor, sampling: tuple[int, int], exact: bool = True) -> list[Tensor]:
    height, width = image.shape[2:]
    if image.shape[1] == 1:
        luma = image[:, 0] - 128 if exact else image[:, 0]
        return [_grow(luma, _up8(height), _up8(width))]
    ycc = _mix(image.unbind(1), _TO_YCC)
    if exact:
        ycc.add_(ycc.new_tensor(_OFFSETS).view(3, 1, 1, 1)).floor_()
    return [
        _grow(ycc[0], _up8(height), _up8(width)),
        _halve(ycc[1:].flatten(0, 1), *sampling, exact),
    ]


def to_planes_t(planes: list[Tensor], shape: torch.Size, sampling: tuple[int, int]) -> Tensor:
    batch, _, height, width = shape
    luma = _shrink(planes[0], height, width)
    if len(planes) == 1:
        return luma[:, None]
    chroma = _halve_t(planes[1], *sampling, height, width).unflatten(0, (2, batch))
    image = luma.new_empty(shape)
    _mix((luma, *chroma), zip(*_TO_YCC, strict=True), image.unbind(1))
    return image


def to_image(
    planes: list[Tensor], sampling: tuple[int, int], out: Tensor, exact: bool = True
) -> Tensor:
    """Fills `out` [B, C, H, W] with levels that are not yet clamped; `exact` uses up the planes."""
    batch, _, height, width = out.shape
    luma = (planes[0].add_(128) if exact else planes[0])[:, :height, :width]
    if len(planes) == 1:
        return out.copy_(luma[:, None])
    across, down = sampling
    chroma = planes[1][
        :, : -(-height // down), : -(-width // across)
    ]  # what pads a block stays out
    chroma = _double(chroma, across, down, exact)[:, :height, :width].unflatten(0, (2, batch))
    _mix((luma, *chroma), _TO_RGB, out.unbind(1))
    return out.round_() if exact else out  # a sum never ends in exactly ½


def to_image_t(grad: Tensor, sampling: tuple[int, int]) -> list[Tensor]:
    height, width = grad.shape[2:]
    if grad.shape[1] == 1:
        return [_pad(grad[:, 0], _up8(height), _up8(width))]
    across, down = sampling
    ycc = _mix(grad.unbind(1), zip(*_TO_RGB, strict=True))
    rows, columns = -(-height // down), -(-width // across)
    chroma = _double_t(_pad(ycc[1:].flatten(0, 1), rows * down, columns * across), across, down)
    return [_pad(ycc[0], _up8(height), _up8(width)), _pad(chroma, _up8(rows), _up8(columns))]


def _mix(
    planes: Sequence[Tensor], rows: Iterable[Sequence[int]], out: Sequence[Tensor] | None = None
) -> Tensor:
    """out[i] = Σ rows[i][j] / 2^16 · planes[j]."""
    out = planes[0].new_empty(3, *planes[0].shape) if out is None else out
    for target, weights in zip(out, rows, strict=True):
        (w, plane), *rest = [
            (w / 65536, plane) for w, plane in zip(weights, planes, strict=True) if w
        ]
        target.copy_(plane).mul_(w)
        for w, plane in rest:
            target.add_(plane, alpha=w)
    return out


def _halve(c: Tensor, across: int, down: int, exact: bool) -> Tensor:
    """The mean of 2 pixels (4:2:2) or of 2×2; the rounding's bias alternates from column to column."""
    height, width = c.shape[1:]
    if across == 1:
        return _grow(c, _up8(height), _up8(width))
    half = _up8(-(-width // 2))
    c = _extend(c, 2, 2 * half)
    if down == 2:
        c = _extend(c, 1, height + height % 2)
        c = c[:, 0::2] + c[:, 1::2]
    c = (c[:, :, 0::2] + c[:, :, 1::2]).mul_(1 / (2 * down))
    if exact:
        c.add_((torch.arange(half, device=c.device) % 2 + down - 1) / (2 * down)).floor_()
    return _extend(c, 1, _up8(c.shape[1]))


def _halve_t(g: Tensor, across: int, down: int, height: int, width: int) -> Tensor:
    if across == 2:
        g = _fold(g, 1, -(-height // down)) / (2 * down)
        g = (
            g[:, :, None, :, None]
            .expand(-1, -1, down, -1, 2)
            .reshape(len(g), g.shape[1] * down, -1)
        )
    return _shrink(g, height, width)


def _double(c: Tensor, across: int, down: int, exact: bool) -> Tensor:
    """libjpeg's "fancy upsampling": linear interpolation at quarters, except of narrow planes."""
    if across == 1:
        return c
    if c.shape[2] <= _NARROW:
        return c.repeat_interleave(down, 1).repeat_interleave(2, 2)
    c = c * 4.0**-down
    if down == 2:
        c = _interpolate(c, 1)
    c = _interpolate(c, 2)
    if exact:
        rounding = c.new_tensor((1 / 2, 7 / 16) if down == 2 else (1 / 4, 1 / 2))
        c.add_(rounding.repeat(c.shape[2] // 2)).floor_()
    return c


def _double_t(g: Tensor, across: int, down: int) -> Tensor:
    if across == 1:
        return g
    if g.shape[2] <= 2 * _NARROW:
        return g.unflatten(2, (-1, 2)).unflatten(1, (-1, down)).sum((2, 4))
    if down == 2:
        g = _interpolate_t(g, 1)
    return _interpolate_t(g, 2).mul_(4.0**-down)


def _interpolate(c: Tensor, axis: int) -> Tensor:
    """Between every two: 3·near + far, the ends repeated."""
    n = c.shape[axis]
    even, odd = c * 3, c * 3
    even.narrow(axis, 1, n - 1).add_(c.narrow(axis, 0, n - 1))
    even.select(axis, 0).add_(c.select(axis, 0))
    odd.narrow(axis, 0, n - 1).add_(c.narrow(axis, 1, n - 1))
    odd.select(axis, n - 1).add_(c.select(axis, n - 1))
    both = c.new_empty(
        [*c.shape[: axis + 1], 2, *c.shape[axis + 1 :]]
    )  # torch.stack takes far longer
    both.select(axis + 1, 0).copy_(even)
    both.select(axis + 1, 1).copy_(odd)
    return both.flatten(axis, axis + 1)


def _interpolate_t(g: Tensor, axis: int) -> Tensor:
    even, odd = g.unflatten(axis, (-1, 2)).unbind(axis + 1)
    n = even.shape[axis]
    c = (even + odd).mul_(3)
    c.narrow(axis, 0, n - 1).add_(even.narrow(axis, 1, n - 1))
    c.narrow(axis, 1, n - 1).add_(odd.narrow(axis, 0, n - 1))
    c.select(axis, 0).add_(even.select(axis, 0))
    c.select(axis, n - 1).add_(odd.select(axis, n - 1))
    return c


def _up8(n: int) -> int:
    return -(-n // 8) * 8


def _extend(x: Tensor, axis: int, size: int) -> Tensor:
    """Repeat the last row (axis 1) or column (axis 2) up to `size`."""
    n = x.shape[axis]
    return (
        x
        if n == size
        else torch.cat([x, x.narrow(axis, n - 1, 1).repeat_interleave(size - n, axis)], axis)
    )


def _fold(g: Tensor, axis: int, size: int) -> Tensor:
    """The transpose of _extend."""
    n = g.shape[axis]
    if n == size:
        return g
    kept = g.narrow(axis, 0, size).clone()
    kept.narrow(axis, size - 1, 1).add_(g.narrow(axis, size, n - size).sum(axis, keepdim=True))
    return kept


def _grow(x: Tensor, height: int, width: int) -> Tensor:
    return _extend(_extend(x, 1, height), 2, width).contiguous()


def _shrink(g: Tensor, height: int, width: int) -> Tensor:
    return _fold(_fold(g, 2, width), 1, height)


def _pad(g: Tensor, height: int, width: int) -> Tensor:
    """The transpose of a crop."""
    return F.pad(g, (0, width - g.shape[2], 0, height - g.shape[1]))
