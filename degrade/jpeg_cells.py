"""What a decoded JPEG says of the picture that was saved: each DCT coefficient lay in a cell of its quantiser.

A point of all these cells, near a given picture and on the grid of 8 bits, is sought by alternating
projections: into the cells, back into pixels, into [0, 255]. Encoding takes each MCU (the 8×8, 16×8
or 16×16 pixels that share their blocks) on its own, so each is settled on its own. Source: Zakhor
1992, iterative procedures for the reduction of blocking effects; Youla & Webb 1982.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from .jpeg_stages import DCT, forward_dct, inverse_dct, to_image, to_planes, to_planes_t

_ROUNDS = 48  # in which a picture is moved into the cells
_EDGE = 0.02  # of a step: how far from the edge of its cell a coefficient is put at first; at last, on the centre
_TILE, _AROUND = (
    256,
    16,
)  # pixels settled at a time, as many rounds as they need, and of those that decoding mixes in
_SEARCH = 16  # rounds in which the coefficients of an observation are sought

Planes = list[Tensor]  # luma [1, ...] and, of a colour image, chroma [2, ...]


def nearest_saved_as(x: Tensor, y: Tensor, steps: Tensor, sampling: tuple[int, int]) -> Tensor:
    """The 8-bit image near x [1, C, H, W] that saving turns into y, of the same shape, both in [0, 1].

    steps: the quantiser's, [1, C, 8, 8]. What an MCU of x already encodes to what y holds stays
    x, rounded. One for which nothing is found is sought near y, and at last takes the pixels of y.
    """
    found, (height, width) = torch.empty_like(x), x.shape[2:]
    for top, left in itertools.product(range(0, height, _TILE), range(0, width, _TILE)):
        rows, columns = (slice(max(0, at - _AROUND), at + _TILE + _AROUND) for at in (top, left))
        near, seen = ((image[..., rows, columns].double() * 255).clamp(0, 255) for image in (x, y))
        tile = _saved_as(near, seen.round_(), steps, sampling)[
            ..., top - rows.start :, left - columns.start :
        ]
        found[..., top : top + _TILE, left : left + _TILE] = tile[..., :_TILE, :_TILE]
    return found.div_(255)


def _saved_as(near: Tensor, seen: Tensor, steps: Tensor, sampling: tuple[int, int]) -> Tensor:
    """The same of a part, in levels."""
    saving = _Saving(steps.double()[0], sampling, seen)
    wanted = saving.coefficients(near.round(), seen)
    found, off = saving.into_cells(near, wanted)
    if off.any():
        again, lost = saving.into_cells(torch.where(off, seen, found), wanted)
        found = torch.where(lost, seen, again)
    return found


class _Saving:
    """Saving images like `image` [1, C, H, W] with certain steps, in levels and in float64.

    Spectra are in steps, not yet rounded: [planes, rows of blocks, 8, width]. A mask of MCUs is
    [1, 1, rows, columns].
    """

    def __init__(self, steps: Tensor, sampling: tuple[int, int], image: Tensor):
        self.sampling, self.shape = sampling if image.shape[1] == 3 else (1, 1), image.shape
        self.across, self.down = self.sampling
        self.dct = DCT.to(image)
        self.sizes = [plane.shape[1:] for plane in to_planes(image, self.sampling)]
        parts = zip((steps[:1], steps[1:]), self.sizes, strict=False)  # a grey image has no chroma
        self.steps = [q[:, None].repeat(1, 1, 1, width // 8) for q, (_, width) in parts]

    def spectra(self, image: Tensor) -> Planes:
        planes = zip(to_planes(image, self.sampling), self.steps, strict=True)
        return [forward_dct(plane, self.dct).unflatten(1, (-1, 8)) / (8 * q) for plane, q in planes]

    def rounded(self, spectra: Planes) -> Planes:
        return [t.sign() * (t.abs() + 0.5).floor() for t in spectra]  # half away from zero

    def decoded(self, coefficients: Planes) -> Tensor:
        planes = [(k * q).flatten(1, 2) for k, q in zip(coefficients, self.steps, strict=True)]
        planes = [inverse_dct(plane, self.dct).clamp_(-128, 127) for plane in planes]
        return to_image(planes, self.sampling, planes[0].new_empty(self.shape)).clamp_(0, 255)

    def coefficients(self, near: Tensor, seen: Tensor) -> Planes:
        """Those that are decoded to `seen`, or come nearest, in each MCU: those of `near` if they are some.

        Encoding `seen` again often gives others: upsampling and the clamp do not undo what comes
        before them. So what it loses is added to what is encoded (Van Cittert's iteration).
        """
        best = self.rounded(self.spectra(near))
        error = self._error(best, seen)
        first = self.spectra(seen)
        spectra = first
        for _ in range(_SEARCH):
            if not error.any():
                break
            found = self.rounded(spectra)
            own = self._error(found, seen)
            better = own < error
            best = [
                torch.where(m, k, b)
                for m, k, b in zip(self._blocks(better), found, best, strict=True)
            ]
            error = torch.where(better, own, error)
            again = self.spectra(self.decoded(found))
            spectra = [t + s - a for t, s, a in zip(spectra, first, again, strict=True)]
        return best

    def _error(self, coefficients: Planes, seen: Tensor) -> Tensor:
        away = (self.decoded(coefficients) - seen).abs().sum(1, keepdim=True)
        return F.avg_pool2d(away, (8 * self.down, 8 * self.across), ceil_mode=True)

    def into_cells(self, image: Tensor, wanted: Planes) -> tuple[Tensor, Tensor]:
        """An 8-bit image near this one that encodes to `wanted`, and the pixels of the MCUs that do not."""
        margins = torch.linspace(_EDGE, 0.5, _ROUNDS, dtype=torch.float32, device="cpu")
        for margin in margins.tolist():
            spectra = self.spectra(image.round())
            off = self.pixels(self.differing(self.rounded(spectra), wanted))
            if not off.any():
                break
            away = [
                t.clamp(k - 0.5 + margin, k + 0.5 - margin) - t
                for t, k in zip(spectra, wanted, strict=True)
            ]
            image = torch.where(off, (image + self.residual(away)).clamp(0, 255), image)
        image = image.round()
        return image, self.pixels(self.differing(self.rounded(self.spectra(image)), wanted))

    def differing(self, a: Planes, b: Planes) -> Tensor:
        """The MCUs in which any coefficient differs."""
        blocks = [
            (p != q).unflatten(3, (-1, 8)).sum((0, 2, 4)).double()[None, None]
            for p, q in zip(a, b, strict=True)
        ]
        off = F.max_pool2d(blocks[0], (self.down, self.across), ceil_mode=True)
        return sum(blocks[1:], off) > 0

    def pixels(self, mcus: Tensor) -> Tensor:
        return _repeated(mcus, 8 * self.down, 8 * self.across, *self.shape[2:])

    def _blocks(self, mcus: Tensor) -> Planes:
        """The mask for the coefficients of each plane."""
        parts = zip(((self.down, self.across), (1, 1)), self.sizes, strict=False)
        return [
            _repeated(mcus, down, 8 * across, height // 8, width)[0, :, :, None]
            for (down, across), (height, width) in parts
        ]

    def residual(self, spectra: Planes) -> Tensor:
        """The change of pixels that changes the spectra so, as far as padding and colours allow."""
        m, (height, width) = self.dct[0] / 2**14.5, self.shape[2:]
        planes = []
        for t, q, (down, across) in zip(
            spectra, self.steps, ((1, 1), (self.down, self.across)), strict=False
        ):
            rows = m[:8, :8].mT @ (t * q).view(-1, 8, t.shape[3])
            plane = (rows.view(-1, 16) @ m).view(len(t), -1, t.shape[3])
            plane = _folded(plane, -(-height // down), -(-width // across))
            planes.append(_repeated(plane, down, across, height, width))
        return to_image(planes, (1, 1), planes[0].new_empty(self.shape), exact=False)


def _repeated(x: Tensor, down: int, across: int, height: int, width: int) -> Tensor:
    return x.repeat_interleave(down, -2).repeat_interleave(across, -1)[..., :height, :width]


def _folded(plane: Tensor, height: int, width: int) -> Tensor:
    """The mean of what the padding of a block repeats, in the place that it is repeated from."""
    shape = torch.Size((len(plane), 1, height, width))
    total, count = (to_planes_t([p], shape, (1, 1))[:, 0] for p in (plane, torch.ones_like(plane)))
    return total / count
