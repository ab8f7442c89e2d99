"""Files of OpenAI's guided-diffusion: ImageNet, LSUN, and DPS's FFHQ network.

Source: Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis", and its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoint_file import fill
from .unet import Settings, Tensors, UNet, Weights, branch, check_all_used, move, under

SETTINGS = ("head_width", "heads", "new_attention_order", "betas", "predicts", "resolution")
# the side of the images, by the widths of the levels over the width of the first embedding
SIDES = {
    (0.5, 1, 1, 2, 2, 4, 4): 512,
    (1, 1, 2, 2, 4, 4): 256,
    (1, 1, 2, 3, 4): 128,
    (1, 2, 3, 4): 64,
}
# what shapes do not show of two published networks, by that width and the side
PUBLISHED: dict[tuple[int, int | None], dict] = {
    (256, 128): {"heads": 4, "head_width": None},
    (192, 64): {"new_attention_order": True, "betas": "cosine"},
}
_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "emb",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "skip",
}
_ENDS = {
    "time_embed.0": "time.0",
    "time_embed.2": "time.2",
    "label_emb": "classes",
    "out.0": "out_norm",
    "out.2": "out_conv",
}


def recognises(tensors: Weights) -> bool:
    """Whether these are the names of a guided-diffusion network."""
    return "input_blocks.0.0.weight" in tensors and "time_embed.0.weight" in tensors


def read(tensors: Weights, config: Mapping) -> tuple[nn.Module, dict]:
    """Return the network, and the arguments of `Denoiser` for it.

    config: some of SETTINGS. head_width: the channels of an attention head (64), or heads: how many
    heads there are. new_attention_order: whether queries, keys and values are separated before the
    heads. betas, predicts, resolution: as `Denoiser` takes them.
    Raises ValueError for a network that is no denoiser, and KeyError if tensors are missing.
    """
    layout = Layout.of(tensors)
    inputs = tensors["input_blocks.0.0.weight"].shape[1]
    outputs = tensors["out.2.weight"].shape[0]
    classes = 0
    if "label_emb.weight" in tensors:
        classes = tensors["label_emb.weight"].shape[0]
    if outputs not in (inputs, 2 * inputs):
        raise ValueError(
            f"it turns {inputs} channels into {outputs}; a network that enlarges is no denoiser"
        )
    chosen = _settings(layout, config)
    settings = Settings(head_width=chosen["head_width"], heads=chosen["heads"])
    by_head = not chosen["new_attention_order"]
    renamed = layout.renamed(tensors, settings, by_head)
    check_all_used(tensors, renamed)
    with torch.device("meta"):
        network = UNet(renamed, settings)
    fill(network, renamed)
    options = {
        "channels": inputs,
        "multiple": network.multiple,
        "signed": True,
        "learned_variance": outputs == 2 * inputs,
        "classes": classes,
    }
    for name in ("betas", "predicts", "resolution"):
        options[name] = chosen[name]
    return network, options


def _settings(layout: Layout, config: Mapping) -> dict:
    """The SETTINGS: the defaults, replaced by those of a published network, then by `config`."""
    settings: dict = {
        "head_width": 64,
        "heads": 1,
        "new_attention_order": False,
        "betas": "linear",
        "predicts": "epsilon",
        "resolution": layout.side,
    }
    settings |= PUBLISHED.get((layout.width, layout.side), {})
    settings |= config
    if "heads" in config and "head_width" not in config:
        settings["head_width"] = None
    return settings


@dataclass(frozen=True)
class Layout:
    """How the numbered blocks form levels.

    width: the number of frequencies of the time, from which all widths follow. blocks: residual
    blocks per level. widths: of the levels over `width`, from full size down.
    """

    width: int
    blocks: int
    widths: tuple[float, ...]

    @staticmethod
    def of(tensors: Weights) -> Layout:
        """Read the layout off the decoder.

        In the encoder, a residual block that halves the sides looks like any other. In the decoder,
        the last part of a block shows whether the block doubles the sides.
        """
        if "output_blocks.0.0.in_layers.2.weight" not in tensors:
            raise ValueError("it has no output_blocks: a classifier, not a denoiser")
        width = tensors["time_embed.0.weight"].shape[1]
        channels: list[int] = []
        doubling: list[int] = []
        while True:
            number = len(channels)
            block = branch(tensors, f"output_blocks.{number}.")
            convolution = block.get("0.in_layers.2.weight")
            if convolution is None:
                break
            channels.append(len(convolution))
            if _doubles(block):
                doubling.append(number)
        blocks = doubling[0] if doubling else len(channels) - 1
        from_smallest = channels[:: blocks + 1]
        from_full_size = reversed(from_smallest)
        widths = tuple(count / width for count in from_full_size)
        return Layout(width, blocks, widths)

    @property
    def side(self) -> int | None:
        """The side of the images it was trained on; None if no published network is like it."""
        return SIDES.get(self.widths)

    def renamed(self, tensors: Weights, settings: Settings, by_head: bool) -> Tensors:
        """The tensors under the names of `UNet`.

        by_head: whether the rows of queries, keys and values are ordered head by head.
        """
        target: Tensors = {}
        move(tensors, "", target, _ENDS)
        steps_per_level = self.blocks + 1
        for number in range(steps_per_level * len(self.widths)):
            halves = number > 0 and number % steps_per_level == 0
            first_kind = "shrink" if halves else "block"
            part = branch(tensors, f"input_blocks.{number}.")
            target |= _step(part, f"inputs.{number}", first_kind)
            part = branch(tensors, f"output_blocks.{number}.")
            target |= _step(part, f"outputs.{number}", "block")
        middle = branch(tensors, "middle_block.")
        for number in range(3):
            part = branch(middle, f"{number}.")
            only_layer = {f"0.{name}": value for name, value in part.items()}
            target |= _step(only_layer, f"middle.{number}", "block")
        if by_head:
            _separate(target, settings)
        return target


def _doubles(part: Weights) -> bool:
    """Whether an output block ends by doubling the sides: with a second block, or a convolution."""
    for number in (1, 2):
        layer = branch(part, f"{number}.")
        if "in_layers.2.weight" in layer or "conv.weight" in layer:
            return True
    return False


def _step(part: Weights, step: str, first_kind: str) -> Tensors:
    """Rename the layers of one block. first_kind: what its first residual block does."""
    target: Tensors = {}
    for number in range(3):
        layer = branch(part, f"{number}.")
        if "in_layers.2.weight" in layer:
            kind = first_kind if number == 0 else "grow"
            move(layer, "", target, under(f"{step}.{kind}", _BLOCK))
        elif "qkv.weight" in layer:
            channels = layer["proj_out.weight"].shape[0]
            flat = {name: _matrix(value, channels) for name, value in layer.items()}
            names = {"norm": "norm", "qkv": "qkv", "proj_out": "out"}
            move(flat, "", target, under(f"{step}.attention", names))
        elif "op.weight" in layer:
            move(layer, "", target, {"op": f"{step}.down.conv"})
        elif "conv.weight" in layer:
            move(layer, "", target, {"conv": f"{step}.up.conv"})
        elif "weight" in layer:
            for end, value in layer.items():
                target[f"{step}.conv.{end}"] = value
    return target


def _matrix(value: Tensor, channels: int) -> Tensor:
    """The kernel of a 1×1 convolution as a matrix. A vector stays as it is."""
    if value.ndim == 1:
        return value
    return value.reshape(-1, channels)


def _separate(target: Tensors, settings: Settings) -> None:
    """Bring rows that are ordered head by head into the order queries, keys, values."""
    for name, value in target.items():
        if ".attention.qkv." not in name:
            continue
        channels = len(value) // 3
        heads = settings.heads_of(channels)
        rows = value.reshape(heads, 3, -1, *value.shape[1:])
        separated = rows.transpose(0, 1)
        target[name] = separated.reshape(value.shape)
