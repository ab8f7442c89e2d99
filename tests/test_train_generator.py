"""The training script of a generator: what it keeps, how it resumes, and that it learns."""

import importlib.util

import numpy
import pytest
import torch
from PIL import Image

import invert

from .conftest import AVATARS
from .invert.checkpoints import stylegan2

SCRIPT = AVATARS.parent / "training" / "train_generator.py"
SIDE = 32


@pytest.fixture(scope="module")
def script():
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("train_generator", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Eight small avatars, what they show, and a generator with random weights."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(8):
        small = Image.open(AVATARS / f"{number:03}.png").resize((SIDE, SIDE))
        small.save(pictures / f"{number}.png")
    numpy.save(tmp_path / "attributes.npy", numpy.eye(8, dtype=numpy.float32))
    stylegan2(resolution=SIDE, width=16).save(tmp_path / "start.safetensors")
    return tmp_path


def trained(script, folder, name, *options):
    output = folder / name
    generator = ("--generator", str(folder / "start.safetensors"))
    attributes = ("--attributes", str(folder / "attributes.npy"))
    arguments = [str(folder / "pictures"), "-o", str(output), "--batch", "4", "--warmup", "1"]
    script.main([*arguments, *generator, *attributes, *options])
    return output


def test_only_the_synthesis_network_changes(script, folder):
    output = trained(script, folder, "new", "--steps", "2")
    before = invert.load_generator(folder / "start.safetensors").state_dict()
    after = invert.load_generator(output / "generator.safetensors").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("synthesis.") for name in changed)
    assert Image.open(output / "samples.png").size == (8 * SIDE, 8 * SIDE)


@pytest.mark.slow
def test_resumed_training_gives_the_same_weights(script, folder, monkeypatch):
    whole = trained(script, folder, "whole", "--steps", "4")
    stops = iter([False, True])

    def advance(trainer):
        if next(stops, False):
            raise KeyboardInterrupt
        return whole_advance(trainer)

    whole_advance = script.Trainer.advance
    with monkeypatch.context() as patch:
        patch.setattr(script, "SAVE_EVERY", 1)
        patch.setattr(script.Trainer, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            trained(script, folder, "parts", "--steps", "4")
    resumed = trained(script, folder, "parts", "--steps", "4")
    assert (resumed / "generator.safetensors").read_bytes() == (
        whole / "generator.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_images_come_nearer_to_their_pictures(script, folder, capsys):
    options = ("--steps", "75", "--adversarial", "0", "--rate", "0.01")
    trained(script, folder, "near", *options)
    lines = capsys.readouterr().out.splitlines()
    losses = [float(line.split("LPIPS ")[1].split()[0]) for line in lines]
    assert losses[-1] < 0.8 * losses[0]
