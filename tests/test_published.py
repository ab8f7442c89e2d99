"""Published pipelines against their authors' arithmetic at the same draws, and their laws.

A concrete chain is sampled, and its numbers are handed to a restatement of the authors' code: the
same kernel parameters, scales, filters, qualities and noise. Images are float64, so that no value
lies so close to a rounding that two orders of summation would decide it. BSRGAN and ImageNet-C have
files of their own.
"""

import itertools
from collections import Counter

import numpy
import pytest
from scipy import stats

import degrade
from degrade import parse, pipelines

from . import authors
from .conftest import slow_except
from .draws import (
    FALSE_ALARM,
    NOISES,
    assert_rounds_to,
    clean,
    drawn_chains,
    hwc,
    published_kernel,
    recording,
)


@pytest.fixture
def run(monkeypatch):
    """run(name, x, seed): the result of a pipeline, the concrete chain, and all its draws."""
    return recording(monkeypatch)


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


@pytest.mark.parametrize("seed", slow_except(range(4), range(8)))
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


@pytest.mark.parametrize("seed", slow_except(range(5), range(10)))
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
QUICK = [*itertools.product(FACES, range(4)), *RARELY_GRAY]
MORE = [
    pytest.param(name, seed, marks=pytest.mark.slow)
    for name, seed in itertools.product(FACES, range(4, 8))
]


@pytest.mark.parametrize("name, seed", [*QUICK, *MORE])
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


def test_gfpgan_draws_the_divisor_uniformly():
    scales = [
        next(s for s in chain if s.name == "resize").scale for chain in drawn_chains("gfpgan")
    ]
    divisors = [1 / scale for scale in scales]
    assert stats.kstest(divisors, "uniform", args=(0.8, 7.2)).pvalue > FALSE_ALARM


# All pipelines ------------------------------------------------------------------------------------

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
