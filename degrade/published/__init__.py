"""The degradations that published restorers were trained on, and ImageNet-C, as lines of text.

`degrade.pipelines["real-esrgan-x4"]` is an operator; `sample` draws one concrete chain of it. The
names also stand in texts: `parse("gfpgan >> jpeg:50")`. The constants are those of the authors'
code, which may differ from their papers; numbers have six digits. Where a pipeline draws once for a
whole batch, as Real-ESRGAN does its scales and filters, each image draws for itself here.
"""

from __future__ import annotations

import re

from ..presets import Presets
from ..registry import ALIASES, REFUSED
from . import bsrgan, faces, haze, imagenet_c, raw, real_esrgan, watermarks
from .entry import Pipeline

_ENTRIES: dict[str, Pipeline] = {
    **real_esrgan.PIPELINES,
    **bsrgan.PIPELINES,
    **faces.PIPELINES,
    **raw.PIPELINES,
    **watermarks.PIPELINES,
    **haze.PIPELINES,
    **imagenet_c.PIPELINES,
}


class Pipelines(Presets):
    """Maps a pipeline's name to its operator; `about` says where it is from."""

    def check(self, name: str) -> None:
        if name in REFUSED:
            raise KeyError(f"the pipeline {name!r} {REFUSED[name]}")
        super().check(name)

    def families(self) -> list[str]:
        """The names, with the severities of a corruption as one: imagenet-c/fog/1 … 5."""
        names = [re.sub(r"^(imagenet-c/.*)/\d$", r"\1/1 … 5", name) for name in self]
        return list(dict.fromkeys(names))

    def about(self, name: str) -> Pipeline:
        """The text, the source and the departures of a pipeline."""
        self.check(name)
        return _ENTRIES[name]


for _name, _entry in _ENTRIES.items():
    ALIASES[_name] = _entry.text
REFUSED.update(imagenet_c.WITHOUT_FILES)
REFUSED.update(watermarks.WITHOUT_COVER)

pipelines = Pipelines(ALIASES, "pipeline", "real-esrgan-x4 or gfpgan")
