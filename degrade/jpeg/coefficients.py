"""The quantised DCT coefficients of a JPEG: of an image, and the image that they decode to.

They are all that a JPEG file stores of an image. Files with the same coefficients differ only in
how they encode them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..images import check_image
from ..params import check_choice
from ..transforms import without_autocast
from .codec import exact_dtype, exact_levels, quantised, spectrum_and_steps
from .colours import RGB, YCBCR, base_tables, channels_as_images, sampling_with
from .encoders import (
    DECODERS,
    ENCODERS,
    LIBJPEG_TURBO,
    Decoder,
    Encoder,
    check_encoder,
    sampling_of_plane,
)
from .header import SAMPLINGS
from .sampling import Sampling
from .steps import check_arguments, quantiser_tables, steps_of_components


@dataclass(frozen=True, eq=False)
class JPEGCoefficients:
    """Quantised coefficients of a batch of images, as their JPEG files store them.

    components: luma, and of colour images Cb and Cr, or red, green and blue: int16
        [B, rows, columns, 8, 8], one 8×8 block of frequencies for each 8×8 samples; [0, 0] is the
        mean. A component has as many blocks as cover it; the file may add blocks that no decoder
        shows.
    tables: the quantiser's steps [B, n, 8, 8], n from 1 to 3. Component i uses table min(i, n - 1).
    subsampling: a name of `SAMPLINGS`, such as "4:2:0".
    size: height and width of the images in pixels.
    colour: "ycbcr", or "rgb" if the file stores red, green and blue, at 4:4:4.
    """

    components: tuple[Tensor, ...]
    tables: Tensor
    subsampling: str
    size: tuple[int, int]
    colour: str = YCBCR

    def __post_init__(self) -> None:
        if self.colour == RGB and self.subsampling != "4:4:4":
            raise ValueError(f"subsampling={self.subsampling!r} must be 4:4:4 with colour='rgb'")
        if self.subsampling not in SAMPLINGS:
            raise ValueError(
                f"subsampling={self.subsampling!r} must be one of {', '.join(SAMPLINGS)}"
            )
        count = len(self.components)
        if count not in (1, 3):
            raise ValueError(f"components are {count}; give 1 (grayscale) or 3 (luma, Cb, Cr)")
        batch = len(self.components[0])
        blocks = _blocks_of_components(self.size, self.subsampling, count)
        for i, component in enumerate(self.components):
            expected = [batch, *blocks[i], 8, 8]
            shape = list(component.shape)
            if shape != expected or component.dtype != torch.int16:
                raise ValueError(
                    f"components[{i}] is {component.dtype} {shape}; give torch.int16 {expected}"
                )
        shape = list(self.tables.shape)
        accepted = [[batch, n, 8, 8] for n in (1, 2, 3)]
        if shape not in accepted:
            raise ValueError(f"tables have shape {shape}; give [{batch}, n, 8, 8], n from 1 to 3")

    @torch.no_grad()
    def decode(self, decoder: str = LIBJPEG_TURBO) -> Tensor:
        """The images [B, C, H, W] of k/255 that a decoder shows, in float32.

        decoder: as in `jpeg`; by default Pillow's.
        """
        check_choice("decoder", decoder, DECODERS)
        with without_autocast(self.tables.device):
            return self._decoded(DECODERS[decoder])

    def _decoded(self, decoder: Decoder) -> Tensor:
        luma = self.components[0]
        dtype = exact_dtype(luma.device)
        sampling = SAMPLINGS[self.subsampling]
        batch = len(luma)
        channels = len(self.components)
        steps = steps_of_components(self.tables, channels)
        decoded = []
        for i, component in enumerate(self.components):
            table = steps[:, i, None, None].to(dtype)
            dequantised = component * table
            spectra = dequantised.transpose(2, 3)
            plane = spectra.flatten(1, 2).flatten(2, 3)
            sampling_of_component = sampling_of_plane(i, sampling)
            samples = decoder.samples(plane.contiguous(), sampling_of_component)
            decoded.append(samples)
        image = luma.new_empty((batch, channels, *self.size), dtype=dtype)
        if self.colour == RGB:
            for channel, plane in enumerate(decoded):
                decoder.fill(image[:, channel : channel + 1], [plane], sampling)
        else:
            planes = [decoded[0]]
            if channels == 3:
                planes.append(torch.cat(decoded[1:]))
            decoder.fill(image, planes, sampling)
        levels = image.clamp_(0, 255).float()
        return levels / 255

    def encode(
        self,
        optimize: bool = False,
        progressive: bool = False,
        restart_marker_blocks: int = 0,
        restart_marker_rows: int = 0,
    ) -> list[bytes]:
        """The bytes of a JPEG file for each image; the options are those of `jpeg_bytes`."""
        from .file import FileOptions, encode  # here, since its Huffman tables take time

        options = FileOptions(optimize, progressive, restart_marker_blocks, restart_marker_rows)
        return encode(self, options)


def _blocks_of_components(
    size: tuple[int, int], subsampling: str, count: int
) -> list[tuple[int, int]]:
    """Rows and columns of blocks of each of `count` components of an image."""
    height, width = size
    across, down = SAMPLINGS[subsampling]
    luma = _ceil(height, 8), _ceil(width, 8)
    chroma = _ceil(height, 8 * down), _ceil(width, 8 * across)
    components = [luma, chroma, chroma]
    return components[:count]


def _ceil(length: int, part: int) -> int:
    """How many parts cover a length."""
    return -(-length // part)


@torch.no_grad()
def jpeg_coefficients(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str | int = "4:2:0",
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    encoder: str = LIBJPEG_TURBO,
    colour: str = YCBCR,
) -> JPEGCoefficients:
    """Quantise the DCT of images x as a JPEG library does when it saves them, bit for bit.

    x: [B, C, H, W] in [0, 1] with C = 1 (grayscale) or 3, on any device; it is clamped and rounded
        to 8 bits first.
    quality, subsampling, tables, encoder, colour: as in `jpeg`.

    Without a gradient. Raises ValueError as `jpeg` does.
    """
    check_encoder(encoder)
    model = ENCODERS[encoder]
    checked_quality, checked_tables, given = check_arguments(x, quality, subsampling, tables)
    name = sampling_with(colour, given)
    wide = x if x.dtype == torch.float64 else x.float()
    with without_autocast(x.device):
        base = base_tables(colour, model.base)
        by_image = quantiser_tables(checked_quality, checked_tables, wide, base)
        steps = steps_of_components(by_image, x.shape[1])
        image = wide.contiguous()
        if colour == RGB:
            (channels,) = _quantised_components(
                channels_as_images(image), channels_as_images(steps), (1, 1), model
            )
            components = channels.unflatten(0, (len(x), -1)).unbind(1)
        else:
            components = _quantised_components(image, steps, SAMPLINGS[name], model)
    size = (x.shape[2], x.shape[3])
    return JPEGCoefficients(components, by_image.to(torch.int32), name, size, colour)


def _quantised_components(
    x: Tensor, steps: Tensor, sampling: Sampling, encoder: Encoder
) -> tuple[Tensor, ...]:
    """The quantised coefficients of each component [B, rows, columns, 8, 8].

    steps: [B, C, 8, 8].
    """
    batch = len(x)
    image = exact_levels(x)
    by_component = steps.to(image).transpose(0, 1)
    steps_of_planes = (by_component[:1], by_component[1:])  # of luma, of chroma
    components: list[Tensor] = []
    for i, plane in enumerate(encoder.planes(image, sampling)):
        sampling_of_component = sampling_of_plane(i, sampling)
        f, q = spectrum_and_steps(encoder, plane, steps_of_planes[i], sampling_of_component)
        integers = quantised(f, encoder.divisors(q))
        blocks = in_blocks(integers.to(torch.int16))
        components.extend(blocks.split(batch))
    return tuple(components)


def in_blocks(plane: Tensor) -> Tensor:
    """Spectra [planes, rows of blocks, 8, width] as [planes, rows, columns, 8, 8]."""
    columns = plane.unflatten(3, (-1, 8))
    blocks: Tensor = columns.transpose(2, 3).contiguous()
    return blocks


def jpeg_bytes(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str | int | None = None,
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    optimize: bool = False,
    progressive: bool = False,
    restart_marker_blocks: int = 0,
    restart_marker_rows: int = 0,
    colour: str = YCBCR,
) -> list[bytes]:
    """Save images x as JPEG: the bytes of a file for each, equal to those that Pillow writes.

    x: [B, C, H, W] in [0, 1] with C = 1 (grayscale) or 3, on any device.
    quality, tables: as in `jpeg`.
    subsampling: as in `jpeg`. None, the default, is 4:2:0 for colour images. In a grayscale file
        it changes one byte, which has no effect; None means 4:4:4 there, as in Pillow.
    optimize: use the shortest Huffman tables for this image.
    progressive: store the image in several scans, coarse to fine.
    restart_marker_blocks, restart_marker_rows: put a restart marker after so many MCUs, or after so
        many rows of MCUs; 0 for none. Rows win over blocks.
    colour: "rgb" stores red, green and blue, as Pillow does with keep_rgb=True.

    The coefficients are computed on x's device, the bytes on the CPU. No gradient. Raises
    ValueError for what `jpeg` refuses, and for sides above 65,500 pixels.
    """
    check_image(x)
    if subsampling is None:
        is_grayscale = x.shape[1] == 1
        subsampling = "4:4:4" if is_grayscale else "4:2:0"
    coefficients = jpeg_coefficients(x, quality, subsampling, tables, colour=colour)
    return coefficients.encode(optimize, progressive, restart_marker_blocks, restart_marker_rows)
