"""`degrade restore`: pictures, sheets, logs, and what is solved anew."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import degrade
import invert
from tests.conftest import AVATARS
from tests.processes import start

from .shell import COMMAND, FAST, FOURFOLD, TINY_128, apply, pixels, restore, run, tiny_file


def test_restore_reads_manifest_and_writes_all_files(tmp_path):
    apply(AVATARS / "003.png", output=tmp_path / "observed", op=FOURFOLD)
    arguments = [
        "restore",
        tmp_path / "observed",
        "--output",
        tmp_path / "restored",
        "--clean",
        AVATARS,
    ]
    arguments += [*TINY_128, "--method", "robust", "--steps", 3]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    out = tmp_path / "restored"
    assert sorted(p.name for p in out.iterdir()) == [
        "003.json",
        "003.latent.safetensors",
        "003.png",
        "003.sheet.png",
    ]
    assert Image.open(out / "003.png").size == (128, 128)
    width, height = Image.open(out / "003.sheet.png").size
    assert 3.5 < width / height < 4  # four tiles
    log = json.loads((out / "003.json").read_text())
    assert len(log["loss"]) == 3 and log["assumed"].startswith(
        "pool:2 >> clamp >> poisson:48,model=gaussian"
    )
    assert log["method"] == "robust" and log["steps"] == 3
    assert str(tmp_path) not in (out / "003.json").read_text()

    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    assert run(*arguments).exit_code == 0  # done already: nothing is written again
    assert before == {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    assert run(*arguments, "--seed", 1, "--overwrite").exit_code == 0
    assert (out / "003.png").read_bytes() != before["003.png"][1]


def test_restore_depends_on_name_not_on_other_files(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(AVATARS / "000.png", tmp_path / "in" / name)
    options = ["--steps", 2, *TINY_128, "--op", "gaussian:0.2"]
    assert run("restore", tmp_path / "in", "-o", tmp_path / "both", *options).exit_code == 0
    assert (
        run("restore", tmp_path / "in" / "b.png", "-o", tmp_path / "one", *options).exit_code == 0
    )
    a, b, alone = (
        json.loads((tmp_path / p).read_text())["loss"]
        for p in ("both/a.json", "both/b.json", "one/b.json")
    )
    assert b == alone and a != b


@pytest.mark.skipif(sys.platform != "linux", reason="file names of arbitrary bytes")
def test_restore_takes_names_that_are_not_text(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(AVATARS / "000.png", os.fsencode(tmp_path / "in") + b"/\xff.png")
    for command in (
        ["apply", tmp_path / "in", "-o", tmp_path / "o", "--op", "clamp"],
        ["restore", tmp_path / "o", "-o", tmp_path / "r", *FAST],
    ):
        exit_code, errors = start(tmp_path, *command)
        assert exit_code == 0, errors
    assert os.path.exists(os.fsencode(tmp_path / "r") + b"/\xff.sheet.png")


def test_restore_notices_a_replaced_generator_file(tmp_path):
    command = ["restore", AVATARS / "000.png", "-o", tmp_path / "r", "--op", "gaussian:0.1"]
    command += ["--steps", 0, "--method", "robust", "--perceptual", "alex", "--overwrite"]
    command += ["--generator", tmp_path / "g.safetensors"]
    G, restored = invert.load_generator(tiny_file(128)), []
    for shift in (0, 1):
        G.mapping.w_avg.add_(shift)
        invert.save_generator(G, tmp_path / "g.safetensors")
        assert run(*command).exit_code == 0
        restored.append(pixels(tmp_path / "r" / "000.png"))
    assert (restored[0] != restored[1]).any()
    assert str(tmp_path) not in (tmp_path / "r" / "000.json").read_text()


def test_restore_takes_op_from_the_command_line(tmp_path):
    apply(AVATARS / "004.png", output=tmp_path, op="downsample:4 >> jpeg:30")
    (tmp_path / "004.json").unlink()
    out = tmp_path / "out"
    command = ["restore", tmp_path / "004.jpg", "-o", out, *FAST]
    told = run(*command, "--op", "downsample:4 >> jpeg:30")
    assert (
        told.exit_code == 0
        and "estimated" not in told.stderr
        and pixels(out / "004.png").shape == (128, 128, 3)
    )
    shutil.rmtree(out)
    guessed = run(*command)  # what nobody can know of a file: how much larger it was
    assert guessed.exit_code == 0 and "estimated degradation: jpeg:30;" in guessed.stderr
    assert pixels(out / "004.png").shape == (32, 32, 3)


def test_manifest_cannot_reach_outside_its_folder(tmp_path):
    apply(AVATARS / "005.png", output=tmp_path / "o", op="clamp")
    Image.new("L", (128, 128)).save(tmp_path / "secret.png")
    manifest = json.loads((tmp_path / "o" / "005.json").read_text())
    (tmp_path / "o" / "005.json").write_text(
        json.dumps(manifest | {"operator": "mask:../secret.png"})
    )
    result = run("restore", tmp_path / "o", "-o", tmp_path / "r", "--steps", 1)
    assert result.exit_code == 2 and "outside" in result.output


def interrupt_when_restoring():
    restore = invert.restore

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return restore(*arguments, **options)

    invert.restore = interrupted


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupt_leaves_no_partial_files(tmp_path):
    apply(AVATARS / "006.png", output=tmp_path / "observed", op="downsample:4")
    command = ["restore", tmp_path / "observed", "-o", tmp_path / "r", "--quiet"]
    exit_code, errors = start(tmp_path, *command, before=interrupt_when_restoring)
    assert exit_code == 130 and errors.startswith("interrupted") and errors.count("\n") == 1
    assert not (tmp_path / "r").exists() or not list((tmp_path / "r").iterdir())


def test_restore_notices_a_new_observation(tmp_path):
    command = ["restore", tmp_path / "o", "-o", tmp_path / "r", *FAST]
    for seed in (0, 9):
        observed = tmp_path / "o"
        apply(AVATARS / "000.png", "--overwrite", output=observed, op="poisson:10", seed=seed)
        result = run(*command)
        assert result.exit_code == 0
        assert ("another picture of this name is replaced" in result.stderr) == (seed == 9)
        restored = pixels(tmp_path / "r" / "000.png")
        if seed == 0:
            first = restored
    assert (restored != first).any()


@pytest.mark.parametrize(
    "change",
    [
        {"operator": 5},
        {"seed": "x"},
        {"source": 5},
        {"source": "../../etc/passwd"},
        {"kind": "log"},
    ],
)
def test_manifest_edited_wrongly_is_a_one_line_error(tmp_path, change):
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    manifest = json.loads((tmp_path / "000.json").read_text())
    (tmp_path / "000.json").write_text(json.dumps(manifest | change))
    result = run(
        "restore", tmp_path / "000.png", "-o", tmp_path / "r", "--clean", AVATARS, "--steps", 0
    )
    assert result.exit_code == 2 and "error:" in result.output


def test_init_starts_from_a_written_latent(tmp_path):
    apply(AVATARS / "002.png", output=tmp_path / "o", op="downsample:4")
    assert restore(tmp_path / "o", tmp_path / "r").exit_code == 0
    for number, init in enumerate((tmp_path / "r", tmp_path / "r" / "002.latent.safetensors")):
        result = restore(tmp_path / "o", tmp_path / f"again{number}", "--init", init, steps=0)
        assert result.exit_code == 0, result.output
        assert (
            pixels(tmp_path / f"again{number}" / "002.png") == pixels(tmp_path / "r" / "002.png")
        ).all()
    log = json.loads((tmp_path / "again0" / "002.json").read_text())
    assert len(log["init"]) == 64 and log["loss"] == []
    result = restore(tmp_path / "o", tmp_path / "x", "--init", AVATARS / "000.png")
    assert result.exit_code == 2 and "holds no latent" in result.stderr


def test_restore_passes_its_options_to_the_solver(tmp_path):
    apply(AVATARS / "002.png", output=tmp_path / "o", op="downsample:4 >> deadpixels:0.3")
    assert restore(tmp_path / "o", tmp_path / "r", "--oracle-mask").exit_code == 0
    log = json.loads((tmp_path / "r" / "002.json").read_text())
    assert log["oracle_mask"] is True and "deadpixels:0.3,seed=" in log["assumed"]
    told = (
        "--method",
        "adam-id",
        "--embedding",
        tmp_path / "e.pt",
        "--person",
        AVATARS / "002.png",
    )
    flat = torch.jit.script(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    flat.save(str(tmp_path / "e.pt"))
    result = restore(tmp_path / "o", tmp_path / "i", *told)
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "i" / "002.json").read_text())["identity"].split()) == 2
    for wrong, words in [
        (("--person", AVATARS / "002.png"), "needs --embedding"),
        (("--class", 3), "has no classes"),
        (("--method", "ddrm"), "needs a denoiser"),
        (("--embedding", tmp_path / "none"), "is no file"),
    ]:
        result = restore(tmp_path / "o", tmp_path / "w", *wrong)
        assert (
            result.exit_code == 2
            and words in result.stderr.splitlines()[0]
            and "Traceback" not in result.stderr
        )


def test_keep_visible_keeps_certain_pixels(tmp_path):
    quick = ["--steps", 2, *TINY_128, "--keep-visible"]
    apply(AVATARS / "003.png", output=tmp_path / "o", op="strokes:5")
    result = run("restore", tmp_path / "o", "-o", tmp_path / "r", *quick)
    assert result.exit_code == 0 and "nothing is kept" not in result.stderr
    manifest = json.loads((tmp_path / "o" / "003.json").read_text())
    seen = degrade.parse(manifest["operator"]).visible((1, 3, 128, 128))[0, 0].numpy() == 1
    assert 5000 < seen.sum() < 128 * 128
    restored, clean = pixels(tmp_path / "r" / "003.png"), pixels(AVATARS / "003.png")
    assert (restored[seen] == clean[seen]).all() and (restored[~seen] != clean[~seen]).any()
    drawn = [*quick[:-1], "--no-keep-visible"]
    assert run("restore", tmp_path / "o", "-o", tmp_path / "d", *drawn).exit_code == 0
    assert (pixels(tmp_path / "d" / "003.png")[seen] != clean[seen]).any()
    noisy = run(
        "restore", tmp_path / "o" / "003.png", "-o", tmp_path / "n", "--op", "gaussian:0.1", *quick
    )
    assert (
        noisy.exit_code == 0
        and "nothing is kept, for gaussian:0.1 leaves nothing certain" in noisy.stderr
    )


def test_restore_skips_what_is_done_and_says_so(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "o", op="pool:2")
    assert "skipped" not in restore(tmp_path / "o", tmp_path / "r", steps=1).stderr
    (tmp_path / "r" / "001.png").unlink()
    again = restore(tmp_path / "o", tmp_path / "r", steps=1)
    assert again.exit_code == 0 and "1 already done, skipped" in again.stderr
    assert "2 of 2 001.png" in again.stderr  # one bar for both
    other = restore(tmp_path / "o", tmp_path / "r", steps=2)
    assert other.exit_code == 2 and "(--steps 1 → 2); add --overwrite" in other.stderr


def test_log_holds_the_curve_of_each_term(tmp_path):
    result = restore(AVATARS / "000.png", tmp_path, "--op", "clamp", "--samples", 2, steps=3)
    assert result.exit_code == 0, result.output
    log = json.loads((tmp_path / "000.json").read_text())
    assert log["terms"] and all(len(curve) == 3 for curve in log["terms"].values())


def test_restore_keeps_grey_and_says_so(tmp_path):
    Image.open(AVATARS / "000.png").convert("L").save(tmp_path / "grey.png")
    apply(tmp_path / "grey.png", output=tmp_path / "o", op="gaussian:0.1 >> jpeg:50")
    clean = ["--clean", tmp_path / "grey.png"]
    result = restore(tmp_path / "o", tmp_path / "r", *clean, steps=1)
    assert result.exit_code == 0, result.output
    assert "grey.jpg: it is grey, and so is the result" in result.stderr
    assert Image.open(tmp_path / "r" / "grey.png").mode == "L"
    sheet = (tmp_path / "r" / "grey.sheet.png").read_bytes()
    assert restore(tmp_path / "o", tmp_path / "r", steps=1).exit_code == 0
    redrawn = restore(tmp_path / "o", tmp_path / "r", *clean, steps=1)  # from the files
    assert redrawn.exit_code == 0 and (tmp_path / "r" / "grey.sheet.png").read_bytes() == sheet


def test_restore_keeps_grey_of_16_bits(tmp_path):
    image = numpy.array(Image.open(AVATARS / "000.png").convert("L")).astype(numpy.uint16)
    Image.fromarray(image * 257 + 1).save(tmp_path / "deep.png")
    result = restore(tmp_path / "deep.png", tmp_path / "r", "--op", "gaussian:0.1", steps=1)
    assert result.exit_code == 0 and "rounded" not in result.stderr, result.output
    restored = Image.open(tmp_path / "r" / "deep.png")
    levels = numpy.array(restored)
    assert restored.mode == "I;16" and len(numpy.unique(levels)) > 256


def test_restore_of_op_gray_gives_colour(tmp_path):
    Image.open(AVATARS / "000.png").convert("L").save(tmp_path / "grey.png")
    result = restore(tmp_path / "grey.png", tmp_path / "r", "--op", "gray", steps=1)
    assert result.exit_code == 0 and "so is the result" not in result.stderr, result.output
    assert Image.open(tmp_path / "r" / "grey.png").mode == "RGB"


def test_jpeg_without_a_model_is_told_in_words(tmp_path):
    path = tmp_path / "p.jpg"
    Image.open(AVATARS / "000.png").convert("CMYK").save(path)
    inspected = run("inspect", path)
    assert inspected.exit_code == 0 and "JPEG of CMYK, which is shown as RGB" in inspected.stdout
    result = restore(path, tmp_path / "r", steps=1)
    assert result.exit_code == 0, result.output
    assert "JPEG of CMYK, which is shown as RGB" in result.stderr


def test_note_never_prints_a_long_list(tmp_path):
    tables = [list(range(1, 65)), [7] * 64]
    Image.open(AVATARS / "000.png").convert("RGB").save(tmp_path / "p.jpg", qtables=tables)
    result = restore(tmp_path / "p.jpg", tmp_path / "r", steps=1)
    assert result.exit_code == 0, result.output
    assert "numbers)" in result.stderr and "|11|12|13" not in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_restore_works_with_a_full_stderr(tmp_path):
    """In a Python of its own, which also ends with a stream that cannot be flushed."""
    command = [COMMAND, "restore", AVATARS / "000.png", "--op", "clamp", *FAST]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*map(str, command), "-o", tmp_path / "r"], stderr=full, timeout=300)
    assert done.returncode == 0 and (tmp_path / "r" / "000.json").exists()
