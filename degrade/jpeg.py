"""JPEG: the pixels that libjpeg-turbo decodes, bit for bit, with a declared gradient.

Every stage is linear up to a rounding, and stays on the planes of the image: an 8×8 block is 8 rows
of a plane and 8 of its columns. Names are those of ITU-T T.81; F is 8 times its DCT, as in libjpeg.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .images import check_image
from .jpeg_cells import nearest_saved_as
from .jpeg_header import (
    LARGEST,
    SAMPLINGS,
    check_tables,
    quality_tables,
    read_header,
    sampling_name,
)
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
from .operator import Operator, Shape, Window
from .params import Integers, Range, check_choice, check_numbers, checked, integer, option, show
from .registry import register
from .rng import Rng
from .surrogate import CUBIC_BLEND, declare, refuse_second_order, second_order
from .transforms import (
    NO_FORWARD_MODE,
    asks_for_forward_mode,
    fold_all,
    is_transformed,
    values_are_readable,
    without_autocast,
)

SURROGATES = ("identity", "residual", "cubic", "ste")
CLAMPS = ("sigmoid", "hard", "ste")
_MCU = 16  # pixels in which the grids of every sampling begin anew
# F/8q is multiplied by this: a tie then rounds away from zero, as in libjpeg; nothing else changes.
_AWAY = 1 + 2**-20


def jpeg(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str | int = "4:2:0",
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    surrogate: str = "identity",
    clamp: str = "sigmoid",
) -> Tensor:
    """Save images x as JPEG and return the pixels that Pillow reads back, bit for bit.

    x: [B, C, H, W] with C = 1 (grayscale) or 3 and any H and W. It is clamped to [0, 1] and rounded
        to 8 bits first.
    quality: 1 to 100, one number or one per image; 75 unless tables are given.
    tables: instead of a quality, 1 to 3 tables of 64 integers in natural order.
    surrogate, clamp: the gradient; see `JPEG`.

    The result holds multiples of 1/255. quality [B] and tables [n, 8, 8] or [B, n, 8, 8] may be
    tensors with a gradient; a float tensor is rounded, straight through. Raises ValueError for
    anything else. Under torch.compile the values of tensors are not checked.
    """
    check_image(x)
    sampling = sampling_name(subsampling)
    check_choice("subsampling", sampling, SAMPLINGS)
    check_choice("surrogate", surrogate, SURROGATES)
    check_choice("clamp", clamp, CLAMPS)
    if quality is not None and tables is not None:
        raise ValueError("quality and tables exclude each other; give one of them")
    if tables is not None and not isinstance(tables, Tensor):
        tables = check_tables(tables)
    if tables is None and not isinstance(quality, Tensor):
        quality = _checked_quality(quality, x.device)
    wide = x if x.dtype == torch.float64 else x.float()
    try:
        with without_autocast(x.device):
            image = _jpeg(wide.contiguous(), quality, str(sampling), tables, surrogate, clamp)
    except NotImplementedError as error:
        if asks_for_forward_mode(error):
            raise ValueError(f"jpeg: {NO_FORWARD_MODE}") from error
        raise
    return image.to(x.dtype)


def _checked_quality(quality: int | Sequence[int] | None, device: torch.device) -> Tensor:
    """The given qualities as a tensor; 75 for None."""
    given = 75 if quality is None else quality
    plain = check_numbers("quality", given, 1, 100, integer=True)
    if isinstance(plain, Range):
        raise ValueError(f"quality={quality} is drawn by an operator; write JPEG(quality)(x)")
    return torch.tensor(plain, device=device)


def _jpeg(x: Tensor, quality, subsampling: str, tables, surrogate: str, clamp: str) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"x has {x.shape[1]} channels; a JPEG has 1 (grayscale) or 3 (RGB)")
    steps = _steps(quality, tables, x)
    recorded = torch.is_grad_enabled()
    to_image = is_transformed(x) or (recorded and x.requires_grad)
    to_steps = is_transformed(steps) or (recorded and steps.requires_grad)
    rules = _Rules(SAMPLINGS[subsampling], surrogate, clamp, to_image, to_steps)
    image: Tensor = _Codec.apply(x, steps, rules)[0]
    return image


@register("jpeg", exact="Pillow's save and open, bit for bit", gradient="identity, or by name")
class JPEG(Operator):
    """Save the image as JPEG with Pillow (libjpeg-turbo) and open it again: the same pixels.

    quality: 1 to 100, or one per image. subsampling of chroma: 4:2:0, 4:2:2, 4:4:4 or 4:4:0 (half
    the rows), also written 420 and so on. tables: instead of a quality, 1 to 3 tables of 64
    integers in natural order (all; luma and chroma; luma, Cb and Cr).

    Gradient: straight through all rounding except that of the coefficients, where `surrogate`
    chooses a rule. With g the gradient of the output, J the Jacobian of the codec without rounding,
    and d the distance of a coefficient to the nearest integer:

    - identity, the default: g itself, without the clamp. It and ste are the best for inversion
    - residual, the best for descent to a given file: J g instead of Jᵀ g (the gradient goes forward
      through the codec's linear stages), with the cubic's slope for luma and 1 for chroma
    - cubic: Jᵀ g with slope (1-α) + 3α d², α = 0.8 (Poirier-Ginter & Lalonde 2023, eq. 15)
    - ste: Jᵀ g with slope 1

    clamp of the decoded p to [0, 1]: "sigmoid", slope 2σ(1-σ) with σ = sigmoid(2p - 1) (eq. 11);
    "hard", 1 inside and 0 outside; "ste", 1. The input's clamp is straight through.

    `project` finds an 8-bit image near x that saves as y, bit for bit, where y is a decoded JPEG of
    these settings. An MCU (a unit of 8×8 to 16×16 pixels) without a solution takes y's pixels.
    """

    quality: Integers | None = integer(default=None, low=1, high=100)
    subsampling: str = option(*SAMPLINGS, default="4:2:0")
    tables: Sequence[Sequence[int]] | Tensor | None = checked(
        check_tables, "1 to 3 tables of 64 integers", default=None
    )
    surrogate: str = option(*SURROGATES, default="identity")
    clamp: str = option(*CLAMPS, default="sigmoid")

    def __post_init__(self) -> None:
        object.__setattr__(self, "subsampling", sampling_name(self.subsampling))
        super().__post_init__()
        if (self.quality is None) == (self.tables is None):
            raise ValueError("give quality, 1 to 100, as in jpeg:75, or tables; one of the two")

    @classmethod
    def from_file(
        cls, file: str | Path | bytes, surrogate: str = "identity", clamp: str = "sigmoid"
    ) -> JPEG:
        """The JPEG that made `file` (a path, or its bytes), with its header's tables and sampling.

        The operator of a grayscale file is meant for grayscale images; on RGB it uses the one table
        for all components, and 4:2:0. Raises ValueError for damaged files and for files that the
        model does not cover: CMYK, RGB, arithmetic coding, lossless, 12 bits, other samplings.
        """
        tables, subsampling = read_header(file)
        return cls(tables=tables, subsampling=subsampling, surrogate=surrogate, clamp=clamp)

    def arguments(self) -> list[tuple[str, object, bool]]:
        """Quality is written without its name (jpeg:12), although it may be left out."""
        return [(name, value, name == "quality") for name, value, _ in super().arguments()]

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        return _jpeg(x, self.quality, self.subsampling, self.tables, self.surrogate, self.clamp)

    def reach(self, shape: Shape) -> float:
        return _MCU

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        rows, columns = window
        height, width = shape[2:]
        if _cuts_through_mcus(rows, height) or _cuts_through_mcus(columns, width):
            return None
        return self, window

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        steps = _steps(self.quality, self.tables, x)
        return nearest_saved_as(x, y, steps, SAMPLINGS[self.subsampling])


def _cuts_through_mcus(span: slice, n: int) -> bool:
    """Whether an end of a span of n pixels lies inside an MCU."""
    return any(end % _MCU != 0 and end != n for end in (span.start, span.stop))


def _steps(quality, tables, x: Tensor) -> Tensor:
    """The quantiser's step sizes [1 or B, C, 8, 8], one table for each component of x."""
    if tables is None:
        name = "quality"
        qualities = _rounded(name, quality, 100, x)
        steps = quality_tables(qualities.reshape(-1))
    else:
        name = "tables"
        steps = _as_tables(_rounded(name, tables, LARGEST, x))
    if len(steps) not in (1, len(x)):
        raise ValueError(
            f"{name} has {len(steps)} values for {len(x)} images; give one, or one per image"
        )
    last = steps.shape[1] - 1
    components = [0]
    if x.shape[1] == 3:
        components = [0, min(1, last), min(2, last)]
    return steps[:, components].expand(len(x), -1, -1, -1)


def _as_tables(steps: Tensor) -> Tensor:
    """Tables of any accepted shape as [1 or B, n, 8, 8]."""
    if steps.ndim < 4 and steps.numel() in (64, 128, 192):
        return steps.reshape(1, -1, 8, 8)
    if steps.ndim != 4 or steps.shape[1] not in (1, 2, 3) or steps.shape[2:] != (8, 8):
        raise ValueError(
            f"tables have shape {list(steps.shape)}; give [n, 8, 8] or [B, n, 8, 8], n from 1 to 3"
        )
    return steps


def _rounded(name: str, values, high: int, x: Tensor) -> Tensor:
    """A parameter's values as integers from 1 to `high`, of x's type, straight through."""
    if not isinstance(values, Tensor):
        values = torch.tensor(values, device=x.device)
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{name} is a tensor of {values.dtype}; give real numbers")
    values = values.to(x)
    integers = values.detach().round()
    if values_are_readable(integers):
        in_range = (integers >= 1) & (integers <= high)
        if not in_range.all():
            raise ValueError(f"{name}={show(values.tolist())} must be from 1 to {high}")
    return declare(values, integers)


class _Rules(NamedTuple):
    """How to differentiate a round trip, and with respect to what."""

    sampling: tuple[int, int]
    surrogate: str
    clamp: str
    to_image: bool
    to_steps: bool

    @property
    def unclamped(self) -> bool:
        """Whether the gradient depends on the decoded image before its clamp."""
        through_clamp = self.to_steps or (self.to_image and self.surrogate != "identity")
        return through_clamp and self.clamp != "ste"

    def slopes(self, luma: bool) -> bool:
        """Whether the quantiser of a plane has the cubic's slope."""
        cubic = self.surrogate == "cubic" or (self.surrogate == "residual" and luma)
        return cubic and (self.to_image or self.to_steps)


Saved = Tensor | None  # what a backward pass needs, batch first; None where it does not


class _Codec(torch.autograd.Function):
    """x [B, C, H, W], steps [B, C, 8, 8] → the decoded image and what its gradient needs.

    These are the image before its clamp, then for luma and for chroma the slope and the rise of
    the quantiser [B, planes, rows of blocks, 8, width].
    """

    @staticmethod
    def forward(x: Tensor, steps: Tensor, rules: _Rules) -> tuple[Saved, ...]:
        batch, channels = x.shape[:2]
        dtype = _exact_dtype(x.device)
        dct = DCT.to(x.device, dtype)
        tables = steps.to(dtype).transpose(0, 1)
        image = (x * 255).clamp_(0, 255).round_().to(dtype)
        planes = to_planes(image, rules.sampling)
        tables_of_planes = (tables[:1], tables[1:])  # of luma, of chroma
        saved: list[Saved] = []
        for i, plane in enumerate(planes):
            q = _step_plane(tables_of_planes[i], plane.shape[2])
            f = forward_dct(plane, dct).unflatten(1, (-1, 8))
            k = (f * (_AWAY / (8 * q))).round_()
            slope, rise = _slope_and_rise(rules, f, k, q, x.dtype, luma=i == 0)
            saved.append(_batch_first(slope, batch))
            saved.append(_batch_first(rise, batch))
            dequantised = k.mul_(q).flatten(1, 2)
            planes[i] = inverse_dct(dequantised, dct).clamp_(-128, 127)
        if channels == 1:
            saved += [None, None]
        image = to_image(planes, rules.sampling, image)
        unclamped = image.to(torch.int16) if rules.unclamped else None
        levels = image.clamp_(0, 255).to(x.dtype)
        return levels.div_(255), unclamped, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, _, ctx.rules = inputs
        saved = output[1:]
        tensors = [tensor for tensor in saved if tensor is not None]
        ctx.mark_non_differentiable(*tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x if is_transformed(x) else None, *saved)

    @staticmethod
    def vmap(info: Any, dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        return fold_all(_Codec, info.batch_size, dims, arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Saved, Saved, None]:
        x, *saved = ctx.saved_tensors
        if x is not None:
            to_image, to_steps = _CodecGradient.apply(ctx.rules, x, grad, *saved)
            return to_image, to_steps, None
        refuse_second_order()
        to_image, to_steps = _gradients(ctx.rules, grad, *saved)
        return to_image, to_steps, None


class _CodecGradient(torch.autograd.Function):
    """The backward pass of `_Codec` under torch.func, which would differentiate it again."""

    @staticmethod
    def forward(rules: _Rules, x: Tensor, grad: Tensor, *saved: Saved) -> tuple[Saved, Saved]:
        return _gradients(rules, grad, *saved)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def vmap(info: Any, dims: tuple, *arguments: Any) -> tuple[tuple, tuple]:
        return fold_all(_CodecGradient, info.batch_size, dims, arguments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise second_order()


def _gradients(rules: _Rules, grad: Tensor, unclamped: Saved, *saved: Saved) -> tuple[Saved, Saved]:
    """(gradient with respect to the image, with respect to the steps), as `JPEG` declares them."""
    slopes = [None if slope is None else _planes_first(slope) for slope in saved[0::2]]
    rises = [_planes_first(rise) for rise in saved[1::2] if rise is not None]
    with without_autocast(grad.device):
        before_clamp = grad
        if unclamped is not None:
            before_clamp = _through_clamp(grad, unclamped, rules.clamp)
        m = DCT[0].to(grad) / 2**14.5
        to_image = to_steps = None
        if rules.to_image and rules.surrogate == "identity":
            to_image = grad.clone()
        elif rules.to_image:
            to_image = _through_codec(rules, before_clamp, slopes, m)
        if rules.to_steps:
            to_steps = _gradient_of_steps(rules, before_clamp, rises, m)
    return to_image, to_steps


def _gradient_of_steps(rules: _Rules, grad: Tensor, rises: list[Tensor], m: Tensor) -> Tensor:
    """The gradient with respect to the steps [B, C, 8, 8]."""
    planes = to_image_t(grad / 255, rules.sampling)
    sums = []
    for plane, rise in zip(planes, rises, strict=False):  # grey has one plane
        product = analyse(plane, m) * rise
        sums.append(per_table(product, len(grad)))
    return torch.cat(sums, 1)


def _step_plane(tables: Tensor, width: int) -> Tensor:
    """Tables [C, B, 8, 8] repeated along rows of blocks: [planes, 1, 8, width]."""
    return tables.flatten(0, 1)[:, None].repeat(1, 1, 1, width // 8)


def _batch_first(planes: Saved, batch: int) -> Saved:
    if planes is None:
        return None
    by_plane: Tensor = planes.unflatten(0, (-1, batch))
    return by_plane.transpose(0, 1)


def _planes_first(saved: Tensor) -> Tensor:
    """The inverse of `_batch_first`."""
    return saved.transpose(0, 1).flatten(0, 1)


def _exact_dtype(device: torch.device) -> torch.dtype:
    """float32 where its matrix products are known to keep all 24 bits, else float64."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return torch.float64
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:  # torch before 2.9
        full_precision = torch.get_float32_matmul_precision() == "highest"
    else:
        full_precision = matmul.fp32_precision in ("none", "ieee")
    return torch.float32 if full_precision else torch.float64


def _slope_and_rise(
    rules: _Rules, f: Tensor, k: Tensor, q: Tensor, dtype: torch.dtype, luma: bool
) -> tuple[Saved, Saved]:
    """(slope, rise): the declared d(K)/d(F/8q) and d(Kq)/dq; None where not needed."""
    if not (rules.slopes(luma) or rules.to_steps):
        return None, None
    unrounded = f.to(dtype) / (8 * q)
    k = k.to(dtype)
    slope = rise = None
    if rules.slopes(luma):
        squared_distance = (unrounded - k).square_()
        slope = squared_distance.mul_(3 * CUBIC_BLEND).add_(1 - CUBIC_BLEND)
    if rules.to_steps:
        rise = k - (unrounded if slope is None else unrounded * slope)
    return slope, rise


def _through_clamp(grad: Tensor, unclamped: Tensor, clamp: str) -> Tensor:
    """The gradient before the clamp of the decoded levels `unclamped`."""
    if clamp == "hard":
        inside = (unclamped >= 0) & (unclamped <= 255)
        return grad * inside
    p = unclamped.to(grad.dtype).mul_(2 / 255)
    s = p.sub_(1).sigmoid_()
    slope = s.addcmul_(s, s, value=-1)  # half of it: s (1 - s)
    return slope.mul_(grad).mul_(2)


def _through_codec(rules: _Rules, grad: Tensor, slopes: list[Saved], m: Tensor) -> Tensor:
    """Jᵀ g, or J g for "residual", whose chroma skips the blocks."""
    sampling = rules.sampling
    if rules.surrogate == "residual":
        luma, *chroma = to_planes(grad, sampling, exact=False)
        weighed = weigh(luma, slopes[0], m)
        return to_image([weighed, *chroma], sampling, torch.empty_like(grad), exact=False)
    planes = []
    for plane, slope in zip(to_image_t(grad, sampling), slopes, strict=False):
        planes.append(weigh(plane, slope, m))
    return to_planes_t(planes, grad.shape, sampling)
