"""From a name or a file to a generator."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .stylegan2 import StyleGAN2

BUNDLED = {"avatars-128": Path(__file__).parent.parent / "weights" / "avatars-128.safetensors"}


def load_generator(name_or_path: str | Path, device: str | torch.device = "cpu") -> StyleGAN2:
    """A generator, frozen, in float32.

    name_or_path: the name of a bundled generator ("avatars-128"), or a .safetensors file that holds
    the published StyleGAN2 tensor names and the constructor arguments as JSON in its metadata key
    "config". Raises ValueError saying what is wrong with the file.
    """
    path = BUNDLED.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise ValueError(f"generator {str(name_or_path)!r} is neither a file nor one of {', '.join(BUNDLED)}")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = (file.metadata() or {}).get("config")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"generator {path} is not a safetensors file: {error}") from error
    if config is None:
        raise ValueError(f"generator {path} has no 'config' in its metadata; it must hold the constructor's arguments")
    try:
        with torch.device("meta"):  # no memory for weights that are replaced at once
            generator = StyleGAN2(**json.loads(config))
        generator.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"generator {path} does not fit its config: {error}") from error
    return generator.requires_grad_(False).to(device)
