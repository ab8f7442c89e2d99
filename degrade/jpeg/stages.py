"""The linear stages of a JPEG round trip in libjpeg-turbo's integers, and their transposes.

A plane is never permuted into blocks: an 8×8 block is 8 of its rows and 8 of its columns. With
`exact`, a stage rounds where libjpeg shifts, and no sum exceeds 2^24, the largest range in which
float32 holds every integer. Without `exact` it is the linear map that a gradient goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from .layout import Group, Layout
from .sampling import (
    Sampling,
    divide_up,
    enlarge,
    enlarge_t,
    pad,
    reduce,
    reduce_t,
    samples_of,
    up8,
)

# libjpeg's integer DCT; each row is a frequency. It is 2^13·√8 times the orthonormal DCT and
# keeps libjpeg's irregular last digits.
M = torch.tensor(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ],
    dtype=torch.float32,
    device="cpu",
)
_HIGH = (M / 128).round()
_LOW = M / 128 - _HIGH
# M = 128·(high + low), each as two equal diagonal blocks: one product over 16 columns is faster
# than two products over 8 columns.
_BLOCKS = [torch.block_diag(m, m) for m in (M, _HIGH, _LOW)]
DCT = torch.stack(_BLOCKS)
_ROW_TRANSFORM = DCT[0].T.contiguous() / 2**11

# Weights in 1/65536 of R, G, B, and of Y, Cb - 128, Cr - 128
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
TO_RGB = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))
_MATRIX_TO_YCC = torch.tensor(_TO_YCC, device="cpu") / 65536
_MATRIX_TO_RGB_T = torch.tensor(TO_RGB, device="cpu").T / 65536
# What is added before the floor: it rounds (chroma rounds half down), and centres Y at 0
_OFFSETS = torch.tensor([0.5 - 128, 32767 / 65536, 32767 / 65536], device="cpu").view(3, 1, 1, 1)

# (planes of a group at full size, the group) → planes of its samples, in whole blocks
Reduction = Callable[[Tensor, Group], Tensor]
# (planes, how many pixels share a sample, height and width, exact) → planes at full size
Enlargement = Callable[[Tensor, Sampling, tuple[int, int], bool], Tensor]

# Blocks: planes [planes, height, width] of 8×8 blocks ---------------------------------------------


def forward_dct(x: Tensor, dct: Tensor) -> Tensor:
    """8 times the DCT of every block, rounded after each of its two passes as libjpeg does."""
    lines = x.view(-1, 16)
    rows = lines @ _ROW_TRANSFORM.to(x)  # sums below 2^23, so that M need not be split
    rows.add_(0.5).floor_()
    width = x.shape[2]
    blocks = rows.view(-1, 8, width)
    column_transforms = _of_one_block(dct)
    spectra = _transform_columns(column_transforms, blocks, 15)
    return spectra.view_as(x)


def inverse_dct(c: Tensor, dct: Tensor) -> Tensor:
    """The rounded inverse DCT of every block of coefficients."""
    _, high, low = dct
    width = c.shape[2]
    spectra = c.reshape(-1, 8, width)
    column_transforms = _of_one_block(dct).mT
    columns = _transform_columns(column_transforms, spectra, 11)
    lines = columns.view(-1, 16)
    rows: Tensor = lines @ low
    rows.add_(2**10).floor_()
    scale = 2.0**-11
    rows.addmm_(lines, high, beta=scale, alpha=scale)
    rows.floor_()
    return rows.view(c.shape)


def _of_one_block(m: Tensor) -> Tensor:
    """The 8×8 matrix that a matrix for 16 columns holds twice, as its diagonal blocks."""
    return m[..., :8, :8]


def _transform_columns(dct: Tensor, x: Tensor, bits: int) -> Tensor:
    """⌊(M x + 2^(bits-1)) / 2^bits⌋ for x [n, 8, width], in sums below 2^24.

    With M = 128·(high + low) this is ⌊(⌊low·x + 2^(bits-8)⌋ + high·x) / 2^(bits-7)⌋.
    """
    _, high, low = dct
    scale = 2.0 ** (7 - bits)
    half = 2.0 ** (bits - 8)
    size = (x.shape[0], 8, 8)
    y = torch.bmm(low.expand(size), x)
    y.add_(half).floor_()
    y.baddbmm_(high.expand(size), x, beta=scale, alpha=scale)
    return y.floor_()


def analyse(x: Tensor, m: Tensor) -> Tensor:
    """M x Mᵀ / 2^29 in every block: the transposed inverse DCT."""
    width = x.shape[2]
    lines = x.reshape(-1, 16)
    transformed = lines @ m.T
    rows = transformed.view(-1, 8, width)
    column_transform = _of_one_block(m)
    spectra = torch.matmul(column_transform, rows)
    count = x.shape[0]
    return spectra.view(count, -1, 8, width)


def weigh(x: Tensor, slope: Tensor | None, m: Tensor) -> Tensor:
    """Mᵀ (slope · (M x Mᵀ)) M / 2^58: the gradient's way through both DCTs and the quantiser."""
    spectra = analyse(x, m)
    if slope is not None:
        spectra.mul_(slope)
    return synthesise(spectra, m)


def synthesise(spectra: Tensor, m: Tensor) -> Tensor:
    """Mᵀ x M / 2^29 in every block [planes, rows, 8, width]: the transpose of `analyse`."""
    count, _, _, width = spectra.shape
    blocks = spectra.reshape(-1, 8, width)
    inverse_transform = _of_one_block(m).T
    columns = torch.matmul(inverse_transform, blocks)
    lines = columns.view(-1, 16)
    pixels = lines @ m
    return pixels.view(count, -1, width)


def per_table(c: Tensor, batch: int) -> Tensor:
    """The sum over all blocks [batch, planes of an image, 8, 8]."""
    blocks = c.unflatten(3, (-1, 8))
    sums = blocks.sum((1, 3))
    by_image: Tensor = sums.unflatten(0, (-1, batch))
    return by_image.transpose(0, 1)


# Colour and sampling: image [B, C, H, W] ↔ stacks [n·B, h, w] of each group of n components -------


def to_planes(
    image: Tensor, layout: Layout, exact: bool = True, reduce_group: Reduction | None = None
) -> list[Tensor]:
    """Convert the colours, reduce the components, and pad every plane to whole blocks."""
    components = components_of(image, layout, exact)
    planes = []
    for group in layout.groups:
        stack = components[group.components].flatten(0, 1)
        if reduce_group is not None:
            planes.append(reduce_group(stack, group))
        else:
            planes.append(reduce(stack, group.sampling, exact, rows_together=group.rows_together))
    return planes


def components_of(image: Tensor, layout: Layout, exact: bool = True) -> Tensor:
    """The components [C, B, H, W] of an image [B, C, H, W] at full size, centred at 0."""
    channels = image.unbind(1)
    count = len(channels)
    first_inverted = count - layout.inverted
    if count == 1:
        return _plain(image[:, 0], layout.inverted > 0, exact)[None]
    components = image.new_empty(count, *channels[0].shape)
    mixed = 0
    if layout.mixes:
        mixed = 3
        ycc = components[:3]
        _mix_channels(image, _MATRIX_TO_YCC, ycc)
        if exact:
            ycc.add_(_OFFSETS.to(ycc)).floor_()
    for number in range(mixed, count):
        components[number] = _plain(channels[number], number >= first_inverted, exact)
    return components


def _plain(channel: Tensor, inverted: bool, exact: bool) -> Tensor:
    """A channel that is a component, as it is or as 255 - value, centred at 0.

    Without `exact` it is linear.
    """
    if inverted:
        return 127 - channel if exact else -channel
    return channel - 128 if exact else channel


def to_planes_t(planes: list[Tensor], shape: torch.Size, layout: Layout) -> Tensor:
    """The transpose of `to_planes` without its rounding."""
    batch, count, height, width = shape
    components: list[Tensor] = []
    for plane, group in zip(planes, layout.groups, strict=True):
        full_size = reduce_t(plane, group.sampling, (height, width), group.rows_together)
        components += full_size.unflatten(0, (-1, batch)).unbind()
    return _image_of(components, layout, zip(*_TO_YCC, strict=True), components[0].new_empty(shape))


def _image_of(
    components: list[Tensor], layout: Layout, weights: Iterable[Sequence[int]], out: Tensor
) -> Tensor:
    """Fill `out` [B, C, H, W] with colours that are linear in the components.

    weights: those of luma, Cb and Cr in each of three colours, if the layout mixes.
    """
    count = len(components)
    channels = out.unbind(1)
    mixed = 0
    if layout.mixes:
        mixed = 3
        _mix(components[:3], weights, channels[:3])
    for number in range(mixed, count):
        inverted = number >= count - layout.inverted
        component = components[number]
        channels[number].copy_(-component if inverted else component)
    return out


def to_image(
    planes: list[Tensor],
    layout: Layout,
    out: Tensor,
    exact: bool = True,
    weights: Sequence[Sequence[int]] = TO_RGB,
    enlarge_plane: Enlargement | None = None,
) -> Tensor:
    """Fill `out` [B, C, H, W] with levels that are not yet clamped; `exact` changes the planes."""
    batch, _, height, width = out.shape
    to_full_size = enlarge_plane or _to_full_size
    components: list[Tensor] = []
    for plane, group in zip(planes, layout.groups, strict=True):
        if exact and group.is_luma:
            first_inverted = len(layout.samplings) - layout.inverted
            is_inverted = group.components.start >= first_inverted
            plane.add_(-127 if is_inverted else 128)
        enlarged = to_full_size(plane, group.sampling, (height, width), exact)
        stack = enlarged[:, :height, :width]
        components += stack.unflatten(0, (-1, batch)).unbind()
    _image_of(components, layout, weights, out)
    if exact and layout.mixes:
        out[:, :3].round_()  # a sum never ends in exactly ½
    return out


def _to_full_size(plane: Tensor, sampling: Sampling, size: tuple[int, int], exact: bool) -> Tensor:
    return enlarge(samples_of(plane, sampling, size), sampling, exact)


def to_image_t(grad: Tensor, layout: Layout) -> list[Tensor]:
    """The transpose of `to_image` without its rounding."""
    height, width = grad.shape[2:]
    components = _components_t(grad, layout)
    planes = []
    for group in layout.groups:
        across, down = group.sampling
        rows = divide_up(height, down)
        columns = divide_up(width, across)
        stack = components[group.components].flatten(0, 1)
        enlarged = pad(stack, rows * down, columns * across)
        plane = enlarge_t(enlarged, group.sampling)
        planes.append(pad(plane, up8(rows), up8(columns)))
    return planes


def _components_t(grad: Tensor, layout: Layout) -> Tensor:
    """The gradient with respect to the components [C, B, H, W] at full size."""
    channels = grad.unbind(1)
    count = len(channels)
    components = grad.new_empty(count, *channels[0].shape)
    mixed = 0
    if layout.mixes:
        mixed = 3
        _mix_channels(grad, _MATRIX_TO_RGB_T, components[:3])
    for number in range(mixed, count):
        inverted = number >= count - layout.inverted
        components[number] = _plain(channels[number], inverted, exact=False)
    return components


def _mix_channels(image: Tensor, matrix: Tensor, out: Tensor) -> None:
    """Write the matrix times the channels of an image [B, C, H, W] into out [3, B, H, W]."""
    channels = image[:, :3].transpose(0, 1)
    torch.mm(matrix.to(image), channels.flatten(1), out=out.flatten(1))


def _mix(planes: Sequence[Tensor], rows: Iterable[Sequence[int]], out: Sequence[Tensor]) -> None:
    """Write Σ rows[i][j] / 2^16 · planes[j] into the plane i of `out`."""
    for target, weights in zip(out, rows, strict=True):
        _weighted_sum(planes, weights, target)


def _weighted_sum(planes: Sequence[Tensor], weights: Sequence[int], target: Tensor) -> None:
    """Write Σ weights[j] / 2^16 · planes[j] into `target`; a weight of 0 costs nothing."""
    terms = [(plane, weight / 65536) for plane, weight in zip(planes, weights, strict=True)]
    (plane, factor), *others = [term for term in terms if term[1] != 0]
    total = plane if factor == 1 else torch.mul(plane, factor, out=target)
    for other, factor_of_other in others:
        total = torch.add(total, other, alpha=factor_of_other, out=target)
