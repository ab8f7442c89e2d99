"""The papers' tasks, number by number."""

import numpy
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from degrade import parse, tasks

from .conftest import picture, rng


def test_tasks_contain_all_of_the_paper():
    single = [
        f"{t}/{level}"
        for t in ("upsampling", "denoising", "deartifacting", "inpainting")
        for level in ("XS", "S", "M", "L", "XL")
    ]
    composed = ["NA", "AP", "UA", "NP", "UN", "UP", "UNP", "UAP", "UNA", "NAP", "UNAP"]
    assert set(single + composed) <= set(tasks) and len(composed) == 11


def test_tasks_have_the_numbers_of_the_paper():
    levels = ("XS", "S", "M", "L", "XL")
    numbers = zip(
        levels,
        [2, 4, 8, 16, 32],
        [(96, 0.04), (48, 0.08), (24, 0.16), (12, 0.32), (6, 0.64)],
        [18, 15, 12, 9, 6],
        [1, 5, 9, 13, 17],
        strict=True,
    )
    for level, factor, noise, quality, count in numbers:
        assert tasks[f"upsampling/{level}"][0].factor == factor
        assert tasks[f"upsampling/{level}"][0].filter == "any"
        poisson, dead_pixels = tasks[f"denoising/{level}"][:2]
        assert (poisson.peak, dead_pixels.prob) == noise
        assert tasks[f"deartifacting/{level}"].quality == quality
        assert tasks[f"inpainting/{level}"][0].count == count


def test_tasks_round_to_8_bits_between_stages():
    expected = (
        "downsample:8,filter=any >> clamp >> quantize"
        " >> poisson:24 >> deadpixels:0.16 >> clamp >> quantize"
        " >> jpeg:12 >> strokes:9 >> clamp >> quantize"
    )
    assert str(tasks["UNAP"]) == expected
    assert str(tasks["AP"]) == "jpeg:12 >> strokes:9 >> clamp >> quantize"


def test_tasks_with_chroma_of_the_text_are_variants():
    assert (
        tasks["deartifacting/XL"] == parse("jpeg:6")
        and tasks["deartifacting/XL/text"].subsampling == "4:2:2"
    )
    assert tasks["UNAP/text"] != tasks["UNAP"] and "denoising/M/text" not in tasks


@pytest.mark.parametrize("name", list(tasks))
def test_tasks_run_and_give_8_bit_values(name):
    f = tasks[name]
    assert parse(str(f)) == f
    y = f.sample((1, 3, 128, 128), rng())(picture(0), rng())
    assert torch.isfinite(y).all()
    if not name.startswith(("ddrm/", "dps/", "daps/")):
        assert torch.equal((y * 255).round() / 255, y)


def test_dps_blur_is_that_of_its_code():
    """61 x 61 taps of scipy's Gaussian with sigma 3, and reflection without the edge pixel."""
    x = torch.rand(1, 3, 64, 80, generator=rng())
    impulse = numpy.zeros((61, 61))
    impulse[30, 30] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse, 3)).float()
    padded = F.pad(x, (30, 30, 30, 30), mode="reflect")
    expected = F.conv2d(padded, kernel.expand(3, 1, 61, 61), groups=3)
    blur, noise = tasks["dps/gaussian-deblur"]
    assert torch.allclose(blur(x), expected, atol=2e-6)
    assert noise.sigma == 0.05 / 2


def test_daps_high_dynamic_range_is_that_of_its_code():
    x = torch.rand(1, 3, 8, 8, generator=rng())
    doubled = (2 * (2 * x - 1)).clamp(-1, 1)  # their images are in [-1, 1]
    *stages, noise = tasks["daps/high-dynamic-range"]
    for f in stages:
        x = f(x)
    assert torch.allclose(x, (doubled + 1) / 2, atol=1e-6)
    assert noise.sigma == 0.05 / 2


def test_dps_box_has_half_the_side_and_a_margin():
    box = tasks["dps/inpainting-box"][0]
    corners = set()
    for seed in range(200):
        visible = box.sample((1, 3, 256, 256), rng(seed)).visible((1, 3, 256, 256))[0, 0]
        rows = (visible.min(1).values == 0).nonzero().flatten()
        columns = (visible.min(0).values == 0).nonzero().flatten()
        assert len(rows) == len(columns) == 128
        corners |= {int(rows[0]), int(columns[0])}
    assert min(corners) >= 16 and max(corners) <= 111 and len(corners) > 80


def test_tasks_suggest_similar_names():
    with pytest.raises(KeyError, match="denoising/XL"):
        tasks["denoisin/XL"]
