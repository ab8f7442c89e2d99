"""Warps against SciPy, torchvision, closed forms and each other."""

import numpy
import pytest
import torch
from scipy import ndimage

import degrade
from degrade import Affine, Perspective, Shift, Turn, parse
from degrade.movement import coarsest_pixel, matrix, move_boxes, move_mask

from .conftest import picture, rng

SCIPY_EDGE = {"black": "grid-constant", "nearest": "nearest"}


def image(*shape):
    return torch.rand(*shape, generator=rng(), dtype=torch.float64)


@pytest.mark.parametrize("edge", SCIPY_EDGE)
def test_affine_equals_scipy(edge):
    x = image(1, 1, 23, 31)
    f = Affine(17, dy=2.3, dx=-4.6, scale=1.3, shear=12, edge=edge)
    radians, slant = numpy.deg2rad(17), numpy.tan(numpy.deg2rad(12))
    rotation = numpy.array(
        [[numpy.cos(radians), numpy.sin(radians)], [-numpy.sin(radians), numpy.cos(radians)]]
    )
    forth = 1.3 * rotation @ numpy.array([[1, slant], [0, 1]])  # of (x, y)
    back = numpy.linalg.inv(forth)[::-1, ::-1]  # of (row, column)
    centre = numpy.array([11, 15])  # of the picture, counted from the first pixel's centre
    offset = centre - back @ (centre + [2.3, -4.6])
    theirs = ndimage.affine_transform(x[0, 0].numpy(), back, offset, order=1, mode=SCIPY_EDGE[edge])
    assert abs(f(x)[0, 0].numpy() - theirs).max() < 1e-12


@pytest.mark.parametrize("size", [(20, 20), (14, 23)])
def test_affine_equals_torchvision_rotate(size):
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import rotate

    x = image(2, 3, *size)
    theirs = rotate(x, 33, InterpolationMode.BILINEAR)
    assert (Affine(33)(x) - theirs).abs().max() < 1e-6  # float32 positions there


def test_affine_of_whole_pixels_equals_shift_and_turn():
    x = image(2, 3, 16, 16)
    assert torch.allclose(Affine(0, dy=3, dx=-2, edge="nearest")(x), Shift(3, -2)(x), atol=1e-12)
    for filter in ("bilinear", "bicubic"):
        assert torch.allclose(Affine(90, filter=filter)(x), Turn(1, 0)(x), atol=1e-12)
        assert torch.equal(Affine(0, filter=filter)(x.float()), x.float())


def test_bicubic_equals_the_resize_of_torch():
    """An enlargement by 2 about the centre is the middle of torch's bicubic resize."""
    x = image(1, 2, 12, 16)
    larger = torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic")
    y = Affine(0, scale=2, filter="bicubic", edge="nearest")(x)
    assert torch.allclose(y, larger[..., 6:18, 8:24], atol=1e-12)


def test_perspective_equals_scipy():
    x = image(1, 3, 21, 33)
    moves = (0.1, 0.05, -0.08, 0.02, -0.02, -0.1, 0.06, -0.03)
    y = Perspective(corners=moves)(x)
    height, width = 21, 33
    corners = [[0, 0], [width, 0], [width, height], [0, height]]
    moved = [
        [x0 + moves[2 * i] * width, y0 + moves[2 * i + 1] * height]
        for i, (x0, y0) in enumerate(corners)
    ]
    # SciPy counts from the centre of the first pixel
    start = [[px - 0.5, py - 0.5] for px, py in corners]
    end = [[px - 0.5, py - 0.5] for px, py in moved]
    system, values = [], []
    for (px, py), (qx, qy) in zip(start, end, strict=True):
        system.append([qx, qy, 1, 0, 0, 0, -px * qx, -px * qy])
        system.append([0, 0, 0, qx, qy, 1, -py * qx, -py * qy])
        values += [px, py]
    back = numpy.append(numpy.linalg.solve(system, values), 1).reshape(3, 3)
    rows, columns = numpy.mgrid[:height, :width]
    sources = back @ numpy.stack([columns.ravel(), rows.ravel(), numpy.ones(rows.size)])
    places = (sources[:2] / sources[2])[::-1]
    for channel in range(3):
        theirs = ndimage.map_coordinates(
            x[0, channel].numpy(), places, order=1, mode="grid-constant"
        )
        assert abs(y[0, channel].numpy().ravel() - theirs).max() < 1e-11


def test_perspective_of_equal_moves_is_a_shift():
    x = image(1, 3, 20, 10)
    f = Perspective(corners=(0.2, -0.1) * 4, edge="nearest")
    assert torch.allclose(f(x), Shift(-2, 2)(x), atol=1e-12)


def test_perspective_draws_corners_for_each_image():
    f = parse("perspective:jitter=0..0.1")
    x = image(3, 3, 16, 16).float()
    drawn = f.sample(x.shape, [1, 2, 3])
    corners = {g.corners for g in drawn.operators}
    assert len(corners) == 3 and max(map(max, corners)) <= 0.1
    assert torch.equal(drawn(x), f(x, [1, 2, 3])) and parse(str(drawn)) == drawn
    assert torch.equal(f(x[1:2], 2), f(x, [1, 2, 3])[1:2])


def test_visible_is_the_share_inside():
    f = Affine(30, dx=3.5)
    seen = f.visible((2, 3, 20, 24))
    assert torch.equal(seen[:1], f(torch.ones(1, 1, 20, 24))) and seen.shape == (2, 1, 20, 24)
    assert Affine(30, edge="nearest").visible((2, 3, 20, 24)) is None


@pytest.mark.parametrize(
    "f",
    [Affine(25, dy=3, dx=-2, scale=0.9), Perspective(corners=(0.1, 0.1, 0, 0.1, 0, 0, 0.05, 0))],
    ids=["affine", "perspective"],
)
def test_mask_and_box_follow_the_image(f):
    mask = torch.zeros(48, 40, dtype=torch.int64)
    mask[12:30, 10:28] = 1
    moved = move_mask(f, mask, (1, 1, 48, 40)).float()
    as_image = f(mask.double()[None, None])[0, 0]
    differs = (moved - as_image).abs()
    assert differs.max() <= 0.75 and (differs > 0.01).float().mean() < 0.1  # edges only
    left, top, right, bottom = move_boxes(f, torch.tensor([[10, 12, 28, 30]]), (1, 1, 48, 40))[0]
    rows, columns = moved.nonzero().unbind(1)
    assert top - 0.5 <= rows.min() + 0.5 and rows.max() + 0.5 <= bottom + 0.5
    assert left - 0.5 <= columns.min() + 0.5 and columns.max() + 0.5 <= right + 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jpeg:30 >> mask:m.png", 1),
        ("crop:3,5,4,4", 1),
        ("turn:1,0 >> downsample:4", 4),
        ("pool:4 >> resize:48x40", 4),
        ("resize:96x80 >> pool:4", 2),
        ("resize:48x10", 4),
    ],
)
def test_coarsest_pixel_of_a_chain(text, expected):
    assert coarsest_pixel(parse(text), (1, 3, 48, 40)) == expected


def test_matrix_of_a_chain_of_warps_is_the_product():
    f, g = Affine(20, dx=2), Perspective(corners=(0.1, 0.1, 0, 0.1, 0, 0, 0.05, 0))
    shape = (1, 3, 30, 20)
    of_chain, product = matrix(f >> g, shape), matrix(g, shape) @ matrix(f, shape)
    assert torch.allclose(of_chain / of_chain[2, 2], product / product[2, 2])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Affine(400), "angle=400 must be a number from -360 to 360"),
        (lambda: Affine(0, scale=0), "scale=0 must be a number from 0.05"),
        (lambda: Perspective(), "give either jitter or corners"),
        (lambda: Perspective(jitter=0.3), "jitter=0.3 must be a number from 0 to 0.24"),
        (lambda: Perspective(corners=(0.1, 0)), "must be eight numbers"),
        (lambda: Perspective(corners=(0.5, 0.5) + (0,) * 6), "fold the image over"),
        (lambda: Perspective(jitter=0.1).visible((1, 3, 8, 8)), "not drawn yet; use .sample"),
    ],
)
def test_warp_errors_name_the_parameter(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_fit_recovers_rotation_and_translation():
    clean = torch.cat([picture(i)[..., 32:96, 32:96] for i in range(2)])
    truth = Affine(4.2, dx=1.6)
    noisy = (truth >> degrade.Gaussian(0.02))(clean, 1)
    fitted, _ = degrade.fit("affine:-10..10,dx=-4..4 >> gaussian:0.02", clean, noisy, candidates=16)
    assert abs(fitted.angle - 4.2) < 0.05 and abs(fitted.dx - 1.6) < 0.05
    shifted = Shift(3, -5)(clean)
    assert degrade.fit("shift:-8..8,-8..8", clean, shifted) == Shift(3, -5)


def test_gradient_descent_recovers_a_rotation():
    """By the gradient alone, from pictures that differ by a few degrees."""
    clean = degrade.Blur("gaussian", 1.5)(picture(3))
    turned = Affine(3, dx=1.2)(clean)
    angle = torch.tensor(0.4, requires_grad=True)
    dx = torch.tensor(0.2, requires_grad=True)
    optimiser = torch.optim.LBFGS([angle, dx], max_iter=40, line_search_fn="strong_wolfe")

    def misfit():
        optimiser.zero_grad()
        difference = Affine(angle, dx=dx)(clean) - turned
        loss = 1e3 * difference[..., 16:-16, 16:-16].square().mean()
        loss.backward()
        return loss

    optimiser.step(misfit)
    assert abs(angle.item() - 3) < 0.01 and abs(dx.item() - 1.2) < 0.01
