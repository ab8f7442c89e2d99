"""The quantised DCT coefficients of a JPEG: of an image, and the image that they decode to.

They are all that a JPEG file stores of an image. Files with the same coefficients differ only in
how they encode them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..params import check_choice
from ..transforms import without_autocast
from . import pillow
from .codec import exact_dtype, exact_levels, quantised, spectrum_and_steps
from .encoders import DECODERS, ENCODERS, LIBJPEG_TURBO, Decoder, Encoder, check_encoder
from .layout import (
    FOUR_CHANNELS,
    YCBCR,
    Layout,
    base_tables,
    check_sampling,
    layout_of,
    sampling_with,
)
from .steps import check_arguments, quantiser_tables, steps_of_components


@dataclass(frozen=True, eq=False)
class JPEGCoefficients:
    """Quantised coefficients of a batch of images, as their JPEG files store them.

    components: luma, and of colour images Cb and Cr; or red, green and blue; or four of CMYK: int16
        [B, rows, columns, 8, 8], one 8×8 block of frequencies for each 8×8 samples; [0, 0] is the
        mean. A component has as many blocks as cover it; the file may add blocks that no decoder
        shows.
    tables: the quantiser's steps [B, n, 8, 8], n from 1 to 4. Component i uses table min(i, n - 1).
    subsampling: as in `JPEG`, such as "4:2:0" or "2x2:1x2:1x1".
    size: height and width of the images in pixels.
    colour: how the file stores colours, as in `JPEG`.
    """

    components: tuple[Tensor, ...]
    tables: Tensor
    subsampling: str
    size: tuple[int, int]
    colour: str = YCBCR

    def __post_init__(self) -> None:
        name = check_sampling(self.subsampling)
        canonical = sampling_with(self.colour, name)
        if canonical != self.subsampling:
            raise ValueError(
                f"subsampling={self.subsampling!r} must be written {canonical!r} here, "
                f"with colour={self.colour}"
            )
        count = len(self.components)
        accepted_counts = (4,) if self.colour in FOUR_CHANNELS else (1, 3)
        if count not in accepted_counts:
            wanted = "4 (CMYK)" if 4 in accepted_counts else "1 (grayscale) or 3 (luma, Cb, Cr)"
            raise ValueError(f"components are {count}; give {wanted}")
        batch = len(self.components[0])
        blocks = self.layout.blocks(self.size)
        for i, component in enumerate(self.components):
            expected = [batch, *blocks[i], 8, 8]
            shape = list(component.shape)
            if shape != expected or component.dtype != torch.int16:
                raise ValueError(
                    f"components[{i}] is {component.dtype} {shape}; give torch.int16 {expected}"
                )
        shape = list(self.tables.shape)
        most = max(3, count)
        accepted = [[batch, n, 8, 8] for n in range(1, most + 1)]
        if shape not in accepted:
            raise ValueError(
                f"tables have shape {shape}; give [{batch}, n, 8, 8], n from 1 to {most}"
            )

    @property
    def layout(self) -> Layout:
        """The components' colours and sampling."""
        return layout_of(self.colour, self.subsampling, len(self.components))

    @torch.no_grad()
    def decode(self, decoder: str = LIBJPEG_TURBO) -> Tensor:
        """The images [B, C, H, W] of k/255 that a decoder shows, in float32.

        decoder: as in `jpeg`; by default Pillow's.
        """
        check_choice("decoder", decoder, DECODERS)
        with without_autocast(self.tables.device):
            return self._decoded(DECODERS[decoder])

    def _decoded(self, decoder: Decoder) -> Tensor:
        first = self.components[0]
        dtype = exact_dtype(first.device)
        layout = self.layout
        channels = len(self.components)
        steps = steps_of_components(self.tables, channels)
        planes = []
        for group in layout.groups:
            stack = []
            for i in range(channels)[group.components]:
                table = steps[:, i, None, None].to(dtype)
                dequantised = self.components[i] * table
                spectra = dequantised.transpose(2, 3)
                stack.append(spectra.flatten(1, 2).flatten(2, 3))
            planes.append(decoder.samples(torch.cat(stack), group.sampling))
        image = first.new_empty((len(first), channels, *self.size), dtype=dtype)
        decoder.fill(image, planes, layout)
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

    x: [B, C, H, W] in [0, 1] with C as in `jpeg`, on any device; it is clamped and rounded to 8
        bits first.
    quality, subsampling, tables, encoder, colour: as in `jpeg`.

    Without a gradient. Raises ValueError as `jpeg` does.
    """
    check_encoder(encoder)
    model = ENCODERS[encoder]
    wide, by_image, name = _checked(x, quality, subsampling, tables, colour, model)
    return _coefficients(wide, by_image, name, colour, model)


def _checked(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None,
    subsampling: str | int,
    tables: Sequence[Sequence[int]] | Tensor | None,
    colour: str,
    model: Encoder,
) -> tuple[Tensor, Tensor, str]:
    """(x in at least 32 bits, the tables [B, n, 8, 8], the name of the sampling)"""
    checked_quality, checked_tables, name = check_arguments(x, quality, subsampling, tables, colour)
    wide = x if x.dtype == torch.float64 else x.float()
    base = base_tables(colour, model.base)
    with without_autocast(x.device):
        by_image = quantiser_tables(checked_quality, checked_tables, wide, base)
    return wide, by_image, name


def _coefficients(
    x: Tensor, tables: Tensor, subsampling: str, colour: str, model: Encoder
) -> JPEGCoefficients:
    """The coefficients of images x, given the tables [B, n, 8, 8]."""
    layout = layout_of(colour, subsampling, x.shape[1])
    with without_autocast(x.device):
        steps = steps_of_components(tables, x.shape[1])
        components = _quantised_components(x.contiguous(), steps, layout, model)
    size = (x.shape[2], x.shape[3])
    return JPEGCoefficients(components, tables.to(torch.int32), subsampling, size, colour)


def _quantised_components(
    x: Tensor, steps: Tensor, layout: Layout, encoder: Encoder
) -> tuple[Tensor, ...]:
    """The quantised coefficients of each component [B, rows, columns, 8, 8], as views of planes.

    steps: [B, C, 8, 8].
    """
    by_component = steps.to(exact_dtype(x.device)).transpose(0, 1)
    components: list[Tensor] = []
    planes = encoder.planes(exact_levels(x), layout)
    for plane, group in zip(planes, layout.groups, strict=True):
        steps_of_group = by_component[group.components]
        f, q = spectrum_and_steps(encoder, plane, steps_of_group, group.sampling)
        integers = quantised(f, encoder.divisors(q)).to(torch.int16)
        blocks = integers.unflatten(3, (-1, 8)).transpose(2, 3)
        components.extend(blocks.split(len(x)))
    return tuple(components)


@torch.no_grad()
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

    x: [B, C, H, W] in [0, 1] with C as in `jpeg`, on any device.
    quality, tables: as in `jpeg`.
    subsampling: as in `jpeg`. None, the default, is 4:2:0 for colour images. In a grayscale file
        it changes one byte, which has no effect; None means 4:4:4 there, as in Pillow.
    optimize: use the shortest Huffman tables for this image.
    progressive: store the image in several scans, coarse to fine.
    restart_marker_blocks, restart_marker_rows: put a restart marker after so many MCUs, or after so
        many rows of MCUs; 0 for none. Rows win over blocks.
    colour: "rgb" stores red, green and blue, as Pillow does with keep_rgb=True; "cmyk" is what
        Pillow writes of CMYK images. See `jpeg`.

    Pillow itself writes what it can: grayscale and YCbCr on the CPU, of a sampling that it has, if
    its library agrees with the model of it here. All else is computed by the model, the
    coefficients on x's device and the bytes on the CPU; the bytes are the same. No gradient. Raises
    ValueError for what `jpeg` refuses, and for sides above 65,500 pixels.
    """
    from .file import FileOptions  # here, since its Huffman tables take time

    if subsampling is None:
        is_grayscale = isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == 1
        subsampling = "4:4:4" if is_grayscale else "4:2:0"
    model = ENCODERS[LIBJPEG_TURBO]
    wide, by_image, name = _checked(x, quality, subsampling, tables, colour, model)
    options = FileOptions(optimize, progressive, restart_marker_blocks, restart_marker_rows)
    plain_options = options.checked()
    files = pillow.files(wide, by_image, colour, name, **plain_options._asdict())
    if files is not None:
        return files
    coefficients = _coefficients(wide, by_image, name, colour, model)
    return coefficients.encode(*plain_options)
