"""Files that load_prior accepts, and files that it refuses in one line without running code."""

import json
import os
import random
import sys
import types

import pytest
import torch
from safetensors.torch import save_file

import degrade
import invert
from invert.bundled import _SHA256
from invert.networks.drunet import UNetRes
from invert.networks.unet import Settings, UNet
from tests.conftest import EFFORT

from . import network_fixtures as fixtures
from .checkpoints import nvidia, stylegan2, write
from .test_hostile_files import Attack, check_flips
from .test_networks import folder


def drunet_state():
    return UNetRes(3, (4, 6, 8, 10), 1).state_dict()


def load_error(path, **settings):
    """The message with which the file is refused; it is one line."""
    with pytest.raises(ValueError) as error:
        invert.load_prior(path, **settings)
    message = str(error.value)
    assert "\n" not in message and len(message) < 700
    return message


def test_load_prior_gives_generators_too(tmp_path):
    assert invert.load_prior("avatars-128").prior_kind == "generator"
    write(tmp_path / "G.pkl", {"G_ema": nvidia(stylegan2())})
    assert invert.load_prior(tmp_path / "G.pkl").prior_kind == "generator"
    small = stylegan2()
    invert.save_generator(small, tmp_path / "G.safetensors")
    assert invert.load_prior(tmp_path / "G.safetensors").prior_kind == "generator"
    message = load_error(tmp_path / "G.safetensors", betas="linear")
    assert "betas: a generator has no such setting" in message


def test_prior_for_the_wrong_method_is_named(tmp_path):
    save_file(drunet_state(), tmp_path / "d.safetensors")
    denoiser = invert.load_prior(tmp_path / "d.safetensors")
    y = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="method='robust' needs a generator.*given is a denoiser"):
        invert.restore(y, degrade.parse("clamp"), denoiser, "robust")
    for name in ("d.safetensors", "d.pth"):
        torch.save(drunet_state(), tmp_path / "d.pth")
        with pytest.raises(ValueError, match=r"is a denoiser \(drunet\); load it with"):
            invert.load_generator(tmp_path / name)
    invert.save_denoiser(denoiser, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="is a denoiser"):
        invert.load_generator(tmp_path / "own.safetensors")


def test_unknown_names_are_answered_with_the_known():
    message = load_error("no-such-prior")
    assert (
        "is no file, no folder, no owner/name, and none of photo, avatars, avatars-128" in message
    )


def test_settings_of_another_family_are_refused(tmp_path):
    torch.save(drunet_state(), tmp_path / "d.pth")
    message = load_error(tmp_path / "d.pth", betas="linear")
    assert "no setting 'betas' of drunet; there are residual, sigma_data, sigma_range" in message


def test_every_bundled_file_has_a_checksum():
    weights = os.path.join(os.path.dirname(invert.__file__), "weights")
    names = {name.removesuffix(".safetensors") for name in os.listdir(weights)}
    assert names <= set(_SHA256)


def test_pickle_with_code_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    attack = Attack(os.system, f"touch {canary}")
    torch.save({"m_head.weight": attack}, tmp_path / "a.pth")
    torch.save({**drunet_state(), "hook": attack}, tmp_path / "b.pth")
    (tmp_path / "folder").mkdir()
    folder(tmp_path / "folder", "diffusers-ddpm", file="diffusion_pytorch_model.bin")
    torch.save({"conv_in.weight": attack}, tmp_path / "folder" / "diffusion_pytorch_model.bin")
    for path in ("a.pth", "b.pth", "folder"):
        assert "cannot be read safely" in load_error(tmp_path / path)
    assert not canary.exists()


def test_truncated_files_are_refused(tmp_path):
    torch.save(drunet_state(), tmp_path / "whole.pth")
    save_file(drunet_state(), tmp_path / "whole.safetensors")
    for name in ("whole.pth", "whole.safetensors"):
        content = (tmp_path / name).read_bytes()
        for length in (0, 1, 9, 100, len(content) // 2, len(content) - 1):
            (tmp_path / f"cut-{name}").write_bytes(content[:length])
            load_error(tmp_path / f"cut-{name}")


@pytest.mark.parametrize("kind", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", ["drunet-gray", "guided-resblocks"])
def test_damaged_files_load_or_fail_in_one_line(tmp_path, name, kind):
    tensors = fixtures.weights(fixtures.read(name)[0]["shapes"])
    whole = tmp_path / "whole"
    if kind == ".pt":
        torch.save(tensors, whole)
    else:
        save_file(tensors, whole)
    check_flips(whole, kind, "load_prior")


def test_damaged_config_loads_or_fails_in_one_line(tmp_path):
    folder(tmp_path, "diffusers-others")
    chance = random.Random(0)
    outcomes = set()
    for name in ("config.json", "scheduler_config.json"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(15 * EFFORT):
            damaged = bytearray(whole)
            damaged[chance.randrange(len(damaged))] = chance.choice(b'0:9,a"[]{}-')
            (tmp_path / name).write_bytes(damaged)
            try:
                invert.load_prior(tmp_path)
                outcomes.add("loaded")
            except ValueError as error:
                outcomes.add("refused")
                assert "\n" not in str(error)
        (tmp_path / name).write_bytes(whole)
    assert outcomes == {"loaded", "refused"}


def test_network_that_halves_without_end_is_refused():
    """Padding an image to a multiple of 2^11 could need too much memory."""
    shapes = {"time.0": (8, 4), "time.2": (8, 8), "inputs.0.conv": (2, 3, 3, 3)}
    for step in range(1, 12):
        shapes[f"inputs.{step}.down.conv"] = (2, 2, 3, 3)
    for step in range(12):
        shapes[f"outputs.{step}.up.conv"] = (2, 4, 3, 3)
    shapes["out_conv"] = (3, 2, 3, 3)
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
    network = UNet(weights, Settings(groups=1))
    with pytest.raises(ValueError, match="halves the sides 11 times, more than 10"):
        print(network.multiple)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"m_head.weight": torch.zeros(4, 3, 3, 3)}, "do not fit"),
        ({"m_down1.0.res.0.weight": torch.zeros(5, 4, 3, 3)}, "do not fit"),
        ({"m_head.weight": torch.zeros(())}, "damaged|tuple index"),
        ({"extra.weight": torch.zeros(2)}, "do not fit"),
        ({"m_body.0.res.2.weight": torch.full((10, 10, 3, 3), torch.nan)}, "holds NaN or infinity"),
        ({"m_tail.weight": torch.full((3, 4, 3, 3), torch.inf)}, "holds NaN or infinity"),
        ({"m_head.weight": torch.zeros(4, 4, 3, 3, dtype=torch.int64)}, "floating point|float"),
    ],
)
def test_wrong_tensors_are_refused(tmp_path, change, words):
    torch.save({**drunet_state(), **change}, tmp_path / "d.pth")
    message = load_error(tmp_path / "d.pth")
    assert any(word in message for word in words.split("|")), message


def test_missing_tensors_are_refused(tmp_path):
    for name in ("drunet-color", "guided-resblocks", "guided-convolutions"):
        tensors = fixtures.weights(fixtures.read(name)[0]["shapes"])
        for missing in list(tensors)[:: len(tensors) // 6]:
            rest = {key: value for key, value in tensors.items() if key != missing}
            if missing == "label_emb.weight":  # without it there are no classes
                continue
            torch.save(rest, tmp_path / "d.pt")
            settings = {"head_width": 16} if "guided" in name else {}
            load_error(tmp_path / "d.pt", **settings)


def test_tensor_larger_than_its_storage_is_refused(tmp_path):
    huge = torch.zeros(1).expand(100_000, 4, 3, 3)
    torch.save({**drunet_state(), "m_head.weight": huge}, tmp_path / "d.pth")
    assert "and holds less" in load_error(tmp_path / "d.pth")


def test_odd_metadata_is_refused(tmp_path):
    for config, words in {
        '{"family": "drunet", "sigma_range": [1]}': "not enough values",
        '{"family": "drunet", "sigma_range": [0.5, 0.1]}': "sigma_range=",
        '{"family": ["drunet"]}': "it is damaged",
        '["drunet"]': "no dictionary",
        "{": "damaged 'config'",
    }.items():
        save_file(drunet_state(), tmp_path / "d.safetensors", {"config": config})
        assert words in load_error(tmp_path / "d.safetensors")


def test_folder_without_a_network_is_refused(tmp_path):
    assert "the folder holds no config.json" in load_error(tmp_path)
    folder(tmp_path, "diffusers-ddpm")
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    assert "the folder holds no weights" in load_error(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json is no JSON object" in load_error(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json is damaged" in load_error(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    load_error(tmp_path)


class Hub(types.ModuleType):
    """Stands in for huggingface_hub: `snapshot_download` works offline only."""

    def __init__(self, path):
        super().__init__("huggingface_hub")
        self.path, self.calls = path, []

    def snapshot_download(self, name, *, revision, allow_patterns, local_files_only=False):
        self.calls.append((name, revision, local_files_only))
        if not local_files_only or self.path is None:
            raise ConnectionError("no network\nat all")
        return str(self.path)


def test_hub_id_loads_from_the_cache(tmp_path, monkeypatch):
    data = folder(tmp_path, "diffusers-ddpm")
    hub = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    denoiser = invert.load_prior("google/small@abc123")
    output = denoiser.module(data["x"], data["time"])
    assert torch.allclose(output, data["expected"], atol=1e-5, rtol=0)
    assert hub.calls == [("google/small", "abc123", False), ("google/small", "abc123", True)]


def test_hub_errors_name_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(None))
    message = load_error("google/small")
    assert "cannot be fetched from huggingface.co" in message and "no network at all" in message
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "install degrade[hub]" in load_error("google/small")
