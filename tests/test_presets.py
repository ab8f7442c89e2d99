"""The papers' tasks, number by number."""

import pytest
import torch

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
    if not name.startswith("ddrm/"):
        assert torch.equal((y * 255).round() / 255, y)


def test_tasks_suggest_similar_names():
    with pytest.raises(KeyError, match="denoising/XL"):
        tasks["denoisin/XL"]
