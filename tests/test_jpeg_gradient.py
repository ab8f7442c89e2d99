"""Test JPEG's declared gradients against autograd through the same stages in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from degrade import JPEG, jpeg, parse
from degrade.jpeg import CLAMPS, SURROGATES, USES
from degrade.jpeg.header import STANDARD
from degrade.jpeg.layout import SAMPLINGS
from degrade.jpeg.slopes import smoothed

from .conftest import picture, rng, slow_except
from .jpeg_reference import (
    CHROMA,
    LUMA,
    SLOPES,
    Stages,
    clamp_slope,
    codec,
    content,
    expected_gradient,
    gradient,
    table_of,
)

SIZES = [(8, 8), (16, 32), (13, 27), (9, 3), (2, 5), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "gray"])
@pytest.mark.parametrize(
    "surrogate, clamp",
    [("cubic", "sigmoid"), ("ste", "hard"), ("residual", "ste"), ("smoothed", "hard")],
)
def test_gradient_equals_autograd_of_stages(surrogate, clamp, sampling, size):
    channels, sampling = (1, "4:2:0") if sampling == "gray" else (3, sampling)
    uniform = torch.rand(2, channels, *size, generator=rng(), dtype=torch.float64)
    x = uniform * 1.2 - 0.1
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    actual = gradient(lambda x: jpeg(x, 35, sampling, surrogate=surrogate, clamp=clamp), x, g)
    expected = expected_gradient(x.clamp(0, 1), g, table_of(35), sampling, surrogate, clamp)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("surrogate", ["cubic", "residual"])
def test_clamp_gradient_has_closed_form(surrogate, clamp):
    x = content("saturated", 24, 24, 3, 1).double()
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    actual = gradient(lambda x: jpeg(x, 5, surrogate=surrogate, clamp=clamp), x, g)
    expected = expected_gradient(x, g, table_of(5), "4:2:0", surrogate, clamp)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(SAMPLINGS)), st.integers(1, 100)
)
def test_ste_gradient_is_adjoint_of_linear_stages(height, width, sampling, quality):
    x, u, v = torch.rand(3, 1, 3, height, width, generator=rng(), dtype=torch.float64)
    stages = Stages(table_of(quality), sampling, SLOPES["ste"])
    stages.values(x)
    transposed = gradient(lambda x: jpeg(x, quality, sampling, surrogate="ste", clamp="ste"), x, v)
    forth = (stages.linear(u) * v).sum()
    back = (u * transposed).sum()
    torch.testing.assert_close(forth, back, rtol=1e-9, atol=1e-9)


def test_identity_gradient_is_unchanged():
    x, g = torch.rand(2, 1, 3, 10, 11, generator=rng())
    actual = gradient(lambda x: jpeg(x, 3, surrogate="identity"), x, g)
    assert torch.equal(actual, g)


def test_float32_gradient_is_close_to_float64():
    x, g = torch.rand(2, 2, 3, 40, 33, generator=rng())
    for surrogate in SURROGATES:
        f = JPEG(60, surrogate=surrogate)
        in_float32 = gradient(f, x, g)
        in_float64 = gradient(f, x.double(), g.double())
        torch.testing.assert_close(in_float32.double(), in_float64, rtol=1e-4, atol=1e-5)


def test_batch_gradient_equals_separate_calls():
    x, g = torch.rand(2, 3, 3, 21, 18, generator=rng(), dtype=torch.float64)
    qualities = torch.tensor([5, 50, 95])
    of_batch = gradient(lambda x: jpeg(x, qualities), x, g)
    for i, quality in enumerate((5, 50, 95)):
        row = slice(i, i + 1)
        alone = gradient(lambda x, quality=quality: jpeg(x, quality), x[row], g[row])
        torch.testing.assert_close(of_batch[row], alone, rtol=0, atol=1e-12)


class StagesOfTables(Stages):
    """The stages as a function of the quantiser's steps q alone: C = K(F/8q)·q."""

    def _quantise(self, t, i):
        if self.exact:
            return super()._quantise(t, i)
        q = self.steps[:, i].view(-1, 1, 8, 1, 8)
        unrounded, rounded = self.todo.pop(0)
        change = unrounded * q.detach() / q - unrounded
        return rounded + change  # the slope is 1 whatever the surrogate


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(
    "channels, sampling, clamp",
    [(1, "4:2:0", "ste"), (3, "4:2:0", "sigmoid"), (3, "4:4:4", "hard")],
)
def test_tables_gradient_equals_autograd_of_stages(channels, sampling, clamp, surrogate):
    x, g = torch.rand(2, 2, channels, 19, 26, generator=rng(), dtype=torch.float64)
    tables = table_of(30)[0].double().requires_grad_()
    y = jpeg(
        x.requires_grad_(), tables=tables, subsampling=sampling, surrogate=surrogate, clamp=clamp
    )
    (actual,) = torch.autograd.grad(y, tables, g)
    stages = StagesOfTables(tables[None], sampling, SLOPES["ste"])
    with torch.no_grad():
        before_clamp = g * clamp_slope(stages.values(x), clamp)
    linear = stages.linear(torch.zeros_like(x))
    (expected,) = torch.autograd.grad(linear, tables, before_clamp / 255)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_tables_and_quality_gradient_per_image():
    x, g = torch.rand(2, 3, 3, 19, 26, generator=rng(), dtype=torch.float64)
    qualities = (20, 60, 90)
    luma_and_chroma = [table_of(quality)[0, :2] for quality in qualities]
    tables = torch.stack(luma_and_chroma).double().requires_grad_()
    quality = torch.tensor(qualities, dtype=torch.float64, requires_grad=True)
    for name, parameter in (("tables", tables), ("quality", quality)):
        y = jpeg(x, **{name: parameter}, surrogate="ste")
        (of_batch,) = torch.autograd.grad(y, parameter, g)
        for i in range(3):
            row = slice(i, i + 1)
            y = jpeg(x[row], **{name: parameter[row]}, surrogate="ste")
            assert torch.equal(y, jpeg(x[row], qualities[i]))
            (alone,) = torch.autograd.grad(y, parameter, g[row])
            torch.testing.assert_close(of_batch[i], alone[i])


# The tables are scaled by S = 5000/q below 50, else by 200 - 2q
@pytest.mark.parametrize("value, slope_of_scale", [(20, -5000 / 20**2), (70, -2)])
def test_quality_gradient_goes_through_tables(value, slope_of_scale):
    x = content("picture", 40, 40, 3, 3).double()
    quality = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    tables = table_of(value)[0, :2].double().requires_grad_()
    by_quality = jpeg(x, quality, surrogate="ste")
    by_tables = jpeg(x, tables=tables, surrogate="ste")
    assert torch.equal(by_quality, by_tables)
    (to_quality,) = torch.autograd.grad((by_quality - x).square().sum(), quality)
    (to_tables,) = torch.autograd.grad((by_tables - x).square().sum(), tables)
    slope_of_tables = STANDARD / 100 * slope_of_scale * (tables < 255)
    expected = (to_tables * slope_of_tables).sum()
    torch.testing.assert_close(to_quality, expected[None])
    assert to_quality.item() < 0  # a better quality makes a smaller error


# At quality 100 every entry is clamped to 1, at quality 1 to 255
@pytest.mark.parametrize(
    "value, is_clamped", [(100.0, True), (99.0, False), (2.0, False), (1.0, True)]
)
def test_quality_gradient_is_zero_at_clamped_table(value, is_clamped):
    x = torch.rand(1, 3, 16, 16, generator=rng(), dtype=torch.float64)
    quality = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    error = (jpeg(x, quality) - x).square().sum()
    (slope,) = torch.autograd.grad(error, quality)
    assert (slope == 0) == is_clamped


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("value", [10, 50, 90])
def test_quality_gradient_has_the_sign_of_the_error(value, surrogate):
    """The error of a file falls with its quality."""
    x = picture(1)
    quality = torch.tensor([float(value)], requires_grad=True)
    errors = [(codec(x, quality=value + step) - x).square().sum() for step in (-3, 3)]
    assert errors[0] > errors[1]
    (jpeg(x, quality, surrogate=surrogate) - x).square().sum().backward()
    assert quality.grad < 0


def test_float_quality_and_tables_are_rounded():
    x = torch.rand(2, 3, 16, 16, generator=rng())
    quality = torch.tensor([30.4, 69.6])
    learnt_quality = quality.clone().requires_grad_()
    for values in (quality, learnt_quality, quality.double(), quality[:, None]):
        assert torch.equal(jpeg(x, values), jpeg(x, (30, 70)))
    tables = table_of(30)[:, :2].float() + 0.3
    learnt_tables = tables.clone().requires_grad_()
    for values in (tables, learnt_tables, tables[0]):
        assert torch.equal(jpeg(x, tables=values), jpeg(x, 30))


def test_tables_of_every_shape_are_equal():
    x = torch.rand(2, 3, 16, 16, generator=rng())
    tables = table_of(30)[0, :2]
    for values in (tables, tables.flatten(1)):
        assert torch.equal(jpeg(x, tables=values), jpeg(x, 30))
    per_image = torch.cat([table_of(30), table_of(60)])[:, :2]  # [B, n, 8, 8]
    assert torch.equal(jpeg(x, tables=per_image), jpeg(x, (30, 60)))


def test_second_derivative_is_rejected():
    x = torch.rand(1, 3, 8, 8, generator=rng(), requires_grad=True)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(jpeg(x, 50).square().sum(), x, create_graph=True)


def test_descent_finds_image_with_same_jpeg():
    x = picture(3)[:, :, 30:78, 30:78]
    observation = jpeg(x, 9)
    image = torch.full_like(x, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([image], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        residual = jpeg(image, 9) - observation
        residual.square().sum().backward()
        optimizer.step()
    levels = (image.detach().clamp(0, 1) * 255).round()
    difference = codec(levels / 255, quality=9) - observation
    mean_squared_error = (difference * 255).square().mean()
    assert mean_squared_error < 1


# torch takes 5 to 10 s to compile one with its gradient
@pytest.mark.parametrize("surrogate", slow_except(("cubic",), SURROGATES))
def test_compile_without_graph_break(surrogate):
    x = torch.rand(2, 3, 20, 24, generator=rng()).requires_grad_()
    g = torch.rand(x.shape, generator=rng(1))

    def f(x):
        return jpeg(x, 30, surrogate=surrogate)

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    y = compiled(x)  # one graph for both passes
    assert torch.equal(y, f(x))
    (actual,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(actual, gradient(f, x.detach(), g))


@pytest.mark.slow
def test_compile_with_every_kind_of_parameter():
    x = torch.rand(2, 3, 20, 24, generator=rng())
    tables = (LUMA, CHROMA)
    functions = [
        JPEG(tables=tables),
        JPEG((20, 30)),
        lambda x: jpeg(x, tables=tables),
        lambda x: jpeg(x, torch.tensor([20, 30])),
    ]
    for f in functions:
        compiled = torch.compile(f, backend="eager", fullgraph=True)
        assert torch.equal(compiled(x), f(x))
    compiled_jpeg = torch.compile(jpeg, backend="eager", fullgraph=True)
    for quality in (20, 21, 22):
        assert torch.equal(compiled_jpeg(x, quality), jpeg(x, quality))


@pytest.mark.parametrize("quality", [0, 500, 37.5])
def test_compile_rejects_wrong_quality(quality):
    x = torch.rand(2, 3, 20, 24, generator=rng())
    compiled = torch.compile(lambda x: jpeg(x, quality), backend="eager", fullgraph=True)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="quality="):  # torch wraps the ValueError
        compiled(x)


@pytest.mark.parametrize("step", [1, 10, 60, 240])
def test_smoothed_slope_is_of_expected_quantiser(step):
    """It is the derivative of E⌊c + noise⌉ for Cauchy noise of which half is within 2 levels."""
    distance = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    slope = smoothed(distance.clone(), torch.tensor(float(step), dtype=torch.float64))
    ties = torch.arange(-20_000, 20_000, dtype=torch.float64) + 0.5
    noise = torch.distributions.Cauchy(ties[:, None], 2 / step)
    expected = noise.log_prob(distance).exp().sum(0)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=0)


def test_smoothed_slope_is_finite_at_the_largest_step():
    distance = torch.tensor([-0.5, -0.4999999, 0.0, 0.5])
    slope = smoothed(distance, torch.tensor(65535.0))
    assert slope.isfinite().all()
    assert (slope > 0).all()


@pytest.mark.parametrize("step", [1, 10, 25, 60, 255])
def test_smoothed_slope_has_mean_one(step):
    distance = torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    slope = smoothed(distance, torch.tensor(float(step), dtype=torch.float64))
    torch.testing.assert_close(slope[1:].mean().item(), 1.0)


@pytest.mark.parametrize("surrogate, own", [("cubic", 0.8), ("residual", 0.95), ("smoothed", 1.0)])
def test_gradient_is_linear_in_alpha(surrogate, own):
    x, g = torch.rand(2, 1, 3, 24, 24, generator=rng(), dtype=torch.float64)
    by_alpha = {
        alpha: gradient(JPEG(30, surrogate=surrogate, alpha=alpha), x, g)
        for alpha in (0, 0.3, own, 1)
    }
    torch.testing.assert_close(by_alpha[0.3], 0.7 * by_alpha[0] + 0.3 * by_alpha[1])
    assert torch.equal(gradient(JPEG(30, surrogate=surrogate), x, g), by_alpha[own])
    chosen = gradient(lambda x: jpeg(x, 30, surrogate=surrogate, alpha=0.3), x, g)
    assert torch.equal(chosen, by_alpha[0.3])


@pytest.mark.parametrize("surrogate", ["cubic", "smoothed"])
def test_alpha_of_zero_is_straight_through(surrogate):
    x, g = torch.rand(2, 1, 3, 24, 24, generator=rng())
    expected = gradient(JPEG(30, surrogate="ste"), x, g)
    assert torch.equal(gradient(JPEG(30, surrogate=surrogate, alpha=0), x, g), expected)


def test_alpha_is_given_with_a_use_and_in_text():
    x, g = torch.rand(2, 1, 3, 24, 24, generator=rng())
    expected = gradient(JPEG(30, surrogate="residual", alpha=0.5), x, g)
    f = parse("jpeg:30,for_use=descent,alpha=0.5")
    assert parse(str(f)) == f
    assert torch.equal(gradient(f, x, g), expected)


@pytest.mark.parametrize("surrogate", ["identity", "ste"])
def test_alpha_of_a_surrogate_that_has_none_is_rejected(surrogate):
    with pytest.raises(ValueError, match=f"{surrogate} has no alpha; these have: residual"):
        JPEG(30, surrogate=surrogate, alpha=0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, (0.5, 0.6), "0.5"])
def test_wrong_alpha_is_rejected(alpha):
    with pytest.raises(ValueError, match="alpha"):
        JPEG(30, surrogate="cubic", alpha=alpha)
    with pytest.raises(ValueError, match="alpha"):
        jpeg(torch.rand(1, 3, 8, 8), 30, surrogate="cubic", alpha=alpha)


@pytest.mark.parametrize("for_use, surrogate", USES.items())
def test_for_use_chooses_the_surrogate(for_use, surrogate):
    x, g = torch.rand(2, 1, 3, 24, 24, generator=rng())
    expected = gradient(JPEG(30, surrogate=surrogate), x, g)
    assert torch.equal(gradient(JPEG(30, for_use=for_use), x, g), expected)
    assert torch.equal(gradient(lambda x: jpeg(x, 30, for_use=for_use), x, g), expected)


def test_for_use_and_surrogate_together_are_rejected():
    with pytest.raises(ValueError, match="give one"):
        JPEG(30, surrogate="cubic", for_use="descent")
    with pytest.raises(ValueError, match="for_use="):
        jpeg(torch.rand(1, 3, 8, 8), 30, for_use="training")


@pytest.mark.slow
def test_export_takes_any_number_of_images():
    class Layer(torch.nn.Module):
        def forward(self, x):
            return jpeg(x, 30)

    x = torch.rand(2, 3, 40, 56, generator=rng())
    batch = torch.export.Dim("batch", min=2, max=64)
    with torch.no_grad():
        program = torch.export.export(Layer(), (x,), dynamic_shapes={"x": {0: batch}}, strict=False)
    layer = program.module()
    for count in (2, 5):
        images = torch.rand(count, 3, 40, 56, generator=rng(count))
        assert torch.equal(layer(images), jpeg(images, 30))
