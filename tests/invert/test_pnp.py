"""Plug-and-play restoration with a denoiser."""

import pytest
import torch

import degrade
import invert
from invert.defects import lost_mask
from invert.linear_model import conjugate_gradients, filled, linear_model, with_known_filters
from invert.pnp import PlugAndPlay, cuttable
from invert.tiles import blend, tiles
from tests.conftest import picture, rng, slow_except


def psnr(x, y):
    return float(-10 * (x - y).square().mean().log10())


@pytest.mark.parametrize("spec", ["downsample:2", "blur:gaussian,1.5", "pixels:0.4", "gray"])
def test_nearest_solves_the_normal_equations(spec):
    """Against a dense solution of (AᵀA / a² + I / b²) x = Aᵀy / a² + x0 / b²."""
    shape = (1, 3, 8, 8)
    f = degrade.parse(spec).sample(shape, rng(1))
    x0 = torch.rand(shape, generator=rng(2), dtype=torch.float64)
    y = torch.rand(f.output_shape(shape), generator=rng(3), dtype=torch.float64)
    grey = torch.full(shape, 0.5, dtype=torch.float64)  # values off the 8-bit grid
    columns = []
    for column in torch.eye(192, dtype=torch.float64):
        changed = f(grey + column.view(shape) / 4)
        columns.append(4 * (changed - f(grey)).flatten())
    matrix = torch.stack(columns, 1)
    a, b = 0.05, 0.2
    hessian = matrix.T @ matrix / a**2 + torch.eye(192, dtype=torch.float64) / b**2
    target = matrix.T @ y.flatten() / a**2 + x0.flatten() / b**2
    expected = torch.linalg.solve(hessian, target).view(shape)
    solution = linear_model(f, y).nearest(x0, b, a)
    assert (solution - expected).abs().max() < 2e-3


def test_conjugate_gradients_ends_at_the_exact_solution():
    target = torch.rand(1, 1, 4, 4, generator=rng(0))
    weight = torch.rand(1, 1, 4, 4, generator=rng(1)) + 0.5
    solution = conjugate_gradients(lambda v: weight * v, target, weight)
    assert torch.allclose(solution, target / weight, atol=1e-6)


def test_filled_keeps_known_pixels_and_constants():
    known = (torch.rand(1, 1, 37, 50, generator=rng(0)) < 0.3).float().expand(1, 3, -1, -1)
    x = torch.rand(1, 3, 37, 50, generator=rng(1))
    result = filled(known * x, known)
    assert torch.allclose(result[known == 1], x[known == 1], atol=1e-6)
    flat = filled(known * 0.3, known)
    assert torch.allclose(flat, torch.full_like(flat, 0.3), atol=1e-5)


def test_known_filter_and_law_of_noise_are_assumed():
    f = degrade.parse("downsample:2 >> poisson:40 >> jpeg:30")
    assert with_known_filters(f, (1, 3, 64, 64)) == f


def test_unknown_dead_pixels_are_not_assumed():
    f = degrade.parse("deadpixels:0.1 >> poisson:40").sample((1, 3, 64, 64), rng(0))
    assert with_known_filters(f, (1, 3, 64, 64)) == degrade.parse("deadpixels:0.1 >> poisson:40")


def test_reduction_by_a_scale_is_tried_on_parts(shrink):
    """The picture is larger than the trials, so that the operator is cut for them."""
    f = degrade.parse("resize:scale=0.5 >> gaussian:0.03")
    y = f(picture(0), rng())
    restored = invert.restore(y, f, shrink, steps=2).image
    assert restored.shape == picture(0).shape


@pytest.mark.slow
def test_dead_pixels_under_jpeg_do_not_darken_the_result(photo):
    f = degrade.parse("deadpixels:0.1 >> jpeg:50")
    clean = picture(2)
    y = f(clean, rng(0))
    restored = invert.restore(y, f, photo, "pnp").image
    darkened = (clean - y).mean()
    assert darkened > 0.03
    assert (clean - restored).mean().abs() < 0.2 * darkened


@pytest.mark.parametrize("brightness", [0.0, 1.0])
def test_black_and_white_pictures_come_nearer(photo, brightness):
    """Also where the clamp leaves the trials nothing to gain, as it does on white."""
    clean = torch.full((1, 3, 24, 20), brightness)
    for spec in ("brightness:1.5 >> clamp", "gaussian:0.3 >> clamp", "deadpixels:0.5 >> jpeg:50"):
        f = degrade.parse(spec)
        y = f(clean, rng(0))
        restored = invert.restore(y, f, photo, "pnp", steps=2).image
        assert (restored - clean).abs().mean() <= (y - clean).abs().mean() + 1 / 255


def test_jpeg_result_compresses_to_the_same_file(photo):
    """Data consistency: saving the result again gives the observed picture, bit for bit."""
    f = degrade.parse("jpeg:20")
    clean = picture(3)
    y = f(clean)
    restored = invert.restore(y, f, photo, "pnp").image
    assert torch.equal(f(restored), y)
    assert psnr(restored, clean) > psnr(y, clean) + 0.3


def test_inpainting_keeps_known_pixels(photo):
    f = degrade.parse("strokes:3").sample((1, 3, 128, 128), rng(0))
    clean = picture(1)
    y = f(clean)
    restored = invert.restore(y, f, photo, "pnp").image
    visible = f.visible(clean.shape).expand_as(clean) == 1
    assert torch.equal(restored[visible], clean[visible])
    assert psnr(restored, clean) > 25 > psnr(y, clean)


@pytest.mark.parametrize(
    ("sigma", "gain"),
    [
        (0.1, 6),
        pytest.param(0.04, 3, marks=pytest.mark.slow),
        pytest.param(0.3, 9, marks=pytest.mark.slow),
    ],
)
def test_denoising_gains_at_one_setting_for_all(photo, sigma, gain):
    clean = picture(2)
    f = degrade.parse(f"gaussian:{sigma}")
    y = f(clean, rng(1))
    restored = invert.restore(y, f, photo, "pnp").image
    assert psnr(restored, clean) > psnr(y, clean) + gain


def test_nothing_to_undo_keeps_the_picture(photo):
    y = picture(0)
    restoration = invert.restore(y, degrade.parse("clamp"), photo, "pnp")
    assert torch.equal(restoration.image, y)
    assert "nothing to undo" in restoration.notes[0]


def test_images_of_a_batch_are_independent(shrink):
    f = degrade.parse("gaussian:0.1")
    y = torch.cat([f(picture(i), rng(i))[..., :64, :64] for i in range(2)])
    both = invert.restore(y, f, shrink, "pnp", seed=[4, 5])
    alone = invert.restore(y[1:], f, shrink, "pnp", seed=[5])
    assert torch.equal(both.image[1:], alone.image)


@pytest.mark.parametrize("spec", slow_except(("downsample:2",), ("jpeg:30", "downsample:2")))
def test_tiles_give_the_same_picture(shrink, spec):
    """A denoiser of single pixels and exact parts of the operator leave no seam."""
    clean = torch.cat([picture(0), picture(1)], 3)[..., :160]
    f = degrade.parse(spec).sample(clean.shape, rng(0))
    y = f(clean)
    whole = invert.restore(y, f, shrink, PlugAndPlay(steps=3, tile=4096)).image
    tiled = invert.restore(y, f, shrink, PlugAndPlay(steps=3, tile=64, margin=32)).image
    assert len(tiles(f, clean.shape, 64, 32)) >= 4
    assert (tiled - whole).abs().max() < 1 / 255


def test_codec_is_restored_in_tiles(shrink):
    """A codec uses the whole image, so that it cannot be cut; a large photo would not fit."""
    f = degrade.parse("codec:webp,40")
    y = f(torch.cat([picture(0), picture(1)], 3))
    whole = invert.restore(y, f, shrink, PlugAndPlay(tile=4096)).image
    tiled = invert.restore(y, f, shrink, PlugAndPlay(tile=64, margin=32)).image
    assert len(tiles(cuttable(f, y.shape, 0.02), y.shape, 64, 32)) >= 4
    assert (tiled - whole).abs().max() < 1e-5


def test_tiles_cover_the_image_once_blended():
    f = degrade.parse("jpeg:30")
    shape = (1, 3, 150, 170)
    x = torch.rand(shape, generator=rng(0))
    image = torch.zeros(shape)
    for tile in tiles(f, shape, 64, 16):
        rows, columns = tile.window
        blend(image, tile, x[..., rows, columns])
    assert torch.allclose(image, x, atol=1e-6)


def test_pnp_refuses_what_it_cannot_undo(shrink, avatars):
    y = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="needs a denoiser"):
        invert.restore(torch.rand(1, 3, 128, 128), degrade.parse("clamp"), avatars, "pnp")
    with pytest.raises(ValueError, match="still to be drawn"):
        invert.restore(y, degrade.parse("maybe:0.5(gaussian:0.1)"), shrink, "pnp")
    with pytest.raises(ValueError, match="steps=0"):
        invert.restore(y, degrade.parse("clamp"), shrink, "pnp", steps=0)


@pytest.mark.parametrize("spec", ["gaussian:0.05", "downsample:2"])
def test_pnp_does_not_depend_on_defaults(photo, spec):
    """Neither the default dtype nor the default device changes a bit.

    The first operator needs the search for a noise level, the second conjugate gradients.
    """
    f = degrade.parse(spec)
    y = f(picture(0)[..., 30:62, 30:70], rng(1))
    expected = invert.restore(y, f, photo, "pnp", steps=2).image
    torch.set_default_dtype(torch.float64)
    try:
        in_double = invert.restore(y, f, photo, "pnp", steps=2).image
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        on_meta = invert.restore(y, f, photo, "pnp", steps=2).image
    assert torch.equal(in_double, expected)
    assert torch.equal(on_meta, expected)


@pytest.mark.parametrize("spec", ["identity", "turn:1,mirror=1"])
def test_invertible_operators_take_no_turn(photo, spec):
    f = degrade.parse(spec)
    clean = picture(0)[..., :64, :48]
    restoration = invert.restore(f(clean), f, photo, "pnp")
    assert torch.equal(restoration.image, clean)
    words = "nothing to undo" if spec == "identity" else "undone exactly"
    assert words in restoration.notes[0]


def test_known_mask_and_filter_are_both_assumed():
    f = degrade.parse("downsample:2 >> deadpixels:0.1").sample((1, 3, 32, 32), rng(0))
    model = with_known_filters(f, (1, 3, 32, 32), invert.oracle_mask)
    assert model == f


def test_gamma_is_undone_exactly(photo):
    f = degrade.parse("gamma:2.2")
    clean = picture(0)[..., :64, :48]
    restoration = invert.restore(f(clean), f, photo, "pnp")
    assert (restoration.image - clean).abs().max() < 1e-4
    assert "undone exactly" in restoration.notes[0]


@pytest.mark.slow
def test_gamma_before_jpeg_is_undone_with_it(photo):
    """Restored brightness is the clean one's; saving the result again gives the file."""
    f = degrade.parse("gamma:1.8 >> jpeg:40")
    clean = picture(3)[..., :80, :96]
    y = f(clean)
    restored = invert.restore(y, f, photo, "pnp").image
    brightened = y.clamp(0, 1) ** (1 / 1.8)
    assert psnr(restored, clean) > psnr(brightened, clean)
    assert (f(restored) - y).abs().max() < 1e-3


@pytest.mark.parametrize(
    "spec",
    slow_except(
        ("saltpepper:0.1",), ("deadpixels:0.1", "saltpepper:0.1", "hotpixels:0.05 >> clamp")
    ),
)
def test_unknown_lost_pixels_become_a_mask(photo, spec):
    """Found without their seed; all other pixels are kept bit for bit."""
    f = degrade.parse(spec)
    clean = picture(1)[..., :96, :96] * 0.8 + 0.1
    y = f(clean, rng(2))
    restoration = invert.restore(y, f, photo, "pnp", steps=4)
    kept = (y == clean).all(1, keepdim=True).expand_as(clean)
    assert torch.equal(restoration.image[kept], clean[kept])
    assert psnr(restoration.image, clean) > psnr(y, clean) + 8
    assert f"{int((~kept).sum()) // 3} pixels" in restoration.notes[0]


def test_black_areas_are_not_lost_pixels():
    y = torch.full((1, 3, 64, 64), 0.5)
    y[..., 20:40, 20:40] = 0
    y[..., 50, 50] = 0
    lost = lost_mask(degrade.parse("deadpixels:0.01")[0], y)
    assert lost[0, 0, 50, 50]
    assert not lost[0, 0, 24:36, 24:36].any()
