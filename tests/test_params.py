"""Declared parameters: what is stored, what is refused, what is described, what a range draws."""

import numpy
import pytest
import torch

import degrade
from degrade.params import Numbers, described, flag, integer, number, option
from degrade.registry import REGISTRY

from .conftest import rng


@pytest.fixture
def registered():
    """`register`, whose names are forgotten after the test."""
    before = dict(REGISTRY)
    yield degrade.register
    REGISTRY.clear()
    REGISTRY.update(before)


def test_register_refuses_an_undeclared_field(registered):
    with pytest.raises(TypeError, match=r"Fade.amount .* amount: Numbers = degrade.params.number"):

        @registered("undeclared-fade")
        class Fade(degrade.Operator):
            amount: float = 0.5

    assert "undeclared-fade" not in REGISTRY


def test_register_checks_declared_fields(registered):
    @registered("declared-fade")
    class Fade(degrade.Operator):
        amount: Numbers = number(default=0.5, above=0, high=1)
        mode: str = option("soft", "hard", default="soft")
        inverse: bool = flag(default=False)
        steps: int | None = integer(default=None, low=1, per_image=False)

        def forward(self, x, rng):
            return x

    assert Fade() == Fade(0.5, "soft", False, None) and str(Fade(1.0)) == "declared-fade:amount=1"
    assert Fade(numpy.float32(0.5)).amount == 0.5 and Fade([0.5, 1]).amount == (0.5, 1)
    assert Fade(torch.tensor([0.25, 1])).amount == (0.25, 1)
    assert degrade.parse("declared-fade:inverse=yes").inverse is True
    assert degrade.parse(str(Fade(inverse=True))) == Fade(inverse=True)
    for arguments, message in [
        ({"amount": "oops"}, "amount='oops' must be a number above 0 to 1"),
        ({"amount": 0}, "amount=0 must be a number above 0 to 1"),
        ({"amount": True}, "amount=True must be a number"),
        ({"amount": None}, "amount=None must be a number"),
        ({"mode": "odd"}, "mode='odd' must be one of soft, hard"),
        ({"inverse": "maybe"}, "inverse='maybe' must be yes or no"),
        ({"steps": 1.5}, "steps=1.5 must be an integer from 1"),
        ({"steps": (1, 2)}, "must be one number for all images"),
    ]:
        with pytest.raises(ValueError, match=message):
            Fade(**arguments)


def test_described_says_what_is_allowed():
    words = {parameter.name: parameter.description for parameter in described(degrade.Sinc)}
    assert words["cutoff"] == "a number from 0.001 to 3.14159, or one per image"
    assert words["size"] == "an odd integer from 1 to 101"
    kernel, size, *_ = described(degrade.Blur)
    assert kernel.required and "motion" in kernel.description
    assert not size.required and size.default is None and "None" in size.description


@pytest.mark.parametrize("name", REGISTRY)
def test_described_covers_every_parameter(name):
    for parameter in described(REGISTRY[name]):
        assert parameter.description and "\n" not in parameter.description
        if not parameter.required:
            stored = parameter.kind.stored(parameter.name, parameter.default)
            assert stored == parameter.default


def test_sinc_range_draws_odd_sizes_only():
    f = degrade.parse("sinc:1..3.1,size=7..21")
    x = torch.rand(1, 1, 24, 24, generator=rng())
    drawn = [f.sample(x.shape, rng(i)) for i in range(60)]
    assert {stage.size for stage in drawn} == set(range(7, 22, 2))
    assert torch.isfinite(f(x, rng())).all()
    with pytest.raises(ValueError, match="size=6..21 must be an odd integer"):
        degrade.parse("sinc:1,size=6..21")


def weight(*size):
    return torch.full(size, 0.5, requires_grad=True)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: degrade.JPEG(tables=torch.ones(64, requires_grad=True)), "tables"),
        (lambda: degrade.DeadPixels(weight()), "prob"),
        (lambda: degrade.SaltPepper([0.1, weight()]), "prob"),
        (lambda: degrade.Codec("webp", weight()), "quality"),
        (lambda: degrade.Place((8, 0, 0, 0, 8, 0), 8, weight(1, 3, 8, 8)), "onto"),
    ],
)
def test_parameter_without_a_gradient_refuses_one(build, name):
    with pytest.raises(ValueError, match=rf"{name} requires grad, .*{name}.detach\(\)"):
        build()


def test_jpeg_function_keeps_the_gradient_of_quality():
    quality = torch.tensor([50.0], requires_grad=True)
    degrade.jpeg(torch.rand(1, 3, 16, 16, generator=rng()), quality=quality).sum().backward()
    assert quality.grad is not None and quality.grad.abs().sum() > 0


@pytest.mark.parametrize("size", ["1..3", degrade.Range(1, 3)])
def test_place_refuses_a_range_of_sizes(size):
    with pytest.raises(ValueError, match=r"size="):
        degrade.Place((8, 0, 0, 0, 8, 0), size)


def object_array(*items):
    array = numpy.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        array[i] = item
    return array


@pytest.mark.parametrize(
    "given",
    [
        lambda learned: learned,
        lambda learned: [learned],
        lambda learned: object_array(learned),
        lambda learned: (value for value in [learned]),
        torch.nn.Parameter,
        lambda learned: degrade.Gaussian(learned).sigma,
    ],
)
def test_gradient_is_found_wherever_it_hides(given):
    """It must not be dropped in silence, neither where it is kept nor where it is refused."""
    learned = torch.tensor(0.1, requires_grad=True)
    assert degrade.Gaussian(given(learned))(torch.zeros(1, 1, 4, 4), 0).requires_grad
    with pytest.raises(ValueError, match=r"^prob requires grad, .* give prob.detach\(\)"):
        degrade.DeadPixels(given(learned))


def test_range_and_tables_refuse_a_gradient():
    learned = torch.tensor(0.1, requires_grad=True)
    with pytest.raises(ValueError, match="^sigma requires grad"):
        degrade.Gaussian(degrade.Range(learned, 0.2))
    with pytest.raises(ValueError, match="^tables requires grad"):
        degrade.JPEG(tables=object_array(*[learned] * 64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: degrade.Gaussian(torch.tensor(0.1, device="meta")), "sigma is .* meta device"),
        (lambda: degrade.Gaussian(torch.tensor([0.1]).to_sparse()), "sigma is no dense tensor"),
        (lambda: degrade.Gaussian(torch.tensor(1j)), "sigma=.* must be a number"),
        (lambda: degrade.Gaussian({0.1}), r"sigma=\{0.1\} must be a number"),
        (lambda: degrade.Gaussian({0.1: 1}), "sigma=.* must be a number"),
        (lambda: degrade.Mask(torch.ones(1, 1, 4, 4, device="meta")), "mask is .* meta device"),
        (lambda: degrade.Mask(torch.ones(1, 1, 4, 4).to_sparse()), "mask is no dense tensor"),
        (lambda: degrade.Mask(torch.ones(1, 1, 4, 4).cfloat()), "mask is torch.complex64; give"),
        (
            lambda: degrade.Mask(torch.ones(1, 1, 4, 4).to(torch.float8_e5m2)),
            "mask is torch.float8",
        ),
        (lambda: degrade.Resize(torch.tensor(8, device="meta")), "size is .* meta device"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_iterators_are_read_once():
    assert degrade.Gaussian(value for value in (0.1, 0.2)).sigma == (0.1, 0.2)
    assert degrade.Resize(iter([4, 6])).size == (4, 6)
