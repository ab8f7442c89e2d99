"""`degrade train`: what it learns from, what it writes, and how it goes on after a stop."""

import inspect
import io
import math
import os
import pickle
import shutil
import signal
import time

import numpy
import pytest
import torch
from PIL import Image

import invert
from invert.recipe import Recipe
from invert.training import psnr
from pipelines import cli, files, records, train, training_set
from pipelines.progress import TrainBar
from pipelines.train import Train
from tests.conftest import AVATARS, rng
from tests.processes import Forked

from .shell import run

TINY = {"widths": (4, 4, 4, 4), "blocks": 1, "batch": 2, "patch": 16, "steps": 3}
QUICK = ("--patch", 8, "--batch", 1, "--steps", 1)


def trained(output, images, overwrite=False, validation=None, **constants):
    """Train a tiny network in this process, and return the exit code."""
    recipe = Recipe(**(TINY | constants))
    return Train(recipe, output, images, validation, "cpu", overwrite).run(TrainBar(quiet=True))


@pytest.fixture
def pictures(tmp_path):
    """Four avatars, at half their size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        Image.open(AVATARS / f"{number:03}.png").reduce(2).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def shades(tmp_path):
    """Twelve pictures, each of one grey level of its own."""
    folder = tmp_path / "shades"
    folder.mkdir()
    for level in range(100, 112):
        Image.new("RGB", (24, 24), (level, level, level)).save(folder / f"{level}.png")
    return folder


def written(output):
    return [output.with_suffix(suffix).read_bytes() for suffix in (".safetensors", ".png", ".json")]


def levels_of(tensors):
    return {int(level) for tensor in tensors for level in tensor.unique()}


def test_writes_denoiser_sheet_and_log(tmp_path, pictures):
    output = tmp_path / "out" / "mine.safetensors"
    assert trained(output, pictures) == 0
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "mine.json",
        "mine.png",
        "mine.safetensors",
    ]
    log = records.read_json(tmp_path / "out" / "mine.json", train.LOG)
    assert log["steps"] == 3 and len(log["loss"]) == 3
    assert log["psnr"][-1].keys() == {"step", "5", "15", "25", "50", "100"}
    assert str(tmp_path) not in output.with_suffix(".json").read_text()
    with Image.open(output.with_suffix(".png")) as sheet:
        assert sheet.width > 3 * 256 and sheet.height > 5 * 256


def test_sheet_shows_clean_noisy_and_denoised(pictures):
    """With a denoiser that halves the picture, each column is known."""
    pixels = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    sheet = train.comparison(Halving(), [pixels], [25.0, 100.0])
    columns = numpy.array(sheet.convert("L"), dtype=float).reshape(2, -1, sheet.width)
    for row, level in zip(columns, (25, 100), strict=True):
        clean, noisy, denoised = (row[60:260, left : left + 200] for left in (40, 304, 568))
        assert (clean == 200).all()
        assert noisy.std() > level / 4 and abs(noisy.mean() - 200) < level / 2
        assert abs(denoised - noisy / 2).max() <= 2


class Halving(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, sigma):
        return x.clamp(0, 1) / 2


def test_written_file_loads_as_a_prior(tmp_path, pictures):
    """It removes as much noise as the log says, which the trained network was measured to do."""
    output = tmp_path / "mine.safetensors"
    trained(output, pictures, steps=30, learning_rate=0.02, sigma=(0.02, 0.5))
    prior = invert.load_prior(output)
    assert prior.prior_kind == "denoiser" and prior.sigma_range == (0.02, 0.5)
    log = records.read_json(output.with_suffix(".json"), train.LOG)
    sources = training_set.choose(pictures, None, 0, output).held_out
    held_out, _ = training_set.read_held_out(sources, Recipe(**TINY))
    for level in (50, 100):
        logged = log["psnr"][-1][str(level)]
        assert round(psnr(prior, held_out, level / 255), 2) == logged
        assert logged > 20 * math.log10(255 / level) + 0.5
    shape = (1, 3, 13, 20)  # any size, and a noise level at each pixel
    assert prior.denoise(torch.rand(shape), torch.full((1, 1, 13, 20), 0.1)).shape == shape


def train_and_save_often(output, pictures):
    train.SAVE_EVERY = 0
    recipe = Recipe(**TINY | {"steps": 60})
    train.Train(recipe, output, pictures, device="cpu").run(TrainBar(True))


@pytest.mark.slow
def test_killed_training_resumes_with_the_same_files(tmp_path, pictures, tmp_path_factory):
    cut = tmp_path / "cut" / "mine.safetensors"
    whole = tmp_path / "whole" / "mine.safetensors"
    printed = tmp_path_factory.mktemp("printed")
    process = Forked(printed, train_and_save_often, cut, pictures)
    state = cut.with_name("mine.safetensors.state")
    while not process.ended and not state.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not cut.exists()
    assert 0 < train.read_state(state).training["step"] < 60
    assert trained(cut, pictures, steps=60) == 0
    assert trained(whole, pictures, steps=60) == 0
    assert written(cut) == written(whole)
    assert not state.exists() and not list(cut.parent.glob(".degrade-*"))


def test_killed_while_writing_is_finished_by_the_next_run(tmp_path, pictures, monkeypatch):
    output = tmp_path / "mine.safetensors"
    monkeypatch.setattr(train, "SAVE_EVERY", 0)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(records, "write_result", raising(OSError("full")))
        trained(output, pictures)
    assert train.read_state(tmp_path / "mine.safetensors.state").training["step"] == 3
    assert trained(output, pictures) == 0 and output.exists()


def raising(error):
    def function(*arguments):
        raise error

    return function


def captured(monkeypatch):
    """Collect the pictures that trainings get, without training."""
    collected = {}

    def read_learned(*arguments):
        collected["learned"], failed = original_learned(*arguments)
        return collected["learned"], failed

    def read_held_out(*arguments):
        collected["held_out"], failed = original_held_out(*arguments)
        return collected["held_out"], failed

    original_learned, original_held_out = train.read_learned, train.read_held_out
    monkeypatch.setattr(train, "read_learned", read_learned)
    monkeypatch.setattr(train, "read_held_out", read_held_out)
    return collected


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_pictures_are_never_trained_on(tmp_path, shades, monkeypatch, seed):
    for level in range(100, 112):  # each twice, under another name
        shutil.copy(shades / f"{level}.png", shades / f"copy of {level}.png")
    collected = captured(monkeypatch)
    assert trained(tmp_path / "mine.safetensors", shades, seed=seed, synthetic=0.5) == 0
    learned, held_out = levels_of(collected["learned"]), levels_of(collected["held_out"])
    assert len(held_out) == 1 and learned == set(range(100, 112)) - held_out


def test_validation_folder_is_never_trained_on(tmp_path, shades, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(shades / "103.png", other / "a.png")
    Image.new("RGB", (24, 24), (7, 7, 7)).save(other / "b.png")
    collected = captured(monkeypatch)
    assert trained(tmp_path / "mine.safetensors", shades, validation=other) == 0
    assert levels_of(collected["held_out"]) == {7, 103}
    assert levels_of(collected["learned"]) == set(range(100, 112)) - {103}


def test_own_sheet_in_the_folder_is_no_input(tmp_path, pictures):
    output = pictures / "mine.safetensors"
    assert trained(output, pictures) == 0
    before = written(output)
    assert trained(output, pictures) == 0  # the same pictures as before: nothing to do
    assert written(output) == before


def test_each_picture_is_reduced_as_pillow_does(tmp_path):
    path = tmp_path / "wide.png"
    levels = torch.randint(256, (90, 201, 3), generator=rng(), dtype=torch.uint8)
    Image.fromarray(levels.numpy()).save(path)
    recipe = Recipe(**(TINY | {"longest_sides": (60, 120, 900, 30)}))
    sources = files.gather([path])
    pictures, failed = training_set.read_learned(sources, recipe, lambda number: None)
    sizes = [(120, 54), (60, 27)]  # 30 x 13 holds no patch of 16
    assert failed == 0 and len(pictures) == 2
    with Image.open(path) as image:
        for pixels, size in zip(pictures, sizes, strict=True):
            reduced = numpy.array(image.resize(size, Image.Resampling.LANCZOS))
            assert (pixels.permute(1, 2, 0).numpy() == reduced).all()
    recipe = Recipe(**TINY)  # all sizes are larger than the picture: it is taken as it is
    (pixels,), _ = training_set.read_learned(sources, recipe, lambda number: None)
    assert torch.equal(pixels.permute(1, 2, 0), levels)


def test_large_folders_keep_a_part_of_each_picture(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(training_set, "MEMORY", 4 * 3 * 32 * 32)
    parts, _ = training_set.read_learned(files.gather([pictures]), Recipe(**TINY), lambda n: None)
    assert [tuple(part.shape) for part in parts] == [(3, 32, 32)] * 4
    for number, part in enumerate(parts):
        with Image.open(pictures / f"{number}.png") as image:
            whole = torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1)
        windows = whole.unfold(1, 32, 1).unfold(2, 32, 1)
        assert (windows == part[:, None, None]).flatten(3).all(3).all(0).any()


def test_finished_training_is_not_repeated(tmp_path, pictures, capsys):
    output = tmp_path / "mine.safetensors"
    trained(output, pictures)
    before = output.stat().st_mtime_ns
    assert trained(output, pictures) == 0
    assert "already trained" in capsys.readouterr().err
    assert output.stat().st_mtime_ns == before


def test_training_whose_result_was_cut_is_repeated(tmp_path, pictures):
    output = tmp_path / "mine.safetensors"
    trained(output, pictures)
    before = written(output)
    output.write_bytes(output.read_bytes()[:100])
    assert trained(output, pictures) == 0 and written(output) == before


def test_other_settings_need_overwrite(tmp_path, pictures):
    output = tmp_path / "mine.safetensors"
    trained(output, pictures)
    before = written(output)
    with pytest.raises(ValueError, match="--steps 3 → 4.*--overwrite"):
        trained(output, pictures, steps=4)
    (pictures / "3.png").unlink()
    with pytest.raises(ValueError, match="the pictures '.*' → '.*--overwrite"):
        trained(output, pictures)
    assert written(output) == before
    assert trained(output, pictures, steps=4, overwrite=True) == 0
    assert records.read_json(output.with_suffix(".json"), train.LOG)["steps"] == 4


def test_state_of_other_settings_needs_overwrite(tmp_path, pictures):
    output = tmp_path / "mine.safetensors"
    state = tmp_path / "mine.safetensors.state"
    train.write_state(state, train.Progress({"steps": 77}))
    with pytest.raises(ValueError, match="--steps 77 → 3.*--overwrite"):
        trained(output, pictures)
    assert trained(output, pictures, overwrite=True) == 0
    assert not state.exists()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"text", pickle.dumps(Bomb()), saved(Bomb()), saved({"kind": 1})]
)
def test_foreign_state_is_refused_and_not_run(tmp_path, pictures, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors.state").write_bytes(content)
    with pytest.raises(ValueError, match="state is not a state of a training"):
        trained(tmp_path / "mine.safetensors", pictures)
    assert not (tmp_path / "exploded").exists()


def test_foreign_file_is_not_replaced(tmp_path, pictures):
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"years of work")
    with pytest.raises(ValueError, match="mine.safetensors is there"):
        trained(output, pictures)
    assert output.read_bytes() == b"years of work"


def test_unusable_pictures_are_named_and_left_out(tmp_path, pictures, capsys):
    (pictures / "text.png").write_text("not a picture")
    Image.new("RGB", (40, 9)).save(pictures / "thin.png")
    validation = tmp_path / "validation"
    shutil.copytree(pictures, validation)
    for path in list(validation.glob("?.png"))[1:]:
        path.unlink()
    code = trained(tmp_path / "mine.safetensors", pictures, validation=validation)
    lines = capsys.readouterr().err.splitlines()
    assert code == 3 and (tmp_path / "mine.safetensors").exists()
    assert sum("thin.png has 40x9 pixels, too few" in line for line in lines) == 1
    assert sum("text.png is not an image" in line for line in lines) == 1


def test_shell_trains_a_file_that_loads(tmp_path, pictures):
    output = tmp_path / "mine.safetensors"
    options = (*QUICK, "--channels", "grey", "--sigma", "0.02..0.5", "--device", "cpu")
    result = run("train", "--images", pictures, "-o", output, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(output), str(output.with_suffix(".png"))]
    prior = invert.load_prior(output)
    assert (prior.channels, prior.sigma_range) == (1, (0.02, 0.5))
    quiet = run("train", "--images", pictures, "-o", tmp_path / "q.safetensors", *QUICK, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--images", "{tmp}/none"], "none does not exist"),
        (["--images", "{tmp}/empty"], "no picture found"),
        (["--images", "{tmp}/one"], "holds one picture"),
        (["--images", "{tmp}/small"], "no held-out picture can be used"),
        (["--images", "{ok}", "--validation", "{tmp}/none"], "none does not exist"),
        (["--images", "{ok}", "--validation", "{ok}"], "holds no picture that"),
        (["--images", "{ok}", "--sigma", "0.5"], "must be LOW..HIGH"),
        (["--images", "{ok}", "--sigma", "0.5..0.1"], "sigma=0.5..0.1"),
        (["--images", "{ok}", "--channels", "cmyk"], "must be one of colour, grey"),
        (["--images", "{ok}", "--patch", "20"], "patch=20"),
        (["--images", "{ok}", "--start", "avatars-128"], "--start 'avatars-128' is a generator"),
        (["--images", "{ok}", "--start", "none.pt"], "prior 'none.pt' is no file"),
        (["--images", "{ok}", "--start", "photo", "--channels", "grey"], "start has channels=3"),
        (["--images", "{ok}", "--steps", "0"], "--steps"),
        (["--images", "{ok}", "--device", "warp"], "use cpu or auto"),
        (["--images", "{ok}", "-o", "{tmp}/mine.pt"], "must end in .safetensors"),
        (
            ["--images", "{ok}", "--learning-rate", "1e30", "--patch", "8", "--batch", "1"],
            "lower learning_rate=1e+30",
        ),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(tmp_path, pictures, arguments, words):
    for name in ("empty", "one", "small"):
        (tmp_path / name).mkdir()
    shutil.copy(pictures / "0.png", tmp_path / "one")
    shutil.copy(pictures / "0.png", tmp_path / "one" / "again.png")
    for level in (1, 2):
        Image.new("RGB", (8, 8), (level, 0, 0)).save(tmp_path / "small" / f"{level}.png")
    filled = [text.format(tmp=tmp_path, ok=pictures) for text in arguments]
    output = () if "-o" in arguments else ("-o", tmp_path / "mine.safetensors")
    result = run("train", *filled, *output)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output and not (tmp_path / "mine.safetensors").exists()


def test_shell_trains_a_denoiser_further(tmp_path, pictures):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    trained(first, pictures)
    options = ("--start", first, "--learning-rate", 1e-12, *QUICK)
    result = run("train", "--images", pictures, "-o", second, *options)
    assert result.exit_code == 0, result.output
    further, start = invert.load_prior(second), invert.load_prior(first)
    for mine, theirs in zip(further.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    log = records.read_json(second.with_suffix(".json"), train.LOG)
    assert (log["start"], log["widths"]) == (str(first), [4, 4, 4, 4])
    trained(first, pictures, seed=1, overwrite=True)
    result = run("train", "--images", pictures, "-o", second, *options)
    assert result.exit_code == 2 and "the weights of --start" in " ".join(result.output.split())


def test_aligned_trains_a_prior_for_samplers(tmp_path, pictures):
    """Its network is scaled, and takes noise far above the brightest image."""
    output = tmp_path / "mine.safetensors"
    settings = ("--aligned", "--patch", 32, "--batch", 1, "--steps", 1, "--sigma", "0.005..10")
    result = run("train", "--images", pictures, "-o", output, *settings)
    assert result.exit_code == 0, result.output
    prior = invert.load_prior(output)
    assert prior.sigma_range == (0.005, 10.0)
    noise = torch.randn(1, 3, 32, 32, generator=rng())
    estimate = prior.denoise(0.5 + 10 * noise, 10.0)
    assert estimate.std() < 1  # a network that adds its output to the image begins near 10


def test_shell_defaults_are_those_of_the_recipe():
    defaults = {}
    for parameter in inspect.signature(cli.train).parameters.values():
        defaults[parameter.name] = parameter.default
    recipe = Recipe()
    for name in ("steps", "batch", "patch", "learning_rate", "seed"):
        assert defaults[name] == getattr(recipe, name), name
    assert train.sigma_range(defaults["sigma"]) == recipe.sigma
    assert train.channels_of(defaults["channels"]) == recipe.channels


def test_shell_offers_every_kind_of_channels():
    from pipelines.options import CHANNELS

    assert set(CHANNELS("")) == set(train.CHANNELS)
