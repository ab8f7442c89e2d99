"""`degrade apply --pairs` and `--shards`: training pairs as folders and as tar files."""

import json
import os
import shutil
import tarfile

import numpy
import pytest
import torch
from PIL import Image

import degrade
from pipelines import files
from pipelines.apply import again
from tests.conftest import AVATARS

from .shell import apply, contents, pixels, run

NOISY = "gaussian:0.01..0.1"


def stop_after_renames(monkeypatch, count):
    """Let `count` files be renamed, and interrupt the next rename as Ctrl-C does."""
    rename = os.replace
    remaining = count

    def replace(source, target):
        nonlocal remaining
        if remaining == 0:
            raise KeyboardInterrupt
        remaining -= 1
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_pairs_have_the_layout_of_basicsr(tmp_path):
    """Equal names in both folders, clean sides a whole multiple, other draws for each pair."""
    (tmp_path / "in").mkdir()
    with Image.open(AVATARS / "003.png") as picture:
        picture.convert("RGB").crop((0, 0, 35, 33)).save(tmp_path / "in" / "a.png")
    op = "frame(gaussian:0.02..0.1 >> resize:scale=0.25,of=frame,rounding=floor) >> jpeg:50..90"
    apply(tmp_path / "in", "--pairs", 2, output=tmp_path / "out", op=op, seed=1)
    for folder, size in (("HQ", (32, 32)), ("LQ", (8, 8))):
        pictures = sorted((tmp_path / "out" / folder).glob("*.png"))
        assert [path.name for path in pictures] == ["a_1.png", "a_2.png"]
        assert {Image.open(path).size for path in pictures} == {size}
    low, clean = tmp_path / "out" / "LQ", tmp_path / "out" / "HQ"
    assert numpy.array_equal(pixels(clean / "a_1.png"), pixels(tmp_path / "in" / "a.png")[:32, :32])
    assert not numpy.array_equal(pixels(low / "a_1.png"), pixels(low / "a_2.png"))
    manifest = json.loads((low / "a_2.json").read_text())
    x = files.read_image(clean / "a_2.png")
    y = again(x, manifest, degrade.parse(manifest["operator"]))
    assert torch.equal(y, files.read_image(low / "a_2.png"))


def test_one_pair_keeps_the_name(tmp_path):
    apply(AVATARS / "000.png", "--pairs", 1, output=tmp_path, op="jpeg:50")
    assert numpy.array_equal(pixels(tmp_path / "HQ" / "000.png"), pixels(AVATARS / "000.png"))
    low = degrade.JPEG(50)(files.read_image(AVATARS / "000.png"))
    assert torch.equal(files.read_image(tmp_path / "LQ" / "000.png"), low)


def test_more_pairs_add_to_fewer(tmp_path):
    apply(AVATARS / "000.png", "--pairs", 2, output=tmp_path / "a", op=NOISY)
    before, _ = contents(tmp_path / "a")
    apply(AVATARS / "000.png", "--pairs", 10, output=tmp_path / "a", op=NOISY)
    after, _ = contents(tmp_path / "a")
    assert len(after) == 30 and before.items() <= after.items()
    names = [f"000_{number}.png" for number in range(1, 11)]
    assert sorted(path.name for path in (tmp_path / "a" / "HQ").iterdir()) == sorted(names)


def test_pairs_are_completed_after_a_stop_at_any_rename(tmp_path, monkeypatch):
    apply(AVATARS / "000.png", "--pairs", 2, output=tmp_path / "whole", op=NOISY)
    for allowed in range(8):
        output = tmp_path / str(allowed)
        with monkeypatch.context() as patch:
            stop_after_renames(patch, allowed)
            stopped = run("apply", AVATARS / "000.png", "-o", output, "--op", NOISY, "--pairs", 2)
        assert stopped.exit_code == 130
        apply(AVATARS / "000.png", "--pairs", 2, output=output, op=NOISY)
        assert contents(output) == contents(tmp_path / "whole")


def shard_contents(folder):
    """The files of all shards, as tarfile reads them: (name of the shard, name) → bytes."""
    members = {}
    for path in sorted((folder / "shards").iterdir()):
        with tarfile.open(path) as archive:
            for entry in archive:
                members[path.name, entry.name] = archive.extractfile(entry).read()
    return members


def test_shards_hold_the_pairs_in_webdatasets_naming(tmp_path):
    arguments = ("--pairs", 3, "--shards", 2)
    apply(AVATARS / "000.png", *arguments, output=tmp_path, op="gaussian:0.1 >> jpeg:50")
    names = []
    for position in range(3):
        shard = f"pairs-{position // 2:06d}.tar"
        for ending in ("hq.png", "json", "lq.png"):
            names.append((shard, f"{position:08d}.{ending}"))
    members = shard_contents(tmp_path)
    assert list(members) == names
    for position in range(3):
        for folder, ending in (("HQ", "hq.png"), ("LQ", "json"), ("LQ", "lq.png")):
            suffix = ending.removeprefix(f"{folder.lower()}.").removeprefix(".")
            path = tmp_path / folder / f"000_{position + 1}.{suffix}"
            shard = f"pairs-{position // 2:06d}.tar"
            assert members[shard, f"{position:08d}.{ending}"] == path.read_bytes()


def test_shards_are_read_by_the_real_webdataset(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="needs webdataset")
    op = "downsample:2 >> jpeg:50"
    apply(
        AVATARS / "000.png",
        AVATARS / "001.png",
        "--pairs",
        2,
        "--shards",
        3,
        output=tmp_path,
        op=op,
    )
    urls = [str(path) for path in sorted((tmp_path / "shards").iterdir())]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode("torchrgb")
    samples = list(dataset)
    assert [sample["json"]["image"] for sample in samples] == [
        "000_1.png",
        "000_2.png",
        "001_1.png",
        "001_2.png",
    ]
    for sample in samples:
        name = sample["json"]["image"]
        assert torch.equal(sample["lq.png"], files.read_image(tmp_path / "LQ" / name)[0])
        assert torch.equal(sample["hq.png"], files.read_image(tmp_path / "HQ" / name)[0])


def test_shards_are_atomic_and_resume(tmp_path, monkeypatch):
    """A stop at any rename leaves whole shards alone; the same command completes the rest."""
    arguments = ("apply", AVATARS / "000.png", "--op", "clamp", "--pairs", 3, "--shards", 2)
    assert run(*arguments, "-o", tmp_path / "whole").exit_code == 0
    apply(AVATARS / "000.png", "--pairs", 3, output=tmp_path / "a", op="clamp")
    with monkeypatch.context() as patch:
        stop_after_renames(patch, 1)
        assert run(*arguments, "-o", tmp_path / "a").exit_code == 130
    first = tmp_path / "a" / "shards" / "pairs-000000.tar"
    assert list(first.parent.iterdir()) == [first]
    written = first.stat().st_mtime_ns
    assert run(*arguments, "-o", tmp_path / "a").exit_code == 0
    assert first.stat().st_mtime_ns == written
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")


def test_shards_follow_changed_pairs(tmp_path):
    arguments = ("--pairs", 2, "--shards", 2)
    apply(AVATARS / "000.png", *arguments, output=tmp_path, op="jpeg:50")
    apply(AVATARS / "000.png", *arguments, "--overwrite", output=tmp_path, op="jpeg:20")
    members = shard_contents(tmp_path)
    assert json.loads(members["pairs-000000.tar", "00000001.json"])["spec"] == "jpeg:20"
    low = tmp_path / "LQ" / "000_2.png"
    assert members["pairs-000000.tar", "00000001.lq.png"] == low.read_bytes()


def test_shards_of_other_settings_are_refused(tmp_path):
    arguments = ("apply", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp", "--pairs", 2)
    assert run(*arguments, "--shards", 1).exit_code == 0
    other = run(*arguments, "--shards", 2)
    assert other.exit_code == 2
    assert "pairs-000001.tar is a shard of other pictures or settings" in other.output
    (tmp_path / "shards" / "pairs-000001.tar").write_text("mine")
    spoiled = run(*arguments, "--shards", 1)
    assert spoiled.exit_code == 2 and "is no shard of degrade's" in spoiled.output


def test_shards_without_pairs_are_refused(tmp_path):
    result = run("apply", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp", "--shards", 2)
    assert result.exit_code == 2 and "shards=2 needs pairs; add --pairs 1" in result.output


def test_pairs_in_the_inputs_own_folder_are_refused(tmp_path):
    """A second run would take the first one's results for pictures."""
    shutil.copy(AVATARS / "000.png", tmp_path / "a.png")
    for given in (tmp_path, tmp_path / "a.png"):
        result = run("apply", given, "-o", tmp_path, "--op", "clamp", "--pairs", 1)
        assert result.exit_code == 2 and "holds the input; choose another" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
