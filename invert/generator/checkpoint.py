"""Load generators from files of several formats, and save them as .safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..bundled import bundled
from ..checkpoint_file import (
    check_tensor,
    fill,
    in_one_line,
    is_state_dict,
    kind_of,
    read_safetensors,
    read_torch,
)
from ..networks import DENOISERS, family_of
from . import pickles, rosinality
from .base import StyleGenerator
from .discriminator import Discriminator
from .download import fetch, is_address
from .stylegan2 import StyleGAN2
from .stylegan3 import StyleGAN3, layers_of

BUNDLED = ("avatars-128",)
Shapes = Mapping[str, list[int]]  # of tensors, by their names
FAMILIES = {"stylegan2": StyleGAN2, "stylegan3": StyleGAN3}


def load_generator(name_or_path: str | Path, device: str | torch.device = "cpu") -> StyleGenerator:
    """Load a generator, frozen, in float32.

    name_or_path: the name of a bundled generator ("avatars-128"), the address of a file that is
    downloaded and cached (https://…, with #sha256:… to verify it), or a file: our .safetensors;
    NVIDIA's .pkl of StyleGAN2-ADA, StyleGAN3 or StyleGAN-XL, without executing its code; a
    rosinality .pt; or a state dict with NVIDIA's names in .safetensors or .pt. Raises ValueError
    with the reason if the file cannot be used.
    """
    path = find(name_or_path)
    try:
        # the generator must be usable after inference mode, and not depend on a default device
        with torch.inference_mode(False), torch.device("cpu"):
            generator = _load(path)
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"generator {path}: {in_one_line(error)}") from error
    generator.read_discriminator = partial(load_discriminator, path)
    return generator.to(device)


def load_discriminator(name_or_path: str | Path) -> Discriminator | None:
    """Load the discriminator that NVIDIA's .pkl of a StyleGAN2 contains; None for other files.

    Raises ValueError if it is damaged, or of another kind.
    """
    path = find(name_or_path)
    with path.open("rb") as file:
        if file.read(1) != b"\x80" or path.suffix == ".safetensors":
            return None
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            content = pickles.read(path)
            module = content.get("D") if isinstance(content, dict) else None
            if not isinstance(module, pickles.Module):
                return None
            return _discriminator(module)
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"discriminator in {path}: {in_one_line(error)}") from error


def _discriminator(module: pickles.Module) -> Discriminator:
    tensors = pickles.state_dict(module)
    blocks = []
    for name in tensors:
        if name.endswith(".conv0.weight"):
            blocks.append(name.split(".")[0])
    layer = module[blocks[0]]["conv0"]
    if layer.get("activation") != "lrelu":
        raise ValueError("its activation is not lrelu, the only one that is known")
    return Discriminator(tensors, layer.get("conv_clamp"))


def save_generator(generator: StyleGenerator, path: str | Path) -> None:
    """Write the generator as .safetensors. Loading it gives the same bits."""
    from safetensors.torch import save_file

    if not isinstance(generator, StyleGenerator):
        raise ValueError(
            f"a {type(generator).__name__} generator cannot be saved; save its own module"
        )
    tensors = {}
    for name, value in generator.state_dict().items():
        value = value.cpu()
        # cloned, because the layers of some files share one filter
        tensors[name] = value.clone(memory_format=torch.contiguous_format)
    save_file(tensors, path, {"config": json.dumps(generator.config)})


def find(name_or_path: str | Path) -> Path:
    """Return the path of a bundled generator, of a downloaded file, or of the file itself."""
    text = str(name_or_path)
    if is_address(text):
        return fetch(text)
    if text in BUNDLED:
        return bundled(text)
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(f"generator {text!r} is neither a file nor one of {', '.join(BUNDLED)}")
    return path


def _load(path: Path) -> StyleGenerator:
    config, tensors = _read(path)
    _check(config, tensors)
    config = {key: value for key, value in config.items() if value is not None}
    family = config.pop("family", "stylegan2")
    if family in DENOISERS:
        raise ValueError(f"it is a denoiser ({family}); load it with invert.load_prior")
    if family not in FAMILIES:
        raise ValueError(f"it is of the unknown family {family!r}; update degrade")
    with torch.device("meta"):  # the weights are replaced at once, so they need no memory
        generator: StyleGenerator = FAMILIES[family](**config)
    shape = generator.w_avg.shape
    known_mean = "mapping.w_avg" in tensors
    if not known_mean:
        if len(shape) == 2:
            raise ValueError("it lacks mapping.w_avg, the means of its classes")
        placeholder = torch.zeros((), dtype=torch.float32)
        tensors = {**tensors, "mapping.w_avg": placeholder.expand(shape)}
    fill(generator, tensors)
    if not known_mean:
        w, _ = generator.some_w(10_000)
        generator.mapping.w_avg = w.mean(0)
    return generator


def _check(config: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if loading needs more memory or time than the size of the file justifies."""
    if not isinstance(config, dict):
        raise ValueError("its config is no dictionary")
    mapping = config.get("mapping") or {}
    layers = mapping.get("num_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= len(tensors):
        raise ValueError(
            f"its config says {layers!r} layers of mapping, and it has {len(tensors)} tensors"
        )
    for name, value in tensors.items():
        _check_tensor(name, value)


def _check_tensor(name: str, value: Tensor) -> None:
    check_tensor(name, value)
    if name.endswith(".resample_filter"):
        flipped = value.flip(0, 1)
        if not torch.equal(value, flipped):
            raise ValueError(f"{name} is not symmetric; only symmetric filters are known")


def _read(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    """Return the constructor's arguments, and the tensors under NVIDIA's names."""
    kind = kind_of(path)
    if kind == "torch":
        return _from_torch(path)
    if kind == "pickle":
        return _from_pickle(path)
    config, tensors = read_safetensors(path)
    if config is None:
        return _config(tensors), tensors
    if not isinstance(config, dict):
        raise ValueError("its config is no dictionary")
    return config, tensors


def _from_torch(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    content = read_torch(path)
    content = content if isinstance(content, dict) else {}
    state = content.get("g_ema", content)
    if not state or not is_state_dict(state):
        raise ValueError("it holds no 'g_ema' and is no dictionary of tensors")
    if "style.1.weight" in state:
        state = rosinality.renamed(state, content.get("latent_avg"))
    return _config(state), dict(state)


def _from_pickle(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    content = pickles.read(path)
    if isinstance(content, dict):
        parts = list(content.values())
    elif isinstance(content, (tuple, list)):
        parts = list(content)
    else:
        parts = [content]
    origins = []
    for part in parts:
        if isinstance(part, pickles.Inert):
            origins.append(part.origin)
    if "dnnlib.tflib.network.Network" in origins:
        raise ValueError(
            "it is from TensorFlow; convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch"
        )
    module = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(module, pickles.Module):
        reason = ""
        if origins:
            reason = f" ({origins[0]} is not allowed; nothing of it was run)"
        raise ValueError(f"it holds no 'G_ema'{reason}")
    tensors = pickles.state_dict(module)
    if "mapping.embed_proj.weight" not in tensors and "mapping.embed.bias" not in tensors:
        # an unconditional StyleGAN-XL contains the table of classes without using it
        tensors.pop("mapping.embed.weight", None)
    return _with_attributes(module, _config(tensors)), tensors


def _config(tensors: Mapping[str, Tensor]) -> dict:
    """Return the constructor's arguments, as far as names and shapes determine them."""
    family = family_of(tensors)
    if family:
        raise ValueError(f"it is a denoiser ({family}); load it with invert.load_prior")
    shapes = {key: list(value.shape) for key, value in tensors.items()}
    config = _mapping_config(shapes)
    if "synthesis.input.weight" in shapes:
        return config | _stylegan3_config(tensors)
    return config | _stylegan2_config(shapes)


def _mapping_config(shapes: Shapes) -> dict:
    """The sizes of Z, W and classes, and the arguments of `Mapping`."""
    layers = []
    for i in range(len(shapes)):
        layer = f"mapping.fc{i}.weight"
        if layer in shapes:
            layers.append(shapes[layer])
    if not layers:
        raise KeyError("mapping.fc0.weight")
    mapping: dict = {"num_layers": len(layers)}
    if len(layers) > 1:
        mapping["layer_features"] = layers[0][0]
    z_dim = layers[0][1]
    w_dim = layers[-1][0]
    c_dim = 0
    if "mapping.embed_proj.weight" in shapes:
        z_dim = shapes["mapping.embed_proj.weight"][0]
        c_dim = shapes["mapping.embed.weight"][0]
        means_per_class = len(shapes["mapping.w_avg"]) == 2
        mapping["pretrained"] = shapes["mapping.embed.weight"]
        mapping["means_per_class"] = means_per_class
        if means_per_class:
            c_dim = shapes["mapping.w_avg"][0]
    elif "mapping.embed.bias" in shapes:
        mapping["embed_features"], c_dim = shapes["mapping.embed.weight"]
        z_dim -= mapping["embed_features"]
    return {"z_dim": z_dim, "w_dim": w_dim, "c_dim": c_dim, "mapping": mapping}


def _stylegan3_config(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `StyleGAN3` besides those of the mapping."""
    start, layers = layers_of(tensors)
    last = layers[-1]
    size = int(last["name"].split("_")[1])
    return {
        "family": "stylegan3",
        "img_resolution": size,
        "img_channels": last["out"],
        "input": start,
        "layers": layers,
    }


def _stylegan2_config(shape: Shapes) -> dict:
    """The arguments of `StyleGAN2` besides those of the mapping."""
    sides = []
    widths = []
    for exponent in range(2, 13):
        side = 2**exponent
        convolution = f"synthesis.b{side}.conv1.weight"
        if convolution in shape:
            sides.append(side)
            widths.append(shape[convolution][0])
    if "synthesis.b4.torgb.weight" in shape:
        architecture = "skip"
    elif "synthesis.b8.skip.weight" in shape:
        architecture = "resnet"
    else:
        architecture = "orig"
    largest = sides[-1]
    return {
        "family": "stylegan2",
        "img_resolution": largest,
        "img_channels": shape[f"synthesis.b{largest}.torgb.weight"][0],
        "synthesis": {
            "architecture": architecture,
            "use_noise": "synthesis.b4.conv1.noise_const" in shape,
            "widths": widths,
        },
    }


def _with_attributes(module: pickles.Module, config: dict) -> dict:
    """Return `config` with what only the attributes of NVIDIA's modules determine."""
    fc = module["mapping"]["fc0"]
    synthesis = module["synthesis"]
    mapping = config["mapping"]
    features = config["z_dim"] + mapping.get("embed_features", 0)
    if "pretrained" in mapping:
        features += config["z_dim"]
    lr_multiplier = round(fc.get("weight_gain") * features**0.5, 9)
    config = config | {"mapping": mapping | {"lr_multiplier": lr_multiplier}}
    if config["family"] == "stylegan2":
        layer = synthesis["b4"]["conv1"]
        _check_activation("mapping", fc)
        _check_activation("synthesis", layer)
        arguments = config["synthesis"] | {"conv_clamp": layer.get("conv_clamp")}
        return config | {"synthesis": arguments}
    return config | _stylegan3_attributes(synthesis, config)


def _check_activation(name: str, layer: pickles.Module) -> None:
    """Raise ValueError for a layer with another activation than leaky ReLU."""
    if layer.get("activation") != "lrelu":
        raise ValueError(f"the {name}'s activation is not lrelu, the only one that is known")


def _stylegan3_attributes(synthesis: pickles.Module, config: dict) -> dict:
    start = synthesis["input"]
    geometry = {
        "size": int(start.get("size")[0]),
        "sampling_rate": float(start.get("sampling_rate")),
        "bandwidth": float(start.get("bandwidth")),
    }
    layers = []
    for layer in config["layers"]:
        stored = synthesis[layer["name"]]
        attributes = {
            "up": int(stored.get("up_factor")),
            "down": int(stored.get("down_factor")),
            "padding": list(map(int, stored.get("padding"))),
            "clamp": stored.get("conv_clamp"),
            "torgb": bool(stored.get("is_torgb")),
        }
        layers.append(layer | attributes)
    return {
        "input": config["input"] | geometry,
        "layers": layers,
        "output_scale": float(synthesis.get("output_scale", 1)),
    }
