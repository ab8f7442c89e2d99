"""The commands as a person at a shell meets them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import degrade
import invert
from degrade.rng import child_seed
from pipelines import files
from pipelines.cli import app
from tests.conftest import AVATARS, rng

FOURFOLD = "downsample:2,filter=any >> poisson:48 >> deadpixels:0.08 >> jpeg:18 >> strokes:5"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def apply(*inputs, output, op, seed=0):
    result = run("apply", *inputs, "--output", output, "--op", op, "--seed", seed)
    assert result.exit_code == 0, result.output
    return result


def pixels(path):
    return numpy.array(Image.open(path).convert("RGB"))


def test_apply_writes_what_the_operator_makes_and_says_what_it_was(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path, op=FOURFOLD, seed=3)
    manifest = json.loads((tmp_path / "000.json").read_text())
    f = degrade.parse(manifest["operator"])
    assert f.sample((1, 3, 128, 128)) == f  # nothing is left to draw
    assert str(f).endswith("clamp >> quantize")
    assert manifest["size"] == [64, 64] and manifest["source_size"] == [128, 128]
    assert manifest["source"] == "000.png" and manifest["seed"] == 3 and manifest["degrade"] == degrade.__version__
    x = files.read_image(AVATARS / "000.png")
    y = f(x, rng(child_seed(3, "000.png")))
    assert torch.equal(files.read_image(tmp_path / "000.png"), y)


def test_a_chain_that_ends_in_jpeg_leaves_the_codec_s_own_bytes(tmp_path):
    apply(AVATARS / "001.png", output=tmp_path, op="downsample:2 >> jpeg:30,subsampling=4:4:4")
    reduced = Image.open(AVATARS / "001.png").convert("RGB").resize((64, 64), Image.BICUBIC)
    reduced.save(tmp_path / "pillow.jpg", quality=30, subsampling="4:4:4")
    assert (tmp_path / "001.jpg").read_bytes() == (tmp_path / "pillow.jpg").read_bytes()
    f = degrade.parse(json.loads((tmp_path / "001.json").read_text())["operator"])
    x = files.read_image(AVATARS / "001.png")
    assert torch.equal(files.read_image(tmp_path / "001.jpg"), f(x))


def test_equal_runs_give_equal_files_and_a_file_s_result_does_not_depend_on_the_others(tmp_path):
    apply(AVATARS / "000.png", AVATARS / "001.png", output=tmp_path / "a", op=FOURFOLD)
    apply(AVATARS / "001.png", output=tmp_path / "b", op=FOURFOLD)
    for name in ("001.png", "001.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (
        json.loads((tmp_path / "a" / "000.json").read_text())["operator"]
        != json.loads((tmp_path / "a" / "001.json").read_text())["operator"]
    )


def test_folders_are_walked_and_keep_their_shape(tmp_path):
    for place in ("in/x/a.png", "in/y/a.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        Image.new("RGB", (6, 5), "teal").save(tmp_path / place)
    apply(tmp_path / "in", output=tmp_path / "out", op="quantize")
    made = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert made == ["x/a.json", "x/a.png", "y/a.json", "y/a.png"]


def test_a_mask_file_travels_with_the_manifest(tmp_path):
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
    result = run("restore", tmp_path / "out", "-o", tmp_path / "r", "--steps", 1, "--perceptual", "alex")
    assert result.exit_code == 0, result.output  # the mask beside it is not taken for a picture
    assert str(tmp_path) not in (tmp_path / "r" / "002.json").read_text()


def test_restore_finds_the_manifest_and_leaves_picture_sheet_and_log(tmp_path):
    apply(AVATARS / "003.png", output=tmp_path / "observed", op=FOURFOLD)
    arguments = ["restore", tmp_path / "observed", "--output", tmp_path / "restored", "--clean", AVATARS]
    arguments += ["--perceptual", "alex", "--steps", 3]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    out = tmp_path / "restored"
    assert sorted(p.name for p in out.iterdir()) == ["003.json", "003.png", "003.sheet.png"]
    assert Image.open(out / "003.png").size == (128, 128)
    width, height = Image.open(out / "003.sheet.png").size
    assert 3.5 < width / height < 4  # four tiles
    log = json.loads((out / "003.json").read_text())
    assert len(log["loss"]) == 3 and log["assumed"].startswith("pool:2 >> clamp >> poisson:48,model=gaussian")
    assert log["method"] == "robust" and log["steps"] == 3
    assert str(tmp_path) not in (out / "003.json").read_text()

    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    assert run(*arguments).exit_code == 0  # done already: nothing is written again
    assert before == {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    assert run(*arguments, "--seed", 1).exit_code == 0
    assert (out / "003.png").read_bytes() != before["003.png"][1]


def test_the_sheet_shows_the_file_and_what_its_degradation_is(tmp_path):
    """Every tile against pixels made without the code that drew it, for pictures in subfolders."""
    (tmp_path / "in" / "x").mkdir(parents=True)
    shutil.copy(AVATARS / "003.png", tmp_path / "in" / "x" / "a.png")
    apply(tmp_path / "in", output=tmp_path / "o", op="downsample:2 >> gaussian:0.3", seed=4)
    command = ["restore", tmp_path / "o", "-o", tmp_path / "r", "--steps", 1, "--perceptual", "alex"]
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


def test_a_file_s_restoration_depends_on_its_name_and_not_on_the_others(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(AVATARS / "000.png", tmp_path / "in" / name)
    options = ["--steps", 2, "--perceptual", "alex", "--op", "gaussian:0.2"]
    assert run("restore", tmp_path / "in", "-o", tmp_path / "both", *options).exit_code == 0
    assert run("restore", tmp_path / "in" / "b.png", "-o", tmp_path / "one", *options).exit_code == 0
    a, b, alone = (json.loads((tmp_path / p).read_text())["loss"] for p in ("both/a.json", "both/b.json", "one/b.json"))
    assert b == alone and a != b


def test_a_manifest_never_lies_beside_a_picture_of_another_run(tmp_path):
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    apply(AVATARS / "000.png", output=tmp_path, op="jpeg:12")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000.jpg", "000.json"]
    shutil.copy(AVATARS / "000.png", tmp_path / "000.png")
    result = run("restore", tmp_path / "000.png", "-o", tmp_path / "r")
    assert result.exit_code == 2 and "describes '000.jpg', not this picture" in result.output


def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")

    def refuse(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        files.write(tmp_path / "a.png", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_quiet_says_nothing(tmp_path):
    out = run("apply", AVATARS / "000.png", "-o", tmp_path / "o", "--op", "clamp", "--quiet")
    assert (out.exit_code, out.output) == (0, "")
    out = run("restore", tmp_path / "o", "-o", tmp_path / "r", "--steps", 1, "--perceptual", "alex", "--quiet")
    assert (out.exit_code, out.output) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of arbitrary bytes")
def test_a_name_that_is_not_text_is_restored_too(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(AVATARS / "000.png", os.fsencode(tmp_path / "in") + b"/\xff.png")
    command = [Path(sys.executable).parent / "degrade"]
    subprocess.run([*command, "apply", tmp_path / "in", "-o", tmp_path / "o", "--op", "clamp"], check=True)
    options = ["--steps", "1", "--perceptual", "alex"]
    subprocess.run([*command, "restore", tmp_path / "o", "-o", tmp_path / "r", *options], check=True)
    assert os.path.exists(os.fsencode(tmp_path / "r") + b"/\xff.sheet.png")


def test_restore_takes_the_operator_from_the_command_line(tmp_path):
    apply(AVATARS / "004.png", output=tmp_path, op="downsample:4 >> jpeg:30")
    (tmp_path / "004.json").unlink()
    out = tmp_path / "out"
    command = ["restore", tmp_path / "004.jpg", "-o", out, "--steps", 1, "--perceptual", "alex"]
    bad, good = run(*command), run(*command, "--op", "downsample:4 >> jpeg:30")
    assert bad.exit_code == 2 and "--op" in bad.output
    assert good.exit_code == 0 and (out / "004.png").exists()


@pytest.mark.parametrize("arguments, words", [
    (["apply", "{tmp}/none.png", "-o", "{tmp}/o", "--op", "jpeg:12"], "none.png does not exist"),
    (["apply", "{tmp}/text.png", "-o", "{tmp}/o", "--op", "jpeg:12"], "is not an image"),
    (["apply", "{tmp}/cut.png", "-o", "{tmp}/o", "--op", "jpeg:12"], "cut.png"),
    (["apply", "{tmp}/empty", "-o", "{tmp}/o", "--op", "jpeg:12"], "no picture found"),
    (["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpg:12"], "did you mean jpeg"),
    (["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpeg:0"], "quality=0"),
    (["apply", "{ok}", "-o", "{tmp}/o", "--op", "mask:none.png"], "none.png"),
    (["apply", "{ok}", "-o", "{tmp}/text.png/o", "--op", "jpeg:12"], "text.png"),
    (["apply", "{ok}", "-o", "{tmp}/o", "--op", "jpeg:12|30"], "quality has 2 values for 1 images"),
    (["apply", "{ok}", "-o", "{tmp}/annotated", "--op", "clamp"], "000.json is not a manifest"),
    (["apply", "{tmp}/small.png", "-o", "{tmp}", "--op", "jpeg:12"], "holds the input"),
    (["apply", "{tmp}/small.png", "{tmp}/small.jpg", "-o", "{tmp}/o", "--op", "clamp"], "share one result"),
    (["restore", "{tmp}/small.png", "-o", "{tmp}/o", "--op", "clamp"], "128×128"),
    (["restore", "{ok}", "-o", "{tmp}/o"], "no manifest beside it"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--generator", "nosuch"], "avatars-128"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--method", "magic"], "must be one of robust"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--perceptual", "eye"], "vgg, alex"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--device", "warp"], "use cpu or auto"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--device", "meta"], "use cpu or auto"),
    (["restore", "{ok}", "-o", "{tmp}/annotated", "--op", "clamp", "--steps", "1"], "000.json is not a log"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "strokes:3"], "sample"),
    (["restore", "{ok}", "-o", "{tmp}/o", "--op", "clamp", "--clean", "{tmp}/none.png", "--steps", "1"], "none.png"),
    (["apply", "{ok}", "-o", "{tmp}/o"], "--op"),
    (["inspect", "{tmp}/text.png"], "no checkpoint that is known"),
    (["inspect", "nosuch"], "avatars-128"),
    (["convert", "avatars-128", "{tmp}/o.pkl"], "must end in .safetensors"),
    (["nosuch"], "No such command"),
])  # fmt: skip
def test_a_user_s_mistake_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((AVATARS / "000.png").read_bytes()[:1500])
    (tmp_path / "empty").mkdir()
    (tmp_path / "annotated").mkdir()
    (tmp_path / "annotated" / "000.json").write_text('{"boxes": []}')
    for name in ("small.png", "small.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    result = run(*(a.format(tmp=tmp_path, ok=AVATARS / "000.png") for a in arguments))
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob("*.tmp"))


def test_one_bad_file_does_not_stop_the_others(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_text("x")
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "in" / "good.png")
    result = run("apply", tmp_path / "in", "-o", tmp_path / "out", "--op", "jpeg:50")
    assert result.exit_code == 3 and "bad.png" in result.output
    assert (tmp_path / "out" / "good.jpg").exists()


def test_a_manifest_cannot_reach_outside_its_folder(tmp_path):
    apply(AVATARS / "005.png", output=tmp_path / "o", op="clamp")
    Image.new("L", (128, 128)).save(tmp_path / "secret.png")
    manifest = json.loads((tmp_path / "o" / "005.json").read_text())
    (tmp_path / "o" / "005.json").write_text(json.dumps(manifest | {"operator": "mask:../secret.png"}))
    result = run("restore", tmp_path / "o", "-o", tmp_path / "r", "--steps", 1)
    assert result.exit_code == 2 and "outside" in result.output


def test_help_does_not_load_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli import app;"
        "r = CliRunner().invoke(app, ['--help']); assert 'restore' in r.output; print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_installed_command_says_its_version():
    command = Path(sys.executable).parent / "degrade"
    out = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == f"degrade {degrade.__version__}"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupting_keeps_what_is_finished(tmp_path):
    apply(AVATARS / "006.png", output=tmp_path / "observed", op="downsample:4")
    code = (
        "import invert, signal, os; from pipelines import cli; import sys; real = invert.restore\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it starts ignored in a background job
        "def stop(*a, **k): os.kill(os.getpid(), signal.SIGINT); return real(*a, **k)\n"
        "invert.restore = stop; sys.argv = ['degrade', *sys.argv[1:]]; cli.app()"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, "restore", str(tmp_path / "observed"), "-o", str(tmp_path / "r"), "--quiet"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert out.returncode == 130 and "interrupted" in out.stderr and "Traceback" not in out.stderr
    assert not (tmp_path / "r").exists() or not list((tmp_path / "r").iterdir())


def test_ops_lists_every_operator():
    result = run("ops")
    assert result.exit_code == 0
    rows = result.output.splitlines()
    for name, cls in degrade.operator.REGISTRY.items():
        (row,) = (row for row in rows if row.split()[1:2] == [name])
        assert cls.gradient in row and "…" not in row  # a pipe cuts nothing


def test_a_generator_is_described_sampled_and_converted(tmp_path):
    said = run("inspect", "avatars-128", "--samples", 3, "--seed", 1, "-o", tmp_path / "s.png")
    assert said.exit_code == 0, said.output
    for fact in ("128×128", "3,544,901", "W++ [12, 192, 256]", "7.5"):
        assert fact in said.output
    G = invert.load_generator("avatars-128")
    draws = rng(1)
    for i in range(3):
        image = G.synthesize(G.mapping(torch.randn(1, 128, generator=draws)))
        assert (pixels(tmp_path / "s.png")[:, 128 * i : 128 * i + 128] == numpy.array(files.to_pil(image))).all()
    nvidia = Path(__file__).parent.parent / "data" / "nvlabs-like.pkl"
    assert run("convert", nvidia, tmp_path / "c.safetensors").exit_code == 0
    w = torch.randn(1, 48, generator=rng())
    both = [invert.load_generator(path).synthesize(w) for path in (nvidia, tmp_path / "c.safetensors")]
    assert torch.equal(*both)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("c")] == ["c.safetensors"]


def test_generators_lists_what_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("DEGRADE_CACHE", str(tmp_path))
    (tmp_path / "0123-ffhq.pkl").write_bytes(b"x")
    said = run("generators")
    assert said.exit_code == 0 and "avatars-128" in said.output and str(tmp_path / "0123-ffhq.pkl") in said.output


def test_a_plugin_s_operator_can_be_applied(tmp_path, monkeypatch):
    (tmp_path / "negative_plugin.py").write_text("import degrade\ndegrade.register('negative')(lambda x: 1 - x)\n")
    monkeypatch.chdir(tmp_path)
    try:
        result = run("apply", AVATARS / "007.png", "-o", "o", "--op", "negative", "--plugin", "negative_plugin")
        assert result.exit_code == 0, result.output
        assert (pixels("o/007.png") == 255 - pixels(AVATARS / "007.png")).all()
    finally:
        degrade.operator.REGISTRY.pop("negative", None)
    missing = run("apply", AVATARS / "007.png", "-o", "o", "--op", "clamp", "--plugin", "no_such_module")
    assert missing.exit_code == 2 and "no_such_module" in missing.output
    (tmp_path / "broken_plugin.py").write_text("1 / 0")
    broken = run("apply", AVATARS / "007.png", "-o", "o", "--op", "clamp", "--plugin", "broken_plugin")
    assert broken.exit_code == 2 and "broken_plugin" in broken.output and "Traceback" not in broken.output


def test_a_new_observation_is_restored_anew(tmp_path):
    command = ["restore", tmp_path / "o", "-o", tmp_path / "r", "--steps", 1, "--perceptual", "alex"]
    for seed in (0, 9):
        apply(AVATARS / "000.png", output=tmp_path / "o", op="poisson:10", seed=seed)
        assert run(*command).exit_code == 0
        restored = pixels(tmp_path / "r" / "000.png")
        if seed == 0:
            first = restored
    assert (restored != first).any()


@pytest.mark.parametrize(
    "change", [{"operator": 5}, {"seed": "x"}, {"source": 5}, {"source": "../../etc/passwd"}, {"kind": "log"}]
)
def test_an_edited_manifest_is_an_error_in_one_line(tmp_path, change):
    apply(AVATARS / "000.png", output=tmp_path, op="clamp")
    manifest = json.loads((tmp_path / "000.json").read_text())
    (tmp_path / "000.json").write_text(json.dumps(manifest | change))
    result = run("restore", tmp_path / "000.png", "-o", tmp_path / "r", "--clean", AVATARS, "--steps", 0)
    assert result.exit_code == 2 and "error:" in result.output
