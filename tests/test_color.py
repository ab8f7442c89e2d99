"""Changes of colour against torchvision."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from degrade import Brightness, Contrast, Hue, Offset, Saturation

from .conftest import picture

CHANGES = {
    Brightness: functional.adjust_brightness,
    Contrast: functional.adjust_contrast,
    Saturation: functional.adjust_saturation,
}


@pytest.mark.parametrize("change", CHANGES)
@given(st.floats(0, 3), st.integers(0, 5))
def test_color_change_equals_torchvision_after_clamping(change, factor, index):
    x = picture(index)
    expected = CHANGES[change](x, factor)
    assert torch.allclose(change(factor)(x).clamp(0, 1), expected, atol=2e-6)


@given(st.floats(-0.5, 0.5), st.integers(0, 5))
def test_hue_equals_torchvision(turn, index):
    """But for pixels where a hue lies on the border of two sextants, whose colours agree there."""
    x = picture(index)
    assert torch.allclose(Hue(turn)(x), functional.adjust_hue(x, turn), atol=1e-4)


def test_hue_third_of_a_turn_makes_red_green():
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1)
    green = torch.tensor([0.1, 0.8, 0.1]).view(1, 3, 1, 1)
    assert torch.allclose(Hue(1 / 3)(red), green, atol=1e-6)


def test_color_changes_keep_a_gray_image_gray():
    x = picture(2)[:, :1]
    assert torch.equal(Saturation(0.3)(x), x) and torch.equal(Hue(0.3)(x), x)
    in_color = x.repeat(1, 3, 1, 1)
    for f in (Saturation(0.3), Hue(0.3), Contrast(0.4), Brightness(1.2)):
        assert torch.allclose(f(in_color), f(x).expand_as(in_color), atol=1e-3)


def test_offset_adds_to_each_channel():
    x = picture(3)
    expected = x + torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1)
    assert torch.allclose(Offset(0.1, -0.2, 0.3)(x), expected)
    assert torch.allclose(Offset(0.1, -0.2, 0.4)(x[:, :1]), x[:, :1] + 0.1)
    two = torch.cat([x, x])
    together = Offset((0.1, 0.2), blue=0.3)(two)
    assert torch.equal(together[1:], Offset(0.2, blue=0.3)(x))
