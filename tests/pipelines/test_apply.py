"""`degrade apply`: files, manifests, folders."""

import json
import os
import shutil

import numpy
import pytest
import torch
from PIL import Image

import degrade
from degrade.rng import child_seed
from pipelines import files
from tests.conftest import AVATARS, rng

from .shell import FAST, FOURFOLD, apply, contents, pixels, run

NOISY = "gaussian:0.01..0.1"


def test_apply_writes_the_exact_result_and_a_manifest(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path, op=FOURFOLD, seed=3)
    manifest = json.loads((tmp_path / "000.json").read_text())
    f = degrade.parse(manifest["operator"])
    assert f.sample((1, 3, 128, 128)) == f  # nothing is left to draw
    assert str(f).endswith("clamp >> quantize")
    assert manifest["size"] == [64, 64] and manifest["source_size"] == [128, 128]
    assert (
        manifest["source"] == "000.png"
        and manifest["seed"] == 3
        and manifest["degrade"] == degrade.__version__
    )
    x = files.read_image(AVATARS / "000.png")
    y = f(x, rng(child_seed(3, "000.png")))
    assert torch.equal(files.read_image(tmp_path / "000.png"), y)


def test_apply_writes_pillows_own_jpeg_bytes(tmp_path):
    apply(AVATARS / "001.png", output=tmp_path, op="downsample:2 >> jpeg:30,subsampling=4:4:4")
    reduced = Image.open(AVATARS / "001.png").convert("RGB").resize((64, 64), Image.BICUBIC)
    reduced.save(tmp_path / "pillow.jpg", quality=30, subsampling="4:4:4")
    assert (tmp_path / "001.jpg").read_bytes() == (tmp_path / "pillow.jpg").read_bytes()
    f = degrade.parse(json.loads((tmp_path / "001.json").read_text())["operator"])
    x = files.read_image(AVATARS / "001.png")
    assert torch.equal(files.read_image(tmp_path / "001.jpg"), f(x))


@pytest.mark.parametrize(
    "settings", ["subsampling=4:4:0", "subsampling=2x2:1x2:1x1", "colour=rgb", "encoder=ijg9e"]
)
def test_apply_writes_jpegs_that_pillow_does_not(settings, tmp_path):
    apply(AVATARS / "001.png", output=tmp_path, op=f"jpeg:30,{settings}")
    f = degrade.parse(f"jpeg:30,{settings}")
    x = files.read_image(AVATARS / "001.png")
    assert torch.equal(files.read_image(tmp_path / "001.jpg"), f(x))


def test_apply_is_repeatable_file_by_file(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "a", op=FOURFOLD)
    apply(AVATARS / "001.png", output=tmp_path / "b", op=FOURFOLD)
    for name in ("001.png", "001.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (
        json.loads((tmp_path / "a" / "000.json").read_text())["operator"]
        != json.loads((tmp_path / "a" / "001.json").read_text())["operator"]
    )


def test_apply_walks_folders_and_keeps_their_tree(tmp_path):
    for place in ("in/x/a.png", "in/y/a.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        Image.new("RGB", (6, 5), "teal").save(tmp_path / place)
    apply(tmp_path / "in", output=tmp_path / "out", op="quantize")
    made = sorted(
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    )
    assert made == ["x/a.json", "x/a.png", "y/a.json", "y/a.png"]


def test_mask_file_is_stored_beside_the_manifest(tmp_path):
    mask = numpy.zeros((128, 128), numpy.uint8)
    mask[:, 64:] = 255
    Image.fromarray(mask).save(tmp_path / "half.png")
    apply(AVATARS / "002.png", output=tmp_path / "out", op=f"mask:{tmp_path / 'half.png'}")
    (tmp_path / "half.png").unlink()
    text = (tmp_path / "out" / "002.json").read_text()
    assert str(tmp_path) not in text
    f = degrade.parse(json.loads(text)["operator"], folder=tmp_path / "out")
    assert torch.equal(f.visible((1, 3, 128, 128))[0, 0], torch.from_numpy(mask) / 255)
    assert (pixels(tmp_path / "out" / "002.png")[:, :64] == 0).all()
    result = run("restore", tmp_path / "out", "-o", tmp_path / "r", *FAST)
    assert result.exit_code == 0, result.output  # the mask beside it is not taken for a picture
    assert str(tmp_path) not in (tmp_path / "r" / "002.json").read_text()


def test_manifest_never_describes_another_runs_picture(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    apply(AVATARS / "000.png", "--overwrite", output=tmp_path, op="jpeg:12")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000.jpg", "000.json"]
    shutil.copy(AVATARS / "000.png", tmp_path / "000.png")
    result = run("restore", tmp_path / "000.png", "-o", tmp_path / "r")
    assert result.exit_code == 2 and "describes '000.jpg', not this picture" in result.output


def test_apply_skips_what_is_done(tmp_path):
    """A second run writes nothing; what is missing, or was only begun, is made again."""
    arguments = ("apply", AVATARS / "000.png", AVATARS / "001.png", "-o", tmp_path, "--op", NOISY)
    arguments += ("--pairs", 1)
    assert run(*arguments).exit_code == 0
    before, _ = contents(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    second = run(*arguments)
    assert "2 already done, skipped" in second.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")} == times
    (tmp_path / "HQ" / "000.png").unlink()
    manifest = tmp_path / "LQ" / "001.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"begun": True}))
    third = run(*arguments)
    assert third.exit_code == 0 and "skipped" not in third.output
    assert contents(tmp_path)[0] == before


@pytest.mark.parametrize("name", ["LQ/000.png", "HQ/000.png"])
@pytest.mark.parametrize("size", [0, 1000])
def test_apply_makes_again_what_was_cut(tmp_path, name, size):
    """A copy that was stopped, or a full disk, may leave half a picture beside its manifest."""
    arguments = ("apply", AVATARS / "000.png", AVATARS / "001.png", "-o", tmp_path, "--op", NOISY)
    arguments += ("--pairs", 1)
    assert run(*arguments).exit_code == 0
    before, _ = contents(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:size])
    again = run(*arguments)
    assert again.exit_code == 0 and "1 already done, skipped" in again.output
    assert contents(tmp_path)[0] == before


def test_apply_makes_again_what_lost_a_mask(tmp_path):
    """An operator may name files, which are a part of its result."""
    Image.new("L", (128, 128), 255).save(tmp_path / "mask.png")
    op = f"mask:{tmp_path / 'mask.png'}"
    apply(AVATARS / "000.png", output=tmp_path / "out", op=op)
    before, _ = contents(tmp_path / "out")
    (saved,) = (path for path in (tmp_path / "out").iterdir() if path.stem != "000")
    saved.unlink()
    apply(AVATARS / "000.png", output=tmp_path / "out", op=op)
    assert contents(tmp_path / "out")[0] == before


@pytest.mark.parametrize("name", ["", "HQ", "LQ"])
def test_file_in_place_of_a_folder_is_refused(tmp_path, name):
    (tmp_path / "in.png").write_bytes((AVATARS / "000.png").read_bytes())
    blocked = tmp_path / "out" / name
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("mine")
    result = run(
        "apply", tmp_path / "in.png", "-o", tmp_path / "out", "--op", "clamp", "--pairs", 1
    )
    assert result.exit_code == 2
    assert f"{blocked} cannot be made, since a file is in its place; choose" in result.output
    assert blocked.read_text() == "mine"


def test_plugin_operator_is_applied(tmp_path, monkeypatch):
    (tmp_path / "negative_plugin.py").write_text(
        "import degrade\ndegrade.register('negative')(lambda x: 1 - x)\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        result = run(
            "apply",
            AVATARS / "007.png",
            "-o",
            "o",
            "--op",
            "negative",
            "--plugin",
            "negative_plugin",
        )
        assert result.exit_code == 0, result.output
        assert (pixels("o/007.png") == 255 - pixels(AVATARS / "007.png")).all()
    finally:
        degrade.registry.REGISTRY.pop("negative", None)
    missing = run(
        "apply", AVATARS / "007.png", "-o", "o", "--op", "clamp", "--plugin", "no_such_module"
    )
    assert missing.exit_code == 2 and "no_such_module" in missing.output
    named = run(
        "apply", AVATARS / "007.png", "-o", "o", "--op", "clamp", "--plugin", "negative_plugin.py"
    )
    assert named.exit_code == 2 and "give the module's name, without .py" in named.output
    for name, code in (("broken", "1 / 0"), ("leaving", "import sys\nsys.exit(7)")):
        (tmp_path / f"{name}_plugin.py").write_text(code)
        plugin = ["--plugin", f"{name}_plugin"]
        broken = run("apply", AVATARS / "007.png", "-o", "o", "--op", "clamp", *plugin)
        assert broken.exit_code == 2 and broken.output.count("\n") == 1
        assert f"plugin '{name}_plugin' cannot be imported" in broken.output


def test_stem_shared_by_two_files_keeps_both(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("p.png", "p.tif", "q.png", "p.tif.png"):
        Image.open(AVATARS / "000.png").convert("RGB").save(folder / name)
    apply(folder, output=tmp_path / "out", op="clamp")
    made = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert made == {"p.png.png", "p.tif.png", "p.tif.png.png", "q.png"}
    manifest = json.loads((tmp_path / "out" / "p.tif.json").read_text())
    assert manifest["source"] == "p.tif" and manifest["image"] == "p.tif.png"


def test_relative_path_given_twice_fails_once(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(AVATARS / "000.png", tmp_path / folder / "p.png")
    inputs = [tmp_path / "a", tmp_path / "b", tmp_path / "a" / "p.png"]
    result = run("apply", *inputs, "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 3 and result.stderr.count("error:") == 1
    assert "would share one result, p.png" in result.stderr
    assert (tmp_path / "out" / "p.png").exists()


def test_overwrite_is_needed_for_other_settings(tmp_path):
    command = ["apply", AVATARS / "000.png", "-o", tmp_path, "--op"]
    assert run(*command, "poisson:20").exit_code == 0
    assert run(*command, "poisson:20").exit_code == 0  # the same command goes on
    before = (tmp_path / "000.png").read_bytes()
    for change in (["poisson:30"], ["poisson:20", "--seed", 1]):
        refused = run(*command, *change)
        assert refused.exit_code == 2 and "add --overwrite to replace them" in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert (tmp_path / "000.png").read_bytes() == before
        assert run(*command, *change, "--overwrite").exit_code == 0
        assert (tmp_path / "000.png").read_bytes() != before
        assert run(*command, "poisson:20", "--overwrite").exit_code == 0


def test_overwrite_is_needed_for_another_picture(tmp_path):
    for folder, index in (("a", 0), ("b", 1)):
        (tmp_path / folder).mkdir()
        shutil.copy(AVATARS / f"{index:03}.png", tmp_path / folder / "face.png")
    command = ["-o", tmp_path / "out", "--op", "jpeg:50"]
    assert run("apply", tmp_path / "a", *command).stderr == ""
    second = run("apply", tmp_path / "a", *command)  # the same command goes on
    assert second.stderr == "1 already done, skipped\n"
    before = (tmp_path / "out" / "face.jpg").read_bytes()
    refused = run("apply", tmp_path / "b", *command)
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert f"of another picture than {tmp_path / 'b' / 'face.png'}" in refused.stderr
    assert "add --overwrite to replace them" in refused.stderr
    assert (tmp_path / "out" / "face.jpg").read_bytes() == before
    replaced = run("apply", tmp_path / "b", *command, "--overwrite")
    assert replaced.exit_code == 0 and "another picture of this name is replaced" in replaced.stderr


FAULTY = """
import degrade, torch

@degrade.register('faulty')
def faulty(x):
    kind = round(x[0, 0, 0, 0].item() * 255)
    if kind == 1: return x * float('nan')
    if kind == 2: raise IndexError('no such row')
    if kind == 3: return None
    if kind == 4: raise KeyError('onto')
    if kind == 5: raise RuntimeError('no such kernel')
    if kind == 6: raise MemoryError
    if kind == 7: return x[0]
    if kind == 9: return (x * 255).byte()
    if kind == 10: return x / 0
    if kind == 11: raise SystemExit('stop')
    if kind == 12: return x.repeat(1, 2, 1, 1)
    if kind == 13: return x.to_sparse()
    if kind == 14: return x[..., 1:]
    if kind == 15: return x[:, :1]
    return x
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_plugin_errors_fail_single_pictures_only(tmp_path, monkeypatch, threads):
    (tmp_path / "in").mkdir()
    for kind in range(16):
        Image.new("RGB", (8, 8), (kind, 9, 9)).save(tmp_path / "in" / f"{kind}.png")
    (tmp_path / f"faulty{threads}.py").write_text(FAULTY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    try:
        command = ["apply", "in", "-o", "out", "--op", "faulty", "--plugin", f"faulty{threads}"]
        result = run(*command)
    finally:
        degrade.registry.REGISTRY.pop("faulty", None)
    lines = result.stderr.splitlines()
    assert result.exit_code == 3, result.output
    assert sorted(line.split(":")[1].strip() for line in lines) == [
        f"in/{kind}.png" for kind in (1, 10, 11, 12, 13, 14, 15, 2, 3, 4, 5, 6, 7, 9)
    ]
    assert all(line.startswith("error:") for line in lines)
    wrong_outputs = {
        1: "NaN",
        3: "NoneType",
        7: "shape",
        9: "torch.uint8",
        10: "NaN or infinity",
        12: "[1, 6, 8, 8], and its output_shape says [1, 3, 8, 8]",
        13: "torch.sparse_coo",
        14: "[1, 3, 8, 7], and its output_shape says",
        15: "[1, 1, 8, 8], and its output_shape says",
    }
    for kind, words in wrong_outputs.items():
        named = f"error: in/{kind}.png: stage 1, faulty: gives {words}"
        assert any(line.startswith(named) for line in lines), (kind, lines)
    raised = {
        2: "IndexError: no such row",
        4: "KeyError: 'onto'",
        5: "RuntimeError: no such kernel",
        11: "SystemExit: stop",
    }
    for kind, words in raised.items():
        named = f"error: in/{kind}.png: stage 1, faulty: {words}"
        assert any(line.startswith(named) for line in lines), (kind, lines)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"0.png", "8.png"}


PACKED = """
import degrade

@degrade.register('packed')
class Packed(degrade.Operator):
    def forward(self, x, rng):
        return x.repeat(1, 2, 1, 1)
    def output_shape(self, shape):
        return (shape[0], 2 * shape[1], *shape[2:])
"""


def test_channels_no_file_has_name_their_stage(tmp_path, monkeypatch):
    (tmp_path / "packed_plugin.py").write_text(PACKED)
    monkeypatch.chdir(tmp_path)
    command = ["apply", AVATARS / "000.png", "-o", "out", "--plugin", "packed_plugin", "--op"]
    try:
        result = run(*command, "clamp >> packed >> clamp")
    finally:
        degrade.registry.REGISTRY.pop("packed", None)
    assert result.exit_code == 2
    assert "packed makes 6 channels, and a picture has 1 (grey) or 3 (RGB)" in result.stderr


def test_cmyk_of_a_file_that_is_read_as_rgb_says_what_to_do(tmp_path):
    levels = numpy.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=numpy.uint8)
    path = tmp_path / "cmyk.jpg"
    Image.fromarray(levels, "CMYK").save(path)
    result = run("apply", path, "-o", tmp_path / "out", "--op", "jpeg:50,colour=cmyk")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "files are read as RGB or grey: leave colour=cmyk out" in result.stderr


def test_codec_limit_fails_one_picture_only(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (70000, 2)).save(tmp_path / "in" / "long.png")
    shutil.copy(AVATARS / "000.png", tmp_path / "in" / "z.png")
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "codec:avif,50")
    assert result.exit_code == 3 and result.stderr.count("\n") == 1
    assert "long.png" in result.stderr and (tmp_path / "out" / "z.png").exists()
