import pytest
import torch

import degrade
from degrade import Clamp, Downsample, Gaussian, Poisson, Strokes, parse

from .conftest import rng


def test_chain_is_flat_indexed_and_iterable():
    f = parse("downsample:2 >> poisson:24 >> clamp")
    assert len(f) == 3 and f[0] == Downsample(2) and list(f)[1] == Poisson(24)
    assert f[1:] == Poisson(24) >> Clamp()
    assert f[2:] == Clamp() and list(Clamp()) == [Clamp()]


def test_error_names_the_stage():
    f = Clamp() >> Gaussian((0.1, 0.2, 0.3))
    with pytest.raises(
        ValueError, match=r"stage 2, gaussian:0.1\|0.2\|0.3: sigma has 3 values for 2 images"
    ):
        f(torch.rand(2, 3, 4, 4))


def test_error_quotes_the_start_of_a_long_stage():
    with pytest.raises(ValueError, match="^stage 2, frame.*not decided yet") as error:
        degrade.pipelines["real-esrgan-x4"].output_shape((1, 3, 32, 32))
    assert len(str(error.value)) < 500


def test_operators_compare_and_hash_by_value():
    assert Poisson(24) == Poisson(24.0) and hash(Poisson(24)) == hash(Poisson(24.0))
    assert Gaussian(torch.tensor([0.5, 0.25])) == Gaussian((0.5, 0.25))
    assert len({Gaussian(0.5), Gaussian(0.5), Gaussian(0.25)}) == 2
    with pytest.raises(AttributeError):
        Gaussian(0.5).sigma = 1


def test_generator_unchanged_by_deterministic_operators():
    g = rng()
    before = g.get_state(), torch.get_rng_state()
    parse("clamp >> downsample:2 >> quantize")(torch.rand(1, 1, 4, 4, generator=rng(1)), g)
    assert torch.equal(g.get_state(), before[0]) and torch.equal(torch.get_rng_state(), before[1])


def test_generator_gives_new_draws_at_each_call():
    g, x = rng(), torch.zeros(1, 1, 8, 8)
    assert not torch.equal(Gaussian(1)(x, g), Gaussian(1)(x, g))


@pytest.mark.parametrize(
    "text", ["gaussian:1 >> gaussian:1", "perimage(gaussian:1 ; clamp) >> gaussian:1"]
)
def test_stages_of_one_name_draw_independently(text):
    y = parse(text)(torch.zeros(2, 1, 200, 200), rng())[0]
    assert (
        abs(y.var() - 2) < 4 * 2 * (2 / y.numel()) ** 0.5
    )  # not 4: four standard errors of a variance


def test_generator_list_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="2 generators for 3 images"):
        Gaussian(1)(torch.zeros(3, 1, 2, 2), [rng(), rng()])


def test_visible_passes_through_resampling():
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :2] = 0
    f = degrade.Mask(mask) >> Downsample(4)
    assert torch.equal(f.visible((1, 3, 8, 8)), torch.tensor([[[[0.5, 1.0], [0.5, 1.0]]]]))
    assert parse("clamp >> poisson:3").visible((1, 3, 8, 8)) is None
    both = f >> degrade.Mask(torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]]))
    assert torch.equal(both.visible((1, 3, 8, 8)), torch.tensor([[[[0.5, 0.0], [0.5, 1.0]]]]))


def test_visible_refuses_unsampled_strokes():
    with pytest.raises(ValueError, match="sample"):
        Strokes(3).visible((1, 3, 8, 8))


@pytest.mark.parametrize(
    ("y", "shape", "said"),
    [
        (
            torch.rand(2, 3, 32, 32),
            (2, 3, 70, 64),
            r"y is \[2, 3, 32, 32\], but downsample:2 turns \[2, 3, 70, 64\] into",
        ),
        (torch.ones(2, 3, 8, 8, dtype=torch.int64), None, "y is torch.int64"),
        (torch.rand(3, 8, 8), None, r"y has shape \[3, 8, 8\]"),
        (torch.full((1, 3, 8, 8), torch.nan), None, "y holds NaN"),
    ],
)
def test_adjoint_names_what_is_wrong_with_y(y, shape, said):
    with pytest.raises(ValueError, match=said):
        degrade.parse("downsample:2").adjoint(y, shape)


def test_unregistered_operator_is_told_to_register():
    class Nameless(degrade.Operator):
        def forward(self, x, rng):
            return 1 - x

    with pytest.raises(
        TypeError, match=r"Nameless has no name yet; decorate it with @degrade.register"
    ):
        Nameless()(torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("text", ["gaussian:0.2", "strokes:3 >> poisson:20 >> jpeg:5..30", "clamp"])
def test_seed_works_as_generator(text):
    f, x = parse(text), torch.rand(2, 3, 24, 20, generator=rng())
    assert torch.equal(f(x, 3), f(x, rng(3)))
    assert f.sample(x.shape, 3) == f.sample(x.shape, rng(3))
    assert torch.equal(f(x, [3, 4]), f(x, [rng(3), rng(4)]))


@pytest.mark.parametrize(
    ("generator", "error"),
    [("3", TypeError), ("34", TypeError), (True, TypeError), (2.5, TypeError), (-1, ValueError)],
)
def test_seed_of_another_kind_is_refused(generator, error):
    with pytest.raises(error, match="generator="):
        Gaussian(0.1)(torch.zeros(1, 1, 2, 2), generator)


def test_image_in_levels_is_refused():
    x = torch.rand(1, 3, 8, 8, generator=rng())
    for levels in (255, 65535):
        for f in (Gaussian(0.1), Clamp(), parse("downsample:2 >> jpeg:30")):
            with pytest.raises(ValueError, match=rf"takes \[0, 1\]; give x / {levels}"):
                f(x * levels)
            with pytest.raises(ValueError, match="add the mean that was subtracted, and divide"):
                f(x * levels - levels / 2)
    with pytest.raises(ValueError, match="give x / 255"):
        degrade.jpeg(x * 255)
    Clamp()(3 * torch.randn(1, 3, 8, 8, generator=rng()))  # noise before a clamp is no error
    degrade.Pool(2).adjoint(255 * x)  # an adjoint takes residuals of any size


@pytest.mark.parametrize("white", [10, 15.9, 1023, 1e6])
@pytest.mark.parametrize("spec", ["clamp", "jpeg:30", "blur:gaussian,1"])
def test_image_in_another_scale_is_refused(white, spec):
    """Also if it is one of a batch."""
    x = torch.rand(2, 3, 16, 16, generator=rng())
    x[1] *= white
    with pytest.raises(ValueError, match=r"^x has values from .* an operator takes \[0, 1\]; "):
        parse(spec)(x)


@pytest.mark.parametrize(
    "spec",
    [
        "gaussian:1",
        "speckle:1",
        "uniform:1",
        "saltpepper:0.5",
        "poisson:0.01",
        "poissongaussian:0.02,1",
        "gaussian:0.5 >> sinc:1,21 >> resize:scale=1.7,filter=lanczos",
        "poisson:0.3 >> resize:scale=1.7,filter=lanczos",
    ],
)
@pytest.mark.parametrize("grey", [0, 0.5, 1, None])
def test_noise_and_ringing_are_never_refused(spec, grey):
    x = torch.rand(2, 3, 64, 64, generator=rng())
    x = x if grey is None else torch.full_like(x, grey)
    for seed in range(3):
        y = parse(spec)(x, seed)
        for operator in ("jpeg:30", "blur:gaussian,1", "clamp"):
            parse(operator)(y)


@pytest.mark.parametrize("shape", [(), (3, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8), (1, 1, 3, 8, 8)])
@pytest.mark.parametrize("spec", ["pool:2", "uncrop:0.4", "jpeg:5..30", "clamp >> strokes:3"])
def test_shape_of_no_image_is_refused(shape, spec):
    with pytest.raises(ValueError, match=r"^shape=\(.*\) must be \(B, C, H, W\)"):
        parse(spec).sample(shape, 3)
    with pytest.raises(ValueError, match=r"^shape=\(.*\) must be \(B, C, H, W\)"):
        parse(spec).part(shape, (slice(0, 4), slice(0, 4)))


def test_linear_operator_takes_vectors_of_both_signs():
    residual = 1e4 * torch.randn(1, 3, 16, 16, generator=rng())
    parse("blur:gaussian,1 >> downsample:2")(residual)
    with pytest.raises(ValueError, match=r"takes \[0, 1\]"):
        parse("blur:gaussian,1 >> clamp")(residual)
    parse("jpeg:30").predict(residual)  # a solver's image may leave [0, 1] on its way


def test_8_bit_image_in_minus_1_to_1_is_refused():
    x = (torch.rand(1, 3, 16, 16, generator=rng()) * 255).round() / 255
    for signed in (x * 2 - 1, (x - 0.5) / 0.5, (x.half() * 2 - 1), x.double() * 2 - 1):
        with pytest.raises(ValueError, match=r"scaled to \[-1, 1\].* give \(x \+ 1\) / 2"):
            parse("downsample:2 >> jpeg:30")(signed)
    with pytest.raises(ValueError, match=r"give \(x \+ 1\) / 2"):
        degrade.jpeg(x * 2 - 1)


def test_values_outside_0_to_1_that_noise_or_a_solver_makes_pass():
    x = (torch.rand(1, 3, 16, 16, generator=rng()) * 255).round() / 255
    noise = torch.randn(x.shape, generator=rng(1))
    probe = noise.sign()
    residual = x - x.flip(3)
    dark = x / 10 + 0.2 * noise
    for passes in (x + 0.5 * noise, dark, dark.clamp(-1, 1), probe, residual, 1.001 * x, x - 0.5):
        Clamp()(passes)


@pytest.mark.parametrize("text", ["gaussian:25", "gaussian:15..50", "poissongaussian:24,25"])
def test_sigma_in_levels_is_refused(text):
    with pytest.raises(ValueError, match=r"sigma=.* from 0 to 1.*: .* (25/255 = 0.0980|15/255)"):
        parse(text)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x: None, "gives NoneType; its forward must return a tensor"),
        (lambda x: x.numpy(), "gives ndarray"),
        (lambda x: (x * 255).byte(), "gives torch.uint8; its forward must return torch.float32"),
        (lambda x: x / 0, "gives NaN or infinity"),
        (lambda x: torch.tensor([-1, 1]).view(2, 1, 1, 1) * x / 0, "gives NaN or infinity"),
        (lambda x: x[0], r"gives shape \[3, 8, 8\] for 2 images"),
        (lambda x: torch.cat([x, x], 1), r"gives \[2, 6, 8, 8\], and its output_shape says"),
        (lambda x: x[:, :1], r"gives \[2, 1, 8, 8\], and its output_shape says \[2, 3, 8, 8\]"),
        (lambda x: x[..., 1:], r"gives \[2, 3, 8, 7\], and its output_shape says"),
        (lambda x: x.to_sparse(), "gives torch.sparse_coo; its forward must return a dense tensor"),
        (lambda x: x.to("meta"), "gives a tensor on meta; its forward must return one on cpu"),
        (lambda x: x.to(torch.complex64), "gives torch.complex64"),
        (lambda x: x.to(torch.float8_e4m3fn), "gives torch.float8_e4m3fn"),
    ],
)
def test_wrong_output_names_the_operator(result, message):
    from degrade.registry import REGISTRY

    try:
        faulty = degrade.register("faulty")(result)
        with pytest.raises(ValueError, match=f"^stage 2, faulty: {message}"):
            (Clamp() >> faulty)(torch.ones(2, 3, 8, 8))
    finally:
        del REGISTRY["faulty"]


def test_finite_output_may_have_a_sum_that_is_not():
    from degrade.registry import REGISTRY

    try:
        huge = degrade.register("huge")(lambda x: x * 3e38)
        assert huge(torch.ones(2, 3, 8, 8)).isfinite().all()
    finally:
        del REGISTRY["huge"]


def test_declared_channels_may_be_any_number():
    from degrade.registry import REGISTRY

    class Packed(degrade.Operator):
        def forward(self, x, rng):
            return x.repeat(1, 2, 1, 1)

        def output_shape(self, shape):
            return (shape[0], 2 * shape[1], *shape[2:])

    try:
        f = degrade.register("packed")(Packed)() >> Clamp()
        assert f(torch.ones(2, 3, 8, 8)).shape == f.output_shape((2, 3, 8, 8)) == (2, 6, 8, 8)
    finally:
        del REGISTRY["packed"]


def test_sparse_image_is_refused():
    with pytest.raises(ValueError, match=r"x is torch.sparse_coo; .*x.to_dense\(\)"):
        Clamp()(torch.ones(1, 3, 8, 8).to_sparse())


def test_rng_of_no_images_needs_no_generator():
    from degrade.rng import Rng

    Rng.of([], 0).child("stage")
