"""Every metric, declared once: scores, results.csv, tables and the report read `METRICS`.

To add a metric, add an entry to `METRICS` and the function that computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from degrade.images import shows_picture
from invert import FaceIdentity, perceptual

from . import realism
from .realism import Frechet, Reference

# Observations with a shorter side are enlarged before LPIPS, by whole pixels.
SMALLEST = 32


@dataclass(frozen=True)
class Comparison:
    """A batch of 8-bit pictures [B, C, H, W] in [0, 1], and what they are compared with.

    degraded: the restored pictures after the true degradation, with its own random draws.
    identity: a face embedding that compares restored and clean pictures. answers: several images
    for each picture, [N, B, C, H, W], not rounded.
    """

    restored: Tensor
    clean: Tensor | None
    degraded: Tensor
    observed: Tensor
    identity: FaceIdentity | None = None
    answers: Tensor | None = None


@dataclass(frozen=True)
class Metric:
    """A number that says how good a restoration is.

    name: its name in results.jsonl, results.csv and every table. lower_is_better: None where
    neither the lowest nor the highest value is the best. digits: decimal places in tables.
    note: what a reader of the tables must know; {crops} and {reference} are filled in.
    of_picture: computes one value per picture [B]; None if the comparison lacks what it needs.
    of_set: computes one value for a set of restored files. A metric with neither is measured by
    the benchmark itself.
    """

    name: str
    lower_is_better: bool | None
    unit: str = ""
    digits: int = 3
    note: str = ""
    of_picture: Callable[[Comparison], Tensor | None] | None = None
    of_set: Callable[[list[Path], Reference], float | None] | None = None

    def text(self, value: float | None) -> str:
        """Format a value for a table; a missing one is empty."""
        return "" if value is None else f"{value:.{self.digits}f}"

    @property
    def title(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def arrow(self) -> str:
        """Which way values become better; empty if neither."""
        if self.lower_is_better is None:
            return ""
        return "↓" if self.lower_is_better else "↑"


def lpips_to_clean(pictures: Comparison) -> Tensor | None:
    """LPIPS (VGG) between the restored and the clean picture."""
    if pictures.clean is None:
        return None
    return perceptual.lpips(pictures.restored, pictures.clean)


def lpips_to_observed(pictures: Comparison) -> Tensor | None:
    """LPIPS (VGG) between the restored picture, degraded again, and the observation."""
    if not shows_picture(pictures.observed.shape):
        return None
    degraded = perceptual.enlarged(pictures.degraded, SMALLEST)
    observed = perceptual.enlarged(pictures.observed, SMALLEST)
    return perceptual.lpips(degraded, observed)


def psnr(pictures: Comparison) -> Tensor | None:
    """The peak signal-to-noise ratio in dB; at most 100."""
    if pictures.clean is None:
        return None
    squared_error = (pictures.restored - pictures.clean).square().flatten(1).mean(1)
    return -10 * squared_error.clamp_min(1e-10).log10()


def ssim(pictures: Comparison) -> Tensor | None:
    """The structural similarity, with the usual Gaussian window of 11 pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if pictures.clean is None:
        return None
    similarity = structural_similarity_index_measure(
        pictures.restored, pictures.clean, data_range=1.0, reduction=None
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(-1)


@torch.no_grad()
def same_person(pictures: Comparison) -> Tensor | None:
    """The cosine between the face embeddings of the restored and the clean picture."""
    if pictures.clean is None or pictures.identity is None:
        return None
    return pictures.identity.similarity(pictures.restored, pictures.clean)


def coverage(pictures: Comparison) -> Tensor | None:
    """The share of clean values from the lowest to the highest of the answers."""
    if pictures.clean is None or pictures.answers is None:
        return None
    low, high = pictures.answers.aminmax(dim=0)
    lies_within = (low <= pictures.clean) & (pictures.clean <= high)
    return lies_within.double().flatten(1).mean(1)


FRECHET = Frechet.here()

ACCURACY = Metric(
    "accuracy",
    lower_is_better=True,
    note="Accuracy is VGG-LPIPS to the clean picture.",
    of_picture=lpips_to_clean,
)
FIDELITY = Metric(
    "fidelity",
    lower_is_better=True,
    note="Fidelity is VGG-LPIPS between the restoration, degraded again by the true operator, and "
    f"the observation; both are enlarged by whole pixels if a side is below {SMALLEST}.",
    of_picture=lpips_to_observed,
)
CROP_DISTANCE = Metric(
    FRECHET.names[0],
    lower_is_better=True,
    note=f"{FRECHET.names[0]} compares {{crops}} with {{reference}}."
    + (
        ""
        if FRECHET.inception
        else " The Inception network is not installed here: the features are VGG's, and the value "
        "is no FID."
    ),
    of_set=realism.crop_distance,
)
# In the order in which tables show them; the first three make the table of the paper.
METRICS = (
    ACCURACY,
    FIDELITY,
    CROP_DISTANCE,
    Metric("psnr", lower_is_better=False, unit="dB", digits=1, of_picture=psnr),
    Metric("ssim", lower_is_better=False, of_picture=ssim),
    Metric("identity", lower_is_better=False, of_picture=same_person),
    Metric(
        "coverage",
        lower_is_better=None,
        digits=2,
        note="Coverage is the share of clean values from the lowest to the highest of N answers. "
        "It would be (N - 1) / (N + 1) for N draws from the posterior.",
        of_picture=coverage,
    ),
    Metric("seconds", lower_is_better=True, unit="s", digits=1),
    Metric(FRECHET.names[1], lower_is_better=True, of_set=realism.whole_distance),
    Metric(
        "NIQE (fitted here)",
        lower_is_better=True,
        note="NIQE is fitted to the reference pictures; never compare it with a paper's.",
        of_set=realism.mean_niqe,
    ),
)
# Metrics with one value for each picture, which are the columns of results.csv.
PER_PICTURE = tuple(metric for metric in METRICS if metric.of_set is None)


def scores(
    restored: Tensor,
    clean: Tensor | None,
    degraded: Tensor,
    observed: Tensor,
    identity: FaceIdentity | None = None,
    answers: Tensor | None = None,
) -> dict[str, list[float]]:
    """Compute every metric of single pictures: name → one value per picture of the batch.

    See `Comparison` for the arguments. Metrics that need a clean picture or an embedding are left
    out if there is none.
    """
    pictures = Comparison(restored, clean, degraded, observed, identity, answers)
    values: dict[str, list[float]] = {}
    for metric in METRICS:
        of_each = None if metric.of_picture is None else metric.of_picture(pictures)
        if of_each is not None:
            values[metric.name] = [round(value, 5) for value in of_each.tolist()]
    return values
