"""Folders of the diffusers library with a UNet2DModel and its scheduler.

Source: the files' own names and config keys; https://github.com/huggingface/diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from .. import noise_table
from ..checkpoint_file import (
    check_tensor,
    fill,
    is_state_dict,
    kind_of,
    read_safetensors,
    read_torch,
)
from .unet import Settings, Tensors, UNet, Weights, branch, check_all_used, move, under

WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
)
PREDICTS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}
SCHEDULES = {
    "linear": noise_table.linear,
    "scaled_linear": noise_table.scaled_linear,
    "squaredcos_cap_v2": noise_table.cosine,
}
SETTINGS = ("betas", "predicts", "resolution")
_BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "emb",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "skip",
}
_ENDS = {
    "conv_in": "inputs.0.conv",
    "time_embedding.linear_1": "time.0",
    "time_embedding.linear_2": "time.2",
    "class_embedding": "classes",
    "conv_norm_out": "out_norm",
    "conv_out": "out_conv",
}
# keys of the network's config, and the values that this implementation knows
_KNOWN: dict[str, tuple[object, ...]] = {
    "_class_name": ("UNet2DModel",),
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D", None),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "class_embed_type": (None,),
    "attn_norm_num_groups": (None,),
    "downsample_padding": (1, 0),
}
_BLOCK_TYPES = ("DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D")
_MOST_STEPS = 100_000


def read(folder: Path, config: Mapping) -> tuple[nn.Module, dict]:
    """Return the network in a folder, and the arguments of `Denoiser` for it.

    folder: what `save_pretrained` wrote, of a pipeline or of a network with its scheduler's config
    beside it. config: some of SETTINGS, as `Denoiser` takes them; they replace those of the folder.
    Raises ValueError for networks of other kinds, and KeyError if tensors or settings are missing.
    """
    _check_pipeline(folder)
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    described = _json(place / "config.json")
    _check_config(described)
    tensors = _tensors(place)
    head_width = described.get("attention_head_dim", 8)
    settings = Settings(
        groups=described.get("norm_num_groups", 32),
        eps=described.get("norm_eps", 1e-5),
        head_width=head_width,
        heads=1,
        cosine_first=described.get("flip_sin_to_cos", True),
        frequency_shift=described.get("freq_shift", 0),
        down_padding=described.get("downsample_padding", 1),
    )
    weights = renamed(tensors)
    check_all_used(tensors, weights)
    with torch.device("meta"):
        network = UNet(weights, settings)
    fill(network, weights)
    inputs = weights["inputs.0.conv.weight"].shape[1]
    side = described.get("sample_size")
    options = {
        "channels": inputs,
        "resolution": side if isinstance(side, int) else None,
        "multiple": network.multiple,
        "signed": True,
        "learned_variance": weights["out_conv.weight"].shape[0] == 2 * inputs,
        "classes": described.get("num_class_embeds") or 0,
    }
    if "betas" not in config or "predicts" not in config:
        options |= _schedule(folder)
    return network, options | dict(config)


def renamed(tensors: Weights) -> Tensors:
    """Return the tensors under the names of `UNet`."""
    target: Tensors = {}
    move(tensors, "", target, _ENDS)
    step = 1  # step 0 is the first convolution
    for stage in _parts(tensors, "down_blocks"):
        step = _stage(stage, target, "inputs", step)
        for resampler in _parts(stage, "downsamplers"):
            _resampler(resampler, target, f"inputs.{step}.down", f"inputs.{step}.shrink")
            step += 1
    middle = branch(tensors, "mid_block.")
    _stage(middle, target, "middle", 0)
    step = 0
    for stage in _parts(tensors, "up_blocks"):
        step = _stage(stage, target, "outputs", step)
        last = f"outputs.{step - 1}"
        for resampler in _parts(stage, "upsamplers"):
            _resampler(resampler, target, f"{last}.up", f"{last}.grow")
    return target


def _stage(stage: Weights, target: Tensors, place: str, step: int) -> int:
    """Rename the residual blocks of a stage and their attention.

    step: the number of the first block. Returns the number after the last block.
    """
    attentions = _parts(stage, "attentions")
    for number, block in enumerate(_parts(stage, "resnets")):
        move(block, "", target, under(f"{place}.{step}.block", _BLOCK))
        if number < len(attentions):
            _attention(attentions[number], target, f"{place}.{step}.attention")
        step += 1
    return step


def _attention(part: Weights, target: Tensors, place: str) -> None:
    """Rename attention, and stack its queries, keys and values."""
    names = {"group_norm": f"{place}.norm", "to_out.0": f"{place}.out", "proj_attn": f"{place}.out"}
    move(part, "", target, names)
    inputs = ("to_q", "to_k", "to_v")
    if "to_q.weight" not in part:
        inputs = ("query", "key", "value")
    for end in ("weight", "bias"):
        if f"{inputs[0]}.{end}" in part:
            rows = [part[f"{name}.{end}"] for name in inputs]
            target[f"{place}.qkv.{end}"] = torch.cat(rows)


def _resampler(part: Weights, target: Tensors, convolution: str, block: str) -> None:
    """Rename a layer that changes the size: a convolution, or a residual block.

    convolution, block: the name that each of the two gets.
    """
    move(part, "", target, {"conv": f"{convolution}.conv"})
    move(part, "", target, under(block, _BLOCK))


def _parts(tensors: Weights, name: str) -> list[Tensors]:
    """The tensors of name.0, name.1, … as far as there are any."""
    within = branch(tensors, f"{name}.")
    parts: list[Tensors] = []
    while True:
        part = branch(within, f"{len(parts)}.")
        if not part:
            return parts
        parts.append(part)


def _check_pipeline(folder: Path) -> None:
    """Raise ValueError for a pipeline of more than a network and its scheduler."""
    index = folder / "model_index.json"
    if not index.is_file():
        return
    for name in _json(index):
        if not name.startswith("_") and name not in ("unet", "scheduler"):
            raise ValueError(
                f"its pipeline also has a {name!r}: only networks that draw the pixels are known"
            )


def _check_config(config: Mapping) -> None:
    """Raise ValueError for a network that this implementation does not know."""
    for key, known in _KNOWN.items():
        if key in config and config[key] not in known:
            raise ValueError(f"its config says {key}={config[key]!r}; only {known[0]!r} is known")
    for key in ("down_block_types", "up_block_types"):
        for block in config[key]:
            if block not in _BLOCK_TYPES:
                raise ValueError(
                    f"its config names a {block!r}; known are {', '.join(_BLOCK_TYPES)}"
                )


def _tensors(folder: Path) -> Tensors:
    """Read the weights in a folder."""
    for name in WEIGHTS:
        path = folder / name
        if not path.is_file():
            continue
        content: object
        if kind_of(path) == "torch":
            content = read_torch(path)
        else:
            _, content = read_safetensors(path)
        if not is_state_dict(content):
            raise ValueError(f"{name} is no dictionary of tensors")
        for key, value in content.items():
            check_tensor(key, value)
        return content
    raise ValueError(f"the folder holds no weights: none of {', '.join(WEIGHTS)}")


def _schedule(folder: Path) -> dict[str, object]:
    """The betas and the kind of prediction, from the scheduler's config in or beside the folder."""
    for path in (
        folder / "scheduler" / "scheduler_config.json",
        folder / "scheduler_config.json",
        folder.parent / "scheduler" / "scheduler_config.json",
    ):
        if path.is_file():
            return _scheduler_options(_json(path))
    raise ValueError(
        "there is no scheduler_config.json in or beside the folder; give betas='linear', say, and "
        "predicts='epsilon'"
    )


def _scheduler_options(config: Mapping) -> dict[str, object]:
    """The arguments of `Denoiser` that a scheduler's config determines."""
    if "beta_start" not in config or config.get("rescale_betas_zero_snr"):
        raise ValueError(
            f"its scheduler {config.get('_class_name')!r} has no table of variances that is known"
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTS:
        raise ValueError(f"its network predicts {prediction!r}; known are {', '.join(PREDICTS)}")
    betas = config.get("trained_betas")
    if betas is None:
        schedule = config.get("beta_schedule", "linear")
        if schedule not in SCHEDULES:
            raise ValueError(f"its beta_schedule {schedule!r} is none of {', '.join(SCHEDULES)}")
        steps = config.get("num_train_timesteps", 1000)
        if not 2 <= steps <= _MOST_STEPS:
            raise ValueError(f"its scheduler says {steps} steps; they must be 2 to {_MOST_STEPS}")
        betas = SCHEDULES[schedule](steps, config["beta_start"], config.get("beta_end", 0.02))
    return {"betas": betas, "predicts": PREDICTS[prediction]}


def _json(path: Path) -> dict:
    """Read a JSON object. Raises ValueError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"the folder holds no {path.name}") from error
    except ValueError as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value
