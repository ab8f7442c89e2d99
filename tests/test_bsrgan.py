"""BSRGAN's degradations against their authors' arithmetic at the same draws, and their laws."""

import math
from collections import Counter

import numpy
import pytest
import torch
from scipy import linalg, stats

from degrade import pipelines

from . import authors
from .conftest import slow_except
from .draws import FALSE_ALARM, NOISES, clean, drawn_chains, hwc, published_kernel, recording


@pytest.fixture
def run(monkeypatch):
    """run(name, x, seed): the result of a pipeline, the concrete chain, and all its draws."""
    return recording(monkeypatch)


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


@pytest.mark.parametrize("seed", slow_except((*range(6), 25, 60, 90), (*range(16), 25, 60, 90)))
def test_bsrgan_plus_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("bsrgan-plus", x, seed)
    assert numpy.allclose(result, bsrgan_plus(hwc(x), draws), atol=1e-9)


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


@pytest.mark.parametrize("seed", slow_except(range(8), range(24)))
def test_bsrgan_equals_its_code_at_the_same_draws(seed, run):
    x = clean(seed)
    result, draws = run("bsrgan", x, seed)
    assert numpy.allclose(result, bsrgan(hwc(x), draws), atol=1e-9)


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


def test_bsrgan_plus_draws_its_stages_by_their_chances():
    chains = drawn_chains("bsrgan-plus")
    stages = [stage for chain in chains for stage in chain]
    counts = Counter(stage.name for stage in stages)
    assert counts["jpeg"] == 2 * len(chains) and counts["blur"] == 2 * len(chains)
    assert stats.binomtest(counts["scaledpoisson"], 2 * len(chains), 0.1).pvalue > FALSE_ALARM
    peaks = [math.log10(stage.peak) for stage in stages if stage.name == "scaledpoisson"]
    assert stats.kstest(peaks, "uniform", args=(2, 2)).pvalue > FALSE_ALARM


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


@pytest.mark.parametrize("height, width", [(1, 1), (7, 5), (9, 31), (2, 11)])
def test_bsrgan_gives_one_size_whatever_it_draws(height, width):
    y = pipelines["bsrgan"](torch.rand(24, 3, height, width), 1)
    assert y.shape[2:] == (max(1, height // 4), max(1, width // 4))
