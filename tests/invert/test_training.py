"""Training a denoiser: the same bits after a stop, the draws, the loss, the schedule."""

import io
import math
from dataclasses import replace

import numpy
import pytest
import torch

import degrade
import invert
from invert import training
from invert.networks.drunet import UNetRes
from invert.patches import draw_batch, draw_sigma
from invert.recipe import Recipe
from invert.training import Training, train
from invert.training_loss import loss_of
from tests.conftest import picture, rng

TINY = Recipe(widths=(4, 4, 4, 4), blocks=1, steps=6, batch=2, patch=16, warmup=2)
AVATAR = (picture(0)[0] * 255).to(torch.uint8)


def weights(denoiser):
    return torch.cat([weight.flatten() for weight in denoiser.parameters()])


def through_file(state):
    """A state after it was written and read without running anything."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("maps", [0.0, 0.5])
def test_resumed_training_gives_the_same_bits(maps):
    recipe = replace(TINY, maps=maps)
    whole = train([AVATAR], recipe)
    states = []
    train([AVATAR], recipe, lambda now: states.append(now.state_dict()))
    for state in (states[0], states[3]):
        torch.manual_seed(99)  # the global generator must not matter
        resumed = train([AVATAR], recipe, state=through_file(state))
        assert torch.equal(weights(resumed), weights(whole))


def test_loss_falls_on_a_single_picture():
    recipe = replace(TINY, widths=(8, 8, 8, 8), steps=80, batch=4, sigma=(0.1, 0.1), synthetic=0.0)
    learner = Training([AVATAR], recipe)
    before = training.psnr(learner.average, [AVATAR], 0.1)
    while learner.step < recipe.steps:
        learner.advance()
    first, last = numpy.mean(learner.losses[:10]), numpy.mean(learner.losses[-10:])
    assert last < 0.7 * first
    assert training.psnr(learner.average, [AVATAR], 0.1) > before + 3


@pytest.mark.parametrize("recipe", [TINY, Recipe.aligned(16, steps=6, batch=2)])
def test_start_is_trained_further_with_its_own_widths(recipe):
    """With a learning rate of almost 0 the weights stay those of the start."""
    start = train([AVATAR], TINY)
    slow = replace(recipe, learning_rate=1e-12)
    learner = Training([AVATAR[:, :16, :16]], slow, start=start)
    learner.run()
    assert (learner.recipe.widths, learner.recipe.blocks) == (TINY.widths, TINY.blocks)
    torch.testing.assert_close(weights(learner.denoiser()), weights(start))
    denoiser = learner.denoiser()
    assert denoiser.sigma_range == recipe.sigma and denoiser.upright == (not recipe.turned)
    noisy = torch.rand(1, 3, 16, 16, generator=rng())
    torch.testing.assert_close(denoiser.denoise(noisy, 0.1), start.denoise(noisy, 0.1))


def test_start_is_not_changed_and_resumes_with_the_same_bits():
    start = train([AVATAR], TINY)
    before = weights(start).clone()
    states = []
    recipe = replace(TINY, seed=5)
    whole = train([AVATAR], recipe, lambda now: states.append(now.state_dict()), start=start)
    assert torch.equal(weights(start), before) and not torch.equal(weights(whole), before)
    resumed = train([AVATAR], recipe, state=through_file(states[2]), start=start)
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("changed", [{"widths": (16, 16, 16, 16)}, {"blocks": 2}])
def test_state_of_another_network_is_refused_unchanged(changed):
    start = train([AVATAR], replace(TINY, **changed, steps=1))
    state = Training([AVATAR], TINY, start=start).state_dict()
    message = r"^state is of a network with other weights than widths=.*; give the start= [^\n]*$"
    with pytest.raises(ValueError, match=message):
        train([AVATAR], TINY, state=state)
    learner = Training([AVATAR], TINY)
    before = learner.state_dict()["network"]
    with pytest.raises(ValueError, match="^state is"):
        learner.load_state_dict(state | {"step": 3})
    assert learner.step == 0
    torch.testing.assert_close(learner.state_dict()["network"], before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_start_of_16_bits_is_trained_in_32(dtype):
    """Small steps would be lost in the rounding of 16 bits."""
    network = UNetRes(nc=TINY.widths, nb=TINY.blocks, residual=True).to(dtype)
    start = invert.Denoiser(network, multiple=8, takes_map=True)
    further = train([AVATAR], replace(TINY, steps=1), start=start)
    assert weights(further).dtype == torch.float32 and weights(start).dtype == dtype


def test_start_that_gives_the_image_still_gives_it():
    """Like the published DRUNet. Its output must not be added to the noisy image."""
    network = UNetRes(nc=TINY.widths, nb=TINY.blocks)
    start = invert.Denoiser(network, multiple=8, takes_map=True)
    further = train([AVATAR], replace(TINY, learning_rate=1e-12), start=start)
    x = AVATAR[None].float() / 255
    torch.testing.assert_close(further.denoise(x, 0.1), start.denoise(x, 0.1))


@pytest.mark.parametrize("start", ["photo", UNetRes(nc=(4, 4, 4, 4), nb=1)], ids=type)
def test_start_that_is_no_denoiser_is_refused(start):
    with pytest.raises(ValueError, match=r"start is a \w+; give a denoiser, such as load_prior"):
        Training([AVATAR], TINY, start=start)


def test_start_that_cannot_be_trained_is_refused():
    with pytest.raises(ValueError, match="start has a Identity; give a DRUNet"):
        Training([AVATAR], TINY, start=invert.Denoiser(torch.nn.Identity()))
    grey = train([AVATAR[:1]], replace(TINY, channels=1))
    with pytest.raises(ValueError, match="start has channels=1, the recipe 3"):
        Training([AVATAR], TINY, start=grey)


def test_denoiser_has_the_averaged_weights():
    learner = Training([AVATAR], replace(TINY, average=0.0))
    learner.advance()
    assert torch.equal(weights(learner.denoiser()), weights(learner.network))
    learner = Training([AVATAR], replace(TINY, average=1.0))
    start = weights(learner.network).clone()
    learner.advance()
    kept = 1 / 10  # at the first step the average forgets the start but for a tenth
    expected = torch.lerp(start, weights(learner.network), 1 - kept)
    torch.testing.assert_close(weights(learner.denoiser()), expected)


def test_loss_is_absolute_error_over_root_sigma(monkeypatch):
    monkeypatch.setattr(training, "fastest_dtype", lambda device: torch.float32)
    recipe = replace(TINY, maps=0.5)
    learner = Training([AVATAR], recipe)
    batch = draw_batch([AVATAR], recipe, 0)
    assert batch.sigma.shape == (2, 1, 16, 16)
    sigma = batch.sigma.double()
    noisy = batch.clean.double() + sigma * batch.noise.double()
    estimate = learner.network.double()(noisy.contiguous(), sigma)
    expected = ((estimate - batch.clean).abs() / sigma.sqrt()).mean()
    learner.network.float()
    learner.advance()
    assert learner.loss == pytest.approx(expected.item(), rel=1e-5)


def test_loss_with_sigma_data_is_weighted_squared_error():
    recipe = Recipe.aligned(128, widths=(4, 4, 4, 4), blocks=1, steps=1, batch=2)
    learner = Training([AVATAR], recipe)
    batch = draw_batch([AVATAR], recipe, 0)
    sigma = batch.sigma.double()
    noisy = batch.clean.double() + sigma * batch.noise.double()
    estimate = learner.network.double()(noisy.contiguous(), sigma)
    weight = ((sigma**2 + 0.25**2) / (sigma * 0.25) ** 2).clamp(max=2500)  # λ(σ) of EDM
    expected = (weight * (estimate - batch.clean) ** 2).mean()
    learner.network.float()
    learner.advance()
    assert learner.loss == pytest.approx(expected.item(), rel=1e-5)


def test_damaged_patches_have_the_errors_of_the_operator():
    """JPEG gives the same file again from its own pixels, at the grid of the patch."""
    recipe = replace(TINY, batch=8, patch=32, damage="jpeg:30", damaged=0.5)
    batch = draw_batch([AVATAR], recipe, 0)
    jpeg = degrade.JPEG(30)
    torch.testing.assert_close(batch.noisy[4:], jpeg(batch.clean[4:]), atol=1e-6, rtol=0)
    error = batch.noisy[4:] - batch.clean[4:]
    told = batch.sigma[4:].flatten() / error.square().mean((1, 2, 3)).sqrt()
    assert told.min() > 0.73 and told.max() < 2.01 and told.std() > 0.05
    undamaged = draw_batch([AVATAR], replace(recipe, damage=None), 0)
    assert torch.equal(batch.noisy[:4], undamaged.noisy[:4])


@pytest.mark.parametrize("channels", [3, 1])
def test_loss_of_damaged_patches_adds_lpips(channels):
    recipe = replace(TINY, patch=32, damage="jpeg:20", damaged=0.5, channels=channels)
    batch = draw_batch([AVATAR[:channels]], recipe, 0)
    estimate = (batch.clean + 0.1).clamp(0, 1)
    l1 = ((estimate - batch.clean).abs() / batch.sigma.sqrt()).mean()
    damaged, clean = (x[1:].expand(-1, 3, -1, -1) for x in (estimate, batch.clean))
    mean = sum(invert.perceptual.lpips(damaged, clean, net=net) for net in ("vgg", "alex")) / 2
    expected = l1 + 0.12 * mean / batch.sigma[1].sqrt() / 2
    torch.testing.assert_close(loss_of(estimate, batch, recipe), expected.squeeze())


def test_training_on_damage_resumes_with_the_same_bits():
    recipe = replace(TINY, maps=0.5, steps=3, patch=32, damage="gaussian:0.1 >> jpeg:20..90")
    whole = train([AVATAR], recipe)
    states = []
    train([AVATAR], recipe, lambda now: states.append(now.state_dict()))
    resumed = train([AVATAR], recipe, state=through_file(states[0]))
    assert torch.equal(weights(resumed), weights(whole))


def test_aligned_pictures_are_learned_whole_and_upright():
    recipe = Recipe.aligned(128)
    for step in range(4):
        clean = draw_batch([AVATAR], recipe, step).clean
        assert torch.equal(clean, (AVATAR / 255).expand_as(clean))


def test_sigma_is_drawn_log_uniformly():
    recipe = Recipe(batch=4000, sigma=(0.01, 1.0))
    exponents = draw_sigma(recipe, rng()).log10().flatten().double().sort()[0]
    assert exponents[0] >= -2 and exponents[-1] <= 0
    expected = torch.linspace(-2, 0, 4000, dtype=torch.float64)
    assert (exponents - expected).abs().max() < 2 * 1.6 / math.sqrt(4000)


def test_maps_vary_smoothly_within_the_range():
    recipe = Recipe(batch=8, maps=0.5, patch=64, sigma=(0.01, 1.0))
    levels = draw_sigma(recipe, rng()).log()
    spread = levels.flatten(1).std(1)
    assert (spread[:4] > 0.1).all() and (spread[4:] < 1e-5).all()
    assert levels.min() >= math.log(0.01) - 1e-5 and levels.max() <= 1e-5
    steepest = math.log(100) / 31.5  # from one end of the range to the other between grid points
    assert levels.diff(dim=2).abs().max() <= steepest and levels.diff(dim=3).abs().max() <= steepest


def test_patches_are_turned_parts_of_the_pictures():
    """In this picture every pixel has a colour of its own, so that a patch tells where it was."""
    number = torch.arange(40 * 60).reshape(40, 60)
    coded = torch.stack([number // 256, number % 256, number * 0]).to(torch.uint8)
    recipe = replace(TINY, batch=200, synthetic=0.0, patch=8)
    clean = (draw_batch([coded], recipe, 0).clean * 255).round().long()
    places = clean[:, 0] * 256 + clean[:, 1]
    ways, corners = set(), set()
    for place in places:
        rows, columns = place // 60, place % 60
        down = (int(rows[1, 0] - rows[0, 0]), int(columns[1, 0] - columns[0, 0]))
        right = (int(rows[0, 1] - rows[0, 0]), int(columns[0, 1] - columns[0, 0]))
        ways.add((down, right))
        corners.add((int(rows.min()), int(columns.min())))
        assert rows.max() - rows.min() == 7 and columns.max() - columns.min() == 7
    assert len(ways) == 8
    assert {row for row, _ in corners} == set(range(33))
    assert max(column for _, column in corners) == 52


def test_synthetic_share_decides_dead_leaves():
    """The picture has a colour in each row: a part of it shows many, a disc shows one or two."""
    rows = torch.arange(128, dtype=torch.uint8)[None, :, None].expand(3, -1, 128)
    plain = draw_batch([rows], replace(TINY, batch=40, synthetic=0.0), 0)
    mixed = draw_batch([rows], replace(TINY, batch=400, synthetic=0.25), 0)

    def slopes(batch):
        """Whether a patch rises or falls by one level from each row or column to the next."""
        levels = (batch.clean[:, 0] * 255).round()
        down, right = levels.diff(dim=1).abs(), levels.diff(dim=2).abs()
        return (down == 1).flatten(1).all(1) | (right == 1).flatten(1).all(1)

    assert slopes(plain).all()
    assert 0.18 < (~slopes(mixed)).float().mean() < 0.32


def test_draws_depend_on_seed_and_step_only():
    first, again = draw_batch([AVATAR], TINY, 3), draw_batch([AVATAR], TINY, 3)
    assert torch.equal(first.noisy, again.noisy)
    for other in (draw_batch([AVATAR], TINY, 4), draw_batch([AVATAR], replace(TINY, seed=1), 3)):
        assert not torch.equal(first.noise, other.noise)


def test_draws_do_not_depend_on_defaults():
    """Neither on the default dtype nor on the default device."""
    pictures = [torch.randint(0, 256, (3, 40, 40), generator=rng(0), dtype=torch.uint8)]
    recipe = Recipe(patch=16, maps=0.5, synthetic=0.5)
    expected = draw_batch(pictures, recipe, 3)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            drawn = draw_batch(pictures, recipe, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    for name in ("clean", "sigma", "noise"):
        assert torch.equal(getattr(drawn, name), getattr(expected, name)), name


def test_rate_rises_stays_and_falls():
    recipe = Recipe(steps=1000, warmup=100, constant=0.3, final=0.01, learning_rate=2.0)
    assert recipe.rate(0) == pytest.approx(0.02)
    assert recipe.rate(49) == pytest.approx(1.0)
    assert recipe.rate(100) == recipe.rate(299) == 2.0
    middle = recipe.rate(650)
    assert middle == pytest.approx(2 * (0.01 + 0.99 * 0.5))
    assert recipe.rate(1000) == pytest.approx(0.02)


def test_infinite_loss_ends_in_an_error():
    learner = Training([AVATAR], replace(TINY, learning_rate=1e30, warmup=0))
    with pytest.raises(ValueError, match=r"the loss is .* at step \d; lower learning_rate=1e\+30"):
        while True:
            learner.advance()
    assert learner.step == len(learner.losses) < 6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sigma": (0.5, 0.1)}, "sigma=0.5..0.1"),
        ({"sigma": (0.0, 1.0)}, "sigma=0..1"),
        ({"patch": 20}, "patch=20 must be a multiple of 8"),
        ({"patch": 0}, "patch=0"),
        ({"channels": 2}, "channels=2"),
        ({"steps": 0}, "steps=0"),
        ({"synthetic": 1.5}, "synthetic=1.5"),
        ({"maps": math.nan}, "maps=nan"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
        ({"damage": "jpeg:20"}, "patch=16 must be 32 or more"),
        ({"patch": 32, "damage": "nothing:3"}, "unknown operator 'nothing'"),
        ({"patch": 32, "damage": "downsample:2"}, "must be an operator that keeps"),
        (
            {"patch": 32, "damage": "jpeg:20", "sigma_data": 0.25},
            "cannot be combined with sigma_data",
        ),
        ({"damaged": 2.0}, "damaged=2"),
    ],
)
def test_recipe_refuses_impossible_values(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    "pictures, message",
    [
        ([], "pictures is empty"),
        ([AVATAR, AVATAR[:, :15]], r"pictures\[1\] has 128x15 pixels, less than patch=16"),
        ([AVATAR.float()], "torch.float32"),
        ([AVATAR[:1]], r"\[3, H, W\]"),
    ],
)
def test_training_refuses_unfit_pictures(pictures, message):
    with pytest.raises(ValueError, match=message):
        Training(pictures, TINY)


def test_grey_pictures_train_a_grey_denoiser():
    denoiser = train([AVATAR[:1]], replace(TINY, channels=1, steps=1))
    assert denoiser.channels == 1
    assert denoiser.denoise(torch.rand(1, 1, 13, 9), 0.1).shape == (1, 1, 13, 9)


def test_bfloat16_trains_like_float32(monkeypatch):
    """As on a processor or GPU that multiplies bfloat16; elsewhere it is emulated."""
    monkeypatch.setattr(training, "fastest_dtype", lambda device: torch.float32)
    exact = Training([AVATAR], TINY)
    exact.run()
    monkeypatch.setattr(training, "fastest_dtype", lambda device: torch.bfloat16)
    rounded = Training([AVATAR], TINY)
    rounded.run()
    assert all(weight.dtype == torch.float32 for weight in rounded.network.parameters())
    assert rounded.losses != exact.losses
    numpy.testing.assert_allclose(rounded.losses, exact.losses, rtol=0.05)
