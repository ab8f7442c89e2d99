import pytest
import torch
from lpips import LPIPS

from invert import perceptual
from tests.conftest import picture, rng


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_equals_the_package(net):
    """The package's own forward and heads, with our trunk weights (the package ships none)."""
    reference = LPIPS(net=net, pnet_rand=True, verbose=False)
    reference.net.load_state_dict(perceptual.load(net).trunk.state_dict())
    a, b = picture(1), picture(2)
    noisy = (a + 0.2 * torch.randn(a.shape, generator=rng())).clamp(0, 1)
    for x, y in [(a, b), (a, noisy), (a[..., :40, :70], b[..., :40, :70])]:
        assert torch.allclose(
            perceptual.lpips(x, y, net), reference(x, y, normalize=True).flatten(), rtol=1e-3
        )


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_is_a_distance_for_each_image(net):
    a, b = torch.cat([picture(1), picture(2)]), torch.cat([picture(2), picture(2)])
    d = perceptual.lpips(a, b, net)
    assert d.shape == (2,) and d[0] > 0.1 and d[1] == 0
    assert torch.allclose(d, perceptual.lpips(b, a, net))


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_in_bfloat16_is_nearly_the_same(net):
    exact, fast = perceptual.load(net), perceptual.load(net, dtype=torch.bfloat16)
    a = torch.cat([picture(i)[..., 24:88, 32:96] for i in range(2)])
    for b in (a.flip(0), (a + 0.1 * torch.randn(a.shape, generator=rng())).clamp(0, 1)):
        expected = exact.distance(exact.features(a), exact.features(b))
        approximate = fast.distance(fast.features(a), fast.features(b))
        assert torch.allclose(approximate, expected, rtol=1e-2)


@pytest.mark.parametrize("net", ["vgg", "alex"])
@pytest.mark.parametrize("dtype, error", [(torch.float32, 1e-4), (torch.bfloat16, 1e-2)])
def test_lpips_for_losses_has_the_same_gradient(net, dtype, error):
    plain, quick = perceptual.load(net, dtype=dtype), perceptual.for_losses(net, "cpu", dtype)
    image = torch.cat([picture(0), picture(1)])[..., 20:55, 40:79]
    target = picture(2)[..., 20:55, 40:79]
    image[0, :, :16] = 0  # a flat part

    def value_and_gradient(distance_of):
        x = image.clone().requires_grad_()
        distance = distance_of(x)
        (gradient,) = torch.autograd.grad(distance @ torch.tensor([1.0, -3.0]), x)
        return distance.detach(), gradient

    expected, expected_gradient = value_and_gradient(
        lambda x: plain.distance(plain.features(x), plain.features(target))
    )
    value, gradient = value_and_gradient(lambda x: quick.distance_to(quick.maps(target), x))
    assert torch.allclose(value, expected, rtol=error)
    for ours, reference in zip(gradient, expected_gradient, strict=True):
        assert (ours - reference).norm() < error * reference.norm()


def test_lpips_gradient_is_finite_at_zero_features():
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    d = perceptual.lpips(flat, torch.ones(1, 3, 32, 32))
    assert torch.isfinite(torch.autograd.grad(d.sum(), flat)[0]).all()


def test_lpips_rejects_small_or_unequal_images():
    with pytest.raises(ValueError, match="alex needs a side of at least 31, the images have 30"):
        perceptual.lpips(torch.rand(1, 3, 30, 64), torch.rand(1, 3, 30, 64), "alex")
    with pytest.raises(ValueError, match="two batches"):
        perceptual.lpips(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="must be one of vgg, alex"):
        perceptual.lpips(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), "resnet")
