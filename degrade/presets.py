"""The tasks of the papers, by name: `tasks["denoising/XL"]`, `tasks["UNAP"]`.

Poirier-Ginter & Lalonde 2023: four tasks at five levels, `upsampling`, `denoising`, `deartifacting`
and `inpainting` at XS, S, M, L, XL, and their eleven compositions at M, named by initials in the
order of application: U(psampling), N(oise), A(rtifacts), P(ainting). Between stages pictures are
saved with 8 bits; where the published code and the text differ (chroma 4:2:0 against 4:2:2), the
preset follows the code and `NAME/text` the text. Saving rounds here, where that code truncates.

Wang 2023 (`cri/…`) and the comparison with DDRM at 256² (`ddrm/…`, σ² = 0.8 in units of [0, 1]).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import combinations

from .operator import Operator
from .spec import parse

LEVELS = ("XS", "S", "M", "L", "XL")
_SAVED = " >> clamp >> quantize"
_LEVELLED = {
    "upsampling": [f"downsample:{factor},filter=any" + _SAVED for factor in (2, 4, 8, 16, 32)],
    "denoising": [
        f"poisson:{peak} >> deadpixels:{prob}" + _SAVED
        for peak, prob in ((96, 0.04), (48, 0.08), (24, 0.16), (12, 0.32), (6, 0.64))
    ],
    "deartifacting": [f"jpeg:{quality}" for quality in (18, 15, 12, 9, 6)],
    "inpainting": [f"strokes:{count}" + _SAVED for count in (1, 5, 9, 13, 17)],
}
_INITIALS = dict(zip("UNAP", _LEVELLED, strict=True))
_OTHERS = {
    "cri/inpainting": "box" + _SAVED,
    "cri/colorization": "gray" + _SAVED,
    "cri/x4": "downsample:4",
    "cri/x16": "downsample:16",
    "ddrm/upsampling-box": "pool:32",
    "ddrm/upsampling-nearest": "downsample:32,filter=nearest",
    "ddrm/gaussian": f"gaussian:{0.8**0.5}",
    "ddrm/gaussian-clamped": f"gaussian:{0.8**0.5} >> clamp",
    "ddrm/strokes": "strokes:17",
    "ddrm/uncrop": "uncrop",
}


def _published() -> dict[str, str]:
    specs = {
        f"{task}/{level}": spec
        for task, row in _LEVELLED.items()
        for level, spec in zip(LEVELS, row, strict=True)
    }
    for size in (2, 3, 4):
        for initials in combinations("UNAP", size):
            specs["".join(initials)] = " >> ".join(
                _LEVELLED[_INITIALS[i]][LEVELS.index("M")] for i in initials
            )
    return specs


def _as_in_the_text(spec: str) -> str:
    return " >> ".join(
        s + ",subsampling=4:2:2" if s.startswith("jpeg:") else s for s in spec.split(" >> ")
    )


class Tasks(Mapping[str, Operator]):
    """Name → operator, with what is random still to be drawn by `sample`."""

    def __init__(self):
        published = _published()
        text = {
            f"{name}/text": _as_in_the_text(spec)
            for name, spec in published.items()
            if "jpeg" in spec
        }
        self._specs = published | text | _OTHERS

    def __getitem__(self, name: str) -> Operator:
        if name not in self._specs:
            near = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.4) or [
                "denoising/M",
                "UNAP",
            ]
            raise KeyError(f"no task {name!r}; did you mean {' or '.join(near)}?")
        return parse(self._specs[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


tasks = Tasks()
