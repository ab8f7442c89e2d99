"""The round trip of a JPEG as one autograd function: exact pixels, and a declared gradient.

Every stage is linear up to a rounding, and stays on the planes of the image: an 8×8 block is 8 rows
of a plane and 8 of its columns. Names are those of ITU-T T.81; F is 8 times its DCT, as in libjpeg.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..surrogate import BackwardPass, refuse_second_order
from ..transforms import fold_all, is_transformed, without_autocast
from . import pillow
from .encoders import DECODERS, ENCODERS, LIBJPEG_TURBO, Encoder
from .layout import Layout, layout_of
from .sampling import Sampling
from .slopes import Slope, slope_of_quantiser
from .stages import DCT, analyse, per_table, to_image, to_image_t, to_planes, to_planes_t, weigh

# F/8q is multiplied by this: a tie then rounds away from zero, as in libjpeg; nothing else changes.
_AWAY = 1 + 2**-20


class Rules(NamedTuple):
    """How to differentiate a round trip, and with respect to what."""

    colour: str
    subsampling: str
    surrogate: str
    alpha: float
    clamp: str
    to_image: bool
    to_steps: bool
    encoder: str = LIBJPEG_TURBO
    decoder: str = LIBJPEG_TURBO

    def layout(self, channels: int) -> Layout:
        """The components of images with so many channels."""
        return layout_of(self.colour, self.subsampling, channels)

    def slope(self, luma: bool) -> Slope | None:
        """The slope of the quantiser of luma or chroma; None where it is 1."""
        return slope_of_quantiser(self.surrogate, self.alpha, luma)

    @property
    def only_pixels(self) -> bool:
        """Whether Pillow's pixels are all that is needed, since no gradient depends on the rest."""
        is_pillows = self.encoder == self.decoder == LIBJPEG_TURBO
        has_slope = self.to_image and self.slope(luma=True) is not None
        return is_pillows and not (has_slope or self.to_steps or self.unclamped)

    @property
    def unclamped(self) -> bool:
        """Whether the gradient depends on the decoded image before its clamp."""
        uses_codec = self.to_image and self.surrogate != "identity"
        through_clamp = self.to_steps or uses_codec
        return through_clamp and self.clamp != "ste"


Saved = Tensor | None  # what a backward pass needs, batch first; None where it does not


class Codec(torch.autograd.Function):
    """x [B, C, H, W], steps [B, C, 8, 8] → the decoded image and what its gradient needs.

    These are the image before its clamp, then for each group of components the slope and the rise
    of the quantiser [B, planes, rows of blocks, 8, width].
    """

    @staticmethod
    def forward(x: Tensor, steps: Tensor, rules: Rules) -> tuple[Saved, ...]:
        if rules.only_pixels:
            pixels = pillow.round_trip(x, steps, rules.colour, rules.subsampling)
            if pixels is not None:
                groups = rules.layout(x.shape[1]).groups
                nothing: list[Saved] = [None, None] * len(groups)
                return pixels, None, *nothing
        return _by_model(x, steps, rules)

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
        return fold_all(Codec, info.batch_size, dims, arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: None) -> tuple[Saved, Saved, None]:
        x, *saved = ctx.saved_tensors
        if x is not None:

            def gradients(_: Tensor, *tensors: Any) -> tuple[Saved, Saved]:
                return _gradients(ctx.rules, *tensors)

            to_image, to_steps = BackwardPass.apply(gradients, x, grad, *saved)
            return to_image, to_steps, None
        refuse_second_order()
        to_image, to_steps = _gradients(ctx.rules, grad, *saved)
        return to_image, to_steps, None


def _by_model(x: Tensor, steps: Tensor, rules: Rules) -> tuple[Saved, ...]:
    """What `Codec` returns, without Pillow."""
    batch = x.shape[0]
    image = exact_levels(x)
    encoder = ENCODERS[rules.encoder]
    decoder = DECODERS[rules.decoder]
    tables = steps.to(image)
    tables = tables.transpose(0, 1)
    layout = rules.layout(x.shape[1])
    planes = encoder.planes(image, layout)
    saved: list[Saved] = []
    for i, group in enumerate(layout.groups):
        tables_of_group = tables[group.components]
        f, q = spectrum_and_steps(encoder, planes[i], tables_of_group, group.sampling)
        divisors = encoder.divisors(q)
        k, slope, rise = _quantise(rules, f, divisors, q, x.dtype, group.is_luma)
        saved.append(_batch_first(slope, batch))
        saved.append(_batch_first(rise, batch))
        k.mul_(q)
        dequantised = k.flatten(1, 2)
        planes[i] = decoder.samples(dequantised, group.sampling)
    image = decoder.fill(image, planes, layout)
    unclamped = image.to(torch.int16) if rules.unclamped else None
    clamped = image.clamp_(0, 255)
    result = clamped.to(x.dtype)
    result.div_(255)
    return result, unclamped, *saved


def gradients_at(x: Tensor, steps: Tensor, grad: Tensor, rules: Rules) -> tuple[Saved, Saved]:
    """The gradients with respect to x and steps, without what a forward pass has saved."""
    saved: tuple[Saved, ...] = (None,)
    if rules.to_steps or rules.surrogate != "identity":
        saved = Codec.forward(x, steps, rules)[1:]
    return _gradients(rules, grad, *saved)


def _gradients(rules: Rules, grad: Tensor, unclamped: Saved, *saved: Saved) -> tuple[Saved, Saved]:
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
            to_image = grad
        elif rules.to_image:
            to_image = _through_codec(rules, before_clamp, slopes, m)
        if rules.to_steps:
            to_steps = _gradient_of_steps(rules, before_clamp, rises, m)
    return to_image, to_steps


def _gradient_of_steps(rules: Rules, grad: Tensor, rises: list[Saved], m: Tensor) -> Tensor:
    """The gradient with respect to the steps [B, C, 8, 8]."""
    planes = to_image_t(grad / 255, rules.layout(grad.shape[1]))
    batch = grad.shape[0]
    sums = []
    for plane, rise in zip(planes, rises, strict=True):
        assert rise is not None  # saved for every plane, since the gradient needs it
        product = analyse(plane, m) * rise
        sums.append(per_table(product, batch))
    return torch.cat(sums, 1)


def spectrum_and_steps(
    encoder: Encoder, plane: Tensor, tables: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """(F, q): the DCT of a plane [planes, rows of blocks, 8, width], and its steps.

    tables: [C, B, 8, 8] of its components. sampling: how many pixels share a sample of the plane.
    """
    _, columns_of_blocks = encoder.blocks_of(plane, sampling)
    q = step_plane(tables, 8 * columns_of_blocks)
    f = encoder.spectrum(plane, q, sampling)
    return f.unflatten(1, (-1, 8)), q


def step_plane(tables: Tensor, width: int) -> Tensor:
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


def exact_dtype(device: torch.device) -> torch.dtype:
    """float32 where its matrix products are known to keep all 24 bits, else float64."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return torch.float64
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:  # torch before 2.9
        full_precision = torch.get_float32_matmul_precision() == "highest"
    else:
        full_precision = matmul.fp32_precision in ("none", "ieee")
    return torch.float32 if full_precision else torch.float64


def exact_levels(x: Tensor) -> Tensor:
    """x as integers from 0 to 255, in a dtype whose matrix products are exact."""
    levels = x * 255
    levels.clamp_(0, 255).round_()
    dtype = exact_dtype(x.device)
    return levels.to(dtype)


def quantised(f: Tensor, divisors: Tensor) -> Tensor:
    """The integers nearest to F/divisors; halves round away from zero."""
    factor = _AWAY / divisors
    return (f * factor).round_()


def _quantise(
    rules: Rules, f: Tensor, divisors: Tensor, q: Tensor, dtype: torch.dtype, luma: bool
) -> tuple[Tensor, Saved, Saved]:
    """(k, slope, rise): the integers k, the declared d(k)/d(F/divisors), and d(kq)/dq.

    Slope and rise are None where no gradient needs them. F is overwritten.
    """
    k = quantised(f, divisors)
    slope_of = rules.slope(luma) if rules.to_image else None
    if slope_of is None and not rules.to_steps:
        return k, None, None
    unrounded = f.to(dtype).div_(divisors)
    distance = unrounded.sub_(k)
    # as if dk/d(F/divisors) were 1, whatever the image's slope
    rise = -distance if rules.to_steps else None
    slope = None if slope_of is None else slope_of(distance, q.to(dtype))
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


def _through_codec(rules: Rules, grad: Tensor, slopes: list[Saved], m: Tensor) -> Tensor:
    """Jᵀ g, or J g for "residual", whose chroma skips the blocks."""
    layout = rules.layout(grad.shape[1])
    planes = []
    if rules.surrogate == "residual":
        directions = to_planes(grad, layout, exact=False)
        for plane, slope, group in zip(directions, slopes, layout.groups, strict=True):
            planes.append(weigh(plane, slope, m) if group.is_luma else plane)
        return to_image(planes, layout, torch.empty_like(grad), exact=False)
    gradients = to_image_t(grad, layout)
    for plane, slope in zip(gradients, slopes, strict=True):
        planes.append(weigh(plane, slope, m))
    return to_planes_t(planes, grad.shape, layout)
