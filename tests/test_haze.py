"""Haze against its formula, and against IA-YOLO's code where no map of depths is given."""

import math

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from degrade import Haze, parse, pipelines

from . import authors
from .conftest import rng
from .draws import assert_rounds_to, clean, hwc


def image(batch=2, height=9, width=14):
    return torch.rand(batch, 3, height, width, generator=rng(), dtype=torch.float64)


def depth_of(x, batch=1):
    return torch.rand(batch, 1, *x.shape[2:], generator=rng(1))


def their_haze(image, beta, airlight=0.5):
    """AddHaz_loop of IA-YOLO's data_make.py on [H, W, 3] in [0, 1], pixel by pixel."""
    height, width, _ = image.shape
    size = math.sqrt(max(height, width))
    hazy = numpy.empty_like(image)
    for i in range(height):
        for j in range(width):
            distance = size - 0.04 * math.hypot(i - height // 2, j - width // 2)
            share = math.exp(-beta * distance)
            hazy[i, j] = image[i, j] * share + airlight * (1 - share)
    return hazy


@pytest.mark.parametrize("sides", [(9, 14), (40, 33)])
def test_haze_without_a_map_equals_their_code(sides):
    x = image(1, *sides)
    assert numpy.allclose(hwc(Haze(0.08)(x)), their_haze(hwc(x), 0.08), atol=1e-12)


def test_haze_without_a_map_never_brightens_what_is_near():
    """Their distance falls below 0 in the corners of large pictures, and their share exceeds 1."""
    y = Haze(0.1)(torch.ones(1, 1, 2, 4000, dtype=torch.float64))
    assert y[0, 0, 0, 0] == 1 and y.max() == 1


def test_haze_equals_its_formula_for_each_image():
    x = image()
    depth = depth_of(x, batch=2)
    y = Haze((0.7, 1.5), (0.8, 1), depth)(x)
    for i, (beta, airlight) in enumerate([(0.7, 0.8), (1.5, 1)]):
        share = torch.exp(-beta * depth[i].double())
        assert torch.allclose(y[i], x[i] * share + airlight * (1 - share), atol=1e-12)
        alone = Haze(beta, airlight, depth[i : i + 1])(x[i : i + 1])
        assert torch.equal(y[i : i + 1], alone)
    assert Haze((0.7, 1.5), (0.8, 1), depth).row(1, 2) == Haze(1.5, 1, depth[1:])
    assert Haze((0.7, 1.5), 1, depth[:1]).row(1, 2) == Haze(1.5, 1, depth[:1])


def test_haze_draws_for_each_image_over_one_map(tmp_path):
    x = image()
    levels = numpy.arange(x[0, 0].numel(), dtype=numpy.uint8).reshape(x.shape[2:])
    path = tmp_path / "depth.png"
    Image.fromarray(levels).save(path)
    f = parse(f"haze:0.6..1.8,airlight=0.7..1,depth={path}")
    drawn = f.sample(x.shape, 3)
    depth = torch.from_numpy(levels)[None, None] / 255
    for row, y, image_of_row in zip(drawn.operators, f(x, 3), x, strict=True):
        expected = Haze(row.beta, row.airlight, depth)(image_of_row[None])
        assert torch.equal(y[None], expected)
        assert 0.6 <= row.beta <= 1.8 and 0.7 <= row.airlight <= 1


def test_haze_reads_a_tensor_from_a_file(tmp_path):
    x = image()
    depth = depth_of(x)
    save_file({"depth": depth}, tmp_path / "depth.safetensors")
    f = parse(f"haze:1,depth={tmp_path}/depth.safetensors")
    assert f == Haze(1, depth=depth) and torch.equal(f(x), Haze(1, depth=depth)(x))


def test_project_removes_haze_where_an_image_can_be_seen():
    x = image()
    depth = depth_of(x)
    depth[..., 0] = 1
    f = Haze(6, 0.9, depth)
    start = torch.full_like(x, 0.3)
    found = f.project(start, f(x))
    share = torch.exp(-6 * depth.double())
    is_seen = (share >= 1 / 64).expand_as(x)
    assert torch.allclose(found[is_seen], x[is_seen], atol=1e-12)
    assert torch.equal(found[~is_seen], start[~is_seen]) and not is_seen.all()


def test_haze_has_gradients_of_all_its_numbers():
    x = image()
    depth = depth_of(x)

    def hazy(beta, airlight):
        return Haze(beta, airlight, depth)(x)

    beta = torch.tensor([0.7, 1.5], dtype=torch.float64, requires_grad=True)
    airlight = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(hazy, (beta, airlight))


def test_haze_has_a_gradient_of_the_depth():
    x = image()
    depth = depth_of(x).requires_grad_()
    weight = torch.randn(x.shape, generator=rng(2), dtype=x.dtype)
    (gradient,) = torch.autograd.grad((Haze(2, 0.9, depth)(x) * weight).sum(), depth)
    slope = -2 * torch.exp(-2 * depth.detach().double()) * (x - 0.9)
    expected = (weight * slope).sum((0, 1), keepdim=True)
    assert torch.allclose(gradient.double(), expected, rtol=1e-5, atol=1e-6)


def test_haze_keeps_a_depth_of_float64():
    """gradcheck moves the depth by 1e-6, which float32 would round away."""
    x = image()
    depth = depth_of(x)[:1].double() * 0.8 + 0.1 + 1e-9
    share = torch.exp(-2 * depth)
    assert torch.equal(Haze(2, 0.9, depth)(x), x * share + 0.9 * (1 - share))
    depth.requires_grad_()
    assert torch.autograd.gradcheck(lambda depth: Haze(2, 0.9, depth)(x), depth)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: No such file or directory; check the path"),
        ({"other": torch.rand(1, 1, 9, 14)}, "holds no tensor of the name 'depth', but 'other'; "),
        ({"depth": torch.rand(9, 14)}, r"has shape \[9, 14\]; give \[B, 1, H, W\]"),
        ({"depth": torch.full((1, 1, 9, 14), 2.0)}, r"has values outside \[0, 1\]; scale them"),
        ({"depth": torch.rand(1, 1, 4, 5)}, r"is \[1, 1, 4, 5\], the images are .*; give one of"),
    ],
)
def test_haze_names_the_file_of_a_depth_that_cannot_be_used(tmp_path, content, problem):
    path = tmp_path / "depth.safetensors"
    if content is not None:
        save_file(content, path)
    with pytest.raises(ValueError, match=f"depth='{path}' {problem}"):
        Haze(1, depth=path)(image())


def test_haze_names_a_map_of_another_size():
    with pytest.raises(ValueError, match=r"the depth is \[1, 1, 4, 5\], the images are .* size"):
        Haze(1, depth=torch.zeros(1, 1, 4, 5))(image())
    with pytest.raises(ValueError, match="depth has values outside"):
        Haze(1, depth=torch.full((1, 1, 9, 14), 10.0))


# IA-YOLO's training pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_ia_yolo_equals_its_code_at_the_same_draws(seed):
    """data_make.py: haze, 8 bits rounded down, a JPEG file of OpenCV's default quality.

    `quantize` takes a value within 1e-5 below a level as this level.
    """
    x = clean(seed)
    first, *rest = pipelines["ia-yolo"].sample(x.shape, seed)
    y = hwc(pipelines["ia-yolo"](x, seed))
    if first.name == "identity":
        assert numpy.array_equal(y, hwc(x)) and not rest
        return
    assert first.airlight == 0.5 and first.depth is None
    levels = numpy.floor(their_haze(hwc(x), first.beta) * 255 + 1e-5)
    assert_rounds_to(y, authors.jpeg(levels / 255, 95))


def test_ia_yolo_draws_its_ten_strengths():
    f = pipelines["ia-yolo"]
    stages = [f.sample((1, 3, 8, 8), seed)[0] for seed in range(400)]
    strengths = {stage.beta for stage in stages if stage.name == "haze"}
    assert sorted(strengths) == [0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.13, 0.14]
    clear = sum(stage.name == "identity" for stage in stages)
    assert abs(clear / 400 - 1 / 3) < 4 * math.sqrt(2 / 9 / 400)
