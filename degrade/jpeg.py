"""JPEG: the pixels that libjpeg-turbo decodes, bit for bit, with a declared gradient.

Every stage is linear up to a rounding, and stays on the planes of the image: an 8×8 block is 8 rows
of a plane and 8 of its columns. Names are those of ITU-T T.81; F is 8 times its DCT, as in libjpeg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .jpeg_cells import nearest_saved_as
from .jpeg_header import LARGEST, SAMPLINGS, check_tables, quality_tables, read_header
from .jpeg_stages import (
    DCT,
    analyse,
    forward_dct,
    inverse_dct,
    per_table,
    to_image,
    to_image_t,
    to_planes,
    to_planes_t,
    weigh,
)
from .operator import Operator, Shape, Window, check_image
from .params import (
    Integers,
    Range,
    check_choice,
    check_numbers,
    checked,
    integer,
    option,
    show,
)
from .registry import register
from .rng import Rng
from .surrogate import CUBIC_BLEND, declare, first_order_only

SURROGATES = ("identity", "residual", "cubic", "ste")
CLAMPS = ("sigmoid", "hard", "ste")
_MCU = 16  # pixels in which the grids of every sampling begin anew
_AWAY = (
    1 + 2**-20
)  # F/8q times this: a tie then rounds away from zero, as in libjpeg, and nothing else changes


def jpeg(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str = "4:2:0",
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    surrogate: str = "identity",
    clamp: str = "sigmoid",
) -> Tensor:
    """x [B, C, H, W] in [0, 1] after Pillow's save and open: k/255, every pixel, for any H and W.

    x is clamped and rounded to 8 bits first. C: 1 (grayscale) or 3. quality: 1 to 100, 75 unless
    tables are given; one, or one per image. tables: 1 to 3 of 64 integers in natural order, instead
    of a quality's. Either may be a tensor with a gradient: quality [B], tables [n, 8, 8] or
    [B, n, 8, 8]; a float tensor is rounded, straight through. surrogate, clamp: see `JPEG`.
    Raises ValueError for anything else; under torch.compile the contents of tensors go unchecked.
    """
    check_image(x)
    check_choice("subsampling", subsampling, SAMPLINGS)
    check_choice("surrogate", surrogate, SURROGATES)
    check_choice("clamp", clamp, CLAMPS)
    if quality is not None and tables is not None:
        raise ValueError("quality and tables exclude each other; give one of them")
    if tables is not None and not isinstance(tables, Tensor):
        tables = check_tables(tables)
    elif tables is None and not isinstance(quality, Tensor):
        quality = check_numbers("quality", 75 if quality is None else quality, 1, 100, integer=True)
        if isinstance(quality, Range):
            raise ValueError(f"quality={quality} is drawn by an operator; write JPEG(quality)(x)")
    wide = x if x.dtype == torch.float64 else x.float()
    with torch.autocast(x.device.type, enabled=False):
        return _jpeg(wide.contiguous(), quality, subsampling, tables, surrogate, clamp).to(x.dtype)


def _jpeg(x: Tensor, quality, subsampling: str, tables, surrogate: str, clamp: str) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; a JPEG has 1 (grayscale) or 3 (RGB)")
    return _Codec.apply(x, _steps(quality, tables, x), SAMPLINGS[subsampling], surrogate, clamp)


@register("jpeg", exact="Pillow's save and open, bit for bit", gradient="identity, or by name")
class JPEG(Operator):
    """The pixels of an image that was saved as JPEG by Pillow (libjpeg-turbo) and opened again.

    quality: 1 to 100, or one per image. subsampling of chroma: 4:2:0, 4:2:2 or 4:4:4. tables:
    instead of a quality, 1 to 3 tables of 64 integers in natural order (all; luma and chroma; luma,
    Cb and Cr). The gradient passes all rounding but that of coefficients unchanged; for that one,
    with d the distance to the integer:

    - identity, the default: g, whatever the clamp; measured best for inversion, with ste
    - residual, measured best for descent to a given file: the gradient is taken for an image and
      goes through the codec's linear stages as one (J g, not Jᵀ g), with the cubic's slope for luma
      and 1 for chroma
    - cubic: Jᵀ g with slope (1-α) + 3α d², α = 0.8 (Poirier-Ginter & Lalonde 2023, eq. 15)
    - ste: Jᵀ g with slope 1

    clamp of the decoded p to [0, 1]: "sigmoid", slope 2σ(1-σ) with σ = sigmoid(2p - 1) (eq. 11);
    "hard", 1 inside and 0 outside; "ste", 1. The input's clamp is straight through.

    `project`: an 8-bit image, each of whose DCT coefficients is in the cell of the quantiser that y
    tells, so that saving it gives y, bit for bit, where y is a decoded JPEG of these settings. An
    MCU for which none is found takes the pixels of y, and encodes as they do.
    """

    quality: Integers | None = integer(default=None, low=1, high=100)
    subsampling: str = option(*SAMPLINGS, default="4:2:0")
    tables: Sequence[Sequence[int]] | Tensor | None = checked(
        check_tables, "1 to 3 tables of 64 integers", default=None
    )
    surrogate: str = option(*SURROGATES, default="identity")
    clamp: str = option(*CLAMPS, default="sigmoid")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.quality is None) == (self.tables is None):
            raise ValueError("give quality, 1 to 100, as in jpeg:75, or tables; one of the two")

    @classmethod
    def from_file(
        cls, file: str | Path | bytes, surrogate: str = "identity", clamp: str = "sigmoid"
    ) -> JPEG:
        """The JPEG that made `file` (a path, or its bytes): the tables and sampling of its header.

        That of a grayscale file is for grayscale images; on RGB it uses its one table for all
        components, and 4:2:0. Raises ValueError for damaged files, and naming what is not covered:
        CMYK, RGB, arithmetic coding, lossless, 12 bits, other samplings.
        """
        tables, subsampling = read_header(file)
        return cls(tables=tables, subsampling=subsampling, surrogate=surrogate, clamp=clamp)

    def arguments(self) -> list[tuple[str, object, bool]]:
        return [
            (n, v, n == "quality") for n, v, _ in super().arguments()
        ]  # jpeg:12, though it may be left out

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return _jpeg(x, self.quality, self.subsampling, self.tables, self.surrogate, self.clamp)

    def reach(self, shape: Shape) -> float:
        return _MCU

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        ends = [
            (end, n)
            for span, n in zip(window, shape[2:], strict=True)
            for end in (span.start, span.stop)
        ]
        return None if any(end % _MCU and end != n for end, n in ends) else (self, window)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return nearest_saved_as(
            x, y, _steps(self.quality, self.tables, x), SAMPLINGS[self.subsampling]
        )


def _steps(quality, tables, x: Tensor) -> Tensor:
    """The quantiser's step sizes [1 or B, C, 8, 8], one table for each component of x."""
    if tables is None:
        name, steps = "quality", quality_tables(_rounded("quality", quality, 100, x).reshape(-1))
    else:
        name, steps = "tables", _rounded("tables", tables, LARGEST, x)
        if steps.ndim < 4 and steps.numel() in (64, 128, 192):
            steps = steps.reshape(1, -1, 8, 8)
        if steps.ndim != 4 or steps.shape[1] not in (1, 2, 3) or steps.shape[2:] != (8, 8):
            raise ValueError(
                f"tables have shape {list(steps.shape)}; give [n, 8, 8] or [B, n, 8, 8], n from 1 to 3"
            )
    if len(steps) not in (1, len(x)):
        raise ValueError(
            f"{name} has {len(steps)} values for {len(x)} images; give one, or one per image"
        )
    n = steps.shape[1]
    return steps[:, :1] if x.shape[1] == 1 else steps[:, [0, min(1, n - 1), min(2, n - 1)]]


def _rounded(name: str, values, high: int, x: Tensor) -> Tensor:
    """A parameter's values as integers from 1 to `high`, of x's type, straight through."""
    values = values if isinstance(values, Tensor) else torch.tensor(values, device=x.device)
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{name} is a tensor of {values.dtype}; give real numbers")
    values = values.to(x)
    whole = values.detach().round()
    if not torch.compiler.is_compiling() and not ((whole >= 1) & (whole <= high)).all():
        raise ValueError(f"{name}={show(values.tolist())} must be from 1 to {high}")
    return declare(values, whole)


class _Codec(torch.autograd.Function):
    """x [B, C, H, W], steps [1 or B, C, 8, 8] → the decoded image; backward as `JPEG` declares it."""

    @staticmethod
    def forward(
        ctx, x: Tensor, steps: Tensor, sampling: tuple[int, int], surrogate: str, clamp: str
    ) -> Tensor:
        ctx.sampling, ctx.surrogate, ctx.clamp, ctx.steps_shape = (
            sampling,
            surrogate,
            clamp,
            steps.shape,
        )
        dtype = _exact_dtype(x.device)
        dct, steps = (
            DCT.to(x.device, dtype),
            steps.to(dtype).expand(len(x), -1, -1, -1).transpose(0, 1),
        )
        image = (x * 255).clamp_(0, 255).round_().to(dtype)
        planes, kept = to_planes(image, sampling), []
        for i, q in enumerate((steps[:1], steps[1:])[: len(planes)]):
            q = q.flatten(0, 1)[:, None].repeat(
                1, 1, 1, planes[i].shape[2] // 8
            )  # [planes, 1, 8, width]
            f = forward_dct(planes[i], dct).unflatten(1, (-1, 8))
            k = (f * (_AWAY / (8 * q))).round_()
            kept += _keep(ctx, f, k, q, x.dtype, luma=i == 0)
            planes[i] = inverse_dct(k.mul_(q).flatten(1, 2), dct).clamp_(-128, 127)
        image = to_image(planes, sampling, image)
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
            m = DCT[0].to(grad) / 2**14.5
            to_x = to_steps = None
            if ctx.needs_input_grad[0]:
                to_x = grad if ctx.surrogate == "identity" else _pull_back(ctx, limited, slopes, m)
            if ctx.needs_input_grad[1]:
                spectra = [analyse(plane, m) for plane in to_image_t(limited / 255, ctx.sampling)]
                each = [
                    per_table(c * rise, len(grad)) for c, rise in zip(spectra, rises, strict=True)
                ]
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


def _keep(
    ctx, f: Tensor, k: Tensor, q: Tensor, dtype: torch.dtype, luma: bool
) -> tuple[Tensor | None, Tensor | None]:
    """(slope, rise): the declared d(K)/d(F/8q) where it is not 1, and d(Kq)/dq where it is asked for."""
    asked = ctx.needs_input_grad[1]
    cubic = any(ctx.needs_input_grad) and (
        ctx.surrogate == "cubic" or (ctx.surrogate == "residual" and luma)
    )
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
        planes = to_image_t(grad, ctx.sampling)
        planes = [weigh(plane, slope, m) for plane, slope in zip(planes, slopes, strict=True)]
        return to_planes_t(planes, grad.shape, ctx.sampling)
    luma, *chroma = to_planes(grad, ctx.sampling, exact=False)
    return to_image(
        [weigh(luma, slopes[0], m), *chroma], ctx.sampling, torch.empty_like(grad), exact=False
    )
