"""Load generators from files of several formats, and save them as .safetensors."""

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
# the first bytes of torch's files before they were zip files
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


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
        raise ValueError(f"generator {path}: {_in_one_line(error)}") from error
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
            return _discriminator(module) if isinstance(module, pickles.Module) else None
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"discriminator in {path}: {_in_one_line(error)}") from error


def _discriminator(module: pickles.Module) -> Discriminator:
    tensors = pickles.state_dict(module)
    names = [name.split(".")[0] for name in tensors if name.endswith(".conv0.weight")]
    first = module[names[0]]["conv0"]
    if first.get("activation") != "lrelu":
        raise ValueError("its activation is not lrelu, the only one that is known")
    return Discriminator(tensors, first.get("conv_clamp"))


def save_generator(generator: StyleGenerator, path: str | Path) -> None:
    """Write the generator as .safetensors. Loading it gives the same bits."""
    from safetensors.torch import save_file

    if not isinstance(generator, StyleGenerator):
        raise ValueError(
            f"a {type(generator).__name__} generator cannot be saved; save its own module"
        )
    tensors = {}
    for name, value in generator.state_dict().items():
        # cloned, because the layers of some files share one filter
        tensors[name] = value.cpu().clone(memory_format=torch.contiguous_format)
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
    if family not in FAMILIES:
        raise ValueError(f"it is of the unknown family {family!r}; update degrade")
    with torch.device("meta"):  # the weights are replaced at once, so they need no memory
        generator: StyleGenerator = FAMILIES[family](**config)
    shape, known_mean = generator.w_avg.shape, "mapping.w_avg" in tensors
    if not known_mean:
        if len(shape) == 2:
            raise ValueError("it lacks mapping.w_avg, the means of its classes")
        tensors = {**tensors, "mapping.w_avg": torch.zeros((), dtype=torch.float32).expand(shape)}
    try:
        generator.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"its tensors do not fit its config: {error}") from error
    generator.float().requires_grad_(False)
    if not known_mean:
        generator.mapping.w_avg = generator.some_w(10_000)[0].mean(0)
    return generator


def _check(config: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if loading needs more memory or time than the size of the file justifies."""
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
    """Return the error's message in printable characters, at most 400 of them."""
    kind = type(error).__name__
    message = " ".join(str(error).split()) or kind
    message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    if isinstance(error, KeyError):
        message = f"it lacks {message}, and is none of the kinds that are known"
    elif not isinstance(error, (ValueError, RuntimeError)):
        reason = f"{kind}: {message}"
        message = f"it is damaged, or holds something else than its names say ({reason})"
    return message if len(message) <= 400 else message[:400] + "…"


def _read(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    """Return the constructor's arguments, and the tensors under NVIDIA's names."""
    with path.open("rb") as file:
        head = file.read(len(_OLD_TORCH))
    # a safetensors file begins with the length of its header, which may look like another format
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size:
        return _from_safetensors(path)
    if head.startswith(b"PK") or head == _OLD_TORCH:
        return _from_torch(path)
    if head.startswith(b"\x80"):
        return _from_pickle(path)
    return _from_safetensors(path)  # which raises if it is none


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
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise ValueError(f"it cannot be read safely: {str(error).splitlines()[0]}") from error
    state = content.get("g_ema", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not _is_state_dict(state):
        raise ValueError("it holds no 'g_ema' and is no dictionary of tensors")
    if "style.1.weight" in state:
        state = rosinality.renamed(state, content.get("latent_avg"))
    return _config(state), dict(state)


def _is_state_dict(state: dict) -> bool:
    items = state.items()
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in items)


def _from_pickle(path: Path) -> tuple[Mapping, dict[str, Tensor]]:
    content = pickles.read(path)
    if isinstance(content, dict):
        parts = list(content.values())
    elif isinstance(content, (tuple, list)):
        parts = list(content)
    else:
        parts = [content]
    origins = [part.origin for part in parts if isinstance(part, pickles.Inert)]
    if "dnnlib.tflib.network.Network" in origins:
        raise ValueError(
            "it is from TensorFlow; convert it with legacy.py of NVIDIA's stylegan2-ada-pytorch"
        )
    module = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(module, pickles.Module):
        reason = f" ({origins[0]} is not allowed; nothing of it was run)" if origins else ""
        raise ValueError(f"it holds no 'G_ema'{reason}")
    tensors = pickles.state_dict(module)
    if "mapping.embed_proj.weight" not in tensors and "mapping.embed.bias" not in tensors:
        # an unconditional StyleGAN-XL contains the table of classes without using it
        tensors.pop("mapping.embed.weight", None)
    return _with_attributes(module, _config(tensors)), tensors


def _config(tensors: Mapping[str, Tensor]) -> dict:
    """Return the constructor's arguments, as far as names and shapes determine them."""
    shape = {key: list(value.shape) for key, value in tensors.items()}
    fc = []
    for i in range(len(shape)):
        if f"mapping.fc{i}.weight" in shape:
            fc.append(shape[f"mapping.fc{i}.weight"])
    if not fc:
        raise KeyError("mapping.fc0.weight")
    mapping: dict = {"num_layers": len(fc)}
    if len(fc) > 1:
        mapping["layer_features"] = fc[0][0]
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
    if "synthesis.b4.torgb.weight" in shape:
        architecture = "skip"
    elif "synthesis.b8.skip.weight" in shape:
        architecture = "resnet"
    else:
        architecture = "orig"
    return config | {
        "family": "stylegan2",
        "img_resolution": sides[-1],
        "img_channels": shape[f"synthesis.b{sides[-1]}.torgb.weight"][0],
        "synthesis": {
            "architecture": architecture,
            "use_noise": "synthesis.b4.conv1.noise_const" in shape,
            "widths": [shape[f"synthesis.b{side}.conv1.weight"][0] for side in sides],
        },
    }


def _with_attributes(module: pickles.Module, config: dict) -> dict:
    """Return `config` with what only the attributes of NVIDIA's modules determine."""
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
            "padding": [int(n) for n in stored.get("padding")],
            "clamp": stored.get("conv_clamp"),
            "torgb": bool(stored.get("is_torgb")),
        }
        layers.append(layer | attributes)
    scale = float(synthesis.get("output_scale", 1))
    return config | {"input": config["input"] | geometry, "layers": layers, "output_scale": scale}
