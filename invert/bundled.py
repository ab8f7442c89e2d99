"""Weights that are shipped with the package. Their checksum is verified before use."""

from functools import cache
from hashlib import sha256
from pathlib import Path

_SHA256 = {
    "avatars": "a70fc800918d32b065b6f12f238073aaad5482240b8699e0cb309731bb4d8f26",
    "avatars-128": "78256ae73541cb8c348faa8ee3a0f03e7d97f0a99fb3c9c922288b0b8c726431",
    "lpips-alex": "bbbb65f631550f47c1c95ad5a6dbd695f2df172361d2d37078ef52dc7995ff14",
    "lpips-vgg": "1eb271b9c6d6f41569d6d39c567660d4685379e4d07a1bf70760b8efecac2d88",
    "photo": "d93ad6336c5dab2b1e5d5b63c3fabddc971bd661856acb3e3aa2d5960a2209f3",
    "photo-jpeg": "aab42d9aa5e8b434aabc9e15277f291b0813540eb204f72266ef1c40f21a14e9",
}


@cache
def bundled(name: str) -> Path:
    """Return the path of a weight file.

    Raises ValueError if it is missing, or if its SHA-256 is not the shipped one.
    """
    path = Path(__file__).parent / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing; install degrade anew")
    expected = _SHA256.get(name)
    if expected and sha256(path.read_bytes()).hexdigest() != expected:
        raise ValueError(f"{path} is not the file that comes with degrade; install it anew")
    return path
