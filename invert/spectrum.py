"""The singular value decomposition H = U S Vᵀ of a linear operator, applied to images.

The cheapest form that fits is used: a number for each pixel, one number for a tight frame, or a
dense decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from degrade.operator import Operator

from .tree import tree_map

LARGEST = 2048  # values of an image (or of a channel) whose dense SVD is computed
SMALLEST_SINGULAR_VALUE = 1e-3  # of the largest one; smaller ones count as 0
Function = Callable[[Tensor], Tensor]  # of singular values


class Spectrum:
    """The singular value decomposition H = U S Vᵀ of an operator, as far as DDRM needs it."""

    def to(self, device: torch.device) -> Spectrum:
        """Move the decomposition to another device."""
        return tree_map(lambda tensor: tensor.to(device), self)

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        """V f(S) Vᵀ x."""
        raise NotImplementedError

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        """V f(S) Uᵀ y."""
        raise NotImplementedError


@dataclass(frozen=True)
class Diagonal(Spectrum):
    """Every pixel is multiplied by its own number, as by a mask.

    values: [1, C, H, W], of any sign.
    """

    values: Tensor

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        singular_values = self.values.abs()
        return f(singular_values) * x

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        singular_values = self.values.abs()
        signs = self.values.sign()
        return f(singular_values) * signs * y


@dataclass(frozen=True)
class Tight(Spectrum):
    """A tight frame: H Hᵀ = s²·I. H has one singular value, and 0 for everything that it hides.

    Examples are means of blocks, a conversion to grey, and orthogonal rows.
    """

    operator: Operator
    value: float

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        back_projected = self.operator.adjoint(self.operator(x), x.shape)
        visible_part = back_projected / self.value**2
        hidden_part = x - visible_part
        of_visible, of_hidden = f(x.new_tensor([self.value, 0.0]))
        image: Tensor = of_visible * visible_part + of_hidden * hidden_part
        return image

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        (factor,) = f(y.new_tensor([self.value]))
        gain = factor / self.value
        image_shape = self.operator.input_shape(y.shape)
        shape = (len(y), *image_shape[1:])
        image: Tensor = gain * self.operator.adjoint(y, shape)
        return image


@dataclass(frozen=True)
class Dense(Spectrum):
    """A matrix, of the whole image, or of one channel if all channels have the same matrix.

    s: the singular values, with a 0 for every column that v has more than u. shape: of an image.
    """

    u: Tensor
    s: Tensor
    v: Tensor
    shape: tuple[int, ...]
    per_channel: bool

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        coordinates = self._rows(x) @ self.v
        scaled = coordinates * f(self.s)
        image = scaled @ self.v.T
        return image.view_as(x)

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        rank = self.u.shape[1]
        factors = f(self.s)[:rank]
        coordinates = self._rows(y) @ self.u
        scaled = coordinates * factors
        visible_directions = self.v[:, :rank]
        image = scaled @ visible_directions.T
        return image.view(len(y), *self.shape[1:])

    def _rows(self, x: Tensor) -> Tensor:
        """Flatten every image, or every channel, to a row."""
        if self.per_channel:
            return x.flatten(2)
        return x.flatten(1)


@dataclass(frozen=True)
class Each(Spectrum):
    """A spectrum for each image of a batch."""

    rows: tuple[Spectrum, ...]

    def of_image(self, f: Function, x: Tensor) -> Tensor:
        images = []
        for row, single in zip(self.rows, x.split(1), strict=True):
            images.append(row.of_image(f, single))
        return torch.cat(images)

    def of_observation(self, f: Function, y: Tensor) -> Tensor:
        images = []
        for row, single in zip(self.rows, y.split(1), strict=True):
            images.append(row.of_observation(f, single))
        return torch.cat(images)


def spectra(
    operators: list[Operator | None], shape: tuple[int, ...], device: torch.device
) -> Spectrum:
    """Decompose the operators of a batch; None is the identity.

    An operator that several images share is decomposed once.
    """
    by_text: dict[str, Spectrum] = {}
    rows = []
    for operator in operators:
        text = str(operator)
        if text not in by_text or holds_tensors(operator):
            decomposition = spectrum(operator, shape)
            by_text[text] = decomposition.to(device)
        rows.append(by_text[text])
    first = rows[0]
    if all(row is first for row in rows):
        return first
    return Each(tuple(rows))


def holds_tensors(operator: Operator | None) -> bool:
    """Whether different operators may have the same text, since it leaves out their tensors."""
    if operator is None:
        return False
    return any(stage.files for stage in operator)


def spectrum(operator: Operator | None, shape: tuple[int, ...]) -> Spectrum:
    """Decompose a linear operator on images [1, C, H, W]; None is the identity.

    Raises ValueError if it has no closed form and is too large for a dense decomposition.
    """
    if operator is None:
        ones = torch.ones(shape, dtype=torch.float32, device="cpu")
        return Diagonal(ones)
    probes = Probes(operator, shape)
    return probes.diagonal() or probes.tight() or probes.dense()


class Probes:
    """Random images and observations that determine what kind of matrix an operator is."""

    def __init__(self, operator: Operator, shape: tuple[int, ...]):
        self.operator = operator
        self.shape = shape
        self.output = tuple(operator.output_shape(shape))
        self.draws = torch.Generator().manual_seed(0)

    def random(self, size: tuple[int, ...]) -> Tensor:
        return torch.randn(size, generator=self.draws, dtype=torch.float32, device="cpu")

    def diagonal(self) -> Diagonal | None:
        """The decomposition if every pixel is multiplied by its own number, else None."""
        if self.output != self.shape:
            return None
        white = torch.ones(self.shape, dtype=torch.float32, device="cpu")
        values = self.operator(white)
        for _ in range(2):
            x = self.random(self.shape)
            y = self.operator(x)
            if not alike(y, values * x):
                return None
        return Diagonal(values)

    def tight(self) -> Tight | None:
        """The decomposition if H Hᵀ is a multiple of the identity, else None."""
        first = self.random(self.output)
        second = self.random(self.output)
        first_product = self._product(first)
        inner_product = (first_product * first).sum()
        quotient = inner_product / first.square().sum()
        square = float(quotient)
        if square <= 0 or not alike(first_product, square * first):
            return None
        second_product = self._product(second)
        if not alike(second_product, square * second):
            return None
        return Tight(self.operator, square**0.5)

    def dense(self) -> Dense:
        """Decompose the whole matrix, or that of one channel if all channels have the same."""
        _, channels, height, width = self.shape
        per_channel = self._per_channel()
        size = height * width
        if not per_channel:
            size *= channels
        if size > LARGEST:
            raise ValueError(
                f"method='ddrm' finds no closed form for {self.operator}, and {size} values are "
                f"too many for a dense decomposition (at most {LARGEST}); use a mask, a mean of "
                "blocks, or smaller images"
            )
        matrix = self._matrix(size, per_channel)
        u, s, vh = torch.linalg.svd(matrix, full_matrices=True)
        rank = len(s)
        smallest = SMALLEST_SINGULAR_VALUE * s[0]
        nonzero_values = torch.where(s > smallest, s, 0)
        values = torch.zeros(size, dtype=torch.float64, device="cpu")
        values[:rank] = nonzero_values
        return Dense(
            u=u[:, :rank].float(),
            s=values.float(),
            v=vh.T.float(),
            shape=self.shape,
            per_channel=per_channel,
        )

    def _product(self, y: Tensor) -> Tensor:
        """H Hᵀ y."""
        back_projected = self.operator.adjoint(y, self.shape)
        return self.operator(back_projected)

    def _per_channel(self) -> bool:
        """Whether channels do not mix, and all channels have the same matrix."""
        channels, height, width = self.shape[1:]
        x = self.random(self.shape)
        if self.output[1] != channels:
            return False
        grey = self.random((1, 1, height, width)).expand(self.shape)
        of_grey = self.operator(grey)
        first_channel = of_grey[:, :1].expand(self.output)
        if not alike(of_grey, first_channel):
            return False
        for channel in range(channels):
            alone = torch.zeros_like(x)
            alone[:, channel] = x[:, channel]
            others = self.operator(alone)[0]
            others[channel] = 0
            if others.abs().max() >= 1e-6:
                return False
        return True

    def _matrix(self, size: int, per_channel: bool) -> Tensor:
        """The operator as a matrix [outputs, size], for one channel or for all."""
        _, channels, height, width = self.shape
        identity = torch.eye(size, dtype=torch.float32, device="cpu")
        basis = identity.view(size, -1, height, width)
        if per_channel:
            basis = basis.expand(-1, channels, -1, -1)
        outputs = [self.operator(chunk) for chunk in basis.split(64)]
        columns = torch.cat(outputs)
        if per_channel:
            columns = columns[:, :1]
        transposed = columns.flatten(1)
        return transposed.T.double()


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether a and b are equal up to rounding."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def nonzero(s: Tensor) -> Tensor:
    """Replace 0 by 1, so that the values can divide."""
    return torch.where(s > 0, s, 1.0)
