import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from scipy import stats

from degrade import Box, Downsample, Mask, Pixels, Pool, Resize, Strokes, Uncrop, parse
from degrade.serial import from_json, to_json

from .conftest import rng


def test_mask_multiplies_and_is_visible():
    x, m = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    assert torch.equal(Mask(m)(x), x * m) and torch.equal(Mask(m).visible(x.shape), m)
    assert Mask(m) == Mask(m.clone()) and Mask(m) != Mask(1 - m)


def test_mask_keeps_copy_of_given_tensor():
    m = torch.ones(1, 1, 2, 2)
    f = Mask(m)
    m.zero_()
    assert f.visible((1, 3, 2, 2)).min() == 1


def test_mask_reads_image_file(tmp_path):
    pixels = numpy.arange(12, dtype=numpy.uint8).reshape(3, 4) * 20
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert torch.equal(
        Mask(tmp_path / "m.png").visible((1, 3, 3, 4))[0, 0], torch.from_numpy(pixels) / 255
    )


def test_mask_reads_safetensors_file(tmp_path):
    m = torch.rand(2, 1, 4, 5)
    for name, entry in [("m", m), ("same", m), ("outside", 2 * m + 1)]:
        save_file({"mask": entry}, tmp_path / f"{name}.safetensors")
    f = Mask(tmp_path / "m.safetensors")
    assert torch.equal(f.visible((2, 3, 4, 5)), m)
    assert f == Mask(m) == Mask(tmp_path / "same.safetensors") != Mask(tmp_path / "nothing.png")
    assert hash(f) == hash(Mask(m)) and Mask(tmp_path / "nothing.png") == Mask(
        tmp_path / "nothing.png"
    )
    save_file({"other": m}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no such thing")
    for name, words in [
        ("outside", "outside"),
        ("other", "holds no tensor of the name 'mask'"),
        ("broken", "cannot be read: it is no .safetensors file, or a damaged one"),
    ]:
        with pytest.raises(ValueError, match=words):
            Mask(tmp_path / f"{name}.safetensors")(torch.rand(2, 3, 4, 5))


@pytest.mark.parametrize(
    "bad, word",
    [
        (torch.ones(4, 4), "shape"),
        (torch.ones(1, 3, 4, 4), "shape"),
        (torch.full((1, 1, 2, 2), 1.5), "outside"),
        (torch.full((1, 1, 2, 2), torch.nan), "outside"),
        (3, "tensor"),
        ("", "tensor"),
    ],
)
def test_mask_rejects_wrong_tensors(bad, word):
    with pytest.raises(ValueError, match=word):
        Mask(bad)


def test_mask_keeps_float64():
    x = torch.rand(1, 1, 4, 5, generator=rng(), dtype=torch.float64)
    m = torch.rand(1, 1, 4, 5, generator=rng(1), dtype=torch.float64)
    assert torch.equal(Mask(m)(x), x * m)
    assert torch.autograd.gradcheck(lambda m: Mask(m)(x), m.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.bool])
def test_mask_of_any_type_survives_writing_to_a_file(tmp_path, dtype):
    m = torch.rand(1, 1, 4, 5, generator=rng(), dtype=torch.float64).round(decimals=3).to(dtype)
    f = Mask(m)
    g = from_json(to_json(f, tmp_path), tmp_path)
    x = torch.rand(1, 1, 4, 5, generator=rng(1), dtype=torch.float64)
    assert f == g and torch.equal(f(x), g(x)) and torch.equal(f(x), x * m)


def test_masks_of_equal_values_and_other_types_are_equal():
    m = torch.rand(1, 1, 4, 5, generator=rng())
    assert Mask(m) == Mask(m.double()) and str(Mask(m)) == str(Mask(m.double()))
    assert Mask(m) != Mask(m.double() + 1e-12)


def test_mask_rejects_other_size_and_missing_file(tmp_path):
    with pytest.raises(ValueError, match="give one of their size"):
        Mask(torch.ones(1, 1, 4, 4))(torch.rand(1, 3, 5, 4))
    with pytest.raises(ValueError, match="cannot be read"):
        Mask(tmp_path / "none.png")(torch.rand(1, 3, 5, 4))


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.integers(48, 90), st.integers(48, 90))
def test_strokes_match_pillow_thick_lines(count, seed, height, width):
    """Pillow draws the same strokes at 16 times the size, then reduces them; edges may differ."""
    mask = Strokes(count, seed=seed).visible((1, 3, height, width))[0, 0].numpy()
    scale, thickness = 16, 0.08 * min(height, width)
    canvas = Image.new("L", (width * scale, height * scale), 255)
    draw = ImageDraw.Draw(canvas)
    u = torch.rand((count, 2, 2), generator=rng(seed)).double()
    ends = (
        torch.where(u < 0.5, u * 2 / 3, u * 2 / 3 + 1 / 3) * torch.tensor([width, height]) * scale
    )
    r = thickness * scale / 2
    for (x0, y0), (x1, y1) in ends.tolist():
        draw.line([x0, y0, x1, y1], fill=0, width=max(1, round(2 * r)))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse([x - r, y - r, x + r, y + r], fill=0)
    reference = numpy.asarray(canvas.resize((width, height), Image.BOX)) / 255
    assert abs(mask - reference).max() < 0.5 and abs(mask - reference).mean() < 0.01


@given(st.integers(0, 2**32 - 1))
def test_strokes_end_in_outer_thirds(seed):
    """The corners of the area that a thin stroke hides avoid the middle third of each axis."""
    hidden = Strokes(1, width=1e-3, seed=seed).visible((1, 1, 90, 90))[0, 0] < 1
    rows, cols = (hidden.any(1 - axis).nonzero().flatten() for axis in (0, 1))
    for cells in (rows, cols):
        for end in (cells.min(), cells.max()):
            assert end <= 30 or end >= 59


def test_strokes_same_at_every_resolution():
    small, large = (Strokes(4, seed=7).visible((1, 3, n, n)) for n in (32, 128))
    reduced = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - reduced).abs().max() < 0.35 and (small - reduced).abs().mean() < 0.01


def test_strokes_count_zero_hides_nothing():
    assert Strokes(0, seed=1).visible((1, 3, 5, 7)).min() == 1


def test_box_default_is_central_third():
    mask = Box().visible((1, 3, 90, 60))[0, 0]
    assert (mask[30:60, 20:40] == 0).all() and mask.sum() == 90 * 60 - 30 * 20


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_box_hides_its_rectangle(height, width, top, left, h, w):
    mask = Box(height, width, top, left).visible((1, 3, h, w))[0, 0]
    rows, cols = (
        (torch.arange(n) >= round(a * n)) & (torch.arange(n) < round(a * n) + round(s * n))
        for n, a, s in ((h, top, height), (w, left, width))
    )
    assert torch.equal(mask == 0, rows[:, None] & cols)


@given(st.floats(0.01, 1), st.integers(1, 40), st.integers(1, 40))
def test_uncrop_keeps_its_share_of_area(keep, h, w):
    sides = [max(1, round(keep**0.5 * n)) for n in (h, w)]
    corner, center = (
        Uncrop(keep, where).visible((1, 3, h, w))[0, 0] for where in ("corner", "center")
    )
    assert (
        corner[: sides[0], : sides[1]].min() == 1
        and corner.sum() == center.sum() == sides[0] * sides[1]
    )
    for axis in (0, 1):
        seen = center.amax(1 - axis).nonzero().flatten()
        before, after = int(seen.min()), len(center.amax(1 - axis)) - 1 - int(seen.max())
        assert 0 <= after - before <= 1


def test_uncrop_quarter_is_top_left():
    mask = parse("uncrop:0.25").visible((1, 3, 64, 64))
    assert mask[..., :32, :32].min() == 1 and mask.mean() == 0.25


def test_pixels_hidden_share_is_prob():
    """Chance of a false alarm: 10⁻⁴."""
    f = Pixels(0.3).sample((1, 3, 200, 200), rng())
    mask = f.visible((1, 3, 200, 200))
    assert stats.binomtest(int((mask == 0).sum()), 200 * 200, 0.3).pvalue > 1e-4
    assert f.approx() == f  # the solver knows which
    x = torch.rand(1, 3, 200, 200, generator=rng())
    assert torch.equal(f(x), x * mask)


def test_pixels_prob_applies_per_image():
    f = Pixels((0.1, 0.9), seed=(1, 2))
    together = f.visible((2, 3, 8, 8))
    for i in range(2):
        assert torch.equal(
            together[i : i + 1], Pixels(f.prob[i], seed=f.seed[i]).visible((1, 3, 8, 8))
        )


@given(
    st.sampled_from([Box(), Uncrop(0.3), Pixels(0.4, seed=1), Strokes(3, seed=2)]),
    st.integers(1, 6),
)
def test_visible_of_pool_is_mean_of_each_cell(mask, factor):
    shape = (1, 3, 8 * factor, 5 * factor)
    expected = mask.visible(shape).view(1, 1, 8, factor, 5, factor).mean((3, 5))
    for f in (Downsample(factor), Pool(factor), Resize((8, 5)), Resize(scale=1 / factor)):
        assert torch.allclose((mask >> f).visible(shape), expected, atol=1e-6)
        assert f.visible(shape) is None


def test_visible_of_nearest_is_source_pixel():
    mask = Strokes(4, seed=3)
    for f in (Downsample(3, "nearest"), Resize((31, 40), filter="nearest")):
        x = torch.ones(1, 1, 24, 30)
        assert torch.equal((mask >> f).visible(x.shape), (mask >> f)(x))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Box(1.5), "height=1.5"),
        (lambda: Box(top=-0.1), "top=-0.1"),
        (lambda: Box((0.1, 0.2)), "must be one number for all images"),
        (lambda: Uncrop(0), "keep=0 must be a number above 0 to 1"),
        (lambda: Uncrop(0.5, "left"), "where='left' must be one of corner, center"),
        (lambda: Pixels(2), "prob=2"),
        (lambda: Strokes((3, 5)), "must be one number for all images"),
        (lambda: Pixels(0.5).visible((1, 3, 4, 4)), "which pixels is not decided yet"),
        (
            lambda: Strokes(2, seed=(1, 2, 3))(torch.rand(2, 3, 4, 4)),
            "seed has 3 values for 2 images",
        ),
    ],
)
def test_mask_errors_name_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()
