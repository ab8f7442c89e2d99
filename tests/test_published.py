"""Published pipelines against their authors' arithmetic at the same draws, and their laws.

A concrete chain is sampled, and its numbers are handed to a restatement of the authors' code: the
same kernel parameters, scales, filters, qualities and noise. Images are float64, so that no value
lies so close to a rounding that two orders of summation would decide it.
"""

import functools
import itertools
import math
from collections import Counter

import numpy
import pytest
import torch
from scipy import linalg, stats

import degrade
from degrade import parse, pipelines
from degrade.rng import Rng

from . import authors
from .conftest import picture

FALSE_ALARM = 1e-4
NOISES = ("gaussian", "scaledpoisson", "correlated")


class Draws:
    """The stages of a concrete chain in order, and the noise that was drawn in them."""

    def __init__(self, chain, normals, counts):
        self.stages = list(chain)
        self.normals = normals
        self.counts = counts

    def next_is(self, *names):
        return bool(self.stages) and self.stages[0].name in names

    def take(self, *names):
        """The next stage, which must have one of these names."""
        assert self.next_is(*names), f"{self.stages[:1]} is none of {names}"
        return self.stages.pop(0)

    def normal(self):
        """The next normal draws, [H, W, 3] or [H, W, 1]."""
        return self.normals.pop(0)

    def counted(self, rate):
        """The next counts; they must have been drawn at this rate."""
        drawn_rate, counts = self.counts.pop(0)
        assert numpy.allclose(drawn_rate, rate, atol=1e-6)
        return counts


def hwc(x):
    return x[0].permute(1, 2, 0).numpy()


@pytest.fixture
def run(monkeypatch):
    """run(name, x, seed): the result of a pipeline, the concrete chain, and all its draws."""
    normals, counts = [], []
    normal, poisson = Rng.normal, Rng.poisson

    def record_normal(self, like):
        drawn = normal(self, like)
        normals.append(hwc(drawn))
        return drawn

    def record_poisson(self, rate):
        drawn = poisson(self, rate)
        counts.append((hwc(rate), hwc(drawn)))
        return drawn

    monkeypatch.setattr(Rng, "normal", record_normal)
    monkeypatch.setattr(Rng, "poisson", record_poisson)

    def run_pipeline(name, x, seed):
        normals.clear()
        counts.clear()
        chain = pipelines[name].sample(x.shape, seed)
        result = chain(x, seed)
        return hwc(result), Draws(chain, normals, counts)

    return run_pipeline


def clean(seed, height=72, width=64):
    """A part of a picture, [1, 3, H, W] in float64."""
    whole = picture(seed % 6).double()
    return whole[..., 20 : 20 + height, 30 : 30 + width].contiguous()


def assert_rounds_to(result, unrounded):
    """Each value is the nearest of 256 levels; where two are equally near, either of them."""
    levels = result * 255
    assert numpy.allclose(levels, levels.round(), atol=1e-9)
    assert abs(levels - numpy.clip(unrounded, 0, 1) * 255).max() < 0.5 + 1e-6


def published_kernel(stage):
    if stage.name == "sinc":
        return authors.sinc_kernel(stage.cutoff, stage.size)
    across = stage.size if stage.across is None else stage.across
    theta = -math.radians(stage.angle)
    return authors.bivariate_kernel(stage.kernel, stage.side, stage.size, across, theta, stage.beta)


# Real-ESRGAN: feed_data, line by line -------------------------------------------------------------


def noise_of_basicsr(image, draws):
    stage = draws.take("gaussian", "scaledpoisson")
    if stage.name == "gaussian":
        image = image + stage.sigma * draws.normal()
    else:
        image = authors.level_count_noise(image, stage.scale, stage.gray, draws.counted)
    draws.take("clamp")
    return numpy.clip(image, 0, 1)


def two_stages_of_real_esrgan(image, draws, factor):
    height, width = image.shape[:2]
    image = authors.correlate(image, published_kernel(draws.take("blur", "sinc")))
    resize = draws.take("resize", "identity")
    if resize.name == "resize":
        image = authors.interpolate(image, resize.filter, scale_factor=resize.scale)
    image = noise_of_basicsr(image, draws)
    image = authors.diffjpeg(numpy.clip(image, 0, 1), draws.take("diffjpeg").quality)
    if second_stage_follows(draws):
        image = second_stage_of_real_esrgan(image, draws, factor, (height, width))
    else:
        draws.take("identity")
    final_size = (height // factor, width // factor)
    if draws.next_is("resize"):
        image = last_resize_and_sinc(image, draws, final_size)
        return last_jpeg(image, draws)
    image = last_jpeg(image, draws)
    return last_resize_and_sinc(image, draws, final_size)


def second_stage_follows(draws):
    """Whether ResShift's coin is for a second stage, which always has a resize and noise."""
    return [stage.name in NOISES for stage in draws.stages[:3]] == [False, False, True]


def second_stage_of_real_esrgan(image, draws, factor, frame):
    height, width = frame
    blur = draws.take("blur", "sinc", "identity")
    if blur.name != "identity":
        image = authors.correlate(image, published_kernel(blur))
    resize = draws.take("resize")
    scale = resize.scale * factor
    size = (int(height / factor * scale), int(width / factor * scale))
    image = authors.interpolate(image, resize.filter, size=size)
    return noise_of_basicsr(image, draws)


def last_resize_and_sinc(image, draws, size):
    image = authors.interpolate(image, draws.take("resize").filter, size=size)
    sinc = draws.take("sinc", "identity")
    if sinc.name == "identity":
        return image
    return authors.correlate(image, published_kernel(sinc))


def last_jpeg(image, draws):
    draws.take("clamp")
    return authors.diffjpeg(numpy.clip(image, 0, 1), draws.take("diffjpeg").quality)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name, factor", [("real-esrgan-x4", 4), ("real-esrgan-x2", 2)])
def test_real_esrgan_equals_its_code_at_the_same_draws(name, factor, seed, run):
    x = clean(seed)
    result, draws = run(name, x, seed)
    draws.take("usm")
    image = two_stages_of_real_esrgan(authors.usm(hwc(x)), draws, factor)
    assert [stage.name for stage in draws.stages] == ["clamp", "quantize"]
    assert_rounds_to(result, image)


@pytest.mark.parametrize("seed", range(6))
def test_resshift_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("resshift", x, seed)
    image = two_stages_of_real_esrgan(hwc(x), draws, 4)
    assert [stage.name for stage in draws.stages] == ["clamp", "quantize"]
    assert_rounds_to(result, image)


@pytest.mark.parametrize("seed", range(4))
def test_stablesr_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("stablesr", x, seed)
    draws.take("usm")
    image = two_stages_of_real_esrgan(authors.usm(hwc(x)), draws, 4)
    image = authors.interpolate(numpy.clip(image, 0, 1), "torch-bicubic", size=(72, 64))
    assert [stage.name for stage in draws.stages] == ["clamp", "resize", "clamp"]
    assert numpy.allclose(result, numpy.clip(image, 0, 1), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_seesr_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("seesr-dape", x, seed)
    image = two_stages_of_real_esrgan(hwc(x), draws, 4)
    image = authors.interpolate(image, draws.take("resize").filter, size=(72, 64))
    assert [stage.name for stage in draws.stages] == ["clamp", "quantize"]
    assert_rounds_to(result, image)
    assert pipelines["seesr"] == pipelines["real-esrgan-x4"]


@pytest.mark.parametrize("seed", range(4))
def test_diffbir_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("diffbir", x, seed)
    draws.take("usm")
    image = two_stages_of_real_esrgan(authors.usm(hwc(x)), draws, 4)
    image = authors.interpolate(image, "torch-bicubic", size=(72, 64))
    assert [stage.name for stage in draws.stages] == ["resize", "clamp", "quantize"]
    assert_rounds_to(result, image)


def one_stage_of_dasr(image, draws):
    height, width = image.shape[:2]
    image = authors.correlate(image, published_kernel(draws.take("blur")))
    resize = draws.take("resize", "identity")
    if resize.name == "resize":
        image = authors.interpolate(image, resize.filter, scale_factor=resize.scale)
    image = noise_of_basicsr(image, draws)
    image = authors.diffjpeg(numpy.clip(image, 0, 1), draws.take("diffjpeg").quality)
    return authors.interpolate(image, draws.take("resize").filter, size=(height // 4, width // 4))


@pytest.mark.parametrize("seed", range(10))
def test_dasr_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("dasr", x, seed)
    draws.take("usm")
    image = authors.usm(hwc(x))
    if sum(stage.name == "diffjpeg" for stage in draws.stages) == 1:
        image = one_stage_of_dasr(image, draws)
    else:
        image = two_stages_of_real_esrgan(image, draws, 4)
    assert [stage.name for stage in draws.stages] == ["clamp", "quantize"]
    assert_rounds_to(result, image)


def test_dasr_draws_degrees_and_kernels_by_their_weights():
    chains = drawn_chains("dasr")
    qualities = [[s.quality for s in chain if s.name == "diffjpeg"] for chain in chains]
    severe = sum(len(drawn) == 2 for drawn in qualities)
    assert stats.binomtest(severe, len(chains), 0.4).pvalue > FALSE_ALARM
    blurs = [next(s for s in chain if s.name == "blur") for chain in chains]
    turned = sum(blur.across is not None for blur in blurs)
    assert stats.binomtest(turned, len(blurs), 0.35).pvalue > FALSE_ALARM
    assert {blur.side for blur in blurs} == set(range(9, 22, 2))


# BSRGAN: degradation_bsrgan, with the order of its stages handed over -----------------------------


def bsrgan(image, draws):
    factor = 4
    frame = image.shape[:2]
    if draws.next_is("resize") and draws.stages[0].scale == 0.5 and draws.stages[0].of is None:
        image = halved(image, draws.take("resize"))
        factor = 2
        frame = image.shape[:2]
    while draws.stages:
        stage = draws.take("blur", "resize", "subsample", *NOISES, "jpeg", "clamp", "identity")
        if stage.name == "blur":
            image = authors.convolve(image, published_kernel(stage))
        elif stage.name == "subsample":
            kernel = authors.shifted_gaussian(stage.size, factor)
            image = numpy.clip(authors.convolve(image, kernel)[::factor, ::factor], 0, 1)
        elif stage.name == "resize" and not only_names_its_size(stage):
            returns = stage.scale == 1 / factor
            height, width = frame if returns else image.shape[:2]
            shrinking = factor if returns else 1 / stage.scale
            size = (int(1 / shrinking * height), int(1 / shrinking * width))
            image = numpy.clip(authors.cv2_resize(image, size, stage.filter), 0, 1)
        elif stage.name == "gaussian":
            image = numpy.clip(image + stage.sigma * draws.normal(), 0, 1)
        elif stage.name == "correlated":
            image = numpy.clip(image + correlated_noise(stage, draws.normal()), 0, 1)
        elif stage.name == "jpeg":
            image = authors.jpeg(image, stage.quality)
    return image


def bsrgan_plus(image, draws):
    """degradation_bsrgan_plus, with the order of its stages handed over."""
    frame = image.shape[:2]
    image = authors.usm(image)
    draws.take("usm")
    while draws.stages:
        stage = draws.stages.pop(0)
        if stage.name == "blur":
            image = authors.convolve(image, published_kernel(stage))
        elif stage.name == "resize" and not only_names_its_size(stage):
            if is_to_size(stage):
                size = (int(1 / 4 * frame[0]), int(1 / 4 * frame[1]))
            else:
                size = tuple(int(stage.scale * side) for side in image.shape[:2])
            image = authors.cv2_resize(image, size, stage.filter)
        elif stage.name == "gaussian":
            image = image + stage.sigma * draws.normal()
        elif stage.name == "speckle":
            image = image + image * stage.sigma * draws.normal()
        elif stage.name == "correlated":
            times = image if stage.form == "multiplied" else 1
            image = image + times * correlated_noise(stage, draws.normal())
        elif stage.name == "scaledpoisson":
            image = photons(image, stage, draws)
        elif stage.name == "jpeg":
            image = authors.jpeg(image, stage.quality)
        elif stage.name == "clamp":
            image = numpy.clip(image, 0, 1)
        elif stage.name == "quantize":
            image = (image * 255).round() / 255
    return image


def photons(image, stage, draws):
    """add_Poisson_noise of BSRGAN on an image of 8 bits."""
    rate = image
    if stage.gray:
        luma = image @ [0.2989, 0.587, 0.114]
        rate = (numpy.clip((luma * 255).round(), 0, 255) / 255)[:, :, None]
    return image + draws.counted(rate * stage.peak) / stage.peak - rate


@pytest.mark.parametrize("seed", [*range(16), 25, 60, 90])
def test_bsrgan_plus_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("bsrgan-plus", x, seed)
    assert numpy.allclose(result, bsrgan_plus(hwc(x), draws), atol=1e-9)


def test_bsrgan_plus_draws_its_stages_by_their_chances():
    chains = drawn_chains("bsrgan-plus")
    stages = [stage for chain in chains for stage in chain]
    counts = Counter(stage.name for stage in stages)
    assert counts["jpeg"] == 2 * len(chains) and counts["blur"] == 2 * len(chains)
    assert stats.binomtest(counts["scaledpoisson"], 2 * len(chains), 0.1).pvalue > FALSE_ALARM
    peaks = [math.log10(stage.peak) for stage in stages if stage.name == "scaledpoisson"]
    assert stats.kstest(peaks, "uniform", args=(2, 2)).pvalue > FALSE_ALARM


def halved(image, stage):
    height, width = image.shape[:2]
    if stage.filter == "matlab-bicubic":
        image = authors.imresize(image, 1 / 2)
    else:
        image = authors.cv2_resize(image, (int(height / 2), int(width / 2)), stage.filter)
    return numpy.clip(image, 0, 1)


def only_names_its_size(stage):
    return stage.name == "resize" and stage.scale == 1 and stage.of is not None


def correlated_noise(stage, normal):
    """Normal draws made to have the covariance level²·mix."""
    rr, rg, rb, gg, gb, bb = stage.mix
    mix = numpy.array([[rr, rg, rb], [rg, gg, gb], [rb, gb, bb]])
    return stage.level * normal @ linalg.sqrtm(mix).real


@pytest.mark.parametrize("seed", range(24))
def test_bsrgan_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("bsrgan", x, seed)
    assert numpy.allclose(result, bsrgan(hwc(x), draws), atol=1e-9)


# Blind faces: __getitem__ of the datasets ---------------------------------------------------------


def blind_face(image, draws):
    height, width = image.shape[:2]
    image = authors.correlate(image, published_kernel(draws.take("blur")))
    scale = 1 / draws.take("resize").scale
    size = (int(height // scale), int(width // scale))
    image = authors.cv2_resize(image, size, "torch-bilinear")
    image = numpy.clip(image + draws.take("gaussian").sigma * draws.normal(), 0, 1)
    draws.take("clamp")
    image = authors.jpeg(image, draws.take("jpeg").quality)
    draws.take("resize")
    return authors.cv2_resize(image, (height, width), "torch-bilinear")


def gray(image):
    """OpenCV's luma in all three channels."""
    return (image @ [0.299, 0.587, 0.114])[:, :, None].repeat(3, 2)


def color_of_gfpgan(image, draws):
    shift = draws.take("offset", "identity")
    if shift.name == "offset":
        image = numpy.clip(image + [shift.red, shift.green, shift.blue], 0, 1)
        draws.take("clamp")
    if draws.take("gray", "identity").name == "gray":
        image = gray(image)
    while draws.next_is("brightness", "contrast", "saturation", "hue"):
        stage = draws.take("brightness", "contrast", "saturation", "hue")
        if stage.name == "hue":
            image = authors.hue_change(image, stage.turn)
        else:
            image = authors.color_change(stage.name, image, stage.factor)
            draws.take("clamp")
    return image


FACES = ("gfpgan", "codeformer", "restoreformer", "vqfr", "vqfr-v2", "difface", "diffbir-v1")
RARELY_GRAY = [("gfpgan", 157), ("difface", 20)]  # seeds that draw grey, which one in 100 does


@pytest.mark.parametrize("name, seed", [*itertools.product(FACES, range(8)), *RARELY_GRAY])
def test_blind_face_equals_its_code_at_the_same_draws(name, seed, run):
    x = clean(seed, 96, 90)
    result, draws = run(name, x, seed)
    image = blind_face(hwc(x), draws)
    if name == "gfpgan":
        image = color_of_gfpgan(image, draws)
    if name == "difface" and draws.take("gray", "identity").name == "gray":
        image = gray(image)
    while draws.next_is("identity"):  # of what was not drawn
        draws.take("identity")
    assert [stage.name for stage in draws.stages] == ["clamp", "quantize"]
    assert_rounds_to(result, image)


# Laws of what is drawn ----------------------------------------------------------------------------


@functools.cache
def drawn_chains(name, count=300):
    f = pipelines[name]
    return [f.sample((1, 3, 64, 64), seed) for seed in range(count)]


def test_real_esrgan_draws_kernels_by_their_weights():
    blurs = [
        next(s for s in chain if s.name in ("blur", "sinc"))
        for chain in drawn_chains("real-esrgan-x4")
    ]

    def kind(stage):
        if stage.name == "sinc":
            return "sinc"
        form = stage.kernel if stage.kernel == "plateau" or stage.beta == 1 else "generalized"
        return form + (" turned" if stage.across is not None else "")

    counts = Counter(map(kind, blurs))
    weights = {
        "gaussian": 0.405,
        "gaussian turned": 0.225,
        "generalized": 0.108,
        "generalized turned": 0.027,
        "plateau": 0.108,
        "plateau turned": 0.027,
        "sinc": 0.1,
    }
    expected = [300 * weight for weight in weights.values()]
    assert stats.chisquare([counts[name] for name in weights], expected).pvalue > FALSE_ALARM
    sides = Counter(stage.size if stage.name == "sinc" else stage.side for stage in blurs)
    assert set(sides) == set(range(7, 22, 2))
    assert stats.chisquare(list(sides.values())).pvalue > FALSE_ALARM


def test_gfpgan_draws_the_divisor_uniformly():
    scales = [
        next(s for s in chain if s.name == "resize").scale for chain in drawn_chains("gfpgan")
    ]
    divisors = [1 / scale for scale in scales]
    assert stats.kstest(divisors, "uniform", args=(0.8, 7.2)).pvalue > FALSE_ALARM


def is_to_size(stage):
    """Whether a stage resizes to the size that the result must have."""
    return stage.name == "resize" and stage.of is not None and stage.scale in (0.25, 0.5)


def shrinking_stages(chain):
    """The positions of the stages that shrink by a drawn factor."""
    positions = []
    for i, stage in enumerate(chain):
        resizes = stage.name in ("resize", "subsample")
        if resizes and not is_to_size(stage) and not only_names_its_size(stage):
            positions.append(i)
    return positions


def test_bsrgan_reaches_its_size_after_shrinking():
    for chain in drawn_chains("bsrgan"):
        (to_size,) = [i for i, stage in enumerate(chain) if is_to_size(stage)]
        assert max(shrinking_stages(chain)) < to_size


def test_bsrgan_draws_variances_uniformly():
    variances = []
    for chain in drawn_chains("bsrgan"):
        if len(shrinking_stages(chain)) == 1:  # not halved first
            variances += [s.size**2 for s in chain if s.name == "blur" and s.across is not None]
    assert stats.kstest(variances, "uniform", args=(0, 8)).pvalue > FALSE_ALARM


# Of each corruption of ImageNet-C, one severity is enough for laws that all of them share
NAMES = [name for name in pipelines if "imagenet-c/" not in name or name.endswith("/3")]


@pytest.mark.parametrize("name", NAMES)
def test_pipeline_prints_parses_and_keeps_the_laws(name):
    f = pipelines[name]
    assert parse(str(f)) == f == parse(name)
    assert degrade.from_json(degrade.to_json(f)) == f
    entry = pipelines.about(name)
    assert parse(entry.text) == f and entry.source and entry.departures
    for seed in range(3):
        concrete = f.sample((1, 3, 64, 64), seed)
        assert parse(str(concrete)) == concrete
    degrade.check(f, (2, 3, 48, 64))


@pytest.mark.parametrize("height, width", [(1, 1), (7, 5), (9, 31), (2, 11)])
def test_bsrgan_gives_one_size_whatever_it_draws(height, width):
    y = pipelines["bsrgan"](torch.rand(24, 3, height, width), 1)
    assert y.shape[2:] == (max(1, height // 4), max(1, width // 4))


@pytest.mark.parametrize("name", NAMES)
def test_pipeline_tells_the_size_of_its_image(name):
    """A solver searches for an image of this size, which the sampled chain tells."""
    for seed in range(12):
        for shape in ((1, 3, 128, 128), (1, 3, 96, 136)):
            concrete = pipelines[name].sample(shape, seed)
            assert concrete.input_shape(concrete.output_shape(shape)) == shape


def test_pipeline_names_stand_in_texts():
    f = parse("oneof(gfpgan ; codeformer >> gray) >> jpeg:50")
    assert f[0].nested[0] == pipelines["gfpgan"]
    assert list(parse("gfpgan >> jpeg:50")) == [*pipelines["gfpgan"], parse("jpeg:50")]
    with pytest.raises(ValueError, match="taken by a published pipeline"):
        degrade.register("gfpgan")(lambda x: x)
    with pytest.raises(ValueError, match="did you mean .*gfpgan"):
        parse("gfpgann")
    for text in ("gfpgan:3", "gfpgan(gray)", "gfpgan:quality=3"):
        with pytest.raises(ValueError, match="gfpgan is a pipeline, and takes no values"):
            parse(text)
    assert "gfpgan" in repr(pipelines)
    with pytest.raises(KeyError, match="did you mean real-esrgan-x"):
        pipelines["real-esrgan"]
    with pytest.raises(KeyError, match="no pipeline"):
        pipelines.about("esr")
