"""The papers' tasks, number by number."""

import pytest
import torch

from degrade import parse, tasks

from .conftest import picture, rng


def test_all_of_the_paper_s_tasks_are_there():
    single = [
        f"{t}/{level}"
        for t in ("upsampling", "denoising", "deartifacting", "inpainting")
        for level in ("XS", "S", "M", "L", "XL")
    ]
    composed = ["NA", "AP", "UA", "NP", "UN", "UP", "UNP", "UAP", "UNA", "NAP", "UNAP"]
    assert set(single + composed) <= set(tasks) and len(composed) == 11


def test_the_numbers_are_the_paper_s():
    assert [tasks[f"upsampling/{v}"][0].factor for v in ("XS", "S", "M", "L", "XL")] == [
        2,
        4,
        8,
        16,
        32,
    ]
    assert all(tasks[f"upsampling/{v}"][0].filter == "any" for v in ("XS", "XL"))
    noise = [
        (f[0].peak, f[1].prob)
        for f in (tasks[f"denoising/{v}"] for v in ("XS", "S", "M", "L", "XL"))
    ]
    assert noise == [(96, 0.04), (48, 0.08), (24, 0.16), (12, 0.32), (6, 0.64)]
    assert [tasks[f"deartifacting/{v}"].quality for v in ("XS", "S", "M", "L", "XL")] == [
        18,
        15,
        12,
        9,
        6,
    ]
    assert [tasks[f"inpainting/{v}"][0].count for v in ("XS", "S", "M", "L", "XL")] == [
        1,
        5,
        9,
        13,
        17,
    ]


def test_compositions_save_with_eight_bits_between_stages():
    expected = (
        "downsample:8,filter=any >> clamp >> quantize >> poisson:24 >> deadpixels:0.16 >> clamp >> quantize"
        " >> jpeg:12 >> strokes:9 >> clamp >> quantize"
    )
    assert str(tasks["UNAP"]) == expected
    assert str(tasks["AP"]) == "jpeg:12 >> strokes:9 >> clamp >> quantize"


def test_the_text_s_chroma_is_a_variant():
    assert (
        tasks["deartifacting/XL"] == parse("jpeg:6")
        and tasks["deartifacting/XL/text"].subsampling == "4:2:2"
    )
    assert tasks["UNAP/text"] != tasks["UNAP"] and "denoising/M/text" not in tasks


@pytest.mark.parametrize("name", list(tasks))
def test_every_task_runs_and_what_a_file_holds_is_eight_bit(name):
    f = tasks[name]
    assert parse(str(f)) == f
    y = f.sample((1, 3, 128, 128), rng())(picture(0), rng())
    assert torch.isfinite(y).all()
    if not name.startswith("ddrm/"):
        assert torch.equal((y * 255).round() / 255, y)


def test_an_unknown_task_is_named_with_its_neighbours():
    with pytest.raises(KeyError, match="denoising/XL"):
        tasks["denoisin/XL"]
