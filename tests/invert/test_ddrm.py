"""DDRM against a prior whose posterior is known, and its singular values against a matrix's."""

import pytest
import torch
from torch import nn

import invert
from degrade import Gaussian, parse
from invert.ddrm import DDRM
from invert.spectrum import Dense, Diagonal, Tight, spectrum
from tests.conftest import rng

SIDE, DEVIATION = 4, 0.2


class Mixture(nn.Module):
    """The noise in x for a mixture of Gaussians N(mean, 0.2²) in [-1, 1] units, in closed form."""

    def __init__(self, means, alpha):
        super().__init__()
        self.means, self.alpha = means, alpha

    def forward(self, x, t):
        a = self.alpha[t].float()[:, None]
        variance = a * DEVIATION**2 + 1 - a
        away = x.flatten(1)[:, None] - a.sqrt()[:, None] * self.means
        share = torch.softmax(-away.square().sum(2) / (2 * variance), 1)
        return ((share[..., None] * away).sum(1) * (1 - a).sqrt() / variance).view_as(x)


def model(means):
    denoiser = vp(nn.Identity())
    denoiser.module = Mixture(means, denoiser.table.alpha_bar)
    return denoiser


def vp(module, side=SIDE, channels=1):
    return invert.Denoiser(
        module, resolution=side, channels=channels, predicts="epsilon", betas="linear", signed=True
    )


class MixtureOfSigma(nn.Module):
    """The image in x for the same mixture, in [0, 1] units. The input contains the noise level."""

    def __init__(self, means):
        super().__init__()
        self.means = (means + 1) / 2
        self.deviation = DEVIATION / 2

    def forward(self, x, sigma):
        squared_level = sigma.square()[:, None]
        variance = self.deviation**2 + squared_level
        away = x.flatten(1)[:, None] - self.means
        share = torch.softmax(-away.square().sum(2) / (2 * variance), 1)
        noise = (share[..., None] * away).sum(1) * squared_level / variance
        return x - noise.view_as(x)


def sigma_model(means):
    return invert.Denoiser(MixtureOfSigma(means), channels=1, sigma_range=(0.001, 50))


def matrix(operator, shape):
    size = torch.Size(shape[1:]).numel()
    return operator(torch.eye(size).view(size, *shape[1:])).flatten(1).T


@pytest.mark.parametrize(
    "spec, sigma, prior",
    [
        ("pool:2", 0.02, model),
        ("pool:2", 0.0, model),
        ("box:0.5", 0.05, model),
        pytest.param("blur:gaussian,0.5", 0.02, model, marks=pytest.mark.slow),
        ("pool:2", 0.02, sigma_model),
        ("box:0.5", 0.05, sigma_model),
    ],
)
def test_ddrm_samples_have_the_posterior_mean(spec, sigma, prior):
    """There are three clusters of images. The observation determines the cluster and more."""
    means = torch.randn(3, SIDE**2, generator=rng(0)) * 0.5
    clean = (means[1] + DEVIATION * torch.randn(SIDE**2, generator=rng(1))).view(1, 1, SIDE, SIDE)
    linear = parse(spec).sample(clean.shape)
    f = linear >> Gaussian(sigma) if sigma else linear
    y = f((clean + 1) / 2, rng(2))
    count, steps = 150, 60
    r = invert.restore(
        y.expand(count, -1, -1, -1), f, prior(means), DDRM(steps=steps), seed=range(count)
    )
    found = (2 * r.latent - 1).flatten(1).mean(0)

    # the posterior mean of a mixture of Gaussians under y = A x + noise, in [-1, 1] units
    a = matrix(linear, clean.shape)
    signed_y = (2 * y - linear(torch.ones_like(clean))).flatten()
    noise = ((2 * sigma) ** 2 + 1e-8) * torch.eye(len(signed_y))
    covariance = DEVIATION**2 * a @ a.T + noise
    gain = DEVIATION**2 * a.T @ torch.linalg.inv(covariance)
    residuals = [signed_y - a @ mean for mean in means]
    log_likelihoods = [-0.5 * d @ torch.linalg.solve(covariance, d) for d in residuals]
    weights = torch.stack(log_likelihoods).softmax(0)
    posterior = torch.zeros_like(means[0])
    for weight, mean, residual in zip(weights, means, residuals, strict=True):
        posterior += weight * (mean + gain @ residual)
    assert (posterior - means.mean(0)).abs().max() > 0.5  # what is known without an observation
    assert (found - posterior).abs().max() < 0.08
    assert r.history.shape == (steps, count) and r.finite.all()


@pytest.mark.parametrize(
    "spec, kind, shape",
    [
        ("strokes:3,seed=1", Diagonal, (1, 3, 16, 16)),
        ("pool:4", Tight, (1, 3, 16, 16)),
        ("gray", Dense, (1, 3, 4, 4)),
        ("pixels:0.3,seed=4", Diagonal, (1, 1, 8, 8)),
        ("blur:gaussian,1", Dense, (1, 3, 8, 8)),
        ("downsample:2", Dense, (1, 3, 8, 8)),
        ("pool:2 >> blur:gaussian,1", Dense, (1, 1, 8, 8)),
    ],
)
def test_spectrum_equals_the_svd_of_the_matrix(spec, kind, shape):
    operator = parse(spec).sample(shape)
    if kind is Dense and not operator.linear:
        pytest.fail(f"{spec} is not linear")
    svd = spectrum(operator, shape)
    assert isinstance(svd, kind)
    a = matrix(operator, shape).double()
    u, s, vh = torch.linalg.svd(a, full_matrices=True)
    x, y = (
        torch.randn(shape, generator=rng()),
        torch.randn(operator.output_shape(shape), generator=rng(1)),
    )
    full = torch.zeros(len(vh), dtype=torch.float64)
    full[: len(s)] = torch.where(s > 1e-3 * s[0], s, 0)
    f = lambda s: torch.where(s > 0.05, 1 / s.clamp_min(0.05), 3.0)  # noqa: E731
    expected = vh.T @ (f(full) * (vh @ x.flatten().double()))
    assert torch.allclose(svd.of_image(f, x).flatten().double(), expected, atol=1e-3)
    g = lambda s: torch.where(s > 0.05, 1 / s.clamp_min(0.05), 0.0)  # noqa: E731
    rank = len(s)
    expected = vh[:rank].T @ (g(full[:rank]) * (u[:, :rank].T @ y.flatten().double()))
    assert torch.allclose(svd.of_observation(g, y).flatten().double(), expected, atol=1e-3)


def test_ddrm_without_noise_keeps_the_observation():
    means = torch.zeros(1, SIDE**2)
    f = parse("pool:2")
    y = torch.rand(2, 1, 2, 2, generator=rng())
    first = invert.restore(y, f, model(means), "ddrm", seed=[1, 2])
    again = invert.restore(y, f, model(means), "ddrm", seed=[1, 2])
    assert torch.equal(first.image, again.image) and len(first.history) == 20
    alone = invert.restore(y[1:], f, model(means), "ddrm", seed=2)
    assert torch.allclose(alone.image, first.image[1:], atol=1e-5)
    assert len(invert.restore(y, f, model(means), "ddrm", steps=5).history) == 5


def test_ddrm_linear_ignores_a_clamp_and_says_so():
    prior = model(torch.zeros(1, SIDE**2))
    y = torch.rand(2, 1, 2, 2, generator=rng())
    clamped = parse("pool:2 >> gaussian:0.3 >> clamp")
    with pytest.raises(ValueError, match="is neither"):
        invert.restore(y, clamped, prior, "ddrm", seed=3)
    ignoring = invert.restore(y, clamped, prior, "ddrm-linear", seed=3)
    without_clamp = invert.restore(y, parse("pool:2 >> gaussian:0.3"), prior, "ddrm", seed=3)
    assert torch.equal(ignoring.image, without_clamp.image)
    assert ignoring.notes == ("assumed that there was no clamp, since DDRM's model is linear",)
    with pytest.raises(ValueError, match="still to be drawn"):
        undrawn = parse("deadpixels:0.1 >> gaussian:0.3 >> clamp")
        invert.restore(torch.rand(1, 1, SIDE, SIDE), undrawn, prior, "ddrm-linear")


@pytest.mark.parametrize(
    "spec, shape", [("pool:2", (2, 3, 4, 3)), ("pixels:0.3 >> gaussian:0.05", (1, 3, 9, 14))]
)
def test_prior_of_any_size_restores_the_input_shape(spec, shape):
    """The shape of the image follows from the operator and the observation."""
    denoiser = invert.Denoiser(nn.Conv2d(3, 3, 1), betas="linear", predicts="epsilon", multiple=4)
    denoiser.module.forward = lambda x, t: 0.1 * x
    f = parse(spec)
    y = torch.rand(shape, generator=rng())
    image_shape = f.input_shape(shape)
    f = f.sample(image_shape, rng(1))
    r = invert.restore(y, f, denoiser, "ddrm", steps=3)
    assert r.image.shape == image_shape and r.finite.all()
    with pytest.raises(
        ValueError, match=r"images of the denoiser into .*; crop it, convert it to 3"
    ):
        invert.restore(y[:, :2], parse(spec), denoiser, "ddrm")


def test_ddrm_takes_an_operator_per_image():
    means = torch.randn(3, SIDE**2, generator=rng(0)) * 0.5
    f = parse("pixels:0.5 >> gaussian:0.05").sample((3, 1, SIDE, SIDE), [rng(1), rng(2), rng(1)])
    y = f(torch.rand(3, 1, SIDE, SIDE, generator=rng()), [rng(3), rng(4), rng(5)])
    together = invert.restore(y, f, model(means), "ddrm", seed=[1, 2, 3])
    for i in range(3):
        alone = invert.restore(y[i : i + 1], f.row(i, 3), model(means), "ddrm", seed=1 + i)
        assert torch.allclose(together.image[i : i + 1], alone.image, atol=1e-5)


def test_nan_image_stops_alone():
    class Breaks(nn.Module):
        def forward(self, x, t):
            return torch.where(torch.arange(len(x))[:, None, None, None] == 0, torch.nan, x)

    y = torch.rand(2, 1, 2, 2, generator=rng())
    r = invert.restore(y, parse("pool:2"), vp(Breaks()), "ddrm", seed=[1, 2])
    assert r.finite.tolist() == [False, True] and torch.isfinite(r.image).all()
    assert torch.isnan(r.history[-1, 0]) and torch.isfinite(r.history[:, 1]).all()


@pytest.mark.parametrize(
    "operator, words",
    [
        ("strokes:2", "sample it"),
        ("jpeg:30", "jpeg:30 is neither"),
        ("poisson:24", "poisson:24 is neither"),
        ("pool:2 >> gaussian:0.1 >> clamp", "gaussian:0.1 is neither"),
    ],
)
def test_ddrm_rejects_nonlinear_operators_by_name(operator, words):
    f = parse(operator)
    y = torch.rand(f.output_shape((1, 1, SIDE, SIDE)), generator=rng())
    with pytest.raises(ValueError, match=words):
        invert.restore(y, f, model(torch.zeros(1, SIDE**2)), "ddrm")


def test_ddrm_errors_name_the_reason(avatars):
    y = torch.rand(1, 3, 128, 128, generator=rng())
    with pytest.raises(ValueError, match="needs a denoiser"):
        invert.restore(y, parse("pool:1"), avatars, "ddrm")
    big = vp(nn.Identity(), 128, 3)
    with pytest.raises(ValueError, match="method='robust' needs a generator"):
        invert.restore(y, parse("clamp"), big, "robust")
    with pytest.raises(ValueError, match="16384 values are too many"):
        invert.restore(y, parse("blur:gaussian,2"), big, "ddrm")
    with pytest.raises(ValueError, match="betas"):
        invert.Denoiser(nn.Identity(), betas=torch.tensor([0.5, 2.0]))
    with pytest.raises(ValueError, match="class_label: this prior has no classes"):
        invert.restore(y, parse("pool:1"), big, "ddrm", class_label=3)
    for name, wrong in dict(init="random", identity=2, lr_scale=1.0).items():
        with pytest.raises(ValueError, match=f"{name}: method='ddrm' has no use"):
            invert.restore(y, parse("pool:1"), big, "ddrm", **{name: wrong})
    with pytest.raises(ValueError, match="eta=3"):
        DDRM(eta=3)
    with pytest.raises(ValueError, match="steps=0"):
        invert.restore(y, parse("pool:1"), big, "ddrm", steps=0)
