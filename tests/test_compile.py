"""torch.compile(fullgraph=True) of the operators in Real-ESRGAN's chain changes no bit."""

from functools import partial

import pytest
import torch
from PIL import Image

import degrade
from degrade import JPEG, jpeg, parse

from .conftest import picture, rng, slow_except

CHAIN = "blur:gaussian,1.2 >> resize:10 >> gaussian:0.1 >> poisson:20 >> jpeg:30 >> sinc:2,7"
# the other operators of published pipelines, with everything drawn
PUBLISHED = (
    "usm >> blur:plateau,2,across=1,angle=30,beta=1.5,side=7 >> subsample:2,1 >> hue:0.1"
    " >> resize:scale=0.8,filter=torch-bicubic,grid=scale,rounding=floor"
    " >> scaledpoisson:1,gray=1 >> correlated:0.1,mix=1|0.2|0|1|0|1 >> diffjpeg:50 >> clamp"
    " >> brightness:1.1 >> contrast:0.8 >> saturation:0.8 >> offset:0.1"
    " >> resize:scale=1,of=9x7,filter=cv2-area"
)
OPERATORS = [
    "blur:gaussian,2",
    "blur:motion,5,30",
    "sinc:2,7",
    "resize:7,filter=box",
    "resize:30",
    "downsample:2",
    "gaussian:0.1",
    "poisson:20",
    "poissongaussian:20,0.1",
    "uniform:0.1",
    "speckle:0.1",
    "saltpepper:0.1",
    "jpeg:30",
    "affine:13,dx=0.5,filter=bicubic",
    "perspective:corners=0.1|0|0|0.05|0|0|0|0",
    CHAIN,
    PUBLISHED,
]


@pytest.mark.parametrize("text", slow_except(OPERATORS[:-1], OPERATORS))
def test_compile_changes_no_bit(text):
    f, x = parse(text), torch.rand(2, 3, 24, 20, generator=rng())
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="eager", fullgraph=True, dynamic=False)
    eight_bit = (x * 255).round() / 255
    for image in (x, eight_bit, torch.cat([x[:1], eight_bit[1:]])):
        torch.manual_seed(5)
        y = compiled(image)
        torch.manual_seed(5)
        assert torch.equal(y, f(image))


@pytest.mark.parametrize("is_read", [False, True])
def test_operators_with_files_compile(is_read, tmp_path):
    """A file is read while the graph is made, unless the operator has read it before."""
    for index, name in enumerate(("mask", "depth")):
        values = torch.randint(256, (24, 20), generator=rng(index), dtype=torch.uint8)
        Image.fromarray(values.numpy()).save(tmp_path / f"{name}.png")
    f = degrade.Mask(tmp_path / "mask.png") >> degrade.Haze(2.0, 0.9, tmp_path / "depth.png")
    x = torch.rand(2, 3, 24, 20, generator=rng())
    expected = parse(str(f))(x)
    if is_read:
        f(x)
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(compiled(x), expected)


@pytest.mark.parametrize("make", [degrade.Mask, partial(degrade.Haze, 2.0, 0.9)])
def test_operator_with_a_tensor_compiles(make):
    x = torch.rand(2, 3, 24, 20, generator=rng())
    f = make(torch.rand(1, 1, 24, 20, generator=rng(1)))
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(compiled(x), f(x))


def test_compile_draws_new_noise_at_every_call():
    f, x = parse("gaussian:0.1 >> gaussian:0.1"), torch.full((2, 1, 8, 8), 0.5)
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=False)
    draws = [*compiled(x), *compiled(x)]
    for i, draw in enumerate(draws):
        assert not any(torch.equal(draw, other) for other in draws[:i])


@pytest.mark.parametrize(
    "dynamic, use", [(False, "inversion"), pytest.param(True, "robustness", marks=pytest.mark.slow)]
)
def test_compiled_jpeg_has_the_same_gradient(dynamic, use):
    """One graph for all sizes where dynamic=True; the gradients to image and quality are equal."""
    torch._dynamo.reset()

    def saved(image, quality):
        return jpeg(image, quality, for_use=use)

    compiled = torch.compile(saved, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    sizes = [(24, 20), (17, 33)] if dynamic else [(24, 20)]
    for height, width in sizes:
        gradients = []
        for function in (compiled, saved):
            x = picture(1)[..., :height, :width].clone().requires_grad_()
            quality = torch.tensor([40.0], requires_grad=True)
            y = function(x, quality)
            gradients.append((y, *torch.autograd.grad(y.square().sum(), (x, quality))))
        for computed, expected in zip(*gradients, strict=True):
            assert torch.equal(computed, expected)


def test_compiled_jpeg_of_fixed_quality_has_the_same_gradient():
    torch._dynamo.reset()
    x = picture(1)[..., :24, :20].clone().requires_grad_()
    for f in (JPEG(40), JPEG(40, for_use="descent")):
        compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=False)
        gradients = []
        for function in (compiled, f):
            y = function(x)
            gradients.append(torch.autograd.grad(y.square().sum(), x)[0])
        assert torch.equal(*gradients)


def test_compiled_jpeg_is_one_operation():
    """Otherwise tracing and compiling its stages takes minutes."""
    torch._dynamo.reset()
    counted = torch._dynamo.testing.CompileCounterWithBackend("eager")
    torch.compile(JPEG(75), backend=counted, fullgraph=True)(torch.rand(1, 3, 16, 16))
    (graph,) = counted.graphs
    targets = [str(node.target) for node in graph.graph.nodes]
    assert sum("jpeg_round_trip" in target for target in targets) == 1
    assert not any("matmul" in target for target in targets)


@pytest.mark.slow
def test_jpeg_in_onnxruntime_has_the_same_bits(tmp_path):
    pytest.importorskip("onnxscript", reason="needs pip install 'degrade[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'degrade[onnx]'")
    f = JPEG(30)
    x = picture(2)[..., 3:40, 5:51]
    module = degrade.Module(f).train(False)
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    path = tmp_path / "operator.onnx"
    program.save(path)
    session = onnxruntime.InferenceSession(path)
    (name,) = [node.name for node in session.get_inputs()]
    for image in (x, x.flip(2), (x * 255).round() / 255):
        (values,) = session.run(None, {name: image.numpy()})
        y = torch.from_numpy(values)
        assert torch.equal(y, f(image))
