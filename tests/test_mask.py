import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from degrade import Mask, Strokes

from .conftest import rng


def test_a_mask_multiplies_and_shows_itself():
    x, m = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    assert torch.equal(Mask(m)(x), x * m) and torch.equal(Mask(m).visible(x.shape), m)
    assert Mask(m) == Mask(m.clone()) and Mask(m) != Mask(1 - m)


def test_a_mask_is_a_value():
    m = torch.ones(1, 1, 2, 2)
    f = Mask(m)
    m.zero_()
    assert f.visible((1, 3, 2, 2)).min() == 1


def test_a_mask_from_a_file(tmp_path):
    pixels = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4) * 20
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert torch.equal(Mask(tmp_path / "m.png").visible((1, 3, 3, 4))[0, 0], torch.from_numpy(pixels) / 255)


@pytest.mark.parametrize(
    "bad, word",
    [(torch.ones(4, 4), "shape"), (torch.ones(1, 3, 4, 4), "shape"), (torch.full((1, 1, 2, 2), 1.5), "outside"),
     (torch.full((1, 1, 2, 2), torch.nan), "outside"), (3, "tensor")],
)  # fmt: skip
def test_bad_masks_are_refused(bad, word):
    with pytest.raises(ValueError, match=word):
        Mask(bad)


def test_a_mask_of_another_size_or_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give one of their size"):
        Mask(torch.ones(1, 1, 4, 4))(torch.rand(1, 3, 5, 4))
    with pytest.raises(ValueError, match="cannot be read"):
        Mask(tmp_path / "none.png")(torch.rand(1, 3, 5, 4))


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.integers(48, 90), st.integers(48, 90))
def test_strokes_hide_what_pillow_s_thick_lines_hide(count, seed, height, width):
    """Pillow draws the same strokes at sixteen times the size, box-reduced; only edges may differ."""
    mask = Strokes(count, seed=seed).visible((1, 3, height, width))[0, 0].numpy()
    scale, thickness = 16, 0.08 * min(height, width)
    canvas = Image.new("L", (width * scale, height * scale), 255)
    draw = ImageDraw.Draw(canvas)
    u = torch.rand((count, 2, 2), generator=rng(seed)).double()
    ends = torch.where(u < 0.5, u * 2 / 3, u * 2 / 3 + 1 / 3) * torch.tensor([width, height]) * scale
    r = thickness * scale / 2
    for (x0, y0), (x1, y1) in ends.tolist():
        draw.line([x0, y0, x1, y1], fill=0, width=max(1, round(2 * r)))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - r, y - r, x + r, y + r], fill=0)
    reference = numpy.asarray(canvas.resize((width, height), Image.BOX)) / 255
    assert abs(mask - reference).max() < 0.5 and abs(mask - reference).mean() < 0.01


@given(st.integers(0, 2**32 - 1))
def test_stroke_ends_lie_in_outer_thirds(seed):
    """A hair-thin stroke's ends: the far corners of what it hides avoid the middle third on each axis."""
    hidden = Strokes(1, width=1e-3, seed=seed).visible((1, 1, 90, 90))[0, 0] < 1
    rows, cols = (hidden.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    for cells in (rows, cols):
        for end in (cells.min(), cells.max()):
            assert end <= 30 or end >= 59


def test_strokes_are_the_same_at_every_resolution():
    small, large = (Strokes(4, seed=7).visible((1, 3, n, n)) for n in (32, 128))
    reduced = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - reduced).abs().max() < 0.35 and (small - reduced).abs().mean() < 0.01


def test_no_strokes_hide_nothing():
    assert Strokes(0, seed=1).visible((1, 3, 5, 7)).min() == 1
