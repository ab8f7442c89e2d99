"""Options that several commands share: each is declared once, as a field of a dataclass.

`with_options` expands such a dataclass into options of the command line. A new shared option is one
new field here. This file is read for `degrade --help`, so it must not import torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from .engine import ENGINES

# The panels of a help page.
degradation = partial(typer.Option, rich_help_panel="Degradation")
compared = partial(typer.Option, rich_help_panel="What to compare")
search = partial(typer.Option, rich_help_panel="How to search")
training = partial(typer.Option, rich_help_panel="Training")
photos = partial(typer.Option, rich_help_panel="Photos")
running = partial(typer.Option, rich_help_panel="Running")

Completer = Callable[[str], list[str]]


def names(*known: str) -> Completer:
    """Offer these names to a shell that completes an option.

    Names that only torch-loading modules know are repeated here; a test compares them.
    """
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


METHODS = names(
    "adam-id",
    "brgm",
    "brgm-original",
    "calibrated",
    "cri",
    "cri-xl",
    "daps",
    "daps-original",
    "daps-phase-retrieval",
    "ddnm",
    "ddrm",
    "ddrm-jpeg",
    "ddrm-linear",
    "dgp",
    "dgp-colorization",
    "dgp-inpainting",
    "diffpir",
    "diffpir-deblurring",
    "diffpir-inpainting",
    "dps",
    "dps-inpainting",
    "dps-phase-retrieval",
    "ilo",
    "ilo-text",
    "lbrgm",
    "lbrgm-original",
    "mpgd",
    "pigdm",
    "pnp",
    "pti",
    "pti-original",
    "pulse",
    "pulse-original",
    "reddiff",
    "robust",
    "robust-text",
)
GENERATORS = names("avatars-128")
DENOISERS = names("photo", "avatars")
PRIORS = names("photo", "avatars", "avatars-128")
NETS = names("vgg", "alex")
SUITES = names("paper", "ddrm", "cri", "dps", "daps")
DEVICES = names("auto", "cpu", "cuda", "mps")
CHANNELS = names("colour", "grey")


def _check_seed(value: int) -> int:
    if not 0 <= value < 2**63:
        raise typer.BadParameter(f"{value} is not from 0 to 2^63 - 1")
    return value


Inputs = Annotated[
    list[Path], typer.Argument(help="Pictures, or folders of pictures.", metavar="IN...")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for the results.", metavar="DIR")
]
Seed = Annotated[int, running(help="Seed of every random draw.", metavar="N", callback=_check_seed)]
Plugin = Annotated[
    list[str],
    running(
        help="Python module that registers operators or methods. May be repeated.", metavar="MODULE"
    ),
]
Tasks = Annotated[
    str,
    compared(help="all, single, composed, or names such as denoising/XL,UNAP.", metavar="NAMES"),
]
Overwrite = Annotated[
    bool, running("--overwrite", help="Replace results of other settings in the output folder.")
]
Quiet = Annotated[bool, running("--quiet", help="Print no progress and no summary.")]
Device = Annotated[
    str, running(help="auto, cpu, cuda, cuda:1, mps.", metavar="NAME", autocompletion=DEVICES)
]
ClassLabel = Annotated[
    str | None,
    search(
        "--class",
        help="Class, for a conditional generator, a CSV with the columns picture and class, or "
        "module:function of a classifier.",
        metavar="N|CSV|NAME",
    ),
]
METHODS_HELP = (
    "Names from `degrade methods`, or module:function of your own solver, separated by commas."
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a command runs. Nothing here changes a result."""

    plugin: Plugin = field(default_factory=list)
    engine: Annotated[
        str,
        running(
            help="local, or ray for a cluster.", metavar="NAME", autocompletion=names(*ENGINES)
        ),
    ] = "local"
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(RunOptions):
    """How a command runs that computes on a device."""

    device: Device = "auto"


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What decides the result of a restoration; recorded beside the results."""

    perceptual: Annotated[
        str,
        search(
            help="Network of the perceptual loss: vgg, or alex, which is faster.",
            metavar="NET",
            autocompletion=NETS,
        ),
    ] = "vgg"
    steps: Annotated[
        int | None, search(help="Number of steps in all, for a quick look.", min=0, metavar="N")
    ] = None
    seed: Seed = 0
    oracle_mask: Annotated[
        bool, search("--oracle-mask", help="Tell the solver which pixels are dead.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `invert.restore` that these options decide."""
        return {"perceptual": self.perceptual, "steps": self.steps}


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(SearchOptions):
    """What decides a comparison of methods that search a generator."""

    generator: Annotated[
        str,
        search(
            help="Name of a bundled generator, or a checkpoint file.",
            metavar="NAME",
            autocompletion=GENERATORS,
        ),
    ] = "avatars-128"
    denoiser: Annotated[
        str,
        search(
            help="Prior of methods that need a denoiser: photo, avatars, or a checkpoint file.",
            metavar="NAME",
            autocompletion=DENOISERS,
        ),
    ] = "photo"


@dataclass(frozen=True, kw_only=True)
class PriorOptions(SearchOptions):
    """What decides a restoration of a person's own pictures."""

    prior: Annotated[
        str,
        search(
            "--prior",
            "--generator",
            help="What pictures look like: photo (any picture), a generator, or a checkpoint.",
            metavar="NAME",
            autocompletion=PRIORS,
        ),
    ] = "photo"
    face_prior: Annotated[
        str | None,
        photos(
            "--face-prior",
            help="Generator that restores the face, while --prior restores the rest of the photo.",
            metavar="NAME",
            autocompletion=GENERATORS,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Which pictures and tasks a comparison of methods covers."""

    images: Annotated[Path, typer.Option(help="Folder of clean pictures.", metavar="DIR")]
    output: Output
    suite: Annotated[
        str,
        compared(
            help="Suite that `all` stands for: paper, ddrm, cri, dps or daps.",
            metavar="NAME",
            autocompletion=SUITES,
        ),
    ] = "paper"
    limit: Annotated[
        int | None, compared(help="Use only the first N pictures.", min=1, metavar="N")
    ] = None
    batch: Annotated[
        int, running(help="Pictures per batch; halved if memory runs out.", min=1, metavar="N")
    ] = 4


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is an options dataclass by one parameter for each of its fields.

    Typer reads the new signature. The command still receives the dataclass.
    """
    # get_type_hints would wrap `= None` in another Optional under Python 3.10
    hints = inspect.get_annotations(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if get_origin(kind) is None and isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _parameters_of(kind)
        else:
            parameters.append(
                parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
            )

    @wraps(command)
    def expanded(**values: Any) -> None:
        arguments: dict[str, Any] = {}
        for name, kind in groups.items():
            given = {option.name: values.pop(option.name) for option in fields(kind)}
            arguments[name] = kind(**given)
        command(**arguments, **values)

    signature = inspect.Signature(parameters)
    expanded.__annotations__ = {p.name: p.annotation for p in parameters}
    expanded.__signature__ = signature  # type: ignore[attr-defined]
    return expanded


def _parameters_of(options: type) -> list[inspect.Parameter]:
    """A keyword parameter for each field, with its annotation and default."""
    hints = get_type_hints(options, include_extras=True)
    parameters = []
    for option in fields(options):
        parameter = inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(option),
            annotation=hints[option.name],
        )
        parameters.append(parameter)
    return parameters


def _default(option: Field[Any]) -> Any:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return inspect.Parameter.empty if option.default is MISSING else option.default
