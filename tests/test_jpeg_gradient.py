"""JPEG's declared gradients, against the stages through autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from degrade import JPEG, jpeg
from degrade.jpeg import CLAMPS, SURROGATES
from degrade.jpeg_header import SAMPLINGS, STANDARD

from .conftest import picture, rng
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
    "surrogate, clamp", [("cubic", "sigmoid"), ("ste", "hard"), ("residual", "ste")]
)
def test_gradient_equals_autograd_of_stages(surrogate, clamp, sampling, size):
    channels, sampling = (1, "4:2:0") if sampling == "gray" else (3, sampling)
    x = torch.rand(2, channels, *size, generator=rng(), dtype=torch.float64) * 1.2 - 0.1
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    got = gradient(lambda x: jpeg(x, 35, sampling, surrogate=surrogate, clamp=clamp), x, g)
    want = expected_gradient(x.clamp(0, 1), g, table_of(35), sampling, surrogate, clamp)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("surrogate", ["cubic", "residual"])
def test_clamp_gradient_has_closed_form(surrogate, clamp):
    x = content("saturated", 24, 24, 3, 1).double()
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    got = gradient(lambda x: jpeg(x, 5, surrogate=surrogate, clamp=clamp), x, g)
    torch.testing.assert_close(
        got, expected_gradient(x, g, table_of(5), "4:2:0", surrogate, clamp), rtol=0, atol=1e-9
    )


@settings(max_examples=25)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(list(SAMPLINGS)), st.integers(1, 100)
)
def test_ste_gradient_is_adjoint_of_linear_stages(height, width, sampling, quality):
    x, u, v = torch.rand(3, 1, 3, height, width, generator=rng(), dtype=torch.float64)
    stages = Stages(table_of(quality), sampling, SLOPES["ste"])
    stages.values(x)
    pulled = gradient(lambda x: jpeg(x, quality, sampling, surrogate="ste", clamp="ste"), x, v)
    torch.testing.assert_close(
        (stages.linear(u) * v).sum(), (u * pulled).sum(), rtol=1e-9, atol=1e-9
    )


def test_identity_gradient_is_unchanged():
    x, g = torch.rand(2, 1, 3, 10, 11, generator=rng())
    assert torch.equal(gradient(lambda x: jpeg(x, 3, surrogate="identity"), x, g), g)


def test_float32_gradient_is_close_to_float64():
    x, g = torch.rand(2, 2, 3, 40, 33, generator=rng())
    for surrogate in SURROGATES:
        f = JPEG(60, surrogate=surrogate)
        torch.testing.assert_close(
            gradient(f, x, g).double(), gradient(f, x.double(), g.double()), rtol=1e-4, atol=1e-5
        )


def test_batch_gradient_equals_separate_calls():
    x, g = torch.rand(2, 3, 3, 21, 18, generator=rng(), dtype=torch.float64)
    together = gradient(lambda x: jpeg(x, torch.tensor([5, 50, 95])), x, g)
    for i, quality in enumerate((5, 50, 95)):
        alone = gradient(lambda x, quality=quality: jpeg(x, quality), x[i : i + 1], g[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


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
    got = torch.autograd.grad(y, tables, g)[0]

    class Trained(Stages):
        """C = K(F/8q)·q as a function of q alone."""

        def _quantise(self, t, i):
            if self.exact:
                return super()._quantise(t, i)
            q = self.steps[:, i].view(-1, 1, 8, 1, 8)
            t, k = self.todo.pop(0)
            return k + self.slopes[i](t - k) * (t * q.detach() / q - t)

    stages = Trained(tables[None], sampling, SLOPES[surrogate])
    with torch.no_grad():
        g = g * clamp_slope(stages.values(x), clamp)
    want = torch.autograd.grad(stages.linear(torch.zeros_like(x)), tables, g / 255)[0]
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


def test_tables_and_quality_gradient_per_image():
    x, g = torch.rand(2, 3, 3, 19, 26, generator=rng(), dtype=torch.float64)
    tables = torch.stack([table_of(q)[0, :2] for q in (20, 60, 90)]).double().requires_grad_()
    quality = torch.tensor([20.0, 60, 90], dtype=torch.float64, requires_grad=True)
    for name, value in (("tables", tables), ("quality", quality)):
        together = torch.autograd.grad(jpeg(x, **{name: value}, surrogate="ste"), value, g)[0]
        for i in range(3):
            y = jpeg(x[i : i + 1], **{name: value[i : i + 1]}, surrogate="ste")
            assert torch.equal(y, jpeg(x[i : i + 1], (20, 60, 90)[i]))
            alone = torch.autograd.grad(y, value, g[i : i + 1])[0]
            torch.testing.assert_close(together[i], alone[i])


@pytest.mark.parametrize(
    "at, slope", [(20, -5000 / 20**2), (70, -2)]
)  # S = 5000/q below 50, else 200 - 2q
def test_quality_gradient_goes_through_tables(at, slope):
    x = content("picture", 40, 40, 3, 3).double()
    quality = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    tables = table_of(at)[0, :2].double().requires_grad_()
    y, z = jpeg(x, quality, surrogate="ste"), jpeg(x, tables=tables, surrogate="ste")
    assert torch.equal(y, z)
    to_quality, to_tables = (
        torch.autograd.grad((v - x).square().sum(), p)[0] for v, p in ((y, quality), (z, tables))
    )
    slope = STANDARD / 100 * slope * (tables < 255)
    torch.testing.assert_close(to_quality, (to_tables * slope).sum()[None])
    assert to_quality.item() < 0  # a better quality makes a smaller error


def test_quality_gradient_is_zero_at_clamped_table():
    x = torch.rand(1, 3, 16, 16, generator=rng(), dtype=torch.float64)
    for at, clamped in (
        (100.0, True),
        (99.0, False),
        (2.0, False),
        (1.0, True),
    ):  # every entry is 1 at 100, 255 at 1
        quality = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad((jpeg(x, quality) - x).square().sum(), quality)
        assert (slope == 0) == clamped


def test_float_quality_and_tables_are_rounded():
    x = torch.rand(2, 3, 16, 16, generator=rng())
    quality, tables = torch.tensor([30.4, 69.6]), table_of(30)[:, :2].float() + 0.3
    for q in (quality, quality.clone().requires_grad_(), quality.double(), quality[:, None]):
        assert torch.equal(jpeg(x, q), jpeg(x, (30, 70)))
    for t in (
        tables,
        tables.clone().requires_grad_(),
        table_of(30)[0, :2],
        table_of(30)[0, :2].flatten(1),
        tables[0],
    ):
        assert torch.equal(jpeg(x, tables=t), jpeg(x, 30))
    integers = torch.cat([table_of(30), table_of(60)])[:, :2]  # [B, n, 8, 8]
    assert torch.equal(jpeg(x, tables=integers), jpeg(x, (30, 60)))


def test_second_derivative_is_rejected():
    x = torch.rand(1, 3, 8, 8, generator=rng(), requires_grad=True)
    with pytest.raises(RuntimeError, match="create_graph"):
        torch.autograd.grad(jpeg(x, 50).square().sum(), x, create_graph=True)


def test_descent_finds_image_with_same_jpeg():
    x = picture(3)[:, :, 30:78, 30:78]
    y, z = jpeg(x, 9), torch.full_like(x, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (jpeg(z, 9) - y).square().sum().backward()
        optimizer.step()
    assert (codec((z.detach().clamp(0, 1) * 255).round() / 255, quality=9) - y).mul(
        255
    ).square().mean() < 1


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_compile_without_graph_break(surrogate):
    x = torch.rand(2, 3, 20, 24, generator=rng()).requires_grad_()
    f = lambda x: jpeg(x, 30, surrogate=surrogate)  # noqa: E731
    y = torch.compile(f, backend="aot_eager", fullgraph=True)(x)  # one graph for both passes
    assert torch.equal(y, jpeg(x, 30))
    upstream = torch.rand(x.shape, generator=rng(1))
    (slope,) = torch.autograd.grad(y, x, upstream)
    torch.testing.assert_close(slope, gradient(f, x.detach(), upstream))


def test_compile_with_every_kind_of_parameter():
    x = torch.rand(2, 3, 20, 24, generator=rng())
    own = JPEG(tables=(LUMA, CHROMA))
    for f in (
        own,
        JPEG((20, 30)),
        lambda x: jpeg(x, tables=own.tables),
        lambda x: jpeg(x, torch.tensor([20, 30])),
    ):
        assert torch.equal(torch.compile(f, backend="eager", fullgraph=True)(x), f(x))
    vary = torch.compile(jpeg, backend="eager", fullgraph=True)
    for quality in (20, 21, 22):
        assert torch.equal(vary(x, quality), jpeg(x, quality))
    for quality in (0, 500, 37.5):
        torch._dynamo.reset()
        with pytest.raises(Exception, match="quality="):  # torch wraps the ValueError
            torch.compile(lambda x, q=quality: jpeg(x, q), backend="eager", fullgraph=True)(x)
