"""`degrade.check` passes what keeps the laws, and names the law that is broken."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import degrade
from degrade.params import Numbers, number, per_image
from degrade.surrogate import declare
from tests.conftest import cases

from .properties.examples import SIZED, STRATEGIES

SHAPE = (2, 3, 24, 20)


@pytest.mark.parametrize("name", [*STRATEGIES, *SIZED])
@cases(2)
@given(data=st.data())
def test_check_passes_all_operators(name, data):
    degrade.check(SIZED[name](*SHAPE) if name in SIZED else data.draw(STRATEGIES[name]), SHAPE)


def test_check_passes_an_operator_of_a_user():
    degrade.check(Broken(0.7))


@pytest.mark.parametrize(
    "spec",
    [
        "turn:2,0 >> blur:gaussian,0.5",
        "turn:1,0 >> sinc:1.2,3",
        "blur:gaussian,1 >> turn:1,1",
        "turn:2,0 >> jpeg:30",
        "jpeg:30",
        "downsample:2 >> jpeg:40",
        "shift:3,-2 >> jpeg:40",
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 48, 40), (2, 3, 64, 64)])
def test_check_compares_parts_away_from_cuts(spec, shape):
    degrade.check(degrade.parse(spec), shape)


def test_check_skips_text_of_nested_tensors():
    degrade.check(degrade.Maybe(0.5, degrade.Mask(torch.ones(1, 1, 48, 40))))


@pytest.mark.parametrize("task", ["denoising/XL", "UNAP", "cri/colorization", "ddrm/uncrop"])
def test_check_passes_chains(task):
    degrade.check(degrade.tasks[task], (2, 3, 64, 64))


@degrade.register("broken")
class Broken(degrade.Operator):
    """Each subclass breaks one law, and says by which words that is told; this one none."""

    amount: Numbers = number(default=0.5)

    def forward(self, x, rng):
        return x * self.amount


class AnotherText(Broken):
    told = "reads back from its text as another"

    def __str__(self):
        return f"{self.name}:{self.amount / 2}"


class NoText(Broken):
    told = "cannot be read back from its text"

    def __str__(self):
        return f"{self.name} of {self.amount}"


class SilentCrop(Broken):
    told = "output_shape says"

    def forward(self, x, rng):
        return x[:, :, 1:].clone()


class Infinite(Broken):
    told = "gives NaN or infinity"

    def forward(self, x, rng):
        return x / 0


class InPlace(Broken):
    told = "changes its input"

    def forward(self, x, rng):
        return x.mul_(self.amount).clone()


class View(Broken):
    told = "a view of its input"

    def forward(self, x, rng):
        return x


class GlobalNoise(Broken):
    told = "draw from `rng` alone"

    def forward(self, x, rng):
        return x + torch.rand_like(x)


class UnusedGlobalDraw(Broken):
    told = "draws from torch's own generator"

    def forward(self, x, rng):
        return x * self.amount + 0 * torch.rand(())


class Mates(Broken):
    told = "beside other images than alone"

    def forward(self, x, rng):
        return x - x.mean()


class Redrawn(Broken):
    told = "can be sampled twice"

    def draw(self, shape, rng):
        drawn = rng.uniform(torch.empty(shape[0], 1)).flatten().tolist()
        return replace(self, amount=drawn[0] if len(drawn) == 1 else tuple(drawn))

    def forward(self, x, rng):
        return x * per_image(self.amount, x, "amount")


class SecretlyNoisy(Broken):
    told = "draws at every call; set noisy = True"

    def forward(self, x, rng):
        return x + self.amount * rng.normal(x)


class Drifting(Broken):
    told = "sampled gives other values"

    def draw(self, shape, rng):
        return replace(self, amount=self.amount / 2)


class OtherSize(Broken):
    told = r"its approx\(\)"

    def approx(self):
        return degrade.Downsample(2)


class Endless(Broken):
    told = r"another approx\(\)"

    def approx(self):
        return replace(self, amount=self.amount / 2)


class FlatVisible(Broken):
    told = "has visible"

    def visible(self, shape, seen=None):
        return torch.ones(shape[2:])


class BrightVisible(Broken):
    told = "outside"

    def visible(self, shape, seen=None):
        return 2 * torch.ones(1, 1, *shape[2:])


class Affine(Broken):
    told = "says that it is linear, and is not"
    linear = True

    def forward(self, x, rng):
        return x + self.amount


class StraightThrough(Broken):
    told = "no adjoint in its gradient"
    linear = True

    def forward(self, x, rng):
        return declare(x, x * self.amount)


class NoGradient(Broken):
    told = "has no gradient"

    def forward(self, x, rng):
        return (x.detach() * 255).round()


class SteepGradient(Broken):
    told = "a gradient with NaN or infinity"

    def forward(self, x, rng):
        return (x - x.detach()).abs().sqrt()


class Nearsighted(Broken):
    told = "another thing to a part"
    local = True

    def forward(self, x, rng):
        return x.flip(3)


class Shrinking(Broken):
    told = "has a part of"
    local = True

    def cut(self, shape, window):
        return degrade.Downsample(2), window


class Away(Broken):
    told = "projects away from y"

    def agree(self, x, y):
        return torch.zeros_like(x)


@pytest.mark.parametrize("cls", Broken.__subclasses__(), ids=lambda cls: cls.__name__)
def test_check_names_the_broken_law(cls):
    f = degrade.register(f"broken-{cls.__name__}")(cls)()
    with pytest.raises(AssertionError, match=cls.told):
        degrade.check(f)


def test_check_finds_a_gradient_that_is_missing():
    class Blank(Broken):
        def forward(self, x, rng):
            return torch.full_like(x, self.amount).requires_grad_()

    with pytest.raises(AssertionError, match="does not reach its input"):
        degrade.check(degrade.register("broken-Blank")(Blank)())


def test_check_rejects_a_shape_of_one_image():
    with pytest.raises(ValueError, match="two images"):
        degrade.check(degrade.Gaussian(0.1), (1, 3, 8, 8))
