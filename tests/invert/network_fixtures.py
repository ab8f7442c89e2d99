"""Outputs that the authors' own code computes, for small networks with weights from a formula.

A fixture holds the names and shapes of a network's tensors, its config, an input and the output.
The weights follow from their names and shapes, so they need no space.

To write the fixtures anew, in an environment with diffusers 0.42 and with the repositories
openai/guided-diffusion (22e0df8) and cszn/KAIR (fc1732f) on PYTHONPATH:
`python -m tests.invert.network_fixtures`.
"""

import gzip
import json
import math
import zlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DATA = Path(__file__).parent.parent / "data" / "networks"


def weights(shapes):
    """Numbers that look random, the same on every machine, and of a size that suits a network."""
    tensors = {}
    for name, shape in shapes.items():
        count = math.prod(shape)
        start = zlib.crc32(name.encode()) % 100_000
        numbers = torch.arange(start, start + count, dtype=torch.float64)
        fractions = ((numbers * 12.9898).sin() * 43758.5453).frac()
        values = fractions.reshape(shape)
        if len(shape) > 1:
            values = values * math.prod(shape[1:]) ** -0.5
        elif name.endswith("weight"):
            values = 1 + 0.2 * values
        else:
            values = 0.2 * values
        tensors[name] = values.float()
    return tensors


def read(name):
    """Return the metadata and the tensors of a fixture."""
    with safe_open(DATA / f"{name}.safetensors", framework="pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        return metadata, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def published_shapes(name):
    """The names and shapes of the tensors in a published file."""
    return json.loads(gzip.decompress((DATA / "published.json.gz").read_bytes()))[name]


def shapes_of(network):
    return {name: list(value.shape) for name, value in network.state_dict().items()}


def save(name, network, expected, metadata, **inputs):
    DATA.mkdir(exist_ok=True)
    metadata = {"shapes": shapes_of(network), **metadata}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    save_file({**inputs, "expected": expected.contiguous()}, DATA / f"{name}.safetensors", texts)


def prepared(network):
    network.load_state_dict(weights(shapes_of(network)))
    return network.eval()


@torch.no_grad()
def main():
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 16, 16, generator=draws)
    time = torch.tensor([3.5, 700.0])
    label = torch.tensor([1, 3])
    drunet(x)
    guided(x, time, label)
    diffusers(x, time, label)
    published()


def drunet(x):
    from models.network_unet import UNetRes

    sigma = torch.tensor([0.05, 0.2])
    for name, channels, blocks in (("drunet-color", 3, 2), ("drunet-gray", 1, 2)):
        network = UNetRes(channels + 1, channels, [4, 6, 8, 10], blocks, bias=False)
        picture = x[:, :channels]
        level = sigma.view(2, 1, 1, 1).expand(-1, 1, 16, 16)
        expected = prepared(network)(torch.cat([picture, level], 1))
        save(name, network, expected, {}, x=picture.contiguous(), sigma=sigma)


GUIDED = {
    # as the networks of FFHQ and ImageNet, in small: residual blocks change the size
    "guided-resblocks": {
        "channel_mult": (1, 2),
        "attention_resolutions": (2,),
        "num_res_blocks": 1,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
        "num_head_channels": 16,
    },
    # convolutions change the size, the embedding is added, there are classes
    "guided-convolutions": {
        "channel_mult": (1, 1, 2),
        "attention_resolutions": (1, 4),
        "num_res_blocks": 2,
        "num_classes": 5,
        "num_heads": 4,
        "use_new_attention_order": True,
    },
}


def guided(x, time, label):
    from guided_diffusion.unet import UNetModel

    for name, options in GUIDED.items():
        classes = options.get("num_classes")
        outputs = 3 if classes else 6
        network = prepared(UNetModel(16, 3, 32, outputs, **options))
        inputs = {"x": x, "time": time}
        if classes:
            inputs["label"] = label
        expected = network(x, time, *([label] if classes else []))
        save(name, network, expected, {"options": options}, **inputs)


DIFFUSERS = {
    # as google/ddpm-celebahq-256, in small
    "diffusers-ddpm": {
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "norm_num_groups": 8,
        "block_out_channels": (16, 24),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    },
    # everything the other way round
    "diffusers-others": {
        "attention_head_dim": 8,
        "out_channels": 6,
        "num_class_embeds": 4,
        "norm_num_groups": 4,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    },
}


def diffusers(x, time, label):
    from diffusers import DDPMScheduler, UNet2DModel

    for name, options in DIFFUSERS.items():
        network = prepared(UNet2DModel(sample_size=16, layers_per_block=1, **options))
        inputs = {"x": x, "time": time}
        if "num_class_embeds" in options:
            inputs["label"] = label
        expected = network(x, time, class_labels=inputs.get("label")).sample
        scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        if name == "diffusers-ddpm":
            scheduler = DDPMScheduler()
        metadata = {"config": dict(network.config), "scheduler": dict(scheduler.config)}
        alpha_bar = scheduler.alphas_cumprod
        save(name, network, expected, metadata, alpha_bar=alpha_bar, **inputs)


def published():
    """The names and shapes of published networks, whose files are too large for a test."""
    from diffusers import UNet2DModel
    from guided_diffusion.script_util import create_model

    common = {"learn_sigma": True, "resblock_updown": True, "use_scale_shift_norm": True}
    imagenet = {**common, "attention_resolutions": "32,16,8"}
    calls = {
        "ffhq-256": ((256, 128, 1), {**common, "num_head_channels": 64}),
        "imagenet-256": ((256, 256, 2), {**imagenet, "num_head_channels": 64, "class_cond": True}),
        "imagenet-512": ((512, 256, 2), {**imagenet, "num_head_channels": 64, "class_cond": True}),
        "imagenet-128": ((128, 256, 2), {**imagenet, "num_heads": 4, "class_cond": True}),
        "imagenet-64": ((64, 192, 3), {**imagenet, "num_head_channels": 64, "class_cond": True}),
    }
    shapes = {}
    with torch.device("meta"):
        for name, (sizes, options) in calls.items():
            shapes[name] = shapes_of(create_model(*sizes, **options))
        celeba = UNet2DModel(
            sample_size=256,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
            attention_head_dim=None,
        )
        shapes["ddpm-celebahq-256"] = shapes_of(celeba)
    text = json.dumps(shapes, separators=(",", ":")).encode()
    (DATA / "published.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))


if __name__ == "__main__":
    main()
