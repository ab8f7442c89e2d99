"""What JPEG does, twice: Pillow's own bytes, and the same stages in float64 for autograd."""

import io
import math

import numpy
import torch
import torch.nn.functional as nn
from hypothesis import strategies as st
from PIL import Image

from degrade.jpeg.header import STANDARD
from degrade.jpeg.layout import SAMPLINGS
from degrade.jpeg.stages import M

from .conftest import picture, rng

WRITTEN_BY_PILLOW = ("4:4:4", "4:2:2", "4:2:0")
LUMA, CHROMA = (tuple(table.flatten().tolist()) for table in STANDARD)


def encode(pixels: torch.Tensor, subsampling: str = "4:2:0", **options) -> bytes:
    """JPEG bytes of uint8 [C, H, W]."""
    if subsampling not in WRITTEN_BY_PILLOW and len(pixels) == 3:
        return encode_from_planes(pixels, subsampling, **options)
    subsampling = "4:2:0" if len(pixels) == 1 else subsampling
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array[..., 0] if len(pixels) == 1 else numpy.ascontiguousarray(array))
    file = io.BytesIO()
    image.save(file, "JPEG", subsampling=subsampling, **options)
    return file.getvalue()


def encode_from_planes(
    pixels: torch.Tensor, subsampling: str, quality: int = 75, qtables=None
) -> bytes:
    """A file of a sampling that Pillow cannot write, made of the scans of three grayscale files."""
    across, down = SAMPLINGS[subsampling]
    if qtables is None:
        qtables = table_of(quality)[0, :2].flatten(1).tolist()
    red, green, blue = pixels.long()
    centre = 128 * 65536 + 32767
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    chroma = [
        (-11059 * red - 21709 * green + 32768 * blue + centre) >> 16,
        (32768 * red - 27439 * green - 5329 * blue + centre) >> 16,
    ]
    height, width = luma.shape
    rows = torch.arange(down * math.ceil(height / down)).clamp(max=height - 1)
    blocks_across = math.ceil(math.ceil(width / across) / 8)
    columns = torch.arange(across * 8 * blocks_across).clamp(max=width - 1)
    planes = [luma]
    for plane in chroma:
        groups = plane[rows][:, columns].unflatten(1, (-1, across)).unflatten(0, (-1, down))
        shared = across * down
        planes.append((groups.sum((1, 3)) + shared // 2) // shared)
    frame = bytes([8, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), 3])
    tables, scans, huffman = b"", b"", b""
    for i, plane in enumerate(planes):
        table = qtables[min(i, len(qtables) - 1)]
        gray = encode(plane[None].byte(), qtables=[table])
        parts, data = taken_apart(gray)
        quantisation = next(body for marker, body in parts if marker == 0xDB)
        tables += segments((0xDB, bytes([quantisation[0] | i]) + quantisation[1:]))
        huffman = segments(*(part for part in parts if part[0] == 0xC4))
        frame += bytes([i + 1, 16 * across + down if i == 0 else 0x11, i])
        scans += segments((0xDA, bytes([1, i + 1, 0, 0, 63, 0]))) + data.removesuffix(b"\xff\xd9")
    start = b"\xff\xd8" + segments((0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"))
    return start + tables + segments((0xC1, frame)) + huffman + scans + b"\xff\xd9"


def taken_apart(data):
    """[(marker, contents)] up to the scan, and all from its data on."""
    at, parts = 2, []
    while not parts or parts[-1][0] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return parts, data[at:]


def segments(*parts):
    return b"".join(b"\xff" + bytes([m]) + (len(b) + 2).to_bytes(2, "big") + b for m, b in parts)


def decode(data: bytes) -> torch.Tensor:
    """uint8 [C, H, W]."""
    pixels = torch.from_numpy(numpy.array(Image.open(io.BytesIO(data))))
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def codec(x: torch.Tensor, subsampling: str = "4:2:0", **options) -> torch.Tensor:
    """x [B, C, H, W] of k/255 through Pillow."""
    pixels = (x * 255).round().byte()
    return (
        torch.stack([decode(encode(image, subsampling, **options)) for image in pixels]).to(x) / 255
    )


KINDS = ("noise", "gradient", "saturated", "checkerboard", "flat", "smooth", "picture")
IMAGES = {  # what decides a random image of `content`, but for its seed
    "kind": st.sampled_from(KINDS),
    "height": st.integers(1, 60),
    "width": st.integers(1, 60),
    "channels": st.sampled_from([1, 3]),
}


def content(kind: str, height: int, width: int, channels: int, seed: int) -> torch.Tensor:
    """uint8 values as [1, C, H, W] of k/255."""
    g, size = rng(seed), (channels, height, width)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    slopes = torch.randint(-9, 10, (2, channels, 1, 1), generator=g)
    cell = 1 + seed % 4
    pixels = {
        "noise": lambda: torch.randint(0, 256, size, generator=g),
        "gradient": lambda: (rows * slopes[0] + columns * slopes[1] + seed) % 256,
        "saturated": lambda: torch.randint(0, 2, size, generator=g) * 255,
        "checkerboard": lambda: (((rows // cell + columns // cell) % 2) * 255).expand(size),
        "flat": lambda: torch.randint(0, 256, (channels, 1, 1), generator=g).expand(size),
        "smooth": lambda: 128 + 127 * torch.sin(rows * slopes[0] / 40 + columns * slopes[1] / 40),
        "picture": lambda: picture(seed % 20)[0, :channels, 9 : 9 + height, 30 : 30 + width] * 255,
    }[kind]()
    return (pixels.float().round() / 255)[None]


class Stages:
    """The round trip in other primitives: `values` with all rounding, `linear` without it.

    `linear` is the Jacobian J at the point where `values` was last called, coefficient c having
    the declared slope `slope(d)` of its distance d to an integer.
    """

    def __init__(self, steps, sampling, slopes):
        self.steps = self.steps_then = steps.double()
        self.across, self.down = SAMPLINGS[sampling]
        self.slopes = slopes

    def values(self, x):
        self.exact, self.kept = True, []
        return self._round_trip((x.double() * 255).round())

    def linear(self, x):
        self.exact, self.todo = False, list(self.kept)
        return self._round_trip(x)

    def _round(self, x, offset):
        return torch.floor(x + offset) if self.exact else x

    def _round_trip(self, x):
        height, width = x.shape[2:]
        if x.shape[1] == 1:
            return self._plane(x[:, 0], 0, 128.0 * self.exact)[:, None, :height, :width]
        r, g, b = x.unbind(1)
        y = self._round((19595 * r + 38470 * g + 7471 * b) / 65536, 0.5)
        cb = self._round(
            (-11059 * r - 21709 * g + 32768 * b) / 65536, 128 * self.exact + 32767 / 65536
        )
        cr = self._round(
            (32768 * r - 27439 * g - 5329 * b) / 65536, 128 * self.exact + 32767 / 65536
        )
        y = self._plane(y, 0, 128.0 * self.exact)[:, :height, :width]
        cb, cr = (self._chroma(c, i, height, width) for i, c in ((1, cb), (2, cr)))
        red = y + self._round(91881 * cr / 65536, 0.5)
        green = y + self._round((-22554 * cb - 46802 * cr) / 65536, 0.5)
        return torch.stack([red, green, y + self._round(116130 * cb / 65536, 0.5)], 1)

    def _chroma(self, c, i, height, width):
        rows, columns = math.ceil(height / self.down), math.ceil(width / self.across)
        halved = self.across * self.down > 1
        if halved:
            full = 8 * self.across * math.ceil(columns / 8)
            c = c[:, torch.arange(rows * self.down).clamp(max=height - 1)]
            c = c[:, :, torch.arange(full).clamp(max=width - 1)]
            c = nn.avg_pool2d(c[None], (self.down, self.across))[0]
            bias = torch.arange(full // self.across) % 2 + self.down - 1
            alternates = self.across == 2 and self.down <= 2
            c = self._round(c, bias / (2 * self.down) if alternates else 0.5)
        c = self._plane(c, i, 128.0 * self.exact)[:, :rows, :columns] - 128.0 * self.exact
        narrow = (self.across == 2 and columns <= 2) or max(self.across, self.down) > 2
        if halved:
            mode = {"mode": "nearest"}
            if not narrow:
                mode = {"mode": "bilinear", "align_corners": False}
            c = nn.interpolate(c[None], (rows * self.down, columns * self.across), **mode)[0]
            if narrow:
                bias = torch.zeros(())
            elif self.across == 1:
                bias = (torch.tensor([4, 8]).repeat(rows) / 16)[:, None]
            else:
                bias = torch.tensor([8, 7] if self.down == 2 else [4, 8]).repeat(columns) / 16
            c = self._round(c, bias)
        return c[:, :height, :width]

    def _plane(self, x, i, level):
        height, width = x.shape[1:]
        x = x[:, torch.arange(8 * math.ceil(height / 8)).clamp(max=height - 1)]
        x = x[:, :, torch.arange(8 * math.ceil(width / 8)).clamp(max=width - 1)] - level
        blocks = x.unflatten(1, (-1, 8)).unflatten(3, (-1, 8))  # b i r j c
        m, q = M.double(), self.steps[:, i].view(-1, 1, 8, 1, 8)
        t = self._round(torch.einsum("uc,birjc->birju", m, blocks) / 2**11, 0.5)
        f = self._round(torch.einsum("vr,birju->bivju", m, t) / 2**15, 0.5)
        c = self._quantise(f / (8 * q), i) * q
        a = self._round(torch.einsum("vr,bivju->birju", m, c) / 2**11, 0.5)
        s = self._round(torch.einsum("uc,birju->birjc", m, a) / 2**18, 0.5)
        s = s.flatten(3, 4).flatten(1, 2) + level
        return s.clamp(0, 255) if self.exact else s

    def _quantise(self, t, i):
        if self.exact:
            k = t.sign() * (t.abs() + 0.5).floor()
            self.kept.append((t, k))
            return k
        then, k = self.todo.pop(0)
        q = self.steps_then[:, i].view(-1, 1, 8, 1, 8)
        return t * self.slopes[i](then - k, q)


def cubic(d, q):
    return 0.2 + 2.4 * d**2


def cubic_of_residual(d, q):
    return 0.05 + 2.85 * d**2


def one(d, q):
    return torch.ones_like(d)


def smoothed(d, q):
    """The density, at the tie, of wrapped Cauchy noise of which half is within 2 levels."""
    scale = 2 * math.pi * 2 / q
    return torch.sinh(scale) / (torch.cosh(scale) + torch.cos(2 * math.pi * d))


SLOPES = {
    "cubic": (cubic,) * 3,
    "ste": (one,) * 3,
    "residual": (cubic_of_residual, one, one),
    "smoothed": (smoothed,) * 3,
}


def clamp_slope(levels, clamp):
    p = levels / 255
    sigmoid = torch.sigmoid(2 * p - 1)
    return {
        "sigmoid": 2 * sigmoid * (1 - sigmoid),
        "hard": ((p >= 0) & (p <= 1)).double(),
        "ste": torch.ones_like(p),
    }[clamp]


def table_of(quality):
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((STANDARD * scale + 50) // 100).clamp(1, 255)[None, [0, 1, 1]]


def expected_gradient(x, g, steps, sampling, surrogate, clamp):
    stages = Stages(steps, sampling, SLOPES[surrogate])
    g = g * clamp_slope(stages.values(x), clamp)
    if surrogate == "residual":
        # an image's gradient treated as an image; chroma is not transformed to coefficients
        stages.steps = torch.ones_like(stages.steps)
        return without_blocks(stages, g)
    x = x.clone().requires_grad_()
    return torch.autograd.grad(stages.linear(x), x, g)[0]


def without_blocks(stages, g):
    plane = stages._plane
    stages._plane = lambda x, i, level: plane(x, i, level) if i == 0 else x
    return stages.linear(g)


def gradient(f, x, g):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x, g)[0]
