"""Read the tensors of a checkpoint file. Nothing in the file is executed."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]
# what torch.load raises for a file that is damaged, or that holds forbidden objects
_REFUSALS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError)
# the first bytes of torch's files before they were zip files
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def kind_of(path: Path) -> str:
    """Return the format of a file by its first bytes: "safetensors", "torch" or "pickle".

    A file of none of the three counts as "safetensors", whose reader refuses it.
    """
    with path.open("rb") as file:
        head = file.read(len(_OLD_TORCH))
    # a safetensors file begins with the length of its header, which may look like another format
    header_end = int.from_bytes(head[:8], "little") + 8
    if head[8:9] == b"{" and header_end <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"PK") or head == _OLD_TORCH:
        return "torch"
    if head.startswith(b"\x80"):
        return "pickle"
    return "safetensors"


def read_safetensors(path: Path) -> tuple[object, Tensors]:
    """Return the JSON value "config" of the metadata (None without one), and the tensors.

    Raises ValueError for a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = (file.metadata() or {}).get("config")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError("it is no checkpoint that is known, or a damaged one") from error
    if config is None:
        return None, tensors
    try:
        return json.loads(config), tensors
    except json.JSONDecodeError as error:
        raise ValueError(f"it has a damaged 'config' in its metadata: {error}") from error


def read_torch(path: Path) -> object:
    """Return what `torch.save` wrote: tensors, numbers and containers.

    Raises ValueError if the file holds anything else, or is damaged.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):  # rosinality's training arguments
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except _REFUSALS as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"it cannot be read safely: {reason}") from error


def is_state_dict(content: object) -> TypeGuard[Tensors]:
    """Whether it is a dictionary of tensors by their names."""
    if not isinstance(content, dict):
        return False
    names_are_text = all(isinstance(name, str) for name in content)
    values_are_tensors = all(isinstance(value, Tensor) for value in content.values())
    return names_are_text and values_are_tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network that was made on the meta device its tensors, in float32.

    Raises ValueError if the network has other tensors.
    """
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"its tensors do not fit its config: {error}") from error
    network.float().requires_grad_(False)


def check_tensor(name: str, value: Tensor) -> None:
    """Raise ValueError for a tensor that claims more numbers than its storage holds."""
    is_plain = value.layout == torch.strided and value.device.type == "cpu"
    if not is_plain or value.is_complex():
        raise ValueError(f"{name} is no plain tensor of numbers")
    needed = value.numel() * value.element_size()
    if value.untyped_storage().nbytes() < needed:
        raise ValueError(f"{name} says {list(value.shape)} and holds less")


def in_one_line(error: Exception) -> str:
    """Return the error's message in printable characters, at most 400 of them."""
    kind = type(error).__name__
    words = str(error).split()
    message = " ".join(words) or kind
    message = "".join(map(_printable, message))
    if isinstance(error, KeyError):
        message = f"it lacks {message}, and is none of the kinds that are known"
    elif not isinstance(error, (ValueError, RuntimeError)):
        reason = f"{kind}: {message}"
        message = f"it is damaged, or holds something else than its names say ({reason})"
    if len(message) <= 400:
        return message
    return message[:400] + "…"


def _printable(character: str) -> str:
    """The character, or an escape such as \\x07 for it."""
    if character.isprintable():
        return character
    in_quotes = ascii(character)
    return in_quotes[1:-1]
