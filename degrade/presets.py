"""The tasks of the papers, by name: `tasks["denoising/XL"]`, `tasks["UNAP"]`.

Poirier-Ginter & Lalonde 2023 have four tasks at five levels: `upsampling`, `denoising`,
`deartifacting` and `inpainting` at XS, S, M, L and XL. They combine them at level M into eleven
compositions, named by initials in the order of application: U(psampling), N(oise), A(rtifacts),
P(ainting). Pictures are saved with 8 bits between stages. Saving rounds here; the published code
truncates. Where the published code and the text differ (chroma 4:2:0 against 4:2:2), the preset
follows the code and `NAME/text` follows the text.

`cri/…` are the tasks of Wang 2023, `ddrm/…` those of the comparison with DDRM at 256²
(σ² = 0.8 in units of [0, 1]).

`dps/…` are tasks of Chung et al. 2023 (DPS) at 256², as their code has them; DAPS and others took
them over. Its noise of σ = 0.05 in [-1, 1] is 0.025 here. Hidden pixels are black plus noise here,
grey plus noise there. The code hides an exact number of random pixels; here each is hidden with the
same probability. Nothing is clamped or rounded. The solver knows the kernel of the motion blur.
Phase retrieval has the magnitudes of images in [-1, 1], in a grey frame, here divided by 2.

`daps/…` is what Zhang et al. 2025 (DAPS) add to them: twice the contrast, then the overflow is cut
off; and phase retrieval from their code, which takes images in [0, 1], in a black frame, and adds
the same noise, so that it is twice as large beside the magnitudes. Their blur by a network is not
here: it needs the weights of that network.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from .operator import Operator
from .spec import parse

LEVELS = ("XS", "S", "M", "L", "XL")
_COMPOSED_LEVEL = LEVELS.index("M")
_SAVED = " >> clamp >> quantize"
_LEVELLED = {
    "upsampling": [f"downsample:{factor},filter=any" + _SAVED for factor in (2, 4, 8, 16, 32)],
    "denoising": [
        "poisson:96 >> deadpixels:0.04" + _SAVED,
        "poisson:48 >> deadpixels:0.08" + _SAVED,
        "poisson:24 >> deadpixels:0.16" + _SAVED,
        "poisson:12 >> deadpixels:0.32" + _SAVED,
        "poisson:6 >> deadpixels:0.64" + _SAVED,
    ],
    "deartifacting": [f"jpeg:{quality}" for quality in (18, 15, 12, 9, 6)],
    "inpainting": [f"strokes:{count}" + _SAVED for count in (1, 5, 9, 13, 17)],
}
_INITIALS = dict(zip("UNAP", _LEVELLED, strict=True))
# The corner of a box of 128 pixels lies at 16 to 111 of 256; shares are rounded to whole pixels.
_DPS_CORNER = f"{15.5 / 256}..{111.5 / 256}"
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
    "dps/super-resolution": "resize:scale=0.25,filter=matlab-bicubic >> gaussian:0.025",
    "dps/gaussian-deblur": "blur:gaussian,3 >> gaussian:0.025",
    "dps/motion-deblur": "motionpath:61,0.5 >> gaussian:0.025",
    "dps/inpainting-box": f"box:0.5,0.5,{_DPS_CORNER},{_DPS_CORNER} >> gaussian:0.025",
    "dps/inpainting-random": "pixels:0.3..0.7 >> gaussian:0.025",
    "dps/phase-retrieval": "offset:-0.5,-0.5,-0.5 >> fouriermagnitude:2 >> gaussian:0.025",
    "daps/high-dynamic-range": "brightness:2 >> offset:-0.5,-0.5,-0.5 >> clamp >> gaussian:0.025",
    "daps/phase-retrieval": "fouriermagnitude:2 >> gaussian:0.05",
}


def _published() -> dict[str, str]:
    """The texts of the operators by task, as the published code applies them."""
    specs = {}
    for task, levels in _LEVELLED.items():
        for level, spec in zip(LEVELS, levels, strict=True):
            specs[f"{task}/{level}"] = spec
    for size in (2, 3, 4):
        for initials in combinations("UNAP", size):
            name = "".join(initials)
            specs[name] = _composition(initials)
    return specs


def _composition(initials: Iterable[str]) -> str:
    """The text of a composition at level M, from the initials of its tasks."""
    stages = []
    for initial in initials:
        task = _INITIALS[initial]
        stages.append(_LEVELLED[task][_COMPOSED_LEVEL])
    return " >> ".join(stages)


def _as_in_the_text(specs: Mapping[str, str]) -> dict[str, str]:
    """The variants `NAME/text` of the tasks with JPEG: chroma 4:2:2, as the paper says."""
    variants = {}
    for name, spec in specs.items():
        stages = spec.split(" >> ")
        for i, stage in enumerate(stages):
            if stage.startswith("jpeg:"):
                stages[i] = stage + ",subsampling=4:2:2"
        variant = " >> ".join(stages)
        if variant != spec:
            variants[f"{name}/text"] = variant
    return variants


class Presets(Mapping[str, Operator]):
    """Maps names to operators, which are read from their text when they are asked for.

    kind: what a name stands for, such as task. examples: names for the error of an unknown one.
    """

    def __init__(self, specs: Mapping[str, str], kind: str, examples: str) -> None:
        self._specs = specs
        self._kind = kind
        self._examples = examples

    def check(self, name: str) -> None:
        """Raise KeyError that suggests similar names for an unknown one."""
        if name in self._specs:
            return
        similar = difflib.get_close_matches(str(name), self._specs, n=3, cutoff=0.4)
        suggestions = " or ".join(similar) or self._examples
        raise KeyError(f"no {self._kind} {name!r}; did you mean {suggestions}?")

    def __getitem__(self, name: str) -> Operator:
        self.check(name)
        return parse(self._specs[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __repr__(self) -> str:
        return f"<{self._kind}s {', '.join(self._specs)}>"


def _all_tasks() -> dict[str, str]:
    published = _published()
    return published | _as_in_the_text(published) | _OTHERS


tasks = Presets(_all_tasks(), "task", "denoising/M or UNAP")
