"""What `degrade restore` shows beside a result: the clean picture of `--clean`, several samples."""

import json
import shutil

import numpy
import pytest
from PIL import Image
from safetensors.torch import load_file

import degrade
from degrade.rng import child_seed
from pipelines import files
from tests.conftest import AVATARS, rng

from .shell import AVATARS_128, FAST, apply, pixels, restore, run


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


def test_clean_of_other_size_or_picture_is_refused(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path / "o", op="downsample:2 >> poisson:40")
    Image.open(AVATARS / "000.png").resize((100, 100)).save(tmp_path / "small.png")
    for clean, words in (
        (AVATARS / "001.png", "is not the picture that became"),
        (tmp_path / "small.png", "has 100x100 pixels and"),
    ):
        result = restore(tmp_path / "o", tmp_path / "r", "--clean", clean, "--quiet", steps=1)
        assert result.exit_code == 2 and words in result.stderr
        assert result.stderr.count("\n") == 1 and not (tmp_path / "r").exists()
    assert restore(tmp_path / "o", tmp_path / "r", "--clean", AVATARS, steps=1).exit_code == 0


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
