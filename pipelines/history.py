"""What happened to a picture (--op, its manifest or a guess), and which clean picture it was."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import torch.nn.functional as F
from torch import Tensor

import degrade
import invert
from degrade.forensics import Guess, guess
from degrade.imagefile import Note
from degrade.operator import Shape, compose
from degrade.photofile import read_photo
from invert import explain
from invert.refine import noise_sigma, refine
from invert.trials import can_be_tried

from . import files, kept, records
from .apply import MANIFEST, again, operator_of_option
from .files import Source

ANOTHER = 4 / 255  # mean difference beyond which a clean picture is of another observation
REPEATS = 0.6  # least likeness of two draws of an operator, where a picture can be told by likeness
UNLIKE = 0.6  # share of that likeness, below which a clean picture is of another observation
Prior = invert.Generator | invert.Denoiser
UNSEEN_NOISE = 5 / 255  # least sigma of noise that only the prior finds
BLOCKS = 8  # pictures are compared as BLOCKS × BLOCKS means, which noise hardly changes


def note(text: str) -> None:
    """Tell the user something about a picture, as a line on stderr."""
    warnings.warn(text, Note, stacklevel=2)


def what_happened(
    source: Source, op: str | None, prior: Prior | None = None
) -> tuple[dict | None, degrade.Operator]:
    """The manifest beside a picture, if it is used, and the operator.

    The operator is `op` where given, else the manifest's, else a guess from the file itself. Where
    the guess has alternatives and the prior is a denoiser of any size, they are tried on a small
    part of the picture.
    """
    if op is not None:
        return None, _without_range(operator_of_option(op), source, prior)
    manifest = read_manifest(source)
    if manifest is None:
        result = guess(source.path)
        operator, remarks = _best_explained(source, result, prior)
        for finding in result.findings:
            if not finding.stage:
                remarks.append(finding.why)
        remarks.append("`degrade inspect` explains the estimate, --op replaces it")
        note(f"{source.path}: estimated degradation: {operator}; {'; '.join(remarks)}")
        return None, operator
    return manifest, degrade.parse(manifest["operator"], folder=source.path.parent)


def read_manifest(source: Source) -> dict | None:
    """The manifest beside a picture; None if there is none.

    Raises ValueError for one that does not tell what happened to this picture.
    """
    path = source.path.with_suffix(".json")
    manifest = records.read_json(path, MANIFEST)
    if manifest is None:
        return None
    if manifest.get("begun"):
        raise ValueError(
            f"{path} says that apply was stopped here; run it again, or say what happened with --op"
        )
    for key, kind in (("operator", str), ("seed", int), ("source", str)):
        if not isinstance(manifest.get(key), kind):
            raise ValueError(f"{path} has no {key} that can be used; say what happened with --op")
    if manifest.get("image") != source.path.name:
        named = repr(manifest.get("image"))
        raise ValueError(f"{path} describes {named}, not this picture; say what happened with --op")
    return manifest


def _without_range(
    operator: degrade.Operator, source: Source, prior: Prior | None
) -> degrade.Operator:
    """The operator of --op; a range of sigma, as in gaussian:0.01..0.2, is estimated."""
    if not operator[0].ranges or not _takes_any_size(prior):
        return operator
    pixels = _pixels(source, prior)
    refined = refine(operator, pixels, prior.suited_to(pixels))
    if refined.words:
        note(f"{source.path}: {refined.words}")
    return refined.operator


def _takes_any_size(prior: Prior | None) -> TypeGuard[invert.Denoiser]:
    return isinstance(prior, invert.Denoiser) and prior.resolution is None


def _pixels(source: Source, denoiser: invert.Denoiser) -> Tensor:
    """The numbers in the file on the denoiser's device; in grey if file or denoiser are grey."""
    device = next(denoiser.parameters()).device
    pixels = kept.pixels_of(read_photo(source.path).levels)
    if denoiser.channels == 1:
        pixels = kept.in_grey(pixels)
    return pixels.to(device)


def _best_explained(
    source: Source, result: Guess, prior: Prior | None
) -> tuple[degrade.Operator, list[str]]:
    """The history that explains a picture best, and remarks on what was tried against it.

    Its parameters are refined. Without a denoiser of any size, it is the likeliest.
    """
    if not _takes_any_size(prior):
        return result.operator, []
    pixels = _pixels(source, prior)
    prior = prior.suited_to(pixels)
    result, left_alone = _that_can_be_undone(result, tuple(pixels.shape))
    operator, remarks = _chosen(result, pixels, prior)
    remarks = [*left_alone, *remarks]
    if result.operator == degrade.Identity() and not result.alternatives:
        return _with_unseen_noise(result, pixels, prior)
    to_refine = operator
    for alternative in result.alternatives:
        is_kept = operator == result.operator
        if is_kept and alternative.kind == "noise" and alternative.added:
            to_refine = alternative.operator
    refined = refine(to_refine, pixels, prior)
    if not refined.words:
        return operator, remarks
    return refined.operator, [*remarks, refined.words]


def _that_can_be_undone(result: Guess, shape: Shape) -> tuple[Guess, list[str]]:
    """A guess without an enlargement that cannot be undone in so large a picture, and a remark."""
    operator = result.operator
    remarks = []
    if not can_be_tried(operator, shape):
        enlargement = [stage for stage in operator if isinstance(stage, degrade.Resize)]
        others = [stage for stage in operator if not isinstance(stage, degrade.Resize)]
        operator = compose(others or [degrade.Identity()])
        remarks.append(
            f"an enlargement was found ({compose(enlargement)}), but it cannot be undone in parts "
            "of so large a picture, and stays"
        )
    alternatives = []
    for alternative in result.alternatives:
        rival = alternative.operator
        if rival != operator and can_be_tried(rival, shape):
            alternatives.append(alternative)
    return replace(result, operator=operator, alternatives=tuple(alternatives)), remarks


def _with_unseen_noise(
    result: Guess, pixels: Tensor, denoiser: invert.Denoiser
) -> tuple[degrade.Operator, list[str]]:
    """Noise that no flat block showed, where the denoiser measures it; else the guess."""
    if any(not finding.stage for finding in result.findings):
        return result.operator, []  # a codec without a model, or repeated pixels
    sigma = noise_sigma(pixels, UNSEEN_NOISE, denoiser)
    if sigma < UNSEEN_NOISE:
        return result.operator, []
    operator = degrade.Gaussian(sigma) >> degrade.Clamp() >> degrade.Quantize()
    return operator, ["no flat area shows noise, but the prior measures it"]


def _chosen(
    result: Guess, pixels: Tensor, denoiser: invert.Denoiser
) -> tuple[degrade.Operator, list[str]]:
    """The guess or one of its alternatives, and a remark that compares their errors."""
    operators = [result.operator]
    for alternative in result.alternatives:
        if alternative.kind != "noise":
            operators.append(alternative.operator)
    if len(operators) == 1:
        return result.operator, []
    candidates = explain.explanations(pixels, operators, denoiser)
    if candidates is None:
        return result.operator, []
    winner = explain.best(candidates)
    rivals = []
    for i, candidate in enumerate(candidates):
        if i != winner:
            rivals.append(f"{255 * candidate.error:.1f} with {operators[i]}")
    kept = candidates[winner]
    remark = (
        "in a trial on a part of the picture it predicts hidden pixels with an error of "
        f"{255 * kept.error:.1f} of 255, against {', '.join(rivals)}"
    )
    if kept.error > min(candidate.error for candidate in candidates):
        remark += "; the smaller error of another is not enough to choose it"
    return operators[winner], [remark]


def clean_of(source: Source, manifest: dict | None, clean: Path) -> Path:
    """The undamaged picture of a source, by the name it had when it was degraded.

    Without a manifest it is the picture named as the source, which may have another extension.
    """
    if not clean.is_dir():
        return clean
    name = manifest["source"] if manifest else source.relative
    path = clean / name
    if not path.resolve().is_relative_to(clean.resolve()):
        raise ValueError(f"the manifest's source {name!r} lies outside {clean}")
    if path.is_file():
        return path
    others = _same_stem(path) if manifest is None else []
    if len(others) == 1:
        return others[0]
    if others:
        names = " and ".join(other.name for other in others)
        raise ValueError(f"clean={clean} holds {names} for {source.path}; give one as --clean")
    raise ValueError(
        f"clean={clean} holds no {name} for {source.path}; add it, or leave --clean out"
    )


def _same_stem(path: Path) -> list[Path]:
    """The pictures in the folder of `path` whose names differ in the extension only."""
    if not path.parent.is_dir():
        return []
    result = []
    for other in sorted(path.parent.iterdir()):
        is_picture = other.suffix.lower() in files.SUFFIXES and other.is_file()
        if is_picture and other.stem == path.stem:
            result.append(other)
    return result


def check_clean(
    path: Path, source: Source, manifest: dict | None, operator: degrade.Operator
) -> None:
    """Raise ValueError if a picture cannot be what the observation was made of.

    Its size must lead to the observation's. With a manifest the operator and its random draws are
    known, so that degrading the picture must give the observation. Without one the draws are
    unknown, so that only a coarse likeness can be asked for, and a note says so.
    """
    observed = files.read_image(source.path, channels=None, deep=True)
    clean = files.read_image(path, observed.shape[1], deep=True)
    clean_shape, observed_shape = tuple(clean.shape), tuple(observed.shape)
    mend = "give the undamaged picture, or say what happened with --op"
    try:
        size_fits = operator.output_shape(clean_shape) == observed_shape
    except ValueError:  # a mask of another size
        size_fits = False
    if not size_fits:
        sizes = f"{_size(clean)} pixels and {source.path} has {_size(observed)}"
        raise ValueError(f"clean={path} has {sizes}, to which {operator} does not lead; {mend}")
    if manifest is not None:
        degraded = again(clean, manifest, operator)
        if (degraded - observed).abs().mean() > ANOTHER:
            raise ValueError(f"clean={path} is not the picture that became {source.path}; {mend}")
        return
    if _looks_unlike(clean, observed, operator):
        raise ValueError(f"clean={path} does not look like {source.path}; {mend}")
    note(
        f"{source.path}: it has no manifest, so clean={path} is compared with it only by size and "
        "by a coarse likeness"
    )


def _looks_unlike(clean: Tensor, observed: Tensor, operator: degrade.Operator) -> bool:
    """Whether a clean picture, degraded, is further from the observation than chance explains.

    False where two draws of the operator differ too much from each other to tell.
    """
    first, second = operator(clean, 0), operator(clean, 1)
    repeats = _likeness(first, second)
    return repeats >= REPEATS and _likeness(first, observed) < UNLIKE * repeats


def _likeness(a: Tensor, b: Tensor) -> float:
    """The correlation of the coarse structure of two pictures; 0 for a picture without any."""
    return float(F.cosine_similarity(_structure(a), _structure(b), dim=0))


def _structure(picture: Tensor) -> Tensor:
    """The means of blocks, each without the mean of its channel, in one row."""
    means = F.adaptive_avg_pool2d(picture, BLOCKS)
    return (means - means.mean((2, 3), keepdim=True)).flatten()


def _size(x: Tensor) -> str:
    return f"{x.shape[3]}x{x.shape[2]}"
