"""JPEG: libjpeg-turbo's values bit for bit, a declared gradient (first version, autograd over the stages)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from . import surrogate as s
from .operator import Operator, check_image, register
from .params import Numbers, choice, numbers

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}
SURROGATES = ("cubic", "ste", "identity")

# ITU-T T.81 Annex K.1, natural order
LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
M = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
    (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
    (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
    (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
)


def _floor(x):
    return s.declare(x, x.detach().floor())


def _shift(x, bits):
    return _floor((x + 2 ** (bits - 1)) / 2**bits)


def _last(x, h, w):
    """Replicate the last row and column up to h x w."""
    if w > x.shape[-1]:
        x = torch.cat([x, x[..., -1:].expand(*x.shape[:-1], w - x.shape[-1])], -1)
    if h > x.shape[-2]:
        x = torch.cat([x, x[..., -1:, :].expand(*x.shape[:-2], h - x.shape[-2], x.shape[-1])], -2)
    return x


def _up8(n):
    return -(-n // 8) * 8


def _coder(plane, q, m, surrogate):
    """plane [B, h, w] multiples of 8; q [B or 1, 8, 8]."""
    b, h, w = plane.shape
    x = (plane - 128).view(b, h // 8, 8, w // 8, 8).transpose(2, 3)
    t = _shift(x @ m.T, 11)
    f = _shift(m @ t, 15)
    q = q[:, None, None]
    k = f / (8 * q)
    exact = k.detach().sign() * ((f.detach().abs() + 4 * q) / (8 * q)).floor()
    slope = None if surrogate != "cubic" else 0.2 + 2.4 * (k.detach() - exact) ** 2
    c = s.declare(k, exact, slope) * q
    a = _shift(m.T @ c, 11)
    y = _shift(a @ m, 18).transpose(2, 3).reshape(b, h, w) + 128
    return y


def _hard(x):
    return x.clamp(0, 255)


def _upsample(x, hs, vs):
    if hs == 1:
        return x
    if x.shape[-1] <= 2:
        return x.repeat_interleave(vs, -2).repeat_interleave(hs, -1)
    if vs == 2:
        up = torch.cat([x[:, :1], x[:, :-1]], 1)
        down = torch.cat([x[:, 1:], x[:, -1:]], 1)
        x = torch.stack([3 * x + up, 3 * x + down], 2).flatten(1, 2)
    left = torch.cat([x[..., :1], x[..., :-1]], -1)
    right = torch.cat([x[..., 1:], x[..., -1:]], -1)
    a, b = (8, 7) if vs == 2 else (1, 2)
    n = 16 if vs == 2 else 4
    return torch.stack([_floor((3 * x + left + a) / n), _floor((3 * x + right + b) / n)], -1).flatten(-2)


def _decode_encode(x, tables, sampling, surrogate):
    """x [B, C, H, W] of 0..255 float64."""
    h, w = x.shape[2:]
    m = x.new_tensor(M)
    if x.shape[1] == 1:
        y = _hard(_coder(_last(x[:, 0], _up8(h), _up8(w)), tables[0], m, surrogate))
        return y[:, None, :h, :w]
    hs, vs = SAMPLINGS[sampling]
    r, g, b = x.unbind(1)
    y = _floor((19595 * r + 38470 * g + 7471 * b + 32768) / 65536)
    cb = _floor((-11059 * r - 21709 * g + 32768 * b + 8388608 + 32767) / 65536)
    cr = _floor((32768 * r - 27439 * g - 5329 * b + 8388608 + 32767) / 65536)
    sh, sw = -(-h // vs), -(-w // hs)
    ch, cw = _up8(sh), _up8(sw)
    out = []
    for p in (cb, cr):
        if hs == 2:
            p = _last(p, h + h % vs, 2 * cw)
            if vs == 2:
                p = p[:, ::2] + p[:, 1::2]
            p = p[..., ::2] + p[..., 1::2]
            bias = torch.arange(cw, device=p.device) % 2
            p = _floor((p + bias + (vs == 2)) / (2 * vs))
        p = _last(p, ch, cw)
        p = _hard(_coder(p, tables[1], m, surrogate))[:, :sh, :sw]
        out.append(_upsample(p, hs, vs)[:, :h, :w] - 128)
    y = _hard(_coder(_last(y, _up8(h), _up8(w)), tables[0], m, surrogate))[:, :h, :w]
    b, r = out
    red = y + _floor((91881 * r + 32768) / 65536)
    green = y + _floor((-22554 * b - 46802 * r + 32768) / 65536)
    blue = y + _floor((116130 * b + 32768) / 65536)
    return torch.stack([red, green, blue], 1)


def quality_tables(quality):
    """Tables [B, 2, 8, 8] of qualities [B]."""
    q = torch.as_tensor(quality).view(-1, 1, 1).double()
    scale = torch.where(q < 50, (5000 / q).floor(), 200 - 2 * q)
    base = torch.tensor([LUMA, CHROMA], dtype=torch.float64)
    return ((base * scale + 50) / 100).floor().clamp(1, 255).view(-1, 2, 8, 8)


def jpeg(x, quality=75, subsampling="4:2:0", tables=None, surrogate="cubic"):
    """x after Pillow's save and open, exactly; x float [B, C, H, W] in [0, 1]."""
    check_image(x)
    t = quality_tables(quality) if tables is None else torch.tensor(tables).double().view(1, 2, 8, 8)
    t = t.to(x.device)
    levels = s.round_half_even(s.clamp(x.double()) * 255, "ste")
    y = _decode_encode(levels, (t[:, 0], t[:, 1]), subsampling, surrogate)
    out = s.clamp(y / 255)
    exact = y.detach().clamp(0, 255).to(x.dtype) / 255
    if surrogate == "identity":
        return s.declare(x, exact)
    return s.declare(out.to(x.dtype), exact)


@register("jpeg")
class JPEG(Operator):
    """JPEG at `quality` 1 to 100 (or one per image)."""

    quality: Numbers
    subsampling: str = "4:2:0"
    surrogate: str = "cubic"

    def __post_init__(self):
        numbers(self, "quality", 1, 100, integer=True)
        choice(self, "subsampling", SAMPLINGS)
        choice(self, "surrogate", SURROGATES)

    def forward(self, x, rng):
        return jpeg(x, self.quality, self.subsampling, None, self.surrogate)
