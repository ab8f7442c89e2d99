"""A denoiser's conversions against the closed form of a Gaussian prior, in float64.

For x0 ~ N(m, s²) in each pixel and x = x0 + σn, the best estimate is m + s²/(s²+σ²) (x − m).
"""

import pytest
import torch
from torch import nn

import degrade
import invert
from invert.noise_table import NAMED, NoiseTable
from tests.conftest import picture, rng

MEAN, DEVIATION = 0.4, 0.15  # in [0, 1] units
SHAPE = (4, 3, 6, 5)
SIGMAS = torch.tensor([0.011, 0.1, 0.37, 2.0], dtype=torch.float64)
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)


def images(seed=0):
    return torch.randn(SHAPE, generator=rng(seed), dtype=torch.float64)


def estimate(x, sigma, mean=MEAN, deviation=DEVIATION):
    gain = deviation**2 / (deviation**2 + sigma**2)
    return mean + gain * (x - mean)


class OfSigma(nn.Module):
    """The closed form as a network (x, sigma) → x0, noise, or v."""

    def __init__(self, predicts, signed, learned=False):
        super().__init__()
        self.predicts, self.learned = predicts, learned
        self.mean, self.deviation = MEAN, DEVIATION
        if signed:
            self.mean, self.deviation = 2 * MEAN - 1, 2 * DEVIATION

    def forward(self, z, sigma):
        level = sigma if sigma.ndim == 4 else sigma.view(-1, 1, 1, 1)
        x0 = estimate(z, level, self.mean, self.deviation)
        noise = (z - x0) / level
        signal = 1 / (1 + level**2).sqrt()
        v = signal * noise - signal * level * x0
        return {"x0": x0, "epsilon": noise, "v": v}[self.predicts]


class OfTime(OfSigma):
    """The closed form as a network (√ᾱ x, t), with the table of `BETAS`."""

    def forward(self, scaled, t):
        sigmas = ((1 - BETAS).cumprod(0).reciprocal() - 1).sqrt()
        below = t.floor().long().clamp(0, 998)
        share = t - below
        sigma = (sigmas[below].log() * (1 - share) + sigmas[below + 1].log() * share).exp()
        z = scaled * (1 + sigma**2).sqrt().view(-1, 1, 1, 1)
        output = super().forward(z, sigma)
        if not self.learned:
            return output
        return torch.cat([output, self.share_of_variance(z, t.round().long())], 1)

    def share_of_variance(self, z, t):
        """The network's second output: where log Σ lies between log β̃ and log β. Needs t ≥ 1."""
        alpha_bar = (1 - BETAS).cumprod(0)
        beta, now, before = BETAS[t], alpha_bar[t], alpha_bar[t - 1]
        level = (1 - now) / now
        spread = self.deviation**2 * level / (self.deviation**2 + level)  # Var[x0 | x]
        lower = beta * (1 - before) / (1 - now)
        variance = lower + (beta * before.sqrt() / (1 - now)) ** 2 * spread
        share = (variance.log() - lower.log()) / (beta.log() - lower.log())
        return (2 * share - 1).view(-1, 1, 1, 1).expand_as(z)


def build(kind, predicts, signed, **options):
    if kind is OfTime:
        options["betas"] = BETAS
    return invert.Denoiser(kind(predicts, signed), predicts=predicts, signed=signed, **options)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("predicts", ["x0", "epsilon", "v"])
@pytest.mark.parametrize("kind", [OfSigma, OfTime])
def test_every_kind_of_network_gives_the_closed_form(kind, predicts, signed):
    denoiser = build(kind, predicts, signed)
    x = images()
    expected = estimate(x, SIGMAS.view(-1, 1, 1, 1))
    assert torch.allclose(denoiser.denoise(x, SIGMAS), expected, atol=1e-9, rtol=0)
    one = denoiser.denoise(x, 0.37)
    assert torch.allclose(one, estimate(x, 0.37), atol=1e-9, rtol=0)
    assert torch.equal(denoiser(x, 0.37), one)


@pytest.mark.parametrize("predicts", ["x0", "epsilon", "v"])
@pytest.mark.parametrize("kind", [OfSigma, OfTime])
def test_denoiser_gradient_is_exact(kind, predicts):
    denoiser = build(kind, predicts, True)
    x = images().requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.denoise(x, SIGMAS).sum(), x)
    gain = DEVIATION**2 / (DEVIATION**2 + SIGMAS**2)
    assert torch.allclose(gradient, gain.view(-1, 1, 1, 1).expand(SHAPE), atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", [OfSigma, OfTime])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("predicts", ["x0", "epsilon", "v"])
def test_samplers_get_the_noise_of_the_closed_form(kind, predicts, signed):
    """`schedule` and `noise_in` are in [-1, 1] units."""
    denoiser = build(kind, predicts, signed, sigma_range=(0.02, 3.0))
    x = images()
    for level in denoiser.schedule(7):
        expected = (x - estimate(x, level.sigma, 2 * MEAN - 1, 2 * DEVIATION)) / level.sigma
        assert torch.allclose(denoiser.noise_in(x, level), expected, atol=1e-8, rtol=0)


def test_schedule_covers_the_range():
    levels = build(OfSigma, "x0", False, sigma_range=(0.02, 3.0)).schedule(5)
    sigmas = torch.tensor([level.sigma for level in levels])
    assert torch.allclose(sigmas[[0, -1]], torch.tensor([6.0, 0.04]))
    assert torch.allclose(sigmas[1:] / sigmas[:-1], (sigmas[1] / sigmas[0]).expand(4))
    steps_of_table = build(OfTime, "x0", True).schedule(4)
    assert [level.time for level in steps_of_table] == [750, 500, 250, 0]
    with pytest.raises(ValueError, match="steps=1001 must be 1 to 1000"):
        build(OfTime, "x0", True).schedule(1001)


@pytest.mark.parametrize("signed", [False, True])
def test_learned_variance_gives_the_closed_form(signed):
    network = OfTime("epsilon", signed, learned=True)
    denoiser = invert.Denoiser(
        network, predicts="epsilon", signed=signed, betas=BETAS, learned_variance=True
    )
    x = images()
    unit = 2 if signed else 1
    sigmas = denoiser.table.sigmas[torch.tensor([1, 30, 200, 700])] / unit
    variance = DEVIATION**2 * sigmas**2 / (DEVIATION**2 + sigmas**2)
    expected = variance.view(-1, 1, 1, 1).expand(SHAPE)
    assert torch.allclose(denoiser.variance(x, sigmas), expected, rtol=1e-6)
    level = sigmas.view(-1, 1, 1, 1)
    assert torch.allclose(denoiser.denoise(x, sigmas), estimate(x, level), atol=1e-9)
    with pytest.raises(ValueError, match="has learned no variance"):
        build(OfTime, "epsilon", True).variance(x, sigmas)


def test_map_of_noise_levels_gives_the_closed_form():
    denoiser = build(OfSigma, "epsilon", True, takes_map=True)
    x = images()
    levels = 0.05 + torch.rand(4, 1, 6, 5, generator=rng(), dtype=torch.float64)
    assert torch.allclose(denoiser.denoise(x, levels), estimate(x, levels), atol=1e-9, rtol=0)


def test_time_of_a_noise_level_inverts_the_table():
    table = NoiseTable(BETAS)
    times = torch.tensor([0.0, 0.25, 17.5, 998.0, 999.0], dtype=torch.float64)
    log_sigmas = table.sigmas.log()
    below = times.long().clamp(0, 998)
    between = torch.lerp(log_sigmas[below], log_sigmas[below + 1], times - below)
    assert torch.allclose(table.time(between.exp()), times, atol=1e-9)
    outside = table.time(torch.tensor([0.0, 1e-5, 1e9], dtype=torch.float64))
    assert outside.tolist() == [0, 0, 999]


@pytest.mark.parametrize("name", NAMED)
def test_alpha_bar_and_betas_say_the_same(name):
    table = NoiseTable(name)
    assert len(table) == 1000
    assert torch.equal(NoiseTable(alpha_bar=table.alpha_bar).sigmas, table.sigmas)


class Recorder(nn.Module):
    """A network that returns the image and remembers its arguments."""

    def forward(self, x, *arguments):
        self.x, self.arguments = x, arguments
        return x


def test_odd_sizes_are_padded_by_repetition():
    denoiser = invert.Denoiser(Recorder(), multiple=8, takes_map=True)
    x = images()[:1]
    levels = torch.rand(1, 1, 6, 5, dtype=torch.float64)
    assert torch.equal(denoiser.denoise(x, levels), x)
    padded = denoiser.module.x
    assert padded.shape == (1, 3, 8, 8) and torch.equal(padded[:, :, :6, :5], x)
    assert torch.equal(padded[:, :, 7, 7], x[:, :, 5, 4])
    assert torch.equal(padded[:, :, 2, 6], x[:, :, 2, 4])
    assert denoiser.module.arguments[0].shape == (1, 1, 8, 8)


def test_classes_reach_the_network_as_numbers():
    denoiser = invert.Denoiser(Recorder(), classes=5)
    for label in ([0, 1, 4, 2], torch.eye(5)[[0, 1, 4, 2]]):
        denoiser.denoise(images(), 0.1, label)
        assert denoiser.module.arguments[1].tolist() == [0, 1, 4, 2]
    with pytest.raises(ValueError, match="class_label is missing"):
        denoiser.denoise(images(), 0.1)
    with pytest.raises(ValueError, match="this prior has no classes"):
        invert.Denoiser(Recorder()).denoise(images(), 0.1, 3)


def test_network_computes_in_its_own_type():
    class Half(nn.Conv2d):
        def forward(self, x, sigma):
            assert x.dtype == sigma.dtype == self.weight.dtype
            return super().forward(x)

    denoiser = invert.Denoiser(Half(3, 3, 1, dtype=torch.float64))
    assert denoiser.denoise(torch.rand(2, 3, 4, 4), 0.1).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_fractions_of_steps_survive_half_precision(dtype):
    denoiser = invert.Denoiser(Recorder(), betas=BETAS)
    sigma = float(denoiser.table.sigmas[700:702].log().mean().exp())
    assert denoiser.denoise(images().to(dtype), sigma).dtype == dtype
    (times,) = denoiser.module.arguments
    assert times.dtype == torch.float32
    assert torch.allclose(times, torch.tensor(700.5), atol=0.001, rtol=0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(predicts="noise"), "predicts='noise' is none of x0, epsilon, v"),
        (dict(betas="wavy"), "betas='wavy' is none of linear"),
        (dict(betas=[0.5, 2.0]), "betas must be variances between 0 and 1"),
        (dict(betas="linear", alpha_bar=[0.9, 0.5]), "one of the two"),
        (dict(alpha_bar=[0.5, 0.9]), "alpha_bar must fall"),
        (dict(learned_variance=True), "give betas"),
        (dict(betas="linear", takes_map=True), "takes_map: a network with a table"),
        (dict(sigma_range=(1.0, 0.1)), r"sigma_range=\(1.0, 0.1\) must be"),
        (dict(multiple=0), "multiple=0 must be 1 or more"),
        (dict(module=lambda x, t: x), "give a torch.nn.Module"),
    ],
)
def test_contradictory_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        invert.Denoiser(**{"module": nn.Identity(), **arguments})


@pytest.mark.parametrize(
    "x, sigma, words",
    [
        (torch.rand(2, 1, 8, 8), 0.1, r"takes floats \[B, 3, H, W\] of 8×8"),
        (torch.rand(2, 3, 8, 9), 0.1, "takes images of 8×8"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 0.1, "of torch.uint8"),
        (torch.rand(2, 3, 8, 8), torch.rand(3), r"sigma has shape \[3\]"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8), r"takes a number or \[2\]"),
    ],
)
def test_wrong_shapes_are_named(x, sigma, words):
    denoiser = invert.Denoiser(Recorder(), resolution=8)
    with pytest.raises(ValueError, match=words):
        denoiser.denoise(x, sigma)


def test_wrong_output_channels_are_named():
    denoiser = invert.Denoiser(Recorder(), betas="linear", learned_variance=True)
    with pytest.raises(ValueError, match=r"returned \[4, 3, 6, 5\] instead of \[4, 6, 'H', 'W'\]"):
        denoiser.denoise(images(), 0.1)


def test_denoiser_of_colours_restores_grey_images():
    """Noise in grey is one channel; as three equal channels it would look like picture."""
    photo = invert.load_prior("photo")
    clean = picture(2)[:, 1:2, 16:80, 16:80]
    f = degrade.Gaussian(0.08)
    y = f(clean, rng(1))
    grey = invert.restore(y, f, photo, "pnp").image
    in_colour = invert.restore(y.expand(-1, 3, -1, -1), f, photo, "pnp").image.mean(1, keepdim=True)
    assert grey.shape == y.shape
    error, colour_error, damage = ((x - clean).square().mean() for x in (grey, in_colour, y))
    assert error < 0.25 * damage and error < 0.7 * colour_error


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_denoiser_of_avatars_knows_its_domain(sigma):
    """On portraits that neither has seen, it is ahead of the denoiser of photos."""
    clean = picture(3)
    noisy = clean + sigma * torch.randn(clean.shape, generator=rng(1))
    errors = {}
    for name in ("avatars", "photo"):
        estimate = invert.load_prior(name).denoise(noisy, sigma)
        errors[name] = (estimate - clean).square().mean()
    assert errors["avatars"] < 0.83 * errors["photo"]  # 0.8 dB
