"""JPEG: the pixels that libjpeg-turbo decodes, bit for bit, with a declared gradient.

Every stage is linear up to a rounding, and stays on the planes of the image: an 8×8 block is 8 rows
of a plane and 8 of its columns. Names are those of ITU-T T.81; F is 8 times its DCT, as in libjpeg.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as nn
from torch import Tensor

from .jpeg_header import LARGEST, SAMPLINGS, Tables, check_tables, quality_tables, read_header
from .operator import Operator, check_image, register
from .params import Numbers, choice, numbers
from .surrogate import CUBIC_BLEND, declare, first_order_only

SURROGATES = ("residual", "cubic", "ste", "identity")
CLAMPS = ("sigmoid", "hard", "ste")

# libjpeg's integer DCT, row = frequency: 2^13·√8 times the orthonormal one, with its irregular last digits
_M = torch.tensor([
    [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
    [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
    [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
    [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
    [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
    [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
], dtype=torch.float32)  # fmt: skip
_HIGH = (_M / 128).round()
# M = 128·(high + low), in diagonal blocks of two: a product over 16 columns is faster than two over 8
_DCT = torch.stack([torch.block_diag(m, m) for m in (_M, _HIGH, _M / 128 - _HIGH)])
_AWAY = 1 + 2**-20  # turns round half to even into half away from zero: F/8q is never closer to a tie, but on it

# in 1/65536, of R, G, B and of Y, Cb - 128, Cr - 128; the offsets round (half down for chroma) and shift Y by -128
_TO_YCC = [(19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329)]
_TO_RGB = [(65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0)]
_OFFSETS = [0.5 - 128, 32767 / 65536, 32767 / 65536]


def jpeg(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str = "4:2:0",
    tables: Tables | Tensor | None = None,
    surrogate: str = "residual",
    clamp: str = "sigmoid",
) -> Tensor:
    """x [B, C, H, W] in [0, 1] after Pillow's save and open: k/255, every pixel, for any H and W.

    x is clamped and rounded to 8 bits first. C: 1 (grayscale) or 3. quality: 1 to 100, 75 unless
    tables are given; one, or one per image. tables: 1 to 3 of 64 integers in natural order, instead
    of a quality's. Both may be float tensors that require gradients: quality [B], tables [n, 8, 8]
    or [B, n, 8, 8]; they are rounded, straight through. surrogate, clamp: see `JPEG`.
    """
    check_image(x)
    options = {"subsampling": (subsampling, SAMPLINGS), "surrogate": (surrogate, SURROGATES), "clamp": (clamp, CLAMPS)}
    for name, (value, allowed) in options.items():
        if value not in allowed:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(allowed)}")
    wide = x if x.dtype == torch.float64 else x.float()
    with torch.autocast(x.device.type, enabled=False):
        return _jpeg(wide.contiguous(), quality, subsampling, tables, surrogate, clamp).to(x.dtype)


def _jpeg(x: Tensor, quality, subsampling: str, tables, surrogate: str, clamp: str) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; a JPEG has 1 (grayscale) or 3 (RGB)")
    return _Codec.apply(x, _steps(quality, tables, x), SAMPLINGS[subsampling], surrogate, clamp)


@register("jpeg", exact="Pillow's save and open, bit for bit", gradient="cubic on luma's coefficients")
class JPEG(Operator):
    """The pixels of an image that was saved as JPEG by Pillow (libjpeg-turbo) and opened again.

    quality: 1 to 100, or one per image. subsampling of chroma: 4:2:0, 4:2:2 or 4:4:4. tables:
    instead of a quality, 1 to 3 tables of 64 integers in natural order (all; luma and chroma; luma,
    Cb and Cr). The gradient passes all rounding but that of coefficients unchanged; for that one,
    with d the distance to the integer:

    - residual: the gradient is taken for an image and goes through the codec's linear stages as an
      image does (J g, not Jᵀ g), with the cubic's slope for luma and 1 for chroma
    - cubic: Jᵀ g with slope (1-α) + 3α d², α = 0.8 (Poirier-Ginter & Lalonde 2023, eq. 15)
    - ste: Jᵀ g with slope 1
    - identity: g, whatever the clamp

    clamp of the decoded p to [0, 1]: "sigmoid", slope 2σ(1-σ) with σ = sigmoid(2p - 1) (eq. 11);
    "hard", 1 inside and 0 outside; "ste", 1. The input's clamp is straight through.
    """

    quality: Numbers | None = None
    subsampling: str = "4:2:0"
    tables: Tables | None = None
    surrogate: str = "residual"
    clamp: str = "sigmoid"

    def __post_init__(self):
        if (self.quality is None) == (self.tables is None):
            raise ValueError("give quality, 1 to 100, as in jpeg:75, or tables; one of the two")
        if self.tables is None:
            numbers(self, "quality", 1, 100, integer=True)
        else:
            object.__setattr__(self, "tables", check_tables(self.tables))
        choice(self, "subsampling", SAMPLINGS)
        choice(self, "surrogate", SURROGATES)
        choice(self, "clamp", CLAMPS)

    @classmethod
    def from_file(cls, file: str | Path | bytes, **options: str) -> JPEG:
        """The JPEG that made `file` (a path, or its bytes): the tables and sampling of its header.

        options: surrogate, clamp. Raises ValueError for damaged files, and naming what is not
        covered: CMYK, RGB, arithmetic coding, lossless, 12 bits, other samplings.
        """
        tables, subsampling = read_header(file)
        return cls(tables=tables, subsampling=subsampling, **options)

    def arguments(self) -> list[tuple[str, object, bool]]:
        return [(n, v, n == "quality") for n, v, _ in super().arguments()]  # jpeg:12, though it may be left out

    def forward(self, x: Tensor, rng) -> Tensor:
        return _jpeg(x, self.quality, self.subsampling, self.tables, self.surrogate, self.clamp)


def _steps(quality, tables, x: Tensor) -> Tensor:
    """The quantiser's step sizes [1 or B, C, 8, 8], one table for each component of x."""
    if quality is not None and tables is not None:
        raise ValueError("quality and tables exclude each other; give one of them")
    if isinstance(tables, Tensor) and tables.is_floating_point():
        if tables.ndim not in (3, 4) or tables.shape[-3] > 3 or tables.shape[-2:] != (8, 8):
            raise ValueError(f"tables have shape {list(tables.shape)}; give [n, 8, 8] or [B, n, 8, 8], n up to 3")
        steps = declare(tables, tables.detach().round().clamp(1, LARGEST)).view(-1, *tables.shape[-3:])
    elif tables is not None:
        steps = x.new_tensor(check_tables(tables)).view(1, -1, 8, 8)
    else:
        steps = quality_tables(_qualities(75 if quality is None else quality, x))
    if len(steps) not in (1, len(x)):
        name = "tables" if quality is None else "quality"
        raise ValueError(f"{name} has {len(steps)} values for {len(x)} images; give one, or one per image")
    n = steps.shape[1]
    return steps[:, :1] if x.shape[1] == 1 else steps[:, [0, min(1, n - 1), min(2, n - 1)]]


def _qualities(given: int | Sequence[int] | Tensor, x: Tensor) -> Tensor:
    quality = torch.as_tensor(given, device=x.device).reshape(-1)
    whole = quality.detach().round()
    if not torch.compiler.is_compiling():
        fits = (whole >= 1) & (whole <= 100) & ((whole == quality) | quality.requires_grad)
        if not fits.all():
            raise ValueError(f"quality={given} must be an integer from 1 to 100")
    return declare(quality.to(x), whole.to(x))


class _Codec(torch.autograd.Function):
    """x [B, C, H, W], steps [1 or B, C, 8, 8] → the decoded image; backward as `JPEG` declares it."""

    @staticmethod
    def forward(ctx, x: Tensor, steps: Tensor, sampling: tuple[int, int], surrogate: str, clamp: str) -> Tensor:
        ctx.sampling, ctx.surrogate, ctx.clamp, ctx.steps_shape = sampling, surrogate, clamp, steps.shape
        dtype = _exact_dtype(x.device)
        dct, steps = _DCT.to(x.device, dtype), steps.to(dtype).expand(len(x), -1, -1, -1).transpose(0, 1)
        image = (x * 255).clamp_(0, 255).round_().to(dtype)
        planes, kept = _to_planes(image, sampling), []
        for i, q in enumerate((steps[:1], steps[1:])[: len(planes)]):
            q = q.flatten(0, 1)[:, None].repeat(1, 1, 1, planes[i].shape[2] // 8)  # [planes, 1, 8, width]
            f = _forward_dct(planes[i], dct).unflatten(1, (-1, 8))
            k = (f * (_AWAY / (8 * q))).round_()
            kept += _keep(ctx, f, k, q, x.dtype, luma=i == 0)
            planes[i] = _inverse_dct(k.mul_(q).flatten(1, 2), dct).clamp_(-128, 127)
        image = _to_image(planes, sampling, image)
        needed = ctx.needs_input_grad[1] or (ctx.needs_input_grad[0] and surrogate != "identity")
        ctx.save_for_backward(image.to(torch.int16) if needed and clamp != "ste" else None, *kept)
        return image.clamp_(0, 255).to(x.dtype).div_(255)

    @staticmethod
    def backward(ctx, grad: Tensor):
        first_order_only()
        unclamped, *kept = ctx.saved_tensors
        slopes, rises = kept[0::2], kept[1::2]
        with torch.autocast(grad.device.type, enabled=False):
            limited = grad if unclamped is None else _limit_t(grad, unclamped, ctx.clamp)
            m = _DCT[0].to(grad) / 2**14.5
            to_x = to_steps = None
            if ctx.needs_input_grad[0]:
                to_x = grad if ctx.surrogate == "identity" else _pull_back(ctx, limited, slopes, m)
            if ctx.needs_input_grad[1]:
                spectra = [_analyse(plane, m) for plane in _to_image_t(limited / 255, ctx.sampling)]
                each = [_per_table(c * rise, len(grad)) for c, rise in zip(spectra, rises, strict=True)]
                to_steps = torch.cat(each, 1).sum_to_size(ctx.steps_shape)
        return to_x, to_steps, None, None, None


def _exact_dtype(device: torch.device) -> torch.dtype:
    """float32 where its matrix products are known to keep all 24 bits, else float64."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return torch.float64
    try:
        precision = torch.backends.mkldnn.matmul.fp32_precision
    except AttributeError:  # torch before 2.9
        precision = "none" if torch.get_float32_matmul_precision() == "highest" else "lower"
    return torch.float32 if precision in ("none", "ieee") else torch.float64


def _keep(ctx, f: Tensor, k: Tensor, q: Tensor, dtype: torch.dtype, luma: bool) -> tuple[Tensor | None, Tensor | None]:
    """(slope, rise): the declared d(K)/d(F/8q) where it is not 1, and d(Kq)/dq where it is asked for."""
    cubic = ctx.surrogate == "cubic" or (ctx.surrogate == "residual" and luma)
    cubic, asked = cubic and any(ctx.needs_input_grad), ctx.needs_input_grad[1]
    if not (cubic or asked):
        return None, None
    t, k = f.to(dtype) / (8 * q), k.to(dtype)
    slope = (t - k).square_().mul_(3 * CUBIC_BLEND).add_(1 - CUBIC_BLEND) if cubic else None
    rise = (k - (t if slope is None else t * slope)) if asked else None
    return slope, rise


def _limit_t(grad: Tensor, unclamped: Tensor, clamp: str) -> Tensor:
    if clamp == "hard":
        return grad * ((unclamped >= 0) & (unclamped <= 255))
    s = unclamped.to(grad.dtype).mul_(2 / 255).sub_(1).sigmoid_()
    return s.addcmul_(s, s, value=-1).mul_(grad).mul_(2)


def _pull_back(ctx, grad: Tensor, slopes: list[Tensor | None], m: Tensor) -> Tensor:
    """Jᵀ g, or J g for "residual", whose chroma skips the blocks."""
    if ctx.surrogate != "residual":
        planes = _to_image_t(grad, ctx.sampling)
        planes = [_weigh(plane, slope, m) for plane, slope in zip(planes, slopes, strict=True)]
        return _to_planes_t(planes, grad.shape, ctx.sampling)
    luma, *chroma = _to_planes(grad, ctx.sampling, exact=False)
    return _to_image([_weigh(luma, slopes[0], m), *chroma], ctx.sampling, torch.empty_like(grad), exact=False)


# Blocks: planes [planes, height, width] of 8×8 blocks ---------------------------------------------


def _forward_dct(x: Tensor, dct: Tensor) -> Tensor:
    whole = (x.view(-1, 16) @ (dct[0].T / 2**11)).add_(0.5).floor_()  # below 2^23, no need to split
    return _columns(dct[:, :8, :8], whole.view(-1, 8, x.shape[2]), 15).view_as(x)


def _inverse_dct(c: Tensor, dct: Tensor) -> Tensor:
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


def _analyse(x: Tensor, m: Tensor) -> Tensor:
    """M x Mᵀ / 2^29 in every block: the transposed inverse DCT."""
    rows = (x.reshape(-1, 16) @ m.T).view(-1, 8, x.shape[2])
    return torch.matmul(m[:8, :8], rows).view(len(x), -1, 8, x.shape[2])


def _weigh(x: Tensor, slope: Tensor | None, m: Tensor) -> Tensor:
    """Mᵀ (slope · (M x Mᵀ)) M / 2^58: the gradient's way through both DCTs and the quantiser."""
    c = _analyse(x, m)
    c = (c if slope is None else c.mul_(slope)).view(-1, 8, x.shape[2])
    return (torch.matmul(m[:8, :8].T, c).view(-1, 16) @ m).view(x.shape)


def _per_table(c: Tensor, batch: int) -> Tensor:
    """The sum over all blocks [batch, planes of an image, 8, 8]."""
    return c.unflatten(3, (-1, 8)).sum((1, 3)).unflatten(0, (-1, batch)).transpose(0, 1)


# Colour and sampling: image [B, C, H, W] ↔ luma [B, h, w], chroma [2·B, h, w], in whole blocks -----


def _to_planes(image: Tensor, sampling: tuple[int, int], exact: bool = True) -> list[Tensor]:
    height, width = image.shape[2:]
    if image.shape[1] == 1:
        luma = image[:, 0] - 128 if exact else image[:, 0]
        return [_grow(luma, _up8(height), _up8(width))]
    ycc = _mix(image.unbind(1), _TO_YCC)
    if exact:
        ycc.add_(ycc.new_tensor(_OFFSETS).view(3, 1, 1, 1)).floor_()
    return [_grow(ycc[0], _up8(height), _up8(width)), _halve(ycc[1:].flatten(0, 1), *sampling, exact)]


def _to_planes_t(planes: list[Tensor], shape: torch.Size, sampling: tuple[int, int]) -> Tensor:
    batch, _, height, width = shape
    luma = _shrink(planes[0], height, width)
    if len(planes) == 1:
        return luma[:, None]
    chroma = _halve_t(planes[1], *sampling, height, width).unflatten(0, (2, batch))
    image = luma.new_empty(shape)
    _mix((luma, *chroma), zip(*_TO_YCC, strict=True), image.unbind(1))
    return image


def _to_image(planes: list[Tensor], sampling: tuple[int, int], out: Tensor, exact: bool = True) -> Tensor:
    """Fills `out` [B, C, H, W] with levels that are not yet clamped."""
    batch, _, height, width = out.shape
    luma = (planes[0].add_(128) if exact else planes[0])[:, :height, :width]
    if len(planes) == 1:
        return out.copy_(luma[:, None])
    across, down = sampling
    chroma = planes[1][:, : -(-height // down), : -(-width // across)]  # what pads a block stays out
    chroma = _double(chroma, across, down, exact)[:, :height, :width].unflatten(0, (2, batch))
    _mix((luma, *chroma), _TO_RGB, out.unbind(1))
    return out.round_() if exact else out  # a sum never ends in exactly ½


def _to_image_t(grad: Tensor, sampling: tuple[int, int]) -> list[Tensor]:
    height, width = grad.shape[2:]
    if grad.shape[1] == 1:
        return [_pad(grad[:, 0], _up8(height), _up8(width))]
    across, down = sampling
    ycc = _mix(grad.unbind(1), zip(*_TO_RGB, strict=True))
    rows, columns = -(-height // down), -(-width // across)
    chroma = _double_t(_pad(ycc[1:].flatten(0, 1), rows * down, columns * across), across, down)
    return [_pad(ycc[0], _up8(height), _up8(width)), _pad(chroma, _up8(rows), _up8(columns))]


def _mix(planes: Sequence[Tensor], rows: Iterable[Sequence[int]], out: Sequence[Tensor] | None = None) -> Tensor:
    """out[i] = Σ rows[i][j] / 2^16 · planes[j]."""
    out = planes[0].new_empty(3, *planes[0].shape) if out is None else out
    for target, weights in zip(out, rows, strict=True):
        (w, plane), *rest = [(w / 65536, plane) for w, plane in zip(weights, planes, strict=True) if w]
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
        g = g[:, :, None, :, None].expand(-1, -1, down, -1, 2).reshape(len(g), g.shape[1] * down, -1)
    return _shrink(g, height, width)


def _double(c: Tensor, across: int, down: int, exact: bool) -> Tensor:
    """libjpeg's "fancy upsampling": linear interpolation at quarters; repetition up to a width of 4."""
    if across == 1:
        return c
    if c.shape[2] <= 2:
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
    if g.shape[2] <= 4:
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
    both = c.new_empty([*c.shape[: axis + 1], 2, *c.shape[axis + 1 :]])  # torch.stack takes far longer
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
    return x if n == size else torch.cat([x, x.narrow(axis, n - 1, 1).repeat_interleave(size - n, axis)], axis)


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
    return nn.pad(g, (0, width - g.shape[2], 0, height - g.shape[1]))
