import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from invert import frozen
from tests.conftest import rng


def network(inputs, outputs, kernel, padding, dtype=torch.float32):
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding).to(dtype)
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng()).to(dtype)
    return nn.Sequential(conv, nn.ReLU()).requires_grad_(False)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_frozen_conv_equals_conv_and_its_gradient(data):
    kernel = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 2))
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in kernel)
    height, width = (data.draw(st.integers(frozen.SHORTEST_SIDE, 20)) for _ in range(2))
    inputs, outputs, batch = (data.draw(st.integers(1, n)) for n in (40, 40, 3))
    net = network(inputs, outputs, kernel, padding)
    x = torch.randn(batch, inputs, height, width, generator=rng(), requires_grad=True)
    expected = net(x)
    upstream = torch.randn(expected.shape, generator=rng())
    (expected_gradient,) = torch.autograd.grad(expected, x, upstream)
    output = frozen.FrozenConv(*net)(x)
    (gradient,) = torch.autograd.grad(output, x, upstream)
    assert torch.allclose(output, expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "channels, faster, expected",
    [
        (64, True, frozen.FrozenConv),
        (64, False, nn.Conv2d),
        (96, True, nn.Conv2d),
        (32, True, nn.Conv2d),
    ],
)
def test_freeze_takes_only_faster_convolutions(monkeypatch, channels, faster, expected):
    def seconds(layer, x):
        return 1 if isinstance(layer, frozen.FrozenConv) == faster else 9

    monkeypatch.setattr(frozen, "_seconds", seconds)
    net, x = network(channels, channels, 3, 1), torch.rand(1, channels, 8, 8)
    output = net(x)
    with torch.no_grad():  # a network may be loaded under no_grad
        frozen.freeze(net)
    assert isinstance(net[0], expected)
    assert torch.allclose(net(x), output, rtol=1e-4, atol=1e-4)


def test_freeze_leaves_other_convolutions():
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Tanh()
    ).requires_grad_(False)
    x = torch.rand(1, 3, 9, 9)
    output = plain(x)
    frozen.freeze(plain)
    assert torch.equal(plain(x), output)
    assert isinstance(plain[0], nn.Conv2d) and isinstance(plain[2], nn.Conv2d)


def test_freeze_does_nothing_without_the_layout(monkeypatch):
    def missing(*_):
        raise RuntimeError("mkldnn is not here")

    monkeypatch.setattr(frozen, "_Convolution", missing)
    net, x = network(64, 64, 3, 1), torch.rand(1, 64, 8, 8)
    frozen.freeze(net)
    assert torch.equal(net(x), F.relu(F.conv2d(x, net[0].weight, net[0].bias, padding=1)))


@pytest.mark.parametrize("side", [1, 3, 7, 8])
def test_frozen_conv_is_never_much_slower(side):
    """Small images would convert the weights in every call, which takes twenty times as long."""
    net = network(256, 256, 3, 1)
    x = torch.rand(1, 256, side, side, generator=rng(), requires_grad=True)
    assert frozen._seconds(frozen.FrozenConv(*net), x) < 4 * frozen._seconds(net, x)


def test_frozen_conv_refuses_second_derivatives():
    net, x = frozen.FrozenConv(*network(3, 4, 3, 1)), torch.rand(1, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
