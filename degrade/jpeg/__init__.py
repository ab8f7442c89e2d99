"""JPEG: the pixels that libjpeg-turbo decodes, bit for bit, with a declared gradient.

This file has the operator, the function and their parameters; `codec.py` has the round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..images import check_image
from ..operator import Operator, Shape, Window
from ..params import (
    Integers,
    Range,
    check_choice,
    checked,
    integer,
    number,
    of_kind,
    option,
    tensor_of,
)
from ..registry import register
from ..rng import Rng
from ..transforms import NO_FORWARD_MODE, asks_for_forward_mode, without_autocast
from .cells import nearest_saved_as
from .coefficients import JPEGCoefficients, jpeg_coefficients
from .encoders import DECODERS, ENCODERS, LIBJPEG_TURBO, Libraries, check_encoder
from .header import check_tables
from .layout import (
    COLOURS,
    FOUR_CHANNELS,
    YCBCR,
    Layout,
    SamplingKind,
    base_tables,
    check_channels,
    layout_of,
    sampling_with,
)
from .parse import read_header
from .settings import Settings, save_and_open
from .slopes import CLAMPS, SURROGATES, USES, surrogate_for
from .steps import check_arguments, quantiser_steps, steps_of_components


def jpeg(
    x: Tensor,
    quality: int | Sequence[int] | Tensor | None = None,
    subsampling: str | int = "4:2:0",
    tables: Sequence[Sequence[int]] | Tensor | None = None,
    surrogate: str | None = None,
    clamp: str = "sigmoid",
    encoder: str = LIBJPEG_TURBO,
    decoder: str = LIBJPEG_TURBO,
    for_use: str | None = None,
    colour: str = YCBCR,
    alpha: float | None = None,
) -> Tensor:
    """Save images x as JPEG and return the pixels that Pillow reads back, bit for bit.

    x: [B, C, H, W] with C = 1 (grayscale) or 3, or 4 with colour="cmyk" or "ycck"; any H and W. It
        is clamped to [0, 1] and rounded to 8 bits first.
    quality: 1 to 100, one number or one per image; 75 unless tables are given.
    tables: instead of a quality, 1 to 3 tables of 64 integers in natural order.
    for_use: "inversion" (the default), "descent", "robustness" or "quality"; chooses the gradient.
    surrogate, clamp: the gradient by name, instead of for_use; see `JPEG`.
    alpha: 0 to 1, how much less gradient a coefficient gets that is far from a jump; see `JPEG`.
    encoder, decoder: the library that saves and the one that opens; see `JPEG`.
    colour: how the file stores colours, "ycbcr", "rgb", "cmyk" or "ycck"; see `JPEG`.

    The result holds multiples of 1/255. quality [B] and tables [n, 8, 8] or [B, n, 8, 8] may be
    tensors with a gradient; a float tensor is rounded, straight through. Raises ValueError for
    anything else. Under torch.compile the values of tensors are not checked.
    """
    chosen = surrogate_for(surrogate, for_use, alpha)
    check_choice("clamp", clamp, CLAMPS)
    check_encoder(encoder)
    check_choice("decoder", decoder, DECODERS)
    checked_quality, checked_tables, sampling = check_arguments(
        x, quality, subsampling, tables, colour
    )
    settings = Settings(
        checked_quality, checked_tables, sampling, chosen, clamp, encoder, decoder, colour
    )
    wide = x if x.dtype == torch.float64 else x.float()
    try:
        with without_autocast(x.device):
            image = save_and_open(wide.contiguous(), settings)
    except NotImplementedError as error:
        if asks_for_forward_mode(error):
            raise ValueError(f"jpeg: {NO_FORWARD_MODE}") from error
        raise
    return image.to(x.dtype)


@register("jpeg", exact="Pillow's save and open, bit for bit", gradient="by use, or by name")
class JPEG(Operator):
    """Save the image as JPEG with Pillow (libjpeg-turbo) and open it again: the same pixels.

    quality: 1 to 100, or one per image. subsampling of chroma: 4:2:0, 4:2:2, 4:4:4, 4:4:0 (half the
    rows), 4:1:1, 4:1:0, 4:4:1 or 4:2:1, also written 420 and so on; or the factors of luma where
    others have no such name: 3x1, 3x2, 1x3, 2x3, 2x4; or the factors of every component, such as
    2x2:1x2:1x1. tables: instead of a quality, 1 to 4 tables of 64 integers in natural order (all;
    luma and chroma; luma, Cb and Cr; CMYK). encoder, decoder: the libraries that save and open, if
    they are not Pillow's; docs/jpeg.md lists them.

    colour: how the file stores colours. "rgb": red, green and blue without chroma (Pillow's
    keep_rgb=True). "cmyk": images of four channels, cyan, magenta, yellow and black, of which 1 is
    full ink, as in Pillow's mode CMYK; the file stores 255 - value, as Pillow and Adobe write it.
    "ycck": the same with cyan, magenta and yellow as luma and chroma. With rgb and cmyk the
    sampling is 4:4:4 unless factors are given, and a quality scales the table of luma for all.

    Gradient: straight through all rounding except that of the coefficients. Say what it is for, by
    `for_use`: "inversion" through a generator (identity, the default), "descent" to a given file
    (residual), "robustness" (smoothed: training or attacks whose result must survive JPEG),
    "quality" (identity). Or name the rule, by `surrogate`. With g the gradient of the output, J the
    Jacobian of libjpeg-turbo's codec without rounding, d the distance of a coefficient to the
    nearest integer and q its step:

    - identity: g itself, without the clamp
    - residual: J g instead of Jᵀ g (the gradient goes forward through the codec's linear stages),
      with slope (1-α) + 3α d², α = 0.95, for luma and 1 for chroma
    - smoothed: Jᵀ g with slope (1-α) + α t / (t² + (1 - t²) cos² πd), t = tanh(2π/q), α = 1: that
      of the expected coefficient if Cauchy noise is added, of which half is within 2 levels
    - cubic: Jᵀ g with slope (1-α) + 3α d², α = 0.8 (Poirier-Ginter & Lalonde 2023, eq. 15)
    - ste: Jᵀ g with slope 1

    alpha: α of residual, smoothed or cubic, from 0 to 1. A slope is large where a coefficient is
    near a jump (d = ½) and small where it is not; with a smaller α the slopes are nearer to 1.

    clamp of the decoded p to [0, 1]: "sigmoid", slope 2σ(1-σ) with σ = sigmoid(2p - 1) (eq. 11);
    "hard", 1 inside and 0 outside; "ste", 1. The input's clamp is straight through.

    `project` finds an 8-bit image near x that saves as y, bit for bit, where y is a decoded JPEG of
    these settings. An MCU (a unit of 8×8 to 16×32 pixels) without a solution takes y's pixels. If y
    is `JPEG.coefficients_from_file(path)`, the file's coefficients need not be guessed from pixels.
    """

    quality: Integers | None = integer(default=None, low=1, high=100, learnable=True)
    subsampling: str = of_kind(SamplingKind(), default="4:2:0")
    tables: Sequence[Sequence[int]] | Tensor | None = checked(
        check_tables, "1 to 4 tables of 64 integers", default=None
    )
    surrogate: str | None = option(*SURROGATES, default=None)
    clamp: str = option(*CLAMPS, default="sigmoid")
    encoder: str = option(*ENCODERS, default=LIBJPEG_TURBO)
    decoder: str = option(*DECODERS, default=LIBJPEG_TURBO)
    for_use: str | None = option(*USES, default=None)
    colour: str = option(*COLOURS, default=YCBCR)
    alpha: float | None = number(default=None, low=0, high=1, per_image=False, drawn=False)

    def __post_init__(self) -> None:
        check_encoder(self.encoder)
        super().__post_init__()
        sampling = sampling_with(self.colour, self.subsampling)
        object.__setattr__(self, "subsampling", sampling)
        surrogate_for(self.surrogate, self.for_use, self.alpha)
        if (self.quality is None) == (self.tables is None):
            raise ValueError("give quality, 1 to 100, as in jpeg:75, or tables; one of the two")

    @classmethod
    def from_file(
        cls,
        file: str | Path | bytes,
        surrogate: str | None = None,
        clamp: str = "sigmoid",
        for_use: str | None = None,
        alpha: float | None = None,
    ) -> JPEG:
        """The JPEG that made `file` (a path, or its bytes), with its header's tables and sampling.

        The operator of a grayscale file is meant for grayscale images; on RGB it uses the one table
        for all components, and 4:2:0. Raises ValueError for damaged files and for files that the
        model does not cover: arithmetic coding, lossless, 12 bits, samplings that libjpeg refuses.
        """
        header = read_header(file)
        return cls(
            tables=header.tables,
            subsampling=header.subsampling,
            surrogate=surrogate,
            clamp=clamp,
            for_use=for_use,
            colour=header.colour,
            alpha=alpha,
        )

    @staticmethod
    def coefficients_from_file(file: str | Path | bytes) -> JPEGCoefficients:
        """The quantised coefficients in `file` (a path, or its bytes): an exact observation.

        `JPEG.from_file(path).project(x, coefficients)` agrees with the file itself. Needs jpeglib,
        an extra. Raises ValueError without it, for files that `from_file` refuses, and for files
        that Pillow cannot open, such as truncated ones.
        """
        from .read import coefficients_of_file

        return coefficients_of_file(file)

    def coefficients(self, x: Tensor) -> JPEGCoefficients:
        """The quantised coefficients with which images x are saved; `encode` makes files of them.

        In grayscale files the sampling has no effect; it is written as 4:4:4, as Pillow does.
        """
        subsampling = "4:4:4" if x.shape[1] == 1 else self.subsampling
        quality = cast("Integers | Tensor | None", tensor_of(self.quality, x))
        if isinstance(quality, Range):
            raise ValueError(f"{self} draws its quality; call sample() first")
        return jpeg_coefficients(x, quality, subsampling, self.tables, self.encoder, self.colour)

    def arguments(self) -> list[tuple[str, object, bool]]:
        """Quality is written without its name (jpeg:12), although it may be left out."""
        arguments = []
        for name, value, _ in super().arguments():
            positional = name == "quality"
            arguments.append((name, value, positional))
        return arguments

    def forward(self, x: Tensor, rng: Rng) -> Tensor:
        quality = cast("Integers | Tensor | None", tensor_of(self.quality, x))
        settings = Settings(
            quality,
            self.tables,
            self.subsampling,
            surrogate_for(self.surrogate, self.for_use, self.alpha),
            self.clamp,
            self.encoder,
            self.decoder,
            self.colour,
        )
        return save_and_open(x, settings)

    def reach(self, shape: Shape) -> float:
        return max(self._mcu)

    @property
    def _mcu(self) -> tuple[int, int]:
        """Rows and columns of pixels in which the grids of luma and chroma begin anew."""
        across, down = self._layout.mcu
        return max(16, 8 * down), max(16, 8 * across)

    @property
    def _layout(self) -> Layout:
        """The components of images with as many channels as the colour has."""
        channels = 4 if self.colour in FOUR_CHANNELS else 3
        return layout_of(self.colour, self.subsampling, channels)

    def cut(self, shape: Shape, window: Window) -> tuple[Operator, Window] | None:
        rows, columns = window
        height, width = shape[2:]
        rows_of_mcu, columns_of_mcu = self._mcu
        cuts_rows = _cuts_through_mcus(rows, height, rows_of_mcu)
        cuts_columns = _cuts_through_mcus(columns, width, columns_of_mcu)
        if cuts_rows or cuts_columns:
            return None
        return self, window

    def project(self, x: Tensor, y: Tensor | JPEGCoefficients) -> Tensor:
        """Data consistency with pixels y, or with the coefficients of a file."""
        if isinstance(y, JPEGCoefficients):
            return self._project_to(x, y)
        return super().project(x, y)

    @torch.no_grad()
    def _project_to(self, x: Tensor, y: JPEGCoefficients) -> Tensor:
        """The image near x [B, C, H, W] that is saved with the coefficients y."""
        check_image(x)
        pixels = y.decode(self.decoder).to(x.device)
        if x.shape != pixels.shape:
            raise ValueError(f"y has shape {list(pixels.shape)}, but x has {list(x.shape)}")
        if y.subsampling != self.subsampling and len(y.components) > 1:
            raise ValueError(f"y is {y.subsampling}, but {self} is {self.subsampling}")
        if y.colour != self.colour and len(y.components) > 1:
            raise ValueError(f"y stores {y.colour}, but {self} stores {self.colour}")
        wide = x if x.dtype == torch.float64 else x.float()
        steps = self.steps(wide)
        steps_of_y = steps_of_components(y.tables, x.shape[1]).to(steps)
        if not torch.equal(steps, steps_of_y):
            raise ValueError(f"y has other tables than {self}; use JPEG(tables=y.tables[0])")
        images = []
        for i in range(len(x)):
            row = slice(i, i + 1)
            components = [component[row].to(x.device) for component in y.components]
            operator = self.row(i, len(x))
            assert isinstance(operator, JPEG)
            image = operator._nearest(wide[row], pixels[row].to(wide), components)
            images.append(image)
        return torch.cat(images).to(x.dtype)

    def agree(self, x: Tensor, y: Tensor) -> Tensor:
        return self._nearest(x, y)

    def _nearest(self, x: Tensor, y: Tensor, components: Sequence[Tensor] | None = None) -> Tensor:
        """The image near x [1, C, H, W] that is saved as y; see `nearest_saved_as`."""
        steps = self.steps(x)
        layout = layout_of(self.colour, self.subsampling, x.shape[1])
        libraries = Libraries(ENCODERS[self.encoder], DECODERS[self.decoder])
        near = []
        for part, layout_of_part in layout.parts():
            known = None if components is None else components[part]
            nearest = nearest_saved_as(
                x[:, part], y[:, part], steps[:, part], layout_of_part, libraries, known
            )
            near.append(nearest)
        return torch.cat(near, 1)

    def steps(self, x: Tensor) -> Tensor:
        """The quantiser's steps [B, C, 8, 8] for images x."""
        check_channels(self.colour, x.shape[1])
        base = base_tables(self.colour, ENCODERS[self.encoder].base)
        return quantiser_steps(self.quality, self.tables, x, base)


def _cuts_through_mcus(span: slice, n: int, mcu: int) -> bool:
    """Whether an end of a span of n pixels lies inside an MCU of `mcu` pixels."""
    return any(end % mcu != 0 and end != n for end in (span.start, span.stop))
