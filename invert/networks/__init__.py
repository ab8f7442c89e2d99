"""Networks of published denoisers in plain torch, and how their files are read.

Each file of a family declares `recognises(tensors)`, `read(tensors, config)`, which returns a
network and the arguments of `Denoiser` for it, and SETTINGS, the keys that `config` may have.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from . import drunet, guided

FAMILIES = {"drunet": drunet, "guided-diffusion": guided}
DENOISERS = tuple(FAMILIES)


def family_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the family that these tensors belong to; None if they are of no known denoiser."""
    for name, family in FAMILIES.items():
        if family.recognises(tensors):
            return name
    return None
