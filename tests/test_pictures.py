"""Pictures of every kind, and operators as torch modules."""

import io
import pickle

import numpy
import pytest
import torch
from PIL import Image

import degrade

from .conftest import rng

HALF = degrade.parse("downsample:2 >> jpeg:60")


def levels(*shape):
    return torch.randint(256, shape, generator=rng(), dtype=torch.uint8)


def test_pil_picture_equals_pillow_save_and_open():
    picture = Image.fromarray(levels(20, 16, 3).numpy())
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=40)
    result = degrade.PictureTransform("jpeg:40")(picture)
    assert result.mode == "RGB"
    assert numpy.array_equal(numpy.array(result), numpy.array(Image.open(stream)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 8, 6), (3, 4, 3)), ((2, 3, 8, 6), (2, 3, 4, 3)), ((2, 5, 1, 8, 6), (2, 5, 1, 4, 3))],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.uint16])
def test_tensor_keeps_layout_and_dtype(shape, expected, dtype):
    x = torch.zeros(shape, dtype=dtype)
    y = degrade.PictureTransform(HALF)(x)
    assert tuple(y.shape) == expected and y.dtype == dtype


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 6), (4, 3)), ((8, 6, 3), (4, 3, 3)), ((2, 8, 6, 1), (2, 4, 3, 1))]
)
def test_array_keeps_layout_and_dtype(shape, expected):
    for dtype in ("uint8", "float32"):
        y = degrade.PictureTransform(HALF)(numpy.zeros(shape, dtype))
        assert y.shape == expected and y.dtype == dtype and y.flags.c_contiguous


def test_every_kind_of_picture_gets_the_same_pixels():
    f = degrade.parse("gaussian:0.2 >> jpeg:60")
    x = levels(3, 12, 10)
    expected = (f(x[None] / 255, 3)[0] * 255).round().byte()
    transform = degrade.PictureTransform(f)
    array = x.permute(1, 2, 0).numpy()
    assert torch.equal(transform(x, 3), expected)
    assert numpy.array_equal(transform(array, 3), expected.permute(1, 2, 0).numpy())
    of_pil = transform(Image.fromarray(array), 3)
    assert numpy.array_equal(numpy.array(of_pil), expected.permute(1, 2, 0).numpy())
    frames = transform(torch.stack([x, x])[None], [3, 4])
    assert torch.equal(frames[0, 0], expected) and not torch.equal(frames[0, 1], expected)


def test_eight_bits_are_clamped_and_rounded():
    transform = degrade.PictureTransform("brightness:1.5")
    x = torch.tensor([0, 1, 3, 200], dtype=torch.uint8).view(1, 2, 2)
    assert transform(x).flatten().tolist() == [0, 2, 4, 255]  # 1.5 and 4.5 round to even


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("P", (4, 4)), "PIL image of mode P; .*convert"),
        (torch.zeros(4, 4, dtype=torch.uint8), r"shape \[4, 4\]; give \[C, H, W\]"),
        (numpy.zeros(4), r"array has shape \[4\]"),
        ("photo.png", "is a str; give a tensor"),
        ((Image.new("L", (4, 4)), 3), "is a tuple; give .* PIL image alone, without a label"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), "torch.int64"),
    ],
)
def test_other_pictures_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        degrade.PictureTransform("jpeg:50")(picture)


def test_picture_transform_pickles_and_prints():
    transform = degrade.PictureTransform(HALF)
    assert repr(transform) == "PictureTransform('downsample:2 >> jpeg:60')"
    assert pickle.loads(pickle.dumps(transform)).f == HALF


def test_module_draws_in_training_and_repeats_in_eval():
    x = torch.full((1, 1, 8, 8), 0.5)
    module = degrade.Module("gaussian:0.1", seed=5)
    assert not torch.equal(module(x), module(x))
    assert torch.equal(module(x, 7), degrade.Gaussian(0.1)(x, 7))
    module.eval()
    assert torch.equal(module(x), degrade.Gaussian(0.1)(x, 5))
    assert torch.equal(torch.nn.Sequential(torch.nn.Identity(), module)(x), module(x))
    assert "gaussian:0.1" in repr(module)


def test_module_learns_a_parameter_and_keeps_it_in_its_state():
    clean = torch.rand(1, 1, 16, 16, generator=rng())
    target = degrade.Gamma(0.7)(clean)
    module = degrade.Module("gamma:1.2 >> jpeg:90", learn=["gamma.gamma"])
    (gamma,) = module.parameters()
    for _ in range(30):
        loss = (module(clean) - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, gamma)
        gamma.data -= 3 * gradient
    assert abs(module.f[0].gamma - 0.7) < 0.05
    other = degrade.Module("gamma:1.2 >> jpeg:90", learn=["gamma.gamma"])
    other.load_state_dict(module.state_dict())
    assert other.f == module.f


def test_module_names_each_learned_stage():
    f = "blur:gaussian,1 >> gaussian:0.1|0.2 >> blur:gaussian,2"
    module = degrade.Module(f, learn=["blur.size", "gaussian.sigma"])
    shapes = {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}
    assert shapes == {"blur_size": (), "blur2_size": (), "gaussian_sigma": (2,)}
    with torch.no_grad():
        module.get_parameter("blur2_size").fill_(3)
    assert [module.f[0].size, module.f[2].size] == [1, 3]
    for name, message in [
        ("blur.sigma", "no parameter"),
        ("gaussian.gray", "no gradient for gray"),
    ]:
        with pytest.raises(ValueError, match=message):
            degrade.Module(f, learn=[name])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [">u2", ">f4", "<u2", "uint8"])
def test_array_of_another_byte_order_or_read_only(dtype):
    array = numpy.zeros((8, 6, 3), dtype)
    array[2:5] = 1
    array.setflags(write=False)
    result = degrade.PictureTransform(HALF)(array)
    expected = degrade.PictureTransform(HALF)(array.astype(array.dtype.newbyteorder("=")))
    assert result.dtype == array.dtype
    assert numpy.array_equal(result, expected)


def test_array_has_no_gradient_of_a_learned_parameter():
    sigma = torch.tensor(0.1, requires_grad=True)
    transform = degrade.PictureTransform(degrade.Gaussian(sigma))
    array = numpy.zeros((8, 6, 3), "float32")
    plain = degrade.PictureTransform(degrade.Gaussian(sigma.item()))
    assert numpy.array_equal(transform(array, 3), plain(array, 3))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("RGB", (0, 5)), "no empty side"),
        (numpy.zeros((0, 8, 8, 3), "uint8"), "no empty side"),
        (torch.zeros(2, 0, 3, 8, 8), "no empty side"),
        (torch.zeros(3, 8, 8).to_sparse(), "dense"),
        (numpy.zeros((8, 8, 3), object), "the array is object; give uint8"),
        (numpy.array([["a"]]), "the array is <U1; give uint8"),
    ],
)
def test_picture_without_pixels_is_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        degrade.PictureTransform("gaussian:0.1")(picture, 0)


@pytest.mark.parametrize("make", [degrade.PictureTransform, degrade.Module])
def test_transform_of_no_operator_is_refused(make):
    with pytest.raises(ValueError, match=r"^f=5 must be an operator or its text"):
        make(5)


@pytest.mark.parametrize(
    ("text", "learn", "message"),
    [
        ("blur:gaussian,1..2", ["blur.size"], "learn='blur.size' has the value 1..2; give"),
        ("blur:gaussian,2", ["blur.across"], "learn='blur.across' has the value None; give"),
        ("mask:mask.png", ["mask.mask"], "learn='mask.mask' has the value 'mask.png'; give"),
        ("blur:gaussian,2", "blur.size", r"must be a list of names; give \['blur.size'\]"),
        ("blur:gaussian,2", [3], "learn=3 is no parameter of blur"),
    ],
)
def test_module_refuses_to_learn_what_has_no_number(text, learn, message):
    with pytest.raises(ValueError, match=message):
        degrade.Module(text, learn=learn)


def test_module_prints_when_its_values_are_no_numbers():
    module = degrade.Module("blur:gaussian,2", learn=["blur.size"])
    assert "blur:gaussian,size=2" in repr(module.to("meta"))
