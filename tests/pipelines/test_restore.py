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
from safetensors.torch import load_file

import degrade
import invert
from degrade.rng import child_seed
from pipelines import files
from tests.conftest import AVATARS, rng
from tests.processes import start

from .shell import AVATARS_128, COMMAND, FAST, FOURFOLD, TINY_128, apply, pixels, run, tiny_file


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


def test_sheet_tiles_equal_the_files_they_show(tmp_path):
    """Every tile against pixels made without the code that drew it, for pictures in subfolders."""
    (tmp_path / "in" / "x").mkdir(parents=True)
    shutil.copy(AVATARS / "003.png", tmp_path / "in" / "x" / "a.png")
    apply(tmp_path / "in", output=tmp_path / "o", op="downsample:2 >> gaussian:0.3", seed=4)
    command = ["restore", tmp_path / "o", "-o", tmp_path / "r", *FAST]
    assert run(*command).exit_code == 0
    restored = tmp_path / "r" / "x" / "a.png"
    first, three = restored.stat().st_mtime_ns, Image.open(tmp_path / "r" / "x" / "a.sheet.png")
    assert run(*command, "--clean", tmp_path / "in").exit_code == 0
    assert restored.stat().st_mtime_ns == first  # only the sheet is drawn again
    four = Image.open(tmp_path / "r" / "x" / "a.sheet.png")
    assert [s.width // 264 for s in (three, four)] == [3, 4]

    f = degrade.parse(json.loads((tmp_path / "o" / "x" / "a.json").read_text())["operator"])
    again = f(files.read_image(restored), rng(child_seed(4, "x/a.png")))
    expected = [AVATARS / "003.png", tmp_path / "o" / "x" / "a.png", restored]
    expected = [*map(pixels, expected), (again[0] * 255).round().byte().permute(1, 2, 0).numpy()]
    for i, tile in enumerate(expected):
        shown = numpy.array(four.crop((8 + 264 * i, 26, 264 + 264 * i, 282)))
        assert (shown == tile.repeat(256 // len(tile), 0).repeat(256 // len(tile), 1)).all(), i


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
    command += [
        "--steps",
        0,
        "--perceptual",
        "alex",
        "--generator",
        tmp_path / "g.safetensors",
        "--overwrite",
    ]
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


def alex(source, output, *more, steps=2):
    return run("restore", source, "-o", output, *TINY_128, "--steps", steps, *more)


def test_samples_differ_and_come_with_their_spread(tmp_path):
    apply(AVATARS / "002.png", output=tmp_path / "o", op="downsample:8")
    command = ["restore", tmp_path / "o", "-o", tmp_path / "r", *AVATARS_128, "--steps", 2]
    result = run(*command, "--samples", 3)
    assert result.exit_code == 0, result.output
    shown = [
        pixels(tmp_path / "r" / f"002{part}.png").astype(float)
        for part in ("", ".sample2", ".sample3")
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert abs(shown[i] - shown[j]).mean() > 5
    assert load_file(tmp_path / "r" / "002.latent.safetensors")["latent"].shape == (3, 12, 192, 256)
    assert (
        Image.open(tmp_path / "r" / "002.sheet.png").width == 6 * 264 + 8
    )  # observed, three answers, their spread, degraded again
    (tmp_path / "r" / "002.sample2.png").unlink()  # as after a kill
    assert run(*command, "--samples", 3).exit_code == 0
    assert (pixels(tmp_path / "r" / "002.sample2.png") == shown[1]).all()


def test_init_starts_from_a_written_latent(tmp_path):
    apply(AVATARS / "002.png", output=tmp_path / "o", op="downsample:4")
    assert alex(tmp_path / "o", tmp_path / "r").exit_code == 0
    for number, init in enumerate((tmp_path / "r", tmp_path / "r" / "002.latent.safetensors")):
        result = alex(tmp_path / "o", tmp_path / f"again{number}", "--init", init, steps=0)
        assert result.exit_code == 0, result.output
        assert (
            pixels(tmp_path / f"again{number}" / "002.png") == pixels(tmp_path / "r" / "002.png")
        ).all()
    log = json.loads((tmp_path / "again0" / "002.json").read_text())
    assert len(log["init"]) == 64 and log["loss"] == []
    result = alex(tmp_path / "o", tmp_path / "x", "--init", AVATARS / "000.png")
    assert result.exit_code == 2 and "holds no latent" in result.stderr


def test_restore_passes_its_options_to_the_solver(tmp_path):
    apply(AVATARS / "002.png", output=tmp_path / "o", op="downsample:4 >> deadpixels:0.3")
    assert alex(tmp_path / "o", tmp_path / "r", "--oracle-mask").exit_code == 0
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
    result = alex(tmp_path / "o", tmp_path / "i", *told)
    assert result.exit_code == 0, result.output
    assert len(json.loads((tmp_path / "i" / "002.json").read_text())["identity"].split()) == 2
    for wrong, words in [
        (("--person", AVATARS / "002.png"), "needs --embedding"),
        (("--class", 3), "has no classes"),
        (("--method", "ddrm"), "needs a denoiser"),
        (("--embedding", tmp_path / "none"), "is no file"),
    ]:
        result = alex(tmp_path / "o", tmp_path / "w", *wrong)
        assert (
            result.exit_code == 2
            and words in result.stderr.splitlines()[0]
            and "Traceback" not in result.stderr
        )


@pytest.mark.slow
def test_report_measures_a_folder_of_restorations(tmp_path):
    shutil.copytree(
        AVATARS, tmp_path / "in", ignore=lambda folder, names: set(names) - {"000.png", "001.png"}
    )
    apply(tmp_path / "in", output=tmp_path / "o", op="downsample:4 >> jpeg:40")
    result = alex(tmp_path / "o", tmp_path / "r", "--report")
    assert result.exit_code == 0, result.output
    assert "accuracy" not in (tmp_path / "r" / "tables.md").read_text().replace("Accuracy", "")
    assert (
        alex(tmp_path / "o", tmp_path / "r", "--report", "--clean", tmp_path / "in").exit_code == 0
    )
    table, page = ((tmp_path / "r" / name).read_text() for name in ("tables.md", "report.html"))
    rows = (tmp_path / "r" / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "accuracy calibrated" in table and "patch-FD (VGG) calibrated" in table
    f = degrade.parse(json.loads((tmp_path / "o" / "000.json").read_text())["operator"])
    restored = files.read_image(tmp_path / "r" / "000.png")
    fidelity = invert.perceptual.lpips(f(restored), files.read_image(tmp_path / "o" / "000.jpg"))
    written = dict(zip(rows[0].split(","), rows[1].split(","), strict=True))
    assert float(written["fidelity"]) == pytest.approx(fidelity.item(), abs=1e-4)
    assert page.count("data:image/") >= 6 and str(tmp_path) not in page


def test_report_leaves_out_failures_and_other_runs(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "o", op="pool:2")
    command = ("restore", tmp_path / "o", "-o", tmp_path / "r", *TINY_128, "--report", "--steps")
    assert run(*command, 2).exit_code == 0
    (tmp_path / "o" / "001.png").write_bytes(b"no picture")
    result = run(*command, 1, "--overwrite")
    assert result.exit_code == 3 and "001.png" in result.stderr
    rows = (tmp_path / "r" / "results.csv").read_text().splitlines()
    assert (
        len(rows) == 2
        and ",000," in rows[1]
        and "Shortened: 1 steps" in (tmp_path / "r" / "tables.md").read_text()
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


@pytest.mark.parametrize("name", ["report.html", "tables.md", "results.csv"])
def test_report_does_not_replace_other_files(tmp_path, name):
    """Neither after a restoration nor after a benchmark, and both say so before they begin."""
    (tmp_path / name).write_text("mine")
    quick = [*FAST, "-o", tmp_path]
    for command in (
        ["restore", AVATARS / "000.png", "--op", "clamp", "--report"],
        ["bench", "--images", AVATARS, "--limit", 1, "--tasks", "UNAP"],
    ):
        result = run(*command, *quick)
        assert (
            result.exit_code == 2
            and f"{name} exists, and degrade did not write it" in result.stderr
        )
        assert [path.name for path in tmp_path.iterdir()] == [name] and (
            tmp_path / name
        ).read_text() == "mine"


def test_overwrite_removes_an_outdated_report(tmp_path):
    command = ["restore", AVATARS / "000.png", "--op", "clamp", "-o", tmp_path / "r", *FAST]
    names = {"report.html", "results.csv", "tables.md"}
    assert run(*command, "--report").exit_code == 0
    again = run(*command)  # nothing is replaced, so the report is still right
    assert again.exit_code == 0 and "report" not in again.stderr
    assert names <= {path.name for path in (tmp_path / "r").iterdir()}
    other = run(*command, "--overwrite", "--seed", 1)
    assert other.exit_code == 0 and "its report described results that are replaced" in other.stderr
    assert not names & {path.name for path in (tmp_path / "r").iterdir()}
    (tmp_path / "r" / "report.html").write_text("mine")
    assert run(*command, "--overwrite", "--seed", 2).exit_code == 0
    assert (tmp_path / "r" / "report.html").read_text() == "mine"


def test_clean_of_other_size_or_picture_is_refused(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path / "o", op="downsample:2 >> poisson:40")
    Image.open(AVATARS / "000.png").resize((100, 100)).save(tmp_path / "small.png")
    for clean, words in (
        (AVATARS / "001.png", "is not the picture that became"),
        (tmp_path / "small.png", "has 100x100 pixels and"),
    ):
        result = alex(tmp_path / "o", tmp_path / "r", "--clean", clean, "--quiet", steps=1)
        assert result.exit_code == 2 and words in result.stderr
        assert result.stderr.count("\n") == 1 and not (tmp_path / "r").exists()
    assert alex(tmp_path / "o", tmp_path / "r", "--clean", AVATARS, steps=1).exit_code == 0


@pytest.mark.parametrize("op", ["downsample:2 >> poisson:40", "jpeg:20", "gaussian:0.2 >> clamp"])
def test_clean_without_manifest_is_checked_by_likeness(tmp_path, op):
    apply(AVATARS / "000.png", output=tmp_path / "o", op=op, seed=3)
    (tmp_path / "o" / "000.json").unlink()
    observed = next((tmp_path / "o").iterdir())
    command = ["restore", observed, "--op", op, "-o", tmp_path / "r", *FAST, "--clean"]
    right = run(*command, AVATARS / "000.png")
    assert right.exit_code == 0 and "only by size and by a coarse likeness" in right.stderr
    upside_down = tmp_path / "other.png"
    Image.open(AVATARS / "000.png").transpose(Image.Transpose.ROTATE_180).save(upside_down)
    wrong = run(*command, upside_down, "--overwrite")
    assert wrong.exit_code == 2 and f"other.png does not look like {observed}" in wrong.stderr


def test_restore_skips_what_is_done_and_says_so(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "o", op="pool:2")
    assert "skipped" not in alex(tmp_path / "o", tmp_path / "r", steps=1).stderr
    (tmp_path / "r" / "001.png").unlink()
    again = alex(tmp_path / "o", tmp_path / "r", steps=1)
    assert again.exit_code == 0 and "1 already done, skipped" in again.stderr
    assert "2 of 2 001.png" in again.stderr  # one bar for both
    other = alex(tmp_path / "o", tmp_path / "r", steps=2)
    assert other.exit_code == 2 and "(--steps 1 → 2); add --overwrite" in other.stderr


def test_log_holds_the_curve_of_each_term(tmp_path):
    result = alex(AVATARS / "000.png", tmp_path, "--op", "clamp", "--samples", 2, steps=3)
    assert result.exit_code == 0, result.output
    log = json.loads((tmp_path / "000.json").read_text())
    assert log["terms"] and all(len(curve) == 3 for curve in log["terms"].values())


def test_restore_keeps_grey_and_says_so(tmp_path):
    Image.open(AVATARS / "000.png").convert("L").save(tmp_path / "grey.png")
    apply(tmp_path / "grey.png", output=tmp_path / "o", op="gaussian:0.1 >> jpeg:50")
    clean = ["--clean", tmp_path / "grey.png"]
    result = alex(tmp_path / "o", tmp_path / "r", *clean, steps=1)
    assert result.exit_code == 0, result.output
    assert "grey.jpg: it is grey, and so is the result" in result.stderr
    assert Image.open(tmp_path / "r" / "grey.png").mode == "L"
    sheet = (tmp_path / "r" / "grey.sheet.png").read_bytes()
    assert alex(tmp_path / "o", tmp_path / "r", steps=1).exit_code == 0
    redrawn = alex(tmp_path / "o", tmp_path / "r", *clean, steps=1)  # from the files
    assert redrawn.exit_code == 0 and (tmp_path / "r" / "grey.sheet.png").read_bytes() == sheet


def test_restore_keeps_grey_of_16_bits(tmp_path):
    image = numpy.array(Image.open(AVATARS / "000.png").convert("L")).astype(numpy.uint16)
    Image.fromarray(image * 257 + 1).save(tmp_path / "deep.png")
    result = alex(tmp_path / "deep.png", tmp_path / "r", "--op", "gaussian:0.1", steps=1)
    assert result.exit_code == 0 and "rounded" not in result.stderr, result.output
    restored = Image.open(tmp_path / "r" / "deep.png")
    levels = numpy.array(restored)
    assert restored.mode == "I;16" and len(numpy.unique(levels)) > 256


def test_restore_of_op_gray_gives_colour(tmp_path):
    Image.open(AVATARS / "000.png").convert("L").save(tmp_path / "grey.png")
    result = alex(tmp_path / "grey.png", tmp_path / "r", "--op", "gray", steps=1)
    assert result.exit_code == 0 and "so is the result" not in result.stderr, result.output
    assert Image.open(tmp_path / "r" / "grey.png").mode == "RGB"


def test_jpeg_without_a_model_is_told_in_words(tmp_path):
    path = tmp_path / "p.jpg"
    Image.open(AVATARS / "000.png").convert("CMYK").save(path)
    inspected = run("inspect", path)
    assert inspected.exit_code == 0 and "JPEG of CMYK, which is shown as RGB" in inspected.stdout
    result = alex(path, tmp_path / "r", steps=1)
    assert result.exit_code == 0, result.output
    assert "JPEG of CMYK, which is shown as RGB" in result.stderr


def test_note_never_prints_a_long_list(tmp_path):
    tables = [list(range(1, 65)), [7] * 64]
    Image.open(AVATARS / "000.png").convert("RGB").save(tmp_path / "p.jpg", qtables=tables)
    result = alex(tmp_path / "p.jpg", tmp_path / "r", steps=1)
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
