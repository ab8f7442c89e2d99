"""JPEG libraries by name: how each turns pixels into coefficients, and coefficients into pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..params import check_choice
from .dct import fast_divisors, fast_forward_dct, scaled_forward_dct, scaled_inverse_dct
from .deringing import deringed
from .header import STANDARD
from .layout import Group, Layout
from .sampling import BIASES_OF_ROWS, Sampling, enlarge, reduce, repeat, samples_of
from .stages import DCT, TO_RGB, forward_dct, inverse_dct, to_image, to_planes

LIBJPEG_TURBO = "libjpeg-turbo"

# libjpeg 9a and later. Their weights of Cb also have other last digits, which change no value.
_TO_RGB_9A = (TO_RGB[0], (65536, -22553, -46802), TO_RGB[2])

_STANDARD_9E = STANDARD.clone()
_STANDARD_9E[1, 0, 0] = 16

_MOZJPEG = torch.tensor(
    [
        [16, 16, 16, 18, 25, 37, 56, 85],
        [16, 17, 20, 27, 34, 40, 53, 75],
        [16, 20, 24, 31, 43, 62, 91, 135],
        [18, 27, 31, 40, 53, 74, 106, 156],
        [25, 34, 43, 53, 69, 94, 131, 189],
        [37, 40, 62, 74, 94, 124, 169, 238],
        [56, 53, 91, 106, 131, 169, 226, 311],
        [85, 75, 135, 156, 189, 238, 311, 418],
    ],
    device="cpu",
).expand(2, 8, 8)

# Encoders whose choice of coefficients no model here reproduces
_NOT_MODELLED = {
    "mozjpeg": "its trellis search changes coefficients; mozjpeg-notrellis is the rest of it",
    "jpegli": "it changes coefficients by thresholds of its own",
}


def _eightfold(steps: Tensor) -> Tensor:
    return 8 * steps


@dataclass(frozen=True, eq=False)
class Encoder:
    """How a library turns levels [B, C, H, W] into coefficients.

    base: the tables of luma and of chroma that a quality scales. scales_dct: whether a component
    whose samples share two pixels is reduced by a larger DCT. transform: of blocks to 8 times their
    DCT, or to other multiples, of which `divisors` knows the steps. prepare: what it changes in the
    samples before, given the steps.
    """

    base: Tensor = STANDARD
    scales_dct: bool = False
    transform: Callable[[Tensor], Tensor] | None = None
    divisors: Callable[[Tensor], Tensor] = _eightfold
    prepare: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is libjpeg-turbo's but for its tables."""
        return not self.scales_dct and self.transform is None and self.prepare is None

    def planes(self, image: Tensor, layout: Layout) -> list[Tensor]:
        """The samples of each group of components, in whole blocks and centred at 0."""
        reduce_group = _reduced_for_scaled_dct if self.scales_dct else None
        return to_planes(image, layout, reduce_group=reduce_group)

    def blocks_of(self, plane: Tensor, sampling: Sampling) -> tuple[int, int]:
        """How many rows and columns of blocks the samples of a plane make."""
        across, down = _scale(sampling) if self.scales_dct else (1, 1)
        height, width = plane.shape[1:]
        return height // (8 * down), width // (8 * across)

    def spectrum(self, plane: Tensor, steps: Tensor, sampling: Sampling) -> Tensor:
        """The DCT of a plane, to be divided by `divisors(steps)`.

        steps: [planes, 1, 8, width]. sampling: how many pixels share a sample of the plane.
        """
        if self.prepare is not None:
            plane = self.prepare(plane, steps)
        if self.transform is not None:
            return self.transform(plane)
        scale = _scale(sampling)
        if self.scales_dct and scale != (1, 1):
            return scaled_forward_dct(plane, scale)
        return forward_dct(plane, DCT.to(plane))


@dataclass(frozen=True, eq=False)
class Decoder:
    """How a library turns dequantised coefficients into levels.

    scales_dct: as in `Encoder`. wraps: whether samples beyond -512 and 511 are taken modulo 1024,
    as in libraries without SIMD. biases_of_rows: see `enlarge`.
    """

    to_rgb: tuple[tuple[int, int, int], ...] = TO_RGB
    scales_dct: bool = False
    wraps: bool = False
    biases_of_rows: tuple[float, float] | None = BIASES_OF_ROWS

    def samples(self, spectra: Tensor, sampling: Sampling) -> Tensor:
        """The samples of a plane, centred at 0, from dequantised coefficients."""
        scale = _scale(sampling)
        if self.scales_dct and scale != (1, 1):
            plane = scaled_inverse_dct(spectra, scale)
        else:
            plane = inverse_dct(spectra, DCT.to(spectra))
        if self.wraps:
            plane = torch.remainder(plane + 512, 1024) - 512
        return plane.clamp_(-128, 127)

    def fill(self, out: Tensor, planes: list[Tensor], layout: Layout) -> Tensor:
        """Fill `out` [B, C, H, W] with levels that are not yet clamped; this changes the planes."""
        return to_image(planes, layout, out, weights=self.to_rgb, enlarge_plane=self._enlarged)

    def _enlarged(
        self, plane: Tensor, sampling: Sampling, size: tuple[int, int], exact: bool
    ) -> Tensor:
        if self.scales_dct:
            rest = _rest(sampling)
            return repeat(samples_of(plane, rest, size), rest)
        return enlarge(samples_of(plane, sampling, size), sampling, exact, self.biases_of_rows)


class Libraries(NamedTuple):
    """The library that saves an image, and the one that opens the file."""

    encoder: Encoder
    decoder: Decoder


def _scale(sampling: Sampling) -> Sampling:
    """By which factors a scaled DCT reduces, 2 or 1; see `_rest`."""
    across, down = sampling
    return 2 - across % 2, 2 - down % 2


def _rest(sampling: Sampling) -> Sampling:
    """By which factors pixels are averaged before a scaled DCT, and repeated after it."""
    across, down = sampling
    across_of_dct, down_of_dct = _scale(sampling)
    return across // across_of_dct, down // down_of_dct


def _reduced_for_scaled_dct(planes: Tensor, group: Group) -> Tensor:
    """Planes padded to blocks of the scaled DCT, and reduced by what that leaves."""
    scale = _scale(group.sampling)
    return reduce(planes, group.sampling, True, scale, group.rows_together)


ENCODERS = {
    LIBJPEG_TURBO: Encoder(),
    "ijg6b": Encoder(),
    "ijg7": Encoder(scales_dct=True),
    "ijg9e": Encoder(_STANDARD_9E, scales_dct=True),
    "turbojpeg-fast": Encoder(transform=fast_forward_dct, divisors=fast_divisors),
    "mozjpeg-notrellis": Encoder(base=_MOZJPEG, prepare=deringed),
}
DECODERS = {
    LIBJPEG_TURBO: Decoder(),
    "libjpeg-turbo-2.0": Decoder(biases_of_rows=(1 / 4, 1 / 4)),
    "ijg6b": Decoder(wraps=True, biases_of_rows=None),
    "ijg7": Decoder(scales_dct=True, wraps=True),
    "ijg9a": Decoder(_TO_RGB_9A, scales_dct=True, wraps=True),
}


def check_encoder(encoder: object) -> None:
    """Raise ValueError for the name of an encoder that no model here reproduces."""
    reason = _NOT_MODELLED.get(str(encoder))
    if reason is not None:
        raise ValueError(f"encoder={encoder!r} is not modelled: {reason}")
    check_choice("encoder", encoder, ENCODERS)
