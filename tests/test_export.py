"""Operators that draw nothing at a call, as programs of torch.export and as ONNX files."""

import pytest
import torch

import degrade
from degrade.registry import REGISTRY

from .conftest import rng, slow_except

SIZE = (3, 24, 20)
# An operator of each name that draws nothing at a call
EXPORTED = {
    "aberration": "aberration:1.05,0.97",
    "affine": "affine:13,dy=0.4,dx=-2,scale=1.2,shear=5",
    "blur": "blur:gaussian,1.5",
    "box": "box",
    "brightness": "brightness:0.8",
    "camera": "camera:matrix=1|0|0|0.1|0.8|0.1|0|0.2|0.8,red=2,blue=1.7,brightening=1.2(gray)",
    "clamp": "clamp",
    "compressedsensing": "compressedsensing:0.3,seed=1",
    "contrast": "contrast:0.8",
    "crop": "crop:2,3,12,10",
    "deadpixels": "deadpixels:0.2,seed=1",
    "diffjpeg": "diffjpeg:50",
    "downsample": "downsample:2",
    "elastic": "elastic:5,2,seed=1",
    "fog": "fog:0.5,seed=1",
    "fouriermagnitude": "fouriermagnitude:2",
    "gamma": "gamma:0.8",
    "glass": "glass:2,seed=1",
    "gray": "gray",
    "haze": "haze:0.08",
    "hotpixels": "hotpixels:0.2,seed=3",
    "hsv": "hsv:1.2",
    "hue": "hue:0.1",
    "identity": "identity",
    "jpeg": "jpeg:40",
    "motionpath": "motionpath:seed=1",
    "offset": "offset:0.1",
    "perspective": "perspective:corners=0.1|0|0|0.05|0|0|0|0,filter=bicubic",
    "pixels": "pixels:0.3,seed=1",
    "place": "place:20|1|3|0|20|2,28x28",
    "pool": "pool:2",
    "quantize": "quantize",
    "resize": "resize:12,filter=torch-bicubic",
    "saturation": "saturation:0.8",
    "shake": "shake:9,seed=1",
    "shift": "shift:2,-3",
    "sinc": "sinc:1.5,size=9",
    "snow": "snow:0.3,seed=1",
    "spatter": "spatter:mud,seed=1",
    "strokes": "strokes:4,seed=1",
    "subsample": "subsample:2,1",
    "turn": "turn:1,1",
    "uncrop": "uncrop",
    "usm": "usm",
    "vignette": "vignette:0.5",
    "zoomblur": "zoomblur:1.1",
}
TENSORS = {  # operators that hold a tensor, which no text has
    "mask": lambda: degrade.Mask(torch.linspace(0, 1, 480).view(1, 1, 24, 20)),
    "frost": lambda: degrade.Frost(torch.linspace(0, 1, 2700).view(1, 3, 30, 30), seed=1),
}
HOLDERS = {"frame", "maybe", "oneof", "perimage", "shuffle"}  # `sample` replaces them
NOISE = {
    "correlated": "correlated:0.1,mix=1|0.2|0|1|0|1",
    "gaussian": "gaussian:0.1",
    "poisson": "poisson:24",
    "poissongaussian": "poissongaussian:24,0.05",
    "saltpepper": "saltpepper:0.1",
    "scaledpoisson": "scaledpoisson:1",
    "shotread": "shotread:0.01,0.001",
    "speckle": "speckle:0.1",
    "uniform": "uniform:0.1",
}
# The largest difference to our values. Where there is one, a power, an exponential, an
# interpolation or a Fourier transform rounds otherwise for several images at once, or in ONNX
# Runtime.
ROUNDING = {
    "aberration": 1e-6,
    "blur": 1e-6,
    "camera": 4e-6,
    "compressedsensing": 1e-6,
    "fouriermagnitude": 1e-6,
    "gamma": 1e-6,
    "haze": 1e-6,
    "motionpath": 1e-6,
    "place": 1e-6,
    "shake": 1e-6,
    "sinc": 1e-6,
    "subsample": 1e-6,
    "usm": 1e-6,
}
ONNX = sorted({*EXPORTED, *TENSORS} - {"jpeg"})  # tests of JPEG are in test_jpeg_gradient


def made(name):
    return TENSORS[name]() if name in TENSORS else degrade.parse(EXPORTED[name])


def program(f):
    """f for any number of images, recorded from two."""
    x = torch.rand(2, *SIZE, generator=rng(1))
    batch = torch.export.Dim("batch", min=1, max=64)
    return torch.export.export(degrade.Module(f).eval(), (x,), dynamic_shapes=({0: batch},))


def test_every_operator_is_exported_or_refused():
    ours = {n for n, cls in REGISTRY.items() if cls.__module__.startswith("degrade.")}
    assert ours == {*EXPORTED, *TENSORS, *HOLDERS, *NOISE, "codec"}


@pytest.mark.parametrize("name", [*EXPORTED, *TENSORS])
def test_exported_program_gives_the_values(name):
    """For other numbers of images than it was recorded with, and at every call."""
    f = made(name)
    exported = program(f).module()
    for count in (1, 5, 5):
        x = torch.rand(count, *SIZE, generator=rng(count))
        assert (exported(x) - f(x)).abs().max() <= ROUNDING.get(name, 0)


def test_exported_program_knows_levels_of_8_bits():
    """Pillow resizes them in other arithmetic, image by image."""
    f = degrade.Downsample(2)
    x = torch.rand(3, *SIZE, generator=rng())
    x[1] = (x[1] * 255).round() / 255
    assert torch.equal(program(f).module()(x), f(x))


def test_export_leaves_no_traced_tensor_in_a_cache():
    f = degrade.Blur("gaussian", 1.7)
    program(f)
    x = torch.rand(1, *SIZE, generator=rng(), requires_grad=True)
    y = f(x)
    assert type(y) is torch.Tensor and torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_sampled_chain_is_exported():
    f = degrade.parse(
        "frame(oneof(blur:gaussian,1..2 ; affine:-9..9) >> resize:scale=0.5 >> shuffle(gamma:0.8 ; "
        "brightness:0.5..1) >> resize:scale=1,of=frame) >> maybe:0.5(gray)"
    )
    drawn = f.sample((1, *SIZE), 3)
    x = torch.rand(4, *SIZE, generator=rng())
    assert torch.allclose(program(drawn).module()(x), drawn(x), atol=1e-6)


@pytest.mark.parametrize("text", [*NOISE.values(), "maybe:0.5(gray)", "blur:gaussian,1..2"])
def test_export_refuses_what_draws(text):
    with pytest.raises(ValueError, match="an exported program cannot draw; export what .sample"):
        program(degrade.parse(text))


def test_export_refuses_a_codec():
    with pytest.raises(ValueError, match="codec:webp,30: an exported program cannot call a codec"):
        program(degrade.parse("codec:webp,30"))


@pytest.mark.parametrize("name", slow_except(("gray",), ONNX))
def test_onnx_runtime_gives_the_values(name):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra degrade[onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra degrade[onnx]")
    f = made(name)
    onnx_program = torch.onnx.export(program(f), (), dynamo=True, verbose=False, opset_version=20)
    model = onnx_program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = torch.rand(5, *SIZE, generator=rng(3))
    (y,) = session.run(None, {given.name: x.numpy()})
    difference = (torch.from_numpy(y) - f(x)).abs().max()
    assert difference <= ROUNDING.get(name, 0)
