"""What the command tells of operators, methods, generators and pictures; completion."""

import inspect
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image, ImageCms

import degrade
import invert
from degrade.params import described
from invert.generator import BUNDLED
from invert.perceptual import NETS
from pipelines import files, options
from pipelines.completion import operator_names
from pipelines.tasks import SUITES
from tests.conftest import AVATARS, rng

from .shell import pixels, run, without_torch


def test_completion_offers_method_names():
    tab = {
        "_DEGRADE_COMPLETE": "complete_bash",
        "COMP_WORDS": "degrade restore --method p",
        "COMP_CWORD": "3",
    }
    offered = without_torch(**tab).split()
    assert offered == ["pigdm", "pnp", "pti", "pti-original", "pulse", "pulse-original"]


def test_completion_lists_equal_the_declarations():
    assert options.METHODS("") == sorted(invert.METHODS)
    assert (
        options.GENERATORS("") == list(BUNDLED)
        and options.NETS("") == list(NETS)
        and options.SUITES("") == list(SUITES)
    )


def test_ops_lists_every_operator():
    result = run("ops")
    assert result.exit_code == 0
    rows = result.output.splitlines()
    for name, cls in degrade.registry.REGISTRY.items():
        (row,) = (row for row in rows if row.split()[1:2] == [name])
        assert cls.gradient in row and "…" not in row  # a pipe cuts nothing


def test_methods_lists_all_and_shows_constants():
    listed = run("methods").output
    assert all(name in listed for name in invert.METHODS)
    shown = run("methods", "pulse").output
    for word in (
        "Menon",
        "250 steps of Adam(lr=0.8",
        "Sphere()",
        "100 × MSE(floor=0.002)",
        "0.05 × Geodesic(",
    ):
        assert word in shown
    assert "schedule=falling, stretch=0.5)" in run("methods", "calibrated").output
    assert "stops at Below(term='lpips', limit=0.06)" in run("methods", "pti-original").output
    assert "Kawar" in run("methods", "ddrm").output
    wrong = run("methods", "magic")
    assert wrong.exit_code == 2 and "method='magic' must be one of" in wrong.stderr


def test_generator_is_described_sampled_and_converted(tmp_path):
    said = run("inspect", "avatars-128", "--samples", 3, "--seed", 1, "-o", tmp_path / "s.png")
    assert said.exit_code == 0, said.output
    for fact in ("128×128", "3,544,901", "W++ [12, 192, 256]", "7.5"):
        assert fact in said.output
    G = invert.load_generator("avatars-128")
    draws = rng(1)
    for i in range(3):
        image = G.synthesize(G.mapping(torch.randn(1, 128, generator=draws)))
        assert (
            pixels(tmp_path / "s.png")[:, 128 * i : 128 * i + 128]
            == numpy.array(files.to_pil(image))
        ).all()
    nvidia = Path(__file__).parent.parent / "data" / "nvlabs-like.pkl"
    assert run("convert", nvidia, tmp_path / "c.safetensors").exit_code == 0
    w = torch.randn(1, 48, generator=rng())
    both = [
        invert.load_generator(path).synthesize(w) for path in (nvidia, tmp_path / "c.safetensors")
    ]
    assert torch.equal(*both)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("c")] == ["c.safetensors"]


def test_generators_lists_bundled_and_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("DEGRADE_CACHE", str(tmp_path))
    (tmp_path / "0123-ffhq.pkl").write_bytes(b"x")
    said = run("generators")
    assert (
        said.exit_code == 0
        and "avatars-128" in said.output
        and str(tmp_path / "0123-ffhq.pkl") in said.output
    )


def test_ops_shows_a_published_pipeline():
    output = run("ops", "codeformer").output
    assert "Zhou et al. 2022" in output and "Motion kernels" in output
    assert "resize:scale=0.0333333..0.25^-1" in output.replace("\n", "").replace(" ", "")
    assert "real-esrgan-x4" in run("ops").output


def test_completion_offers_operator_names():
    ours = []
    for name, cls in degrade.registry.REGISTRY.items():
        if cls.__module__.startswith("degrade."):
            ours.append(name)
    assert operator_names("") == sorted(ours)
    assert operator_names("poisson") == ["poisson", "poissongaussian"]


@pytest.mark.parametrize("name", operator_names(""))
def test_ops_shows_one_operator_in_full(name):
    result = run("ops", name)
    assert result.exit_code == 0, result.output
    cls = degrade.registry.REGISTRY[name]
    text = " ".join(result.output.replace("│", " ").split())
    for parameter in described(cls):
        assert f"{parameter.name} {parameter.description.split()[0]}" in text
    assert " ".join(inspect.getdoc(cls).split()[:4]) in text
    example = text.partition(" example ")[2].split("└")[0].strip()
    assert degrade.parse(example)[0].name == name


def test_inspect_tells_mode_depth_alpha_and_profile(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGBA", (8, 9), (9, 9, 9, 99)).save(tmp_path / "alpha.png", icc_profile=srgb)
    Image.new("P", (8, 9)).save(tmp_path / "palette.png")
    Image.fromarray(numpy.full((9, 8), 40_000, numpy.uint16)).save(tmp_path / "deep.png")
    expected = {
        "alpha": ("RGBA, 8 bits", "laid over white", "sRGB built-in"),
        "palette": ("P, 1 bit per pixel", "1 colours", "none; sRGB is assumed"),
        "deep": ("I;16, 16 bits", "8×9", "transparency none"),
    }
    for name, words in expected.items():
        result = run("inspect", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
        text = " ".join(result.output.replace("│", " ").split())
        for word in words:
            assert word in text
    (tmp_path / "broken.png").write_text("x")
    (tmp_path / "empty.png").touch()
    listed = run("inspect", tmp_path)
    assert listed.exit_code == 3 and listed.stderr.count("error: ") == 2
    for name in ("broken", "empty"):
        assert f"error: {tmp_path}/{name}.png " in listed.stderr
        single = run("inspect", tmp_path / f"{name}.png")
        assert single.stderr.startswith(f"error: {tmp_path}/{name}.png ")
    assert all(f"{name}.png" in listed.stdout for name in expected)


def test_inspect_folder_tells_of_a_jpeg_without_a_model(tmp_path):
    """A JPEG of CMYK, which is shown as RGB, is no untouched picture (`identity`)."""
    Image.open(AVATARS / "000.png").convert("CMYK").save(tmp_path / "a.jpg")
    for what in (tmp_path / "a.jpg", tmp_path):
        output = run("inspect", what).output
        text = " ".join(output.replace("│", " ").split())
        assert "the file is a JPEG of CMYK, which is shown as RGB" in text
    assert "identity" not in output
