"""From a name, a file or an address to a generator, whoever wrote the file; and back to a file."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..bundled import bundled
from . import pickles, rosinality
from .base import StyleGenerator
from .discriminator import Discriminator
from .download import fetch, is_address
from .stylegan2 import StyleGAN2
from .stylegan3 import StyleGAN3, layers_of

BUNDLED = ("avatars-128",)
FAMILIES = {"stylegan2": StyleGAN2, "stylegan3": StyleGAN3}
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch's files began before they were zip files


def load_generator(name_or_path: str | Path, device: str | torch.device = "cpu") -> StyleGenerator:
    """A generator, frozen, in float32.

    name_or_path: the name of a bundled generator ("avatars-128"), the address of a file to fetch
    and keep (https://…, with #sha256:… to check it), or a file: our .safetensors; NVIDIA's .pkl of
    StyleGAN2-ADA, StyleGAN3 or StyleGAN-XL, of which no code is run; a rosinality .pt; or a state
    dict with NVIDIA's names in .safetensors or .pt. Raises ValueError saying what is wrong.
    """
    path = find(name_or_path)
    try:
        generator = _load(path)
    except OSError:
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise ValueError(f"generator {path}: {_in_one_line(error)}") from error
    generator.read_discriminator = partial(load_discriminator, path)
    return generator.to(device)


def load_discriminator(name_or_path: str | Path) -> Discriminator | None:
    """The discriminator that NVIDIA's .pkl of a StyleGAN2 keeps beside the generator; None in any other file.

    Raises ValueError where it is damaged, or of another kind.
    """
    path = find(name_or_path)
    with path.open("rb") as file:
        if file.read(2)[:1] != b"\x80" or path.suffix == ".safetensors":
            return None
    try:
        held = pickles.read(path)
        module = held.get("D") if isinstance(held, dict) else None
        if not isinstance(module, pickles.Module):
            return None
        tensors = pickles.state_dict(module)
        block = module[
            next(name.split(".")[0] for name in tensors if name.endswith(".conv0.weight"))
        ]
        if block["conv0"].get("activation") != "lrelu":
            raise ValueError("its activation is not lrelu, the only one that is known")
        return Discriminator(tensors, block["conv0"].get("conv_clamp"))
    except OSError:
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise ValueError(f"discriminator in {path}: {_in_one_line(error)}") from error


def save_generator(generator: StyleGenerator, path: str | Path) -> None:
    """Write the generator as .safetensors, to be loaded bit for bit the same."""
    from safetensors.torch import save_file

    if not isinstance(generator, StyleGenerator):
        raise ValueError(
            f"a {type(generator).__name__} generator cannot be saved; save its own module"
        )
    # clones, since some files share one filter among their layers
    tensors = {
        key: value.cpu().clone(memory_format=torch.contiguous_format)
        for key, value in generator.state_dict().items()
    }
    save_file(tensors, path, {"config": json.dumps(generator.config)})


def find(name_or_path: str | Path) -> Path:
    """The file of a bundled generator, of an address, or the path itself."""
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
    if family not in FAMILIES:
        raise ValueError(f"it is of the unknown family {family!r}; update degrade")
    with torch.device("meta"):  # no memory for weights that are replaced at once
        generator = FAMILIES[family](**config)
    shape, known_mean = generator.w_avg.shape, "mapping.w_avg" in tensors
    if not known_mean:
        if len(shape) == 2:
            raise ValueError("it lacks mapping.w_avg, the means of its classes")
        tensors = {**tensors, "mapping.w_avg": torch.zeros(()).expand(shape)}
    try:
        generator.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"its tensors do not fit its config: {error}") from error
    generator.float().requires_grad_(False)
    if not known_mean:
        generator.mapping.w_avg = generator.some_w(10_000)[0].mean(0)
    return generator


def _check(config: object, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what would take memory or time that the file does not stand for, or would fail in use."""
    if not isinstance(config, dict):
        raise ValueError("its config is no dictionary")
    layers = (config.get("mapping") or {}).get("num_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= len(tensors):
        raise ValueError(
            f"its config says {layers!r} layers of mapping, and it has {len(tensors)} tensors"
        )
    for name, value in tensors.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex():
            raise ValueError(f"{name} is no plain tensor of numbers")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError(f"{name} says {list(value.shape)} and holds less")
        if name.endswith(".resample_filter") and not torch.equal(value, value.flip(0, 1)):
            raise ValueError(f"{name} is not symmetric; only symmetric filters are known")


def _in_one_line(error: Exception) -> str:
    """What it says, printable and not too long."""
    said = " ".join(str(error).split()) or type(error).__name__
    said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
    if isinstance(error, KeyError):
        said = f"it lacks {said}, and is none of the kinds that are known"
    elif not isinstance(error, (ValueError, RuntimeError)):
        said = f"it is damaged, or holds something else than its names say ({type(error).__name__}: {said})"
    return said if len(said) <= 400 else said[:400] + "…"


def _read(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    """The constructor's arguments and the tensors, under NVIDIA's names."""
    with path.open("rb") as file:
        head = file.read(len(_OLD_TORCH))
    # a safetensors file begins with the length of its header, whose low bytes may look like anything
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size:
        return _from_safetensors(path)
    if head.startswith(b"PK") or head == _OLD_TORCH:
        return _from_torch(path)
    if head.startswith(b"\x80"):
        return _from_pickle(path)
    return _from_safetensors(path)  # which says that it is none


def _from_safetensors(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = (file.metadata() or {}).get("config")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"it is no checkpoint that is known: {error}") from error
    try:
        return (_config(tensors) if config is None else json.loads(config)), tensors
    except json.JSONDecodeError as error:
        raise ValueError(f"it has a damaged 'config' in its metadata: {error}") from error


def _from_torch(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    with torch.serialization.safe_globals([argparse.Namespace]):  # rosinality's training arguments
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
        except (
            pickle.UnpicklingError,
            RuntimeError,
            EOFError,
            OSError,
        ) as error:  # torch raises all of these
            raise ValueError(f"it cannot be read safely: {str(error).splitlines()[0]}") from error
    state = held.get("g_ema", held) if isinstance(held, dict) else None
    plain = isinstance(state, dict) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    )
    if not plain:
        raise ValueError("it holds no 'g_ema' and is no dictionary of tensors")
    if "style.1.weight" in state:
        state = rosinality.renamed(state, held.get("latent_avg"))
    return _config(state), dict(state)


def _from_pickle(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    held = pickles.read(path)
    parts = (
        held.values()
        if isinstance(held, dict)
        else held
        if isinstance(held, (tuple, list))
        else [held]
    )
    origins = [part.origin for part in parts if isinstance(part, pickles.Inert)]
    if "dnnlib.tflib.network.Network" in origins:
        raise ValueError(
            "it is from TensorFlow; convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch"
        )
    module = held.get("G_ema") if isinstance(held, dict) else None
    if not isinstance(module, pickles.Module):
        named = f" ({origins[0]} is not allowed; nothing of it was run)" if origins else ""
        raise ValueError(f"it holds no 'G_ema'{named}")
    tensors = pickles.state_dict(module)
    if "mapping.embed_proj.weight" not in tensors and "mapping.embed.bias" not in tensors:
        tensors.pop(
            "mapping.embed.weight", None
        )  # StyleGAN-XL keeps its table where it has no use for it
    return _said_by(module, _config(tensors)), tensors


def _config(tensors: Mapping[str, Tensor]) -> dict:
    """The constructor's arguments, as far as names and shapes tell them."""
    shape = {key: list(value.shape) for key, value in tensors.items()}
    fc = [
        shape[f"mapping.fc{i}.weight"]
        for i in range(len(shape))
        if f"mapping.fc{i}.weight" in shape
    ]
    if not fc:
        raise KeyError("mapping.fc0.weight")
    mapping = {"num_layers": len(fc)} | ({"layer_features": fc[0][0]} if len(fc) > 1 else {})
    z_dim, w_dim, c_dim = fc[0][1], fc[-1][0], 0
    if "mapping.embed_proj.weight" in shape:
        c_dim, z_dim = shape["mapping.embed.weight"][0], shape["mapping.embed_proj.weight"][0]
        mapping |= {
            "pretrained": shape["mapping.embed.weight"],
            "means_per_class": len(shape["mapping.w_avg"]) == 2,
        }
        c_dim = shape["mapping.w_avg"][0] if mapping["means_per_class"] else c_dim
    elif "mapping.embed.bias" in shape:
        mapping["embed_features"], c_dim = shape["mapping.embed.weight"]
        z_dim -= mapping["embed_features"]
    config = {"z_dim": z_dim, "w_dim": w_dim, "c_dim": c_dim, "mapping": mapping}
    if "synthesis.input.weight" in shape:
        start, layers = layers_of(tensors)
        size = int(layers[-1]["name"].split("_")[1])
        return config | {
            "family": "stylegan3",
            "img_resolution": size,
            "img_channels": layers[-1]["out"],
            "input": start,
            "layers": layers,
        }
    sides = [2**k for k in range(2, 13) if f"synthesis.b{2**k}.conv1.weight" in shape]
    kind = (
        "skip"
        if "synthesis.b4.torgb.weight" in shape
        else "resnet"
        if "synthesis.b8.skip.weight" in shape
        else "orig"
    )
    return config | {
        "family": "stylegan2",
        "img_resolution": sides[-1],
        "img_channels": shape[f"synthesis.b{sides[-1]}.torgb.weight"][0],
        "synthesis": {
            "architecture": kind,
            "use_noise": "synthesis.b4.conv1.noise_const" in shape,
            "widths": [shape[f"synthesis.b{side}.conv1.weight"][0] for side in sides],
        },
    }


def _said_by(module: pickles.Module, config: dict) -> dict:
    """`config` with what only the attributes of NVIDIA's modules tell."""
    fc, synthesis = module["mapping"]["fc0"], module["synthesis"]
    features = config["z_dim"] + config["mapping"].get("embed_features", 0)
    features += config["z_dim"] if "pretrained" in config["mapping"] else 0
    mapping = config["mapping"] | {"lr_multiplier": round(fc.get("weight_gain") * features**0.5, 9)}
    config = config | {"mapping": mapping}
    if config["family"] == "stylegan2":
        layer = synthesis["b4"]["conv1"]
        for name, activation in (
            ("mapping", fc.get("activation")),
            ("synthesis", layer.get("activation")),
        ):
            if activation != "lrelu":
                raise ValueError(
                    f"the {name}'s activation is not lrelu, the only one that is known"
                )
        return config | {"synthesis": config["synthesis"] | {"conv_clamp": layer.get("conv_clamp")}}
    start = synthesis["input"]
    said = {"size": int(start.get("size")[0])} | {
        key: float(start.get(key)) for key in ("sampling_rate", "bandwidth")
    }
    layers = []
    for layer in config["layers"]:
        its = synthesis[layer["name"]]
        up, down = (its.get(key) for key in ("up_factor", "down_factor"))
        layers.append(
            layer
            | {
                "up": int(up),
                "down": int(down),
                "padding": [int(n) for n in its.get("padding")],
                "clamp": its.get("conv_clamp"),
                "torgb": bool(its.get("is_torgb")),
            }
        )
    scale = float(synthesis.get("output_scale", 1))
    return config | {"input": config["input"] | said, "layers": layers, "output_scale": scale}
