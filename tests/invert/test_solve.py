"""`invert.restore`, mostly with the method `robust`."""

import math
from dataclasses import replace

import numpy
import pytest
import torch

import invert
from degrade import Mask, PerImage, parse
from invert import METHODS, Method, Phase, perceptual
from invert.loss import L1, Lpips
from invert.optim import NGD
from invert.solve import recognised
from tests.conftest import picture, rng

from .solving import QUICK, lively, quick


def part(index):
    """A part of an avatar, as large as the images of the tiny generator."""
    return picture(index)[..., 40:72, 48:80]


def test_robust_is_the_published_schedule():
    published = (("W", 0.08, False), ("W+", 0.02, False), ("W++", 0.005, True))
    terms = (Lpips(levels=6, fill=(0.25, 0.5)), L1(0.1, coarsest=True))
    assert METHODS["robust"].phases == tuple(
        Phase(space, 150, NGD(lr), terms, optional=optional) for space, lr, optional in published
    )


def test_robust_recovers_a_generated_portrait(avatars):
    """The generator made the clean picture. The start is far from it, and the result is near."""
    w = avatars.mapping(torch.randn(1, 128, generator=rng(4)))
    clean = avatars.synthesize(w).clamp(0, 1)
    f = parse("downsample:4 >> jpeg:30").approx()
    r = invert.restore(f(clean), f, avatars, "robust", steps=15, **QUICK)
    start = perceptual.lpips(avatars.synthesize(avatars.w_avg[None]), clean)
    assert perceptual.lpips(r.image, clean) < 0.6 * start
    assert r.history.shape == (15, 1) and r.history[-5:].mean() < 0.7 * r.history[0].mean()
    assert r.latent.shape == (1, 12, 192, 256) and set(r.phase_images) == {"W", "W+", "W++"}
    assert r.image.min() >= 0 and r.image.max() <= 1


@pytest.mark.parametrize("steps", [3, 6])
def test_codes_travel_within_the_published_distance(small, steps):
    y = part(0)
    r = invert.restore(y, parse("clamp"), small, "robust", steps=steps, lr_scale=0.5, **QUICK)
    unit = 0.5 * (0.08 + 0.02 + 0.005)
    travelled = (r.latent - small.w_avg).norm(dim=-1).max()
    # with the published rates a code would travel only unit * steps / 3
    assert unit * steps < travelled <= 150 * unit * (1 + 1e-5)


def test_learning_rates_follow_the_spread_of_w(small):
    y = part(0)
    args = (y, parse("clamp"), small)
    by_default = invert.restore(*args, steps=2, **QUICK)
    scaled = invert.restore(*args, steps=2, lr_scale=small.w_spread / 9.5, **QUICK)
    assert torch.equal(by_default.latent, scaled.latent)


def test_seed_decides_the_result(small):
    f = parse("downsample:2 >> poisson:24 >> strokes:2,seed=1").approx()
    y = f(part(0), rng())
    a, b, c = (invert.restore(y, f, small, seed=s, steps=4, **QUICK) for s in (1, 1, 2))
    assert torch.equal(a.image, b.image) and torch.equal(a.history, b.history)
    assert not torch.equal(a.history, c.history)


def test_batch_gives_each_image_its_own_result(small, monkeypatch):
    # the tolerances below are those of float32
    monkeypatch.setattr(perceptual, "fastest_dtype", lambda device: torch.float32)
    f = parse("downsample:2 >> poisson:48 >> deadpixels:0.05 >> jpeg:30 >> strokes:2")
    x = torch.cat([part(i) for i in range(3)])
    together = f.sample(x.shape, [rng(i) for i in range(3)])
    y = together(x, rng(1))
    phases = [replace(phase, steps=2) for phase in METHODS["robust"].phases]
    method = Method(tuple(phases))  # unlike steps=, this keeps the learning rates
    r = invert.restore(y, together.approx(), small, method, seed=[3, 4, 5], **QUICK)
    for i in range(3):
        alone = f.sample(x[i : i + 1].shape, rng(i))
        one = invert.restore(y[i : i + 1], alone.approx(), small, method, seed=3 + i, **QUICK)
        assert torch.allclose(r.history[:, i], one.history[:, 0], rtol=1e-3)
        assert torch.allclose(r.image[i : i + 1], one.image, atol=2e-3)


@pytest.mark.slow
def test_batch_restores_as_well_as_single_images(small):
    """Rounding errors make the two results different, but their quality is the same."""
    f = parse("downsample:2 >> jpeg:30")
    x = small.synthesize(small.some_w(2)[0]).clamp(0, 1)
    together = invert.restore(f(x), f.approx(), small, seed=3, steps=45, **QUICK)
    alone = invert.restore(f(x)[1:], f.approx(), small, seed=3, steps=45, **QUICK)
    reached = [
        perceptual.lpips(image, x[1:], "alex") for image in (together.image[1:], alone.image)
    ]
    in_float32 = perceptual.fastest_dtype(x.device) == torch.float32
    assert abs(reached[0] - reached[1]) < (1e-3 if in_float32 else 5e-3)


def test_seed_gives_every_row_the_same_stream(small):
    f = parse("downsample:4 >> gaussian:0.2").approx()
    y = f(torch.cat([part(0)] * 2), [rng(), rng()])
    r = invert.restore(y, f, small, seed=7, steps=3, **QUICK)
    assert torch.allclose(r.history[:, 0], r.history[:, 1], rtol=1e-4)


def test_callback_gets_every_step(small):
    steps = []
    args = (part(0), parse("clamp"), small, "robust")
    r = invert.restore(*args, steps=6, callback=steps.append, **QUICK)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.total for step in steps} == {6}
    assert [step.phase.name for step in steps] == ["W", "W", "W+", "W+", "W++", "W++"]
    assert torch.equal(torch.stack([step.loss for step in steps]), r.history)
    assert steps[0].latent.shape == (1, 7) and steps[-1].latent.shape == (1, 8, 9, 7)
    for space, last in [("W", 1), ("W+", 3), ("W++", 5)]:
        image = small.synthesize(steps[last].latent).clamp(0, 1)
        assert torch.equal(r.phase_images[space], image)
    assert torch.equal(r.phase_images["W++"], r.image) and torch.equal(steps[5].latent, r.latent)


def test_no_grad_changes_no_bit(small):
    plain = invert.restore(part(0), parse("clamp"), small, steps=2, seed=5, **QUICK)
    with torch.no_grad():
        r = invert.restore(part(0), parse("clamp"), small, steps=2, seed=numpy.int64(5), **QUICK)
    assert torch.equal(r.latent, plain.latent)
    assert not r.latent.requires_grad and not r.image.requires_grad


def test_zero_steps_give_the_mean_image(small):
    r = invert.restore(part(0), parse("clamp"), small, "robust", steps=0, **QUICK)
    assert torch.allclose(r.image, small.synthesize(small.w_avg[None]).clamp(0, 1), atol=1e-5)
    assert r.history.shape == (0, 1)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(observation=torch.rand(1, 3, 64, 64)), "128×128"),
        (dict(observation=torch.rand(1, 1, 128, 128)), "but clamp turns"),
        (dict(observation=torch.full((1, 3, 128, 128), math.nan)), "NaN"),
        (dict(method="magic"), "method='magic'"),
        (dict(perceptual="resnet"), "resnet"),
        (dict(steps=-1), "steps=-1"),
        (dict(seed=[1, 2]), "2 values for 1 images"),
        (dict(lr_scale=math.nan), "lr_scale=nan"),
        (dict(lr_scale=-1.0), "lr_scale=-1.0"),
        (dict(lr_scale=1e12), "lr_scale=1000000000000.0 must be a number above 0 and at most 1000"),
        (dict(lr_scale="big"), "lr_scale='big' must be a number"),
        (dict(lr_scale=True), "lr_scale=True must be a number"),
        (dict(seed=True), "seed=True must be an integer"),
        (dict(init=torch.full((1, 256), 1e30)), "init is so far from the generator's latents"),
        (dict(init=torch.zeros(1, 3)), r"init: latent has shape \[1, 3\]; give \[B, 256\]"),
        (dict(operator="jpeg:130"), "quality=130"),
        (dict(operator=torch.nn.ReLU()), r"operator=ReLU\(\) must be an operator or its text"),
        (dict(prior="avatars-128"), r"prior='avatars-128' .* invert.load_prior\('avatars-128'\)"),
        (dict(prior=torch.nn.ReLU()), r"prior=ReLU\(\) must be a generator or a denoiser; give"),
        (dict(operator=parse("strokes:3")), "sample"),
        (dict(consistency="no"), "consistency='no' must be True, False or None"),
        (dict(operator=Mask(torch.ones(1, 1, 8, 8))), "give one of their size"),
    ],
)
def test_restore_mistakes_are_named(avatars, change, words):
    args = (
        dict(observation=picture(0), operator=parse("clamp"), prior=avatars, steps=1, **QUICK)
        | change
    )
    with pytest.raises(ValueError, match=words):
        invert.restore(**args)


def test_operator_may_be_its_text(small):
    y = picture(1)[..., :32, :32]
    by_text = invert.restore(y, "jpeg:30", small, steps=2, **QUICK)
    by_object = invert.restore(y, parse("jpeg:30"), small, steps=2, **QUICK)
    assert torch.equal(by_text.image, by_object.image)


def test_image_too_large_for_the_operator_is_taken_back(small):
    """A step so long that the operator would refuse the image is like one to infinity."""
    method = Method((Phase("W", 3, NGD(1e30), (L1(),)),), source="")
    result = invert.restore(picture(1)[..., :32, :32], "clamp", small, method)
    mean = small.synthesize(small.w_avg[None]).clamp(0, 1)
    assert result.finite.tolist() == [False]
    assert torch.allclose(result.image, mean, atol=1e-5)


@pytest.mark.parametrize("method", ["robust", "calibrated"])
def test_inference_mode_changes_no_bit(small, method):
    y = torch.rand(1, 3, 32, 32, generator=rng())
    args = dict(operator=parse("clamp"), prior=small, method=method, steps=3, **QUICK)
    plain = invert.restore(y, **args)
    with torch.inference_mode():
        inside = invert.restore(y.clone(), **args)
        latent = plain.latent.clone()
        further = invert.restore(y.clone(), init=latent, **args)
    assert torch.equal(inside.image, plain.image) and torch.equal(inside.history, plain.history)
    assert not inside.image.is_inference()
    assert not torch.equal(further.latent, plain.latent)
    assert torch.equal(further.image, invert.restore(y, init=plain.latent, **args).image)


def test_observation_without_values_is_refused(small):
    observation = torch.zeros(1, 3, 64, 64, device="meta")
    with pytest.raises(ValueError, match="observation is on the meta device"):
        invert.restore(observation, parse("gaussian:0.1"), small)


def test_generator_made_in_inference_mode_is_refused(small):
    y = torch.rand(1, 3, 32, 32, generator=rng())
    with torch.inference_mode():
        mask = Mask(torch.ones(1, 1, 32, 32))
        broken = lively()
    assert invert.restore(y, mask, small, "pulse", steps=2).finite.all()  # a mask is copied
    with pytest.raises(ValueError, match=r"^[^\n]*inference_mode[^\n]*make it outside$"):
        invert.restore(y, parse("clamp"), broken, "pulse", steps=2)


@pytest.mark.parametrize("name", ["robust", "pulse", "brgm", "ilo"])
def test_restore_ignores_the_default_dtype(name):
    y = torch.rand(1, 3, 32, 32, generator=rng())
    args = dict(operator=parse("strokes:3,seed=1"), prior=lively(), steps=2, **QUICK)
    expected = invert.restore(y, method=quick(name), seed=1, **args)
    torch.set_default_dtype(torch.float64)
    try:
        result = invert.restore(y, method=quick(name), seed=1, **args)
    finally:
        torch.set_default_dtype(torch.float32)
    for field in ("image", "latent", "history"):
        before, after = getattr(expected, field), getattr(result, field)
        assert after.dtype == torch.float32
        assert torch.equal(after, before)


@pytest.mark.parametrize(("factor", "is_kept"), [(1, True), (2, True), (4, False)])
def test_method_that_keeps_pixels_leaves_strongly_reduced_ones(small, factor, is_kept):
    f = parse(f"pool:{factor}")
    y = f(picture(1)[..., :32, :32])
    keeping = replace(METHODS["calibrated"].with_steps(3), keeps_pixels=True)
    by_default = invert.restore(y, f, small, keeping)
    never = invert.restore(y, f, small, keeping, consistency=False)
    always = invert.restore(y, f, small, keeping, consistency=True)
    assert torch.allclose(f(always.image), y, atol=1e-3)
    expected = always if is_kept else never
    assert torch.equal(by_default.image, expected.image)
    assert not torch.equal(always.image, never.image)


def test_crop_keeps_its_pixels_by_default(small):
    """A crop of a quarter of each side shows pixels, and not means of blocks."""
    f = parse("crop:5,7,8,8")
    y = f(picture(1)[..., :32, :32])
    keeping = METHODS["calibrated"].with_steps(3)
    result = invert.restore(y, f, small, keeping)
    assert torch.equal(f(result.image), y)


def test_consistency_leaves_out_a_strong_reduction(small):
    f = parse("pool:4 >> resize:32")
    y = f(picture(1)[..., :32, :32])
    keeping = METHODS["calibrated"].with_steps(3)
    by_default = invert.restore(y, f, small, keeping)
    never = invert.restore(y, f, small, keeping, consistency=False)
    assert torch.equal(by_default.image, never.image)


def test_each_image_decides_whether_its_pixels_are_kept(small):
    """A crop and a reduction by 4 give observations of one size."""
    crop, pool = parse("crop:5,7,8,8"), parse("pool:4")
    clean = picture(1)[..., :32, :32]
    y = torch.cat([crop(clean), pool(clean)])
    both = PerImage(crop, pool)
    keeping = METHODS["calibrated"].with_steps(3)
    by_default = invert.restore(y, both, small, keeping).image
    never = invert.restore(y, both, small, keeping, consistency=False).image
    assert torch.equal(crop(by_default[:1]), y[:1])
    assert torch.equal(by_default[1], never[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_bit(small, dtype):
    f = parse("downsample:2 >> jpeg:30").approx()
    y = f(torch.rand(1, 3, 32, 32, generator=rng()))
    plain = invert.restore(y, f, small, steps=3, consistency=True, **QUICK)
    with torch.autocast("cpu", dtype):
        inside = invert.restore(y, f, small, steps=3, consistency=True, **QUICK)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(inside.image, plain.image) and torch.equal(inside.history, plain.history)


def test_ddrm_ignores_autocast_and_inference_mode():
    class Net(torch.nn.Conv2d):
        def forward(self, x, sigma):
            return super().forward(x)

    network = Net(1, 1, 3, padding=1)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=rng())
    denoiser = invert.Denoiser(network, resolution=8, channels=1)
    f = parse("pool:2")
    y = torch.rand(1, 1, 4, 4, generator=rng())
    plain = invert.restore(y, f, denoiser, "ddrm", steps=4)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        inside = invert.restore(y.clone(), f, denoiser, "ddrm", steps=4)
    assert torch.equal(inside.image, plain.image)


def test_class_label_takes_the_argmax_of_logits():
    G = lively(c_dim=3)
    y = torch.rand(2, 3, 32, 32, generator=rng())
    args = dict(observation=y, operator=parse("clamp"), prior=G, steps=1, method="robust")
    logits = torch.tensor([[-1.0, 0.5, 3.0], [2.5, 0.0, -4.0]])
    expected = invert.restore(**args, class_label=[2, 0])
    for result in (logits, logits.softmax(1), logits.tolist(), torch.tensor([2, 0])):
        recognised_image = invert.restore(**args, class_label=lambda x, result=result: result).image
        assert torch.equal(recognised_image, expected.image)
    features = invert.restore(**args, class_label=logits)  # a tensor is taken as label features
    assert not torch.allclose(features.image, expected.image, atol=1e-3)
    with pytest.raises(ValueError, match=r"returned \[2, 4\]; give classes \[B\], or scores"):
        invert.restore(**args, class_label=lambda x: torch.zeros(2, 4))


SENSING = parse("compressedsensing:0.5,seed=1")


@pytest.mark.parametrize("name", ["ilo", "robust", "robust-text", "adam-id"])
def test_measurements_skip_perceptual_terms(small, name):
    y = SENSING(small.synthesize(small.some_w(1)[0]).clamp(0, 1))
    r = invert.restore(y, SENSING, small, name, steps=8)
    assert "lpips" not in r.terms and torch.isfinite(r.history).all()
    assert any("lpips was left out" in note for note in r.notes)
    assert r.history[-1] < r.history[0]


@pytest.mark.parametrize("name", ["pti", "cri", "lbrgm", "dgp"])
def test_measurements_are_refused_for_pictures_only(small, name):
    y = SENSING(small.synthesize(small.some_w(1)[0]).clamp(0, 1))
    with pytest.raises(ValueError, match=rf"^method='{name}' [^\n]*picture[^\n]*1536\]; use ilo"):
        invert.restore(y, SENSING, small, name, steps=2)


@pytest.mark.slow
def test_ilo_recovers_compressed_sensing(avatars):
    """Half as many measurements as values; nothing is set but the steps."""
    clean = picture(0)
    y = parse("compressedsensing:0.5,seed=1")(clean)
    r = invert.restore(y, parse("compressedsensing:0.5,seed=1"), avatars, "ilo", steps=60)
    mse = (r.image - clean).square().mean().item()
    assert -10 * math.log10(mse) > 22


def test_custom_method_solves_itself(small):
    """A method that is no search: check and solve are all that it defines."""

    class Nearest(invert.RestorationMethod):
        options = frozenset({"init"})

        def check(self, problem):
            if problem.init is None:
                raise ValueError("give init")

        def solve(self, problem, report):
            image = problem.generator.synthesize(problem.init)
            prediction = problem.predict(image, "nearest")
            loss = (prediction - problem.observation).square().flatten(1).mean(1)
            step = invert.Step(self, 1, 1, loss, {}, image, prediction, lambda: problem.init)
            report(step)
            point = invert.point.Point(problem.init)
            return invert.Restoration(
                image, problem.init, loss[None], {}, torch.isfinite(loss), point
            )

    y = torch.rand(1, 3, 32, 32, generator=rng())
    args = (y, parse("clamp"), small, Nearest())
    w, steps = small.some_w(1)[0], []
    r = invert.restore(*args, init=w, callback=steps.append)
    assert torch.equal(steps[0].latent, w) and torch.equal(r.history[0], steps[0].loss)
    with pytest.raises(ValueError, match="give init"):
        invert.restore(*args)
    with pytest.raises(ValueError, match="lr_scale: method=own has no use for it"):
        invert.restore(*args, init=w, lr_scale=1.0)
    denoiser = invert.Denoiser(torch.nn.Identity(), resolution=32)
    with pytest.raises(ValueError, match="method=own needs a generator"):
        invert.restore(y, parse("clamp"), denoiser, Nearest(), init=w)


@pytest.mark.parametrize(
    "result, words",
    [
        ({"logits": torch.zeros(1, 3)}, "returned a dict"),
        (object(), "returned a object"),
        (torch.full((1, 3), torch.nan), "returned NaN"),
        (torch.zeros(1, 4), r"returned \[1, 4\]"),
    ],
)
def test_classifier_results_are_checked(result, words):
    with pytest.raises(ValueError, match=words):
        recognised(result, 3)


def test_classifier_may_return_a_one_hot_mask():
    assert recognised(torch.tensor([[False, True, False]]), 3).tolist() == [1]


def test_restore_ignores_a_default_device(small):
    y = part(0)
    expected = invert.restore(y, parse("clamp"), small, steps=3, perceptual="alex").image
    with torch.device("meta"):
        inside = invert.restore(y, parse("clamp"), small, steps=3, perceptual="alex").image
    assert torch.equal(inside, expected)
