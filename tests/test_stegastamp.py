"""StegaStamp's noise layer against a restatement of the published code in numpy."""

import numpy
import pytest
import torch

import degrade

from .conftest import rng

LUMA = [[16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55]]
LUMA += [[14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62]]
LUMA += [[18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92]]
LUMA += [[49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]]
CHROMA = numpy.full((8, 8), 99.0)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
TO_RGB = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


def their_kernel(kind, sigma, angle):
    """random_blur_kernel: a Gaussian, or a line with its normal at an angle, of 7 x 7 pixels."""
    kernel = numpy.zeros((7, 7))
    for i in range(7):
        for j in range(7):
            row, column = i - 3, j - 3
            if kind == "gaussian":
                kernel[i, j] = numpy.exp(-(row**2 + column**2) / 2 / sigma**2)
            elif abs(row) + abs(column) < 3.05:
                distance = row * numpy.cos(angle) + column * numpy.sin(angle)
                kernel[i, j] = numpy.exp(-(distance**2) / 2 / sigma**2)
    return kernel / kernel.sum()


def their_blur(x, kernel):
    height, width, _ = x.shape
    padded = numpy.pad(x, ((3, 3), (3, 3), (0, 0)))
    y = numpy.zeros_like(x)
    for i in range(7):
        for j in range(7):
            y += kernel[i, j] * padded[i : i + height, j : j + width]
    return y


def their_dct(blocks, back=False):
    k = numpy.arange(8)
    basis = numpy.cos((2 * k[:, None] + 1) * k * numpy.pi / 16) / 2  # [position, frequency]
    basis[:, 0] /= numpy.sqrt(2)
    matrix = basis if back else basis.T
    return matrix @ blocks @ matrix.T


def their_coded(plane, table):
    result = numpy.empty_like(plane)
    for i in range(0, len(plane), 8):
        for j in range(0, plane.shape[1], 8):
            steps = their_dct(plane[i : i + 8, j : j + 8] - 128) / table
            rounded = numpy.where(abs(steps) < 0.5, steps**3, steps)
            result[i : i + 8, j : j + 8] = their_dct(rounded * table, back=True) + 128
    return result


def their_jpeg(x, quality):
    factor = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100 + 0.0001
    planes = (x * 255) @ numpy.array(TO_YCBCR).T + [0, 128, 128]
    coded = numpy.empty_like(planes)
    coded[..., 0] = their_coded(planes[..., 0], numpy.array(LUMA).T * factor)
    for channel in (1, 2):
        plane = planes[..., channel]
        small = (plane[::2, ::2] + plane[::2, 1::2] + plane[1::2, ::2] + plane[1::2, 1::2]) / 4
        small = their_coded(small, CHROMA.T * factor)
        coded[..., channel] = small.repeat(2, 0).repeat(2, 1)
    rgb = (coded - [0, 128, 128]) @ numpy.array(TO_RGB).T
    return numpy.clip(rgb, 0, 255) / 255


def channels_last(x):
    return x[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("kind", "sigma"), [("gaussian", 1.7), ("line", 0.4)])
def test_stegastamp_blur_equals_the_published_code(kind, sigma):
    x = torch.rand(1, 3, 16, 18, generator=rng(), dtype=torch.float64)
    side = 7 if kind == "gaussian" else None
    angle = 35 if kind == "line" else 0
    y = degrade.Blur(kind, sigma, angle, side=side, edge="black")(x)
    theirs = their_blur(channels_last(x), their_kernel(kind, sigma, numpy.deg2rad(35)))
    assert abs(channels_last(y) - theirs).max() < 1e-12


@pytest.mark.parametrize("quality", [31.0, 72.5])
def test_stegastamp_colours_and_jpeg_equal_the_published_code(quality):
    """From the contrast on, with the same numbers."""
    x = torch.rand(1, 3, 32, 48, generator=rng(), dtype=torch.float64)
    text = (
        "brightness:1.2 >> offset:0.05,-0.08,0.02,every=-0.2 >> clamp >> saturation:0.35,"
        f"weights=0.3|0.6|0.1 >> diffjpeg:{quality},rounding=cube"
    )
    y = degrade.parse(text)(x)
    changed = channels_last(x) * 1.2 + (numpy.array([0.05, -0.08, 0.02]) - 0.2)
    clipped = numpy.clip(changed, 0, 1)
    luma = (clipped * [0.3, 0.6, 0.1]).sum(-1, keepdims=True)
    mixed = 0.35 * clipped + 0.65 * luma
    assert abs(channels_last(y) - their_jpeg(mixed, quality)).max() < 1e-9


def test_stegastamp_draws_what_it_says():
    f = degrade.pipelines["stegastamp"]
    kinds = set()
    for seed in range(40):
        stages = list(f.sample((1, 3, 32, 32), seed))
        kinds.add(getattr(stages[1], "kernel", stages[1].name))
        assert degrade.parse(str(f.sample((1, 3, 32, 32), seed))) == degrade.operator.compose(
            stages
        )
    assert kinds == {"gaussian", "line", "identity"}


def test_hidden_says_why_it_is_absent():
    """HiDDeN mixes the marked image with its cover, which an operator does not have."""
    with pytest.raises(KeyError, match="needs the cover image too"):
        degrade.pipelines["hidden"]
    with pytest.raises(ValueError, match="hidden needs the cover image") as error:
        degrade.parse("hidden >> jpeg:50")
    advice = str(error.value).split("write ")[1].split(": ⟨here⟩")[0]
    assert degrade.parse(advice)(torch.rand(1, 3, 32, 32, generator=rng()), 0).shape[1] == 3
