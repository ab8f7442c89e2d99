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
    Sampling,
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
    sampling = str(sampling)
    settings = _Settings(quality, tables, sampling, surrogate, clamp)
    wide = x if x.dtype == torch.float64 else x.float()
    try:
        with without_autocast(x.device):
            image = _save_and_open(wide.contiguous(), settings)
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


class _Settings(NamedTuple):
    """The parameters of `JPEG`, checked; either quality or tables is None."""

    quality: Integers | Tensor | None
    tables: Sequence[Sequence[int]] | Tensor | None
    subsampling: str
    surrogate: str
    clamp: str


def _save_and_open(x: Tensor, settings: _Settings) -> Tensor:
    """The decoded image [B, C, H, W] of float32 or float64, with its gradient."""
    channels = x.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"x has {channels} channels; a JPEG has 1 (grayscale) or 3 (RGB)")
    quality, tables = settings.quality, settings.tables
    steps = _steps(quality, tables, x)
    rules = _Rules(
        sampling=SAMPLINGS[settings.subsampling],
        surrogate=settings.surrogate,
        clamp=settings.clamp,
        to_image=_needs_gradient(x),
        to_steps=_needs_gradient(steps),
    )
    image: Tensor = _Codec.apply(x, steps, rules)[0]
    return image


def _needs_gradient(x: Tensor) -> bool:
    if is_transformed(x):
        return True
    return torch.is_grad_enabled() and x.requires_grad


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
        name = sampling_name(self.subsampling)
        object.__setattr__(self, "subsampling", name)
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
        arguments = []
        for name, value, _ in super().arguments():
            positional = name == "quality"
            arguments.append((name, value, positional))
        return arguments

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        settings = _Settings(
            self.quality, self.tables, self.subsampling, self.surrogate, self.clamp
        )
        return _save_and_open(x, settings)

    def reach(self, shape: Shape) -> float:
        return _MCU

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        rows, columns = window
        height, width = shape[2:]
        cuts_rows = _cuts_through_mcus(rows, height)
        cuts_columns = _cuts_through_mcus(columns, width)
        if cuts_rows or cuts_columns:
            return None
        return self, window

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        steps = _steps(self.quality, self.tables, x)
        sampling = SAMPLINGS[self.subsampling]
        return nearest_saved_as(x, y, steps, sampling)


def _cuts_through_mcus(span: slice, n: int) -> bool:
    """Whether an end of a span of n pixels lies inside an MCU."""
    return any(end % _MCU != 0 and end != n for end in (span.start, span.stop))


def _steps(
    quality: Integers | Tensor | None, tables: Sequence[Sequence[int]] | Tensor | None, x: Tensor
) -> Tensor:
    """The quantiser's step sizes [1 or B, C, 8, 8], one table for each component of x."""
    batch, channels = x.shape[:2]
    if tables is None:
        name = "quality"
        qualities = _rounded(name, quality, 100, x)
        steps = quality_tables(qualities.reshape(-1))
    else:
        name = "tables"
        entries = _rounded(name, tables, LARGEST, x)
        steps = _as_tables(entries)
    count, given = steps.shape[:2]
    if count not in (1, batch):
        raise ValueError(
            f"{name} has {count} values for {batch} images; give one, or one per image"
        )
    last = given - 1
    table_of_component = [0]
    if channels == 3:
        table_of_component = [0, min(1, last), min(2, last)]
    by_component = steps[:, table_of_component]
    return by_component.expand(batch, -1, -1, -1)


def _as_tables(steps: Tensor) -> Tensor:
    """Tables of any accepted shape as [1 or B, n, 8, 8]."""
    is_flat = steps.ndim < 4
    if is_flat and steps.numel() in (64, 128, 192):
        return steps.reshape(1, -1, 8, 8)
    shape = list(steps.shape)
    if len(shape) != 4 or shape[1] not in (1, 2, 3) or shape[2:] != [8, 8]:
        raise ValueError(
            f"tables have shape {shape}; give [n, 8, 8] or [B, n, 8, 8], n from 1 to 3"
        )
    return steps


def _rounded(name: str, given: object, high: int, x: Tensor) -> Tensor:
    """A parameter's values as integers from 1 to `high`, of x's type, straight through."""
    values = given if isinstance(given, Tensor) else torch.tensor(given, device=x.device)
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{name} is a tensor of {values.dtype}; give real numbers")
    values = values.to(x)
    integers = values.detach().round()
    if values_are_readable(integers):
        not_below = integers >= 1
        not_above = integers <= high
        in_range = not_below & not_above
        if not in_range.all():
            quoted = show(values.tolist())
            raise ValueError(f"{name}={quoted} must be from 1 to {high}")
    return declare(values, integers)


class _Rules(NamedTuple):
    """How to differentiate a round trip, and with respect to what."""

    sampling: Sampling
    surrogate: str
    clamp: str
    to_image: bool
    to_steps: bool

    @property
    def unclamped(self) -> bool:
        """Whether the gradient depends on the decoded image before its clamp."""
        uses_codec = self.to_image and self.surrogate != "identity"
        through_clamp = self.to_steps or uses_codec
        return through_clamp and self.clamp != "ste"

    def slopes(self, luma: bool) -> bool:
        """Whether the quantiser of a plane has the cubic's slope."""
        needed = self.to_image or self.to_steps
        if self.surrogate == "residual":
            return needed and luma
        return needed and self.surrogate == "cubic"


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
        tables = steps.to(dtype)
        tables = tables.transpose(0, 1)
        tables_of_planes = (tables[:1], tables[1:])  # of luma, of chroma
        levels = x * 255
        levels.clamp_(0, 255).round_()
        image = levels.to(dtype)
        planes = to_planes(image, rules.sampling)
        saved: list[Saved] = []
        for i, plane in enumerate(planes):
            width = plane.shape[2]
            q = _step_plane(tables_of_planes[i], width)
            f = forward_dct(plane, dct)
            f = f.unflatten(1, (-1, 8))
            k, slope, rise = _quantise(rules, f, q, x.dtype, luma=i == 0)
            saved.append(_batch_first(slope, batch))
            saved.append(_batch_first(rise, batch))
            k.mul_(q)
            dequantised = k.flatten(1, 2)
            decoded = inverse_dct(dequantised, dct)
            planes[i] = decoded.clamp_(-128, 127)
        if channels == 1:
            saved += [None, None]
        image = to_image(planes, rules.sampling, image)
        unclamped = image.to(torch.int16) if rules.unclamped else None
        clamped = image.clamp_(0, 255)
        result = clamped.to(x.dtype)
        result.div_(255)
        return result, unclamped, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        x, _, ctx.rules = inputs
        saved = output[1:]
        tensors = [tensor for tensor in saved if tensor is not None]
        ctx.mark_non_differentiable(*tensors)
        ctx.set_materialize_grads(False)
        x_of_transform = x if is_transformed(x) else None
        ctx.save_for_backward(x_of_transform, *saved)

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
    by_plane = list(map(_planes_first, saved))
    slopes = by_plane[0::2]
    rises = by_plane[1::2]
    with without_autocast(grad.device):
        before_clamp = grad
        if unclamped is not None:
            before_clamp = _through_clamp(grad, unclamped, rules.clamp)
        m = DCT[0].to(grad)
        m = m / 2**14.5
        to_image = to_steps = None
        if rules.to_image and rules.surrogate == "identity":
            to_image = grad.clone()
        elif rules.to_image:
            to_image = _through_codec(rules, before_clamp, slopes, m)
        if rules.to_steps:
            to_steps = _gradient_of_steps(rules, before_clamp, rises, m)
    return to_image, to_steps


def _gradient_of_steps(rules: _Rules, grad: Tensor, rises: list[Saved], m: Tensor) -> Tensor:
    """The gradient with respect to the steps [B, C, 8, 8]."""
    planes = to_image_t(grad / 255, rules.sampling)
    batch = len(grad)
    sums = []
    for plane, rise in zip(planes, rises, strict=False):  # grey has one plane
        assert rise is not None  # saved for every plane, since the gradient needs it
        product = analyse(plane, m) * rise
        sums.append(per_table(product, batch))
    return torch.cat(sums, 1)


def _step_plane(tables: Tensor, width: int) -> Tensor:
    """Tables [C, B, 8, 8] repeated along rows of blocks: [planes, 1, 8, width]."""
    tables = tables.flatten(0, 1)
    by_plane = tables[:, None]
    blocks_across = width // 8
    return by_plane.repeat(1, 1, 1, blocks_across)


def _batch_first(planes: Saved, batch: int) -> Saved:
    if planes is None:
        return None
    by_plane: Tensor = planes.unflatten(0, (-1, batch))
    return by_plane.transpose(0, 1)


def _planes_first(saved: Saved) -> Saved:
    """The inverse of `_batch_first`."""
    if saved is None:
        return None
    by_plane = saved.transpose(0, 1)
    return by_plane.flatten(0, 1)


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


def _quantise(
    rules: _Rules, f: Tensor, q: Tensor, dtype: torch.dtype, luma: bool
) -> tuple[Tensor, Saved, Saved]:
    """(k, slope, rise): the integers k, the declared d(k)/d(F/8q), and d(kq)/dq.

    Slope and rise are None where no gradient needs them.
    """
    factor = _AWAY / (8 * q)
    k = (f * factor).round_()
    needs_slope = rules.slopes(luma)
    if not (needs_slope or rules.to_steps):
        return k, None, None
    steps = 8 * q  # F is 8 times the DCT
    unrounded = f.to(dtype) / steps
    integers = k.to(dtype)
    slope = rise = None
    if needs_slope:
        distance = unrounded - integers
        squared_distance = distance.square_()
        slope = squared_distance.mul_(3 * CUBIC_BLEND)
        slope.add_(1 - CUBIC_BLEND)
    if rules.to_steps:
        through_slope = unrounded if slope is None else unrounded * slope
        rise = integers - through_slope
    return k, slope, rise


def _through_clamp(grad: Tensor, unclamped: Tensor, clamp: str) -> Tensor:
    """The gradient before the clamp of the decoded levels `unclamped`."""
    if clamp == "hard":
        not_below = unclamped >= 0
        not_above = unclamped <= 255
        inside = not_below & not_above
        return grad * inside
    p = unclamped.to(grad.dtype)
    p.mul_(2 / 255).sub_(1)
    s = p.sigmoid_()
    slope = s.addcmul_(s, s, value=-1)  # half of it: s (1 - s)
    return slope.mul_(grad).mul_(2)


def _through_codec(rules: _Rules, grad: Tensor, slopes: list[Saved], m: Tensor) -> Tensor:
    """Jᵀ g, or J g for "residual", whose chroma skips the blocks."""
    sampling = rules.sampling
    if rules.surrogate == "residual":
        luma, *chroma = to_planes(grad, sampling, exact=False)
        weighed = weigh(luma, slopes[0], m)
        result = torch.empty_like(grad)
        changed = [weighed, *chroma]
        return to_image(changed, sampling, result, exact=False)
    planes = []
    gradients = to_image_t(grad, sampling)
    for plane, slope in zip(gradients, slopes, strict=False):
        weighed = weigh(plane, slope, m)
        planes.append(weighed)
    return to_planes_t(planes, grad.shape, sampling)
