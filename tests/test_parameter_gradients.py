"""Gradients of parameters: declared, carried through chains, equal to closed forms."""

import copy
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

import degrade
from degrade.kinds import NumberKind
from degrade.registry import REGISTRY

from .conftest import rng

SIDES = (2, 3, 12, 10)


def learned(*values, dtype=torch.float64):
    """A tensor that requires grad: of one number, or of one number per image."""
    numbers = values[0] if len(values) == 1 else values
    return torch.tensor(numbers, dtype=dtype, requires_grad=True)


def image(dtype=torch.float64):
    return 0.05 + 0.9 * torch.rand(*SIDES, generator=rng(), dtype=dtype)


# Text of an operator, and the parameter whose derivative is compared with that of the values
SMOOTH = [
    ("gaussian:0.1", "sigma"),
    ("poisson:24,model=gaussian", "peak"),
    ("poissongaussian:24,0.05", "sigma"),
    ("scaledpoisson:1", "scale"),
    ("correlated:0.1,mix=1|0.2|0|1|0|1", "level"),
    ("speckle:0.2", "sigma"),
    ("uniform:0.1", "width"),
    ("blur:gaussian,1.3", "size"),
    ("blur:gaussian,1.3,across=0.7,angle=20,beta=0.6", "size"),
    ("blur:gaussian,1.3,across=0.7,angle=20,beta=0.6", "across"),
    ("blur:gaussian,1.3,across=0.7,angle=20,beta=0.6", "angle"),
    ("blur:gaussian,1.3,across=0.7,angle=20,beta=0.6", "beta"),
    ("blur:plateau,2,beta=1.5,side=9", "beta"),
    ("blur:motion,4.3,angle=33", "size"),
    ("blur:motion,4.3,angle=33", "angle"),
    ("blur:defocus,2.4", "size"),
    ("blur:trail,2,side=9,angle=50", "size"),
    ("blur:disc,3,across=0.6", "across"),
    ("sinc:1.2,size=9", "cutoff"),
    ("gamma:0.7", "gamma"),
    ("brightness:0.8", "factor"),
    ("contrast:0.8", "factor"),
    ("saturation:0.7", "factor"),
    ("hue:0.1", "turn"),
    ("hsv:0.7,saturation=0.05,value=-0.02", "scale"),
    ("hsv:0.7,saturation=0.05,value=-0.02", "saturation"),
    ("hsv:0.7,saturation=0.05,value=-0.02", "value"),
    ("offset:0.1,0.2,0.05", "green"),
    ("offset:0.1,every=0.2", "every"),
    ("blur:line,0.7,angle=25,edge=black", "size"),
    ("blur:line,0.7,angle=25,edge=black", "angle"),
    ("diffjpeg:40,rounding=cube", "quality"),
    ("usm:0.6", "weight"),
    ("affine:13,dy=0.4,dx=-1.3,scale=1.2,shear=5", "angle"),
    ("affine:13,dy=0.4,dx=-1.3,scale=1.2,shear=5", "dy"),
    ("affine:13,dy=0.4,dx=-1.3,scale=1.2,shear=5", "dx"),
    ("affine:13,dy=0.4,dx=-1.3,scale=1.2,shear=5,edge=nearest", "scale"),
    ("affine:13,dy=0.4,dx=-1.3,scale=1.2,shear=5", "shear"),
    ("affine:0,dy=0.2,dx=0.3,filter=bicubic", "angle"),
    ("affine:0,dy=0.2,dx=0.3,filter=bicubic", "dx"),
    ("elastic:6,2,seed=3", "strength"),
    ("fog:0.7,seed=3", "amount"),
    ("haze:0.3,airlight=0.8", "beta"),
    ("haze:0.3,airlight=0.8", "airlight"),
    ("shake:9,exposure=0.61307,seed=3", "exposure"),
    ("vignette:0.6", "strength"),
    ("aberration:1.043,0.97", "red"),
    ("aberration:1.04,0.963", "blue"),
    ("snow:0.3,keep=0.6,threshold=0.2,seed=3", "keep"),
    ("subsample:2,1.1,side=9", "size"),
    ("usm:0.6,threshold=0.02,size=1.7,side=9", "size"),
]


@pytest.mark.parametrize(("text", "name"), SMOOTH)
def test_gradient_is_the_derivative_of_the_values(text, name):
    """Central differences of the values at plain numbers."""
    f = degrade.parse(text)
    x = image()
    value = getattr(f, name)
    tensor = learned(value)
    y = f.with_values({name: tensor})(x, 3)
    assert torch.equal(y, f(x, 3))
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), tensor)
    step = 1e-5
    above, below = (f.with_values({name: value + change})(x, 3) for change in (step, -step))
    expected = ((above - below) * weight).sum() / (2 * step)
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-6)


# Numbers that carry no gradient, and why. Any other real number is declared learnable.
WHOLE = "decides whole pixels, or how many terms there are"
CHANCE = "decides which values are replaced"
DRAWN = "decides what is drawn, and is not kept"
THRESHOLD = "of a field that a threshold cuts"
SLOPE = "it chooses the gradient of the image, and changes no value"
WITHOUT_GRADIENT = {
    "box": dict.fromkeys(["height", "width", "top", "left"], WHOLE),
    "compressedsensing": {"ratio": WHOLE},
    "deadpixels": {"prob": CHANCE},
    "elastic": dict.fromkeys(["size", "jitter"], DRAWN),
    "fog": {"decay": DRAWN},
    "fouriermagnitude": {"oversampling": WHOLE},
    "gaussian": {"gray": CHANCE},
    "hotpixels": {"prob": CHANCE},
    "jpeg": {"alpha": SLOPE},
    "maybe": {"prob": CHANCE},
    "motionpath": {"intensity": DRAWN},
    "perspective": {"jitter": DRAWN},
    "pixels": {"prob": CHANCE},
    "resize": {"scale": WHOLE},
    "saltpepper": dict.fromkeys(["prob", "salt"], CHANCE),
    "scaledpoisson": {"gray": CHANCE},
    "shake": dict.fromkeys(["length", "anxiety"], DRAWN),
    "snow": dict.fromkeys(["mean", "deviation", "zoom", "threshold", "size"], THRESHOLD),
    "spatter": dict.fromkeys(["mean", "deviation", "size", "threshold", "amount"], THRESHOLD),
    "speckle": {"gray": CHANCE},
    "strokes": {"width": WHOLE},
    "uncrop": {"keep": WHOLE},
    "usm": {"threshold": THRESHOLD},
    "zoomblur": dict.fromkeys(["largest", "step"], WHOLE),
}


def test_every_real_number_is_learnable_or_listed():
    for name, cls in REGISTRY.items():
        if not cls.__module__.startswith("degrade."):
            continue  # an operator of another test
        real = {
            parameter
            for parameter, kind in cls.kinds.items()
            if isinstance(kind, NumberKind) and not kind.integer and not kind.learnable
        }
        assert real == set(WITHOUT_GRADIENT.get(name, {})), name


def test_docs_list_the_numbers_without_a_gradient():
    page = (Path(__file__).parent.parent / "docs" / "fitting.md").read_text(encoding="utf-8")
    (paragraph,) = [p for p in page.split("\n\n") if p.startswith("No gradient have")]
    for name, parameters in WITHOUT_GRADIENT.items():
        listed = ", ".join(f"`{parameter}`" for parameter in parameters)
        assert f"{listed} of `{name}`" in paragraph, name


def test_frost_has_gradients_of_both_numbers():
    photograph = torch.rand(1, 3, 30, 30, generator=rng(5))
    x = image()

    def frozen(keep, weight):
        return degrade.Frost(photograph, keep, weight, seed=1)(x)

    assert torch.autograd.gradcheck(frozen, (learned(0.7), learned(0.6)))


def test_scaled_poisson_peak_has_its_declared_gradient():
    x, peak = image(), learned(24.0, 60.0)
    y = degrade.ScaledPoisson(1.5, peak=peak)(x, 3)
    assert torch.equal(y, degrade.ScaledPoisson(1.5, peak=(24, 60))(x, 3))
    (gradient,) = torch.autograd.grad(y.sum(), peak)
    expected = -(y - x).sum((1, 2, 3)) / (2 * peak)
    assert torch.allclose(gradient, expected.detach())


@pytest.mark.parametrize("model", ["poisson:{}", "poissongaussian:{},0"])
def test_poisson_peak_has_its_declared_gradient(model):
    x, peak = image(), learned(24.0)
    f = degrade.parse(model.format(24)).with_values({"peak": peak})
    y = f(x, 3)
    (gradient,) = torch.autograd.grad(y.sum(), peak)
    assert torch.allclose(gradient, (-(y - x) / (2 * peak)).sum().detach())


def test_jpeg_quality_gradient_equals_the_function():
    x, quality = image(torch.float32), learned(40.3, 71.0)
    y = degrade.JPEG(quality)(x)
    assert torch.equal(y, degrade.JPEG((40, 71))(x))
    (gradient,) = torch.autograd.grad(y.square().sum(), quality)
    y = degrade.jpeg(x, quality)
    (expected,) = torch.autograd.grad(y.square().sum(), quality)
    assert torch.equal(gradient, expected) and (gradient != 0).all()


def test_diffjpeg_quality_gradient_without_rounding():
    """With d = rounded - unrounded coefficient, the gradient moves the image along d."""
    x, quality = image(), learned(30.0)
    y = degrade.DiffJPEG(quality)(x)
    assert torch.equal(y, degrade.DiffJPEG(30)(x))
    (gradient,) = torch.autograd.grad(((y - x) ** 2).sum() / 2, quality)
    assert gradient < 0  # a higher quality brings y closer to x


def test_blur_kernel_gradient_correlates():
    kernel = torch.rand(1, 3, generator=rng(2), dtype=torch.float64, requires_grad=True)
    x = image()[:1, :1, :5, :4]
    assert torch.autograd.gradcheck(lambda k: degrade.Blur(k)(x), kernel)


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_perspective_corners_gradient(filter):
    corners = learned(0.11, 0.03, -0.07, 0.02, 0.01, -0.06, 0.04, 0.08)
    x = image()[:1, :1]

    def seen_aslant(corners):
        return degrade.Perspective(corners=corners, filter=filter)(x)

    assert torch.autograd.gradcheck(seen_aslant, corners)


@pytest.mark.parametrize("onto", [None, torch.full((1, 1, 14, 15), 0.3)])
def test_place_matrix_gradient_is_the_derivative(onto):
    """Central differences of the values, whose coverage is rounded to float32."""
    numbers = (9.3, 1.2, 2.1, -0.8, 10.4, 1.7)
    x = image()[:1, :1]
    matrix = learned(*numbers)
    y = degrade.Place(matrix, (14, 15), onto)(x)
    assert torch.equal(y, degrade.Place(numbers, (14, 15), onto)(x))
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), matrix)
    step = 1e-4
    for i in range(6):
        values = []
        for change in (step, -step):
            moved = [n + change * (i == k) for k, n in enumerate(numbers)]
            values.append((degrade.Place(moved, (14, 15), onto)(x) * weight).sum())
        expected = (values[0] - values[1]) / (2 * step)
        assert torch.allclose(gradient[i], expected, rtol=2e-3, atol=2e-3)


def test_place_outside_has_a_gradient_of_zero():
    matrix = learned(4.0, 0.0, 100.0, 0.0, 4.0, 0.0)
    y = degrade.Place(matrix, 8)(image())
    (gradient,) = torch.autograd.grad(y.sum(), matrix)
    assert not y.any() and not gradient.any()


def test_shift_gradient_is_the_central_difference():
    x = image()
    dy, dx = learned(2.0, -1.0), learned(-3.0)
    y = degrade.Shift(dy, dx)(x)
    assert torch.equal(y, degrade.Shift((2, -1), -3)(x))
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    of_dy, of_dx = torch.autograd.grad((y * weight).sum(), [dy, dx])

    def difference(first, second):
        change = degrade.Shift(*first)(x) - degrade.Shift(*second)(x)
        return (weight * change / 2).sum((1, 2, 3))

    assert torch.allclose(of_dy, difference(((3, 0), -3), ((1, -2), -3)))
    assert torch.allclose(of_dx, difference(((2, -1), -2), ((2, -1), -4)).sum())


def test_geometry_gradient_goes_through_chain_and_row():
    angle, dx, strength = learned(3.3, -4.1), learned(1.2), learned(5.0)
    f = degrade.Affine(angle) >> degrade.Shift(1, dx) >> degrade.Elastic(strength, 2)
    f = f >> degrade.Gaussian(0.01)
    x, seeds = image(), [5, 6]
    total = f(x, seeds).square().sum()
    gradients = torch.autograd.grad(total, [angle, dx, strength])
    of_drawn = f.sample(x.shape, seeds)(x, seeds).square().sum()
    rows = [f.row(i, 2)(x[i : i + 1], seeds[i]) for i in range(2)]
    of_rows = torch.cat(rows).square().sum()
    for other in (of_drawn, of_rows):
        for gradient, again in zip(
            gradients, torch.autograd.grad(other, [angle, dx, strength]), strict=True
        ):
            assert gradient.any() and torch.allclose(gradient, again)
    plain = degrade.parse(str(f))
    assert plain == f and not plain(x, seeds).requires_grad


def test_mask_gradient_is_the_image():
    x = image(torch.float32)
    mask = torch.full((1, 1, *SIDES[2:]), 0.5, requires_grad=True)
    f = degrade.Mask(mask)
    for _ in range(2):  # the graph inside of the operator is not used up
        (gradient,) = torch.autograd.grad(f(x).sum(), mask)
        assert torch.allclose(gradient, x.sum((0, 1), keepdim=True))
    assert f == degrade.Mask(mask.detach())


def test_gradient_goes_through_sample_chain_and_row():
    sigma, gamma, peak = learned(0.05, 0.1), learned(0.8), learned(40.0, 50.0)
    f = degrade.Gamma(gamma) >> degrade.Maybe(0.9, degrade.Gaussian(sigma)) >> degrade.Poisson(peak)
    x, seeds = image(), [5, 6]
    y = f(x, seeds)
    gradients = torch.autograd.grad(y.sum(), [gamma, peak, sigma], allow_unused=True)
    drawn = f.sample(x.shape, seeds)
    of_drawn = torch.autograd.grad(drawn(x, seeds).sum(), [gamma, peak, sigma], allow_unused=True)
    rows = [f.row(i, 2)(x[i : i + 1], seeds[i]) for i in range(2)]
    of_rows = torch.autograd.grad(torch.cat(rows).sum(), [gamma, peak, sigma], allow_unused=True)
    for gradient, second, third in zip(gradients, of_drawn, of_rows, strict=True):
        assert torch.allclose(gradient, second) and torch.allclose(gradient, third)


def test_tracked_parameter_prints_as_its_value():
    f = degrade.JPEG(learned(30.4)) >> degrade.Gaussian(learned(0.25))
    plain = degrade.JPEG(30) >> degrade.Gaussian(0.25)
    assert str(f) == "jpeg:30 >> gaussian:0.25" and degrade.parse(str(f)) == f == plain
    assert hash(f) == hash(plain) and degrade.to_json(f) == degrade.to_json(plain)
    for copied in (copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert copied == plain
        assert not copied(image()).requires_grad


def test_tracked_default_keeps_its_gradient():
    beta = learned(1.0)
    f = degrade.Blur("gaussian", 1.5, beta=beta)
    assert torch.autograd.grad(f(image()).square().sum(), beta)[0] != 0


def test_tracked_value_is_checked_like_a_number():
    with pytest.raises(ValueError, match="sigma=.* must be a number from 0 to 1"):
        degrade.Gaussian(learned(1.5))
    with pytest.raises(ValueError, match="quality=.* must be an integer from 1 to 100"):
        degrade.JPEG(learned(100.6))


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [("gamma:2", "gamma", 0.01), ("sinc:1", "cutoff", math.pi), ("poisson:9", "peak", 1e-6)],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_bound_rounded_to_the_tensors_type_is_allowed(text, name, bound, dtype):
    """As clamp_ leaves it after a step of an optimiser."""
    f = degrade.parse(text)
    for value in (learned(bound, dtype=dtype), learned(bound, dtype=dtype).detach()):
        at_bound = f.with_values({name: value})
        assert at_bound == f.with_values({name: bound}) == degrade.parse(str(at_bound))
        assert at_bound(image(), 0).requires_grad == value.requires_grad
    with pytest.raises(ValueError, match=f"{name}=.* must be a number"):
        f.with_values({name: learned(bound * (0.9 if bound < 1 else 1.1), dtype=torch.float32)})


def test_gradient_reaches_a_parameter_in_torch_func():
    x = image()

    def total(sigma):
        return degrade.Gaussian(sigma)(x, 3).square().sum()

    sigma = learned(0.1)
    (expected,) = torch.autograd.grad(total(sigma), sigma)
    assert torch.allclose(torch.func.grad(total)(sigma.detach()), expected)


@pytest.mark.parametrize(("text", "name"), [("gaussian:0.1", "sigma"), ("contrast:0.8", "factor")])
def test_forward_mode_reaches_a_parameter(text, name):
    f, x = degrade.parse(text), image()

    def total(value):
        return f.with_values({name: value})(x, 3).square().sum()

    value = torch.tensor(getattr(f, name), dtype=torch.float64)
    one = torch.ones_like(value)
    _, derivative = torch.func.jvp(total, (value,), (one,))
    assert torch.allclose(derivative, torch.func.grad(total)(value))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(value, one)
        assert torch.allclose(forward_ad.unpack_dual(total(dual)).tangent, derivative)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("blur:gaussian,1.3", "size"),
        ("poisson:24", "peak"),
        ("hue:0.1", "turn"),
        ("jpeg:40", "quality"),
    ],
)
def test_forward_mode_is_refused_for_a_surrogate(text, name):
    f, x = degrade.parse(text), image()

    def total(value):
        return f.with_values({name: value})(x, 3).sum()

    value = torch.tensor(float(getattr(f, name)))
    with pytest.raises(ValueError, match=f"{f.name}.*no forward-mode derivative"):
        torch.func.jvp(total, (value,), (torch.ones_like(value),))


def test_forward_mode_is_refused_without_a_gradient():
    x = image()
    with pytest.raises(ValueError, match="prob is differentiated, and the operator has no deriv"):
        torch.func.jvp(
            lambda prob: degrade.SaltPepper(prob)(x, 0), (torch.tensor(0.1),), (torch.tensor(1.0),)
        )


@pytest.mark.parametrize("make", [degrade.Gaussian, degrade.Brightness, degrade.SaltPepper])
def test_parameter_with_another_value_in_each_slice(make):
    def degraded(value):
        return make(value)(image(), 0)

    with pytest.raises(ValueError, match="has another value in each slice of torch.func.vmap"):
        torch.func.vmap(degraded, randomness="same")(torch.tensor([0.1, 0.2]))


def test_mask_with_another_value_in_each_slice():
    masks = torch.rand(2, 1, 1, *SIDES[2:])
    with pytest.raises(ValueError, match="mask has another value in each slice of torch.func.vmap"):
        torch.func.vmap(lambda mask: degrade.Mask(mask)(image()))(masks)


def test_complex_parameter_is_refused():
    with pytest.raises(ValueError, match="sigma=.* must be a number from 0 to 1"):
        degrade.Gaussian(torch.tensor(0.1 + 0j, requires_grad=True))


def test_mask_is_copied_and_pickled_without_its_gradient():
    f = degrade.Mask(torch.rand(1, 1, *SIDES[2:], requires_grad=True)) >> degrade.Gaussian(0.1)
    assert copy.copy(f)(image(), 0).requires_grad
    for copied in (copy.deepcopy(f), pickle.loads(pickle.dumps(f))):
        assert copied == f
        assert not copied(image(), 0).requires_grad


def test_second_derivative_of_a_declared_one_is_refused():
    peak = learned(24.0)
    with pytest.raises(RuntimeError, match="surrogate"):
        torch.autograd.grad(degrade.Poisson(peak)(image(), 0).sum(), peak, create_graph=True)


def test_kept_kernels_do_not_keep_a_graph():
    from degrade.kernels import KERNELS

    size = learned(1.75)
    kernel = KERNELS["gaussian"].draw(size.item(), size.item(), 0, 1, None)
    degrade.Blur("gaussian", size)(image()).sum().backward()
    assert not kernel.requires_grad
    again = degrade.Blur("gaussian", 1.75)(image())
    assert not again.requires_grad


@pytest.mark.parametrize(
    ("make", "start"),
    [
        (degrade.Gaussian, learned(0.1)),
        (degrade.Gamma, learned(0.8, 1.2)),
        (lambda size: degrade.Blur("gaussian", size), learned(1.5)),
        (degrade.JPEG, learned(50.0)),
    ],
)
def test_operator_refuses_a_tensor_changed_since(make, start):
    f = make(start)
    f(image(), 0)
    with torch.no_grad():
        start.mul_(0.9)
    with pytest.raises(ValueError, match="after a step of an optimiser, make a new operator"):
        f(image(), 0)
    assert torch.isfinite(make(start)(image(), 0)).all()


@pytest.mark.parametrize(
    ("text", "name", "like"),
    [
        ("blur:trail,2,angle=40,side=9,edge=nearest", "angle", None),
        ("blur:disc,3,across=0", "size", "blur:defocus,3"),
    ],
)
def test_gradient_of_a_kernel_of_whole_pixels(text, name, like):
    """The values are those of the plain number; the gradient that of the anti-aliased kernel."""
    x = image()
    f = degrade.parse(text)
    tensor = learned(float(getattr(f, name)))
    y = f.with_values({name: tensor})(x, 3)
    assert torch.equal(y, f(x, 3))
    weight = torch.randn(y.shape, generator=rng(1), dtype=y.dtype)
    (gradient,) = torch.autograd.grad((y * weight).sum(), tensor)
    assert torch.isfinite(gradient) and gradient != 0
    if like is not None:
        smooth = degrade.parse(like).with_values({name: tensor})(x, 3)
        (expected,) = torch.autograd.grad((smooth * weight).sum(), tensor)
        assert torch.allclose(gradient, expected)
