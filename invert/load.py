"""Load a prior from a file, a folder or a hub, and save a denoiser."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .bundled import bundled
from .checkpoint_file import (
    check_tensor,
    in_one_line,
    is_state_dict,
    kind_of,
    read_safetensors,
    read_torch,
)
from .denoiser import Denoiser
from .eight_bits import packed, unpacked
from .generator import BUNDLED, Generator, load_generator
from .generator.download import fetch, is_address
from .hub import PRIOR_FILE
from .networks import FAMILIES, diffusers, family_of
from .networks.drunet import UNetRes

BUNDLED_DENOISERS = ("photo", "avatars")
BUNDLED_VARIANTS = {"photo": ("photo-jpeg",)}  # of the same pictures, for errors of another kind
HUB_FILES = (
    PRIOR_FILE,
    "*.json",
    *diffusers.WEIGHTS,
    *[f"unet/{name}" for name in diffusers.WEIGHTS],
)
FILE_SUFFIXES = (".pt", ".pth", ".pkl", ".safetensors")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
Settings = Mapping[str, object]


def load_prior(
    name_or_path: str | Path, device: str | torch.device = "cpu", **settings: object
) -> Generator | Denoiser:
    """Load a generator or a denoiser, frozen, in float32. The content decides which of the two.

    name_or_path: "photo", the bundled denoiser for any picture, with a variant for errors of
    compression; "avatars", the one for the pictures of the bundled generator; the name of
    a bundled generator ("avatars-128"); a file; the address of a file that is downloaded and cached
    (https://…, with #sha256:… to verify it); a folder; or the id of a folder on huggingface.co,
    "owner/name" or "owner/name@revision", which the extra `degrade[hub]` downloads once.

    A folder is one that `prior.save_pretrained` or `prior.push_to_hub` wrote, or one of diffusers.
    Known denoisers are DRUNet (KAIR's drunet_color.pth and drunet_gray.pth, files of `degrade
    train` and `save_denoiser`), guided-diffusion's networks (.pt), and folders of diffusers with a
    UNet2DModel. Known generators: see `load_generator`. Nothing in a file is executed.

    settings: what a file of a denoiser does not say, by its family. DRUNet: residual, sigma_data,
    sigma_range, upright. guided-diffusion: head_width or heads, new_attention_order, betas,
    predicts, resolution. diffusers: betas, predicts, resolution. Betas, predicts, resolution and
    upright are arguments of `Denoiser`.
    Raises ValueError with the reason if the prior cannot be used.
    """
    path = find(name_or_path)
    try:
        # the prior must be usable after inference mode, and not depend on a default device
        with torch.inference_mode(False), torch.device("cpu"):
            variants = []
            for name in BUNDLED_VARIANTS.get(str(name_or_path), ()):
                variant = _denoiser(bundled(name), {})
                assert variant is not None
                variants.append(variant)
            denoiser = _denoiser(path, settings, variants)
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"prior {path}: {in_one_line(error)}") from error
    if denoiser is not None:
        return denoiser.to(device)
    if settings:
        raise ValueError(f"{', '.join(settings)}: a generator has no such setting; leave it out")
    return load_generator(path, device)


def save_denoiser(denoiser: Denoiser, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a denoiser with a DRUNet (`UNetRes`) as .safetensors, for `load_prior`.

    dtype: the type of the weights in the file, such as torch.float16; by default their own, and
    loading gives the same bits. torch.int8 stores large kernels as 8-bit integers with a scale for
    each filter, and the others in float16: a quarter of the size for less than 0.01 dB. Raises
    ValueError for a denoiser with another network, for other types, and for weights of NaN or
    infinity that would be stored in 8 bits.
    """
    from safetensors.torch import save_file

    _check_type(dtype)
    network = denoiser.module
    if not isinstance(network, UNetRes):
        raise ValueError(
            f"a denoiser with a {type(network).__name__} cannot be saved, only one with a DRUNet; "
            "save its own module"
        )
    config = {
        "family": "drunet",
        "residual": network.residual,
        "sigma_data": network.sigma_data,
        "sigma_range": list(denoiser.sigma_range),
        "upright": denoiser.upright,
    }
    float_type = None if dtype is torch.int8 else dtype
    tensors = {}
    for name, value in network.state_dict().items():
        value = value.detach().to("cpu", float_type)
        tensors[name] = value.contiguous()
    if dtype is torch.int8:
        tensors = packed(tensors)
    save_file(tensors, path, {"config": json.dumps(config)})


def _check_type(dtype: torch.dtype | None) -> None:
    """Raise ValueError for a type in which no weights can be stored."""
    if dtype is None or dtype is torch.int8:
        return
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype={dtype!r} must be of floats, such as torch.float16, or torch.int8")


def find(name_or_path: str | Path) -> Path:
    """Return the file or folder of a prior; addresses and hub ids are downloaded once.

    Raises ValueError if there is none.
    """
    text = str(name_or_path)
    if is_address(text):
        return fetch(text)
    if text in BUNDLED_DENOISERS or text in BUNDLED:
        return bundled(text)
    path = Path(text)
    if path.exists():
        return _file_within(path)
    if _HUB_ID.fullmatch(text) and path.suffix not in FILE_SUFFIXES:
        return _file_within(_from_hub(text))
    names = ", ".join([*BUNDLED_DENOISERS, *BUNDLED])
    raise ValueError(f"prior {text!r} is no file, no folder, no owner/name, and none of {names}")


def _file_within(path: Path) -> Path:
    """The file in a folder that `save_pretrained` wrote; any other path as it is."""
    file = path / PRIOR_FILE
    return file if file.is_file() else path


def _from_hub(text: str) -> Path:
    """Download a folder from huggingface.co, or take it from the cache of its library."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"prior {text!r} is no file here; to fetch it from huggingface.co install "
            "degrade[hub], or download its folder yourself and give that"
        ) from error
    name, _, revision = text.partition("@")

    def downloaded(local_files_only: bool) -> Path:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=list(HUB_FILES),
            local_files_only=local_files_only,
        )
        return Path(folder)

    try:
        return downloaded(local_files_only=False)
    except Exception as first:  # without a network, the library may raise anything
        try:
            return downloaded(local_files_only=True)
        except Exception:
            reason = " ".join(str(first).split())[:300]
            raise ValueError(
                f"prior {text!r} cannot be fetched from huggingface.co: {reason}; "
                "download its folder yourself and give that"
            ) from first


def _denoiser(path: Path, settings: Settings, variants: Sequence[Denoiser] = ()) -> Denoiser | None:
    """Read a denoiser and give it variants; None for a file that holds none."""
    if path.is_dir():
        _check_settings("a folder of diffusers", settings, diffusers.SETTINGS)
        network, options = diffusers.read(path, settings)
        return _checked(Denoiser(network, **options))
    config, tensors = _read(path)
    name = config.get("family") or family_of(tensors)
    if not isinstance(name, str) or name not in FAMILIES:
        return None
    for key, value in tensors.items():
        check_tensor(key, value)
    tensors = unpacked(tensors)
    family = FAMILIES[name]
    _check_settings(name, settings, family.SETTINGS)
    all_settings = {**config, **settings}
    network, options = family.read(tensors, all_settings)
    return _checked(Denoiser(network, variants=variants, **options))


def _read(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """Return the config and the tensors of a file; neither for what may hold a generator only."""
    kind = kind_of(path)
    if kind == "pickle":
        return {}, {}
    if kind == "torch":
        content = read_torch(path)
        tensors = content if is_state_dict(content) else {}
        return {}, tensors
    config, tensors = read_safetensors(path)
    if config is not None and not isinstance(config, dict):
        raise ValueError("its config is no dictionary")
    return config or {}, tensors


def _check_settings(name: str, settings: Settings, known: tuple[str, ...]) -> None:
    for key in settings:
        if key not in known:
            raise ValueError(f"there is no setting {key!r} of {name}; there are {', '.join(known)}")


def _checked(denoiser: Denoiser) -> Denoiser:
    """Return the denoiser. Raises ValueError for weights that are not finite."""
    for name, value in denoiser.module.named_parameters():
        if not torch.isfinite(value).all():
            raise ValueError(f"its {name} holds NaN or infinity; get the file anew")
    return denoiser
