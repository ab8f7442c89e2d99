"""DiffJPEG against a restatement with scipy's DCT, block by block."""

import numpy
import pytest
import torch
from scipy import fft

from degrade import DiffJPEG

from . import authors
from .conftest import picture


def hwc(x):
    return x[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("quality", [1, 5, 30, 49.99, 50, 75.3, 94.7, 99])
@pytest.mark.parametrize("size", [(16, 16), (33, 50), (1, 1), (40, 24)])
def test_diffjpeg_equals_its_formula(quality, size):
    height, width = size
    x = picture(3)[..., 30 : 30 + height, 40 : 40 + width].double().contiguous()
    y = DiffJPEG(quality)(x)
    assert numpy.allclose(hwc(y), authors.diffjpeg(hwc(x), quality), atol=1e-9)


@pytest.mark.parametrize("axis, step", [(0, 61), (1, 72)])
def test_diffjpeg_luma_table_lies_transposed(axis, step):
    """T.81 has 72 for the highest frequency along columns (axis 0), and 61 along rows."""
    for share, survives in ((0.49, False), (0.51, True)):
        coefficients = numpy.zeros((8, 8))
        coefficients[(7, 0) if axis == 0 else (0, 7)] = share * step
        block = fft.idctn(coefficients, norm="ortho") + 128
        y = DiffJPEG(50)(torch.from_numpy(block)[None, None] / 255)
        assert bool(y.std() > 1e-6) is survives


def test_diffjpeg_quality_100_is_nearly_lossless():
    x = torch.full((1, 3, 16, 16), 0.3, dtype=torch.float64)
    assert torch.allclose(DiffJPEG(100)(x), x, atol=1e-5)


def test_diffjpeg_gray_equals_rgb_of_equal_channels():
    x = picture(2)[:, :1, 10:50, 20:57].double()
    in_color = DiffJPEG(40)(x.repeat(1, 3, 1, 1))
    assert torch.allclose(DiffJPEG(40)(x).expand_as(in_color), in_color, atol=1e-3)


def test_diffjpeg_applies_a_quality_per_image():
    x = torch.cat([picture(1), picture(2)])
    together = DiffJPEG((20, 80))(x)
    assert torch.equal(together[:1], DiffJPEG(20)(x[:1]))
    assert torch.equal(together[1:], DiffJPEG(80)(x[1:]))


def test_diffjpeg_refuses_quality_zero():
    with pytest.raises(ValueError, match="quality=0 must be a number from 1 to 100"):
        DiffJPEG(0)
