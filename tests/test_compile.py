"""torch.compile(fullgraph=True) of the operators in Real-ESRGAN's chain changes no bit."""

import pytest
import torch

from degrade import parse

from .conftest import rng

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


@pytest.mark.parametrize("text", OPERATORS)
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


def test_compile_draws_new_noise_at_every_call():
    f, x = parse("gaussian:0.1 >> gaussian:0.1"), torch.full((2, 1, 8, 8), 0.5)
    torch._dynamo.reset()
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=False)
    draws = [*compiled(x), *compiled(x)]
    for i, draw in enumerate(draws):
        assert not any(torch.equal(draw, other) for other in draws[:i])
