"""Networks against the outputs of their authors' code, and the sizes of published files."""

import json

import pytest
import torch
from safetensors.torch import save_file

import invert
from invert.networks import diffusers, family_of, guided
from invert.networks.drunet import UNetRes

from . import network_fixtures as fixtures

DRUNETS = ("drunet-color", "drunet-gray")
GUIDED = ("guided-resblocks", "guided-convolutions")
DIFFUSERS = ("diffusers-ddpm", "diffusers-others")
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
GUIDED_SETTINGS = {
    "guided-resblocks": {"head_width": 16},
    "guided-convolutions": {"heads": 4, "new_attention_order": True},
}


def folder(path, name, old_names=False, file="diffusion_pytorch_model.safetensors"):
    """Write a fixture as a folder of diffusers."""
    metadata, data = fixtures.read(name)
    tensors = fixtures.weights(metadata["shapes"])
    if old_names:
        for new, old in OLD_NAMES.items():
            tensors = {key.replace(f".{new}.", f".{old}."): v for key, v in tensors.items()}
    if file.endswith(".bin"):
        torch.save(tensors, path / file)
    else:
        save_file(tensors, path / file)
    (path / "config.json").write_text(json.dumps(metadata["config"]))
    (path / "scheduler_config.json").write_text(json.dumps(metadata["scheduler"]))
    return data


@pytest.mark.parametrize("name", DRUNETS)
def test_drunet_equals_the_authors_code(tmp_path, name):
    metadata, data = fixtures.read(name)
    torch.save(fixtures.weights(metadata["shapes"]), tmp_path / "drunet.pth")
    denoiser = invert.load_prior(tmp_path / "drunet.pth")
    x0 = denoiser.denoise(data["x"], data["sigma"])
    assert torch.allclose(x0, data["expected"], atol=1e-5, rtol=0)
    assert data["expected"].abs().max() > 0.1
    assert denoiser.channels == data["x"].shape[1] and denoiser.resolution is None
    assert denoiser.sigma_range == (1 / 255, 50 / 255)


def test_drunet_has_the_published_sizes():
    colour, gray = UNetRes(3), UNetRes(1)
    assert len(colour.state_dict()) == 64
    assert sum(value.numel() for value in colour.parameters()) == 32_640_960
    assert sum(value.numel() for value in gray.parameters()) == 32_638_656


def test_drunet_is_homogeneous():
    network = UNetRes(3, (4, 6, 8, 10), 1, residual=True)
    x = torch.rand(2, 3, 16, 16)
    sigma = torch.tensor([0.1, 0.3])
    assert torch.allclose(network(2 * x, 2 * sigma), 2 * network(x, sigma), atol=1e-6)


def test_drunet_takes_a_map_of_noise_levels():
    network = UNetRes(3, (4, 6, 8, 10), 1)
    denoiser = invert.Denoiser(network, multiple=8, takes_map=True)
    x = torch.rand(2, 3, 11, 21)
    same = torch.full((2, 1, 11, 21), 0.2)
    assert torch.equal(denoiser.denoise(x, same), denoiser.denoise(x, 0.2))
    brighter = same.clone()
    brighter[:, :, :, 10:] = 0.5
    assert not torch.allclose(denoiser.denoise(x, brighter), denoiser.denoise(x, 0.2))


def test_drunet_with_sigma_data_is_scaled_as_in_edm(tmp_path):
    """D = c_skip x + c_out F(c_in x, ·) of Karras et al. 2022, with F = network / c."""
    plain = UNetRes(3, (4, 6, 8, 10), 1)
    scaled = UNetRes(3, (4, 6, 8, 10), 1, sigma_data=0.25)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(3, 3, 16, 16)
    sigma = torch.tensor([0.01, 0.4, 9.0])
    level = sigma.view(3, 1, 1, 1)
    c_in = 1 / (0.25**2 + level**2).sqrt()
    c_skip = 0.25**2 / (0.25**2 + level**2)
    network_output = plain(c_in * (x - 0.5), c_in * level)
    expected = 0.5 + c_skip * (x - 0.5) + 0.25 * network_output
    assert torch.allclose(scaled(x, sigma), expected, atol=1e-5)

    denoiser = invert.Denoiser(scaled, multiple=8, takes_map=True)
    invert.save_denoiser(denoiser, tmp_path / "scaled.safetensors")
    loaded = invert.load_prior(tmp_path / "scaled.safetensors")
    assert torch.equal(loaded.denoise(x, 2.0), denoiser.denoise(x, 2.0))


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_save_denoiser_and_load_prior_agree(tmp_path, dtype):
    network = UNetRes(3, (4, 6, 8, 10), 2, residual=True)
    denoiser = invert.Denoiser(network, multiple=8, takes_map=True, sigma_range=(0.02, 0.7))
    invert.save_denoiser(denoiser, tmp_path / "own.safetensors", dtype)
    loaded = invert.load_prior(tmp_path / "own.safetensors")
    assert loaded.sigma_range == (0.02, 0.7) and loaded.module.residual
    assert loaded.takes_map and loaded.resolution is None
    x = torch.rand(1, 3, 13, 9)
    expected = denoiser.denoise(x, 0.3)
    tolerance = 0 if dtype is None else 2e-3
    assert torch.allclose(loaded.denoise(x, 0.3), expected, atol=tolerance, rtol=0)
    with pytest.raises(ValueError, match="with a Identity cannot be saved"):
        invert.save_denoiser(invert.Denoiser(torch.nn.Identity()), tmp_path / "no.safetensors")


@pytest.mark.parametrize("name", GUIDED)
def test_guided_network_equals_the_authors_code(tmp_path, name):
    metadata, data = fixtures.read(name)
    torch.save(fixtures.weights(metadata["shapes"]), tmp_path / "guided.pt")
    denoiser = invert.load_prior(tmp_path / "guided.pt", **GUIDED_SETTINGS[name])
    output = denoiser.module(data["x"], data["time"], data.get("label"))
    assert torch.allclose(output, data["expected"], atol=1e-5, rtol=0)
    options = metadata["options"]
    assert denoiser.c_dim == options.get("num_classes", 0)
    assert denoiser.multiple == 2 ** (len(options["channel_mult"]) - 1)
    assert denoiser.learned_variance == (data["expected"].shape[1] == 6)


def test_guided_head_width_matters(tmp_path):
    metadata, data = fixtures.read("guided-resblocks")
    torch.save(fixtures.weights(metadata["shapes"]), tmp_path / "guided.pt")
    denoiser = invert.load_prior(tmp_path / "guided.pt", head_width=32)
    output = denoiser.module(data["x"], data["time"])
    assert (output - data["expected"]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="cannot be split into attention heads; give"):
        invert.load_prior(tmp_path / "guided.pt", head_width=48)


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("name", DIFFUSERS)
def test_diffusers_network_equals_the_authors_code(tmp_path, name, old_names):
    data = folder(tmp_path, name, old_names)
    denoiser = invert.load_prior(tmp_path)
    output = denoiser.module(data["x"], data["time"], data.get("label"))
    assert torch.allclose(output, data["expected"], atol=1e-5, rtol=0)
    assert torch.allclose(denoiser.table.alpha_bar, data["alpha_bar"].double(), atol=1e-6)
    assert denoiser.resolution == 16
    expected = ("epsilon", 0) if name == "diffusers-ddpm" else ("v", 4)
    assert (denoiser.predicts, denoiser.c_dim) == expected


def test_diffusers_pipeline_folder_loads(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "scheduler").mkdir()
    data = folder(tmp_path / "unet", "diffusers-ddpm", file="diffusion_pytorch_model.bin")
    settings = tmp_path / "unet" / "scheduler_config.json"
    settings.rename(tmp_path / "scheduler" / "scheduler_config.json")
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "scheduler": []}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for place in (tmp_path, tmp_path / "unet"):
        output = invert.load_prior(place).module(data["x"], data["time"])
        assert torch.allclose(output, data["expected"], atol=1e-5, rtol=0)
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "vqvae": []}))
    with pytest.raises(ValueError, match="also has a 'vqvae'"):
        invert.load_prior(tmp_path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type='fourier'"),
        ({"_class_name": "UNet2DConditionModel"}, "only 'UNet2DModel' is known"),
        ({"down_block_types": ["SkipDownBlock2D"]}, "names a 'SkipDownBlock2D'"),
        ({"norm_num_groups": 7}, "divisible"),
    ],
)
def test_unknown_diffusers_config_is_refused(tmp_path, change, words):
    folder(tmp_path, "diffusers-ddpm")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=words) as error:
        invert.load_prior(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"prediction_type": "flow"}, "predicts 'flow'"),
        ({"beta_schedule": "sigmoid"}, "'sigmoid' is none of linear"),
        ({"num_train_timesteps": 10**12}, "says 1000000000000 steps"),
        ({"rescale_betas_zero_snr": True}, "has no table of variances"),
    ],
)
def test_unknown_scheduler_is_refused(tmp_path, change, words):
    folder(tmp_path, "diffusers-ddpm")
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=words):
        invert.load_prior(tmp_path)


def test_missing_scheduler_can_be_given_in_words(tmp_path):
    folder(tmp_path, "diffusers-ddpm")
    (tmp_path / "scheduler_config.json").unlink()
    with pytest.raises(ValueError, match="no scheduler_config.json in or beside the folder; give"):
        invert.load_prior(tmp_path)
    denoiser = invert.load_prior(tmp_path, betas="cosine", predicts="v", resolution=None)
    assert denoiser.predicts == "v" and denoiser.resolution is None


def on_meta(shapes):
    """Tensors of these shapes that take no memory."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "name, side, classes, count, levels, heads",
    [
        ("ffhq-256", 256, 0, 93_563_910, 6, 8),
        ("imagenet-256", 256, 1000, 553_838_086, 6, 8),
        ("imagenet-512", 512, 1000, None, 7, 8),
        ("imagenet-128", 128, 1000, None, 5, 4),
        ("imagenet-64", 64, 1000, None, 4, 6),
    ],
)
def test_published_guided_networks_are_recognised(name, side, classes, count, levels, heads):
    """heads: of the first attention on the way down."""
    tensors = on_meta(fixtures.published_shapes(name))
    assert family_of(tensors) == "guided-diffusion"
    network, options = guided.read(tensors, {})
    assert options["resolution"] == side and options["multiple"] == 2 ** (levels - 1)
    assert options["classes"] == classes and options["learned_variance"]
    assert options["betas"] == ("cosine" if side == 64 else "linear")
    first = next(module for module in network.inputs.modules() if hasattr(module, "heads"))
    assert first.heads == heads
    total = sum(value.numel() for value in network.parameters())
    assert total == sum(value.numel() for value in tensors.values())
    assert count in (None, total)


def test_published_diffusers_network_is_recognised():
    tensors = on_meta(fixtures.published_shapes("ddpm-celebahq-256"))
    renamed = diffusers.renamed(tensors)
    assert len(tensors) == 450
    assert sum(value.numel() for value in renamed.values()) == 113_673_219
