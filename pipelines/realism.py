"""How much a set of restored pictures looks like real ones: Fréchet distances and a fitted NIQE."""

from __future__ import annotations

import importlib.util
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from degrade.imagefile import contents
from degrade.rng import child_seed
from invert import perceptual

from . import files, niqe

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

# The file name that torch.hub gives the weights of the standard FID network.
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
BATCH = 128  # pictures that go through the feature network at a time


@dataclass(frozen=True)
class Crops:
    """How many random crops are cut from each picture, and the side of each crop in pixels."""

    count: int
    side: int

    @classmethod
    def of(cls, resolution: int) -> Crops:
        """Choose the crops for pictures of this side: those of the paper at 1024² and 256².

        Source: Poirier-Ginter & Lalonde 2023, §4.1. Below 256² we cut 64 crops of 32².
        """
        if resolution >= 512:
            return cls(1000, 128)
        if resolution >= 256:
            return cls(250, 64)
        return cls(64, 32)

    def __str__(self) -> str:
        return f"{self.count} crops of {self.side}×{self.side} per picture"

    def take(self, image: Tensor, name: str) -> Tensor:
        """Cut [count, C, side, side] from a picture [1, C, H, W]. The name seeds the positions."""
        draws = torch.Generator().manual_seed(child_seed("crops", name))
        height, width = image.shape[2:]
        tops = self._positions(height, draws)
        lefts = self._positions(width, draws)
        crops = []
        for top, left in zip(tops, lefts, strict=True):
            rows = slice(top, top + self.side)
            columns = slice(left, left + self.side)
            crops.append(image[:, :, rows, columns])
        return torch.cat(crops)

    def _positions(self, n: int, draws: torch.Generator) -> list[int]:
        """Draw where crops begin along a side of n pixels."""
        positions = torch.randint(n - self.side + 1, (self.count,), generator=draws)
        return list(map(int, positions))


class Vgg(nn.Module):
    """Average the last feature map of the bundled VGG over the picture: 512 features."""

    num_features = 512

    def __init__(self) -> None:
        super().__init__()
        self.network = perceptual.load("vgg")

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, 512] of images [B, 3, H, W] in [0, 1]."""
        last_map = self.network.maps(images)[-1]
        return last_map.mean((2, 3))


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance (float64) of the features of `count` pictures."""

    mean: Tensor
    covariance: Tensor
    count: int = 1_000_000


def statistics(path: Path) -> Statistics:
    """Read an .npz file with "mu" and "sigma", the format that FID programs write.

    Raises ValueError for any other file.
    """
    import numpy

    try:
        with numpy.load(io.BytesIO(contents(path)), allow_pickle=False) as arrays:
            mean = torch.from_numpy(arrays["mu"]).double()
            covariance = torch.from_numpy(arrays["sigma"]).double()
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is neither a folder nor an .npz with mu and sigma: {error}"
        ) from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        shapes = f"mu is {list(mean.shape)} and sigma {list(covariance.shape)}"
        raise ValueError(f"{path}: {shapes}; they do not fit")
    return Statistics(mean, covariance)


@dataclass(frozen=True)
class Frechet:
    """The Fréchet distance between the features of two sets of pictures.

    The features come from the standard Inception network if its weights and torch-fidelity are
    installed. Otherwise they come from the bundled VGG. The names say which: values computed with
    VGG cannot be compared with the FID of any paper.
    """

    inception: Path | None

    @classmethod
    def here(cls) -> Frechet:
        """Use Inception if this machine has it."""
        path = Path(torch.hub.get_dir(), "checkpoints", INCEPTION)
        available = path.is_file() and importlib.util.find_spec("torch_fidelity") is not None
        return cls(path if available else None)

    @property
    def names(self) -> tuple[str, str]:
        """Names of the distance between crops, and of the distance between whole pictures."""
        return ("pFID", "FID") if self.inception else ("patch-FD (VGG)", "FD (VGG)")

    def of(self, batches: Iterable[Tensor]) -> Statistics:
        """Compute the statistics of real pictures, a stream of batches [N, 3, H, W] in [0, 1]."""
        fid = self._accumulate(batches, real=True)
        count = _count(fid.real_features_num_samples)
        mean = _tensor(fid.real_features_sum) / count
        scatter = _tensor(fid.real_features_cov_sum) - count * mean.outer(mean)
        return Statistics(mean, scatter / max(count - 1, 1), count)

    def between(self, batches: Iterable[Tensor], real: Statistics) -> float | None:
        """Compute the distance of a stream of batches to `real`.

        Returns None if either set has fewer than two pictures. Raises ValueError if the
        statistics were made with another network.
        """
        fid = self._accumulate(batches, real=False)
        if min(real.count, _count(fid.fake_features_num_samples)) < 2:
            return None
        features = len(_tensor(fid.real_features_sum))
        if len(real.mean) != features:
            raise ValueError(
                f"the statistics have {len(real.mean)} features, {self.names[0]} has {features}"
            )
        scatter = real.covariance * (real.count - 1)
        fid.real_features_sum = real.mean * real.count
        fid.real_features_cov_sum = scatter + real.count * real.mean.outer(real.mean)
        fid.real_features_num_samples = torch.tensor(real.count)
        return round(float(fid.compute()), 4)

    def _accumulate(self, batches: Iterable[Tensor], real: bool) -> FrechetInceptionDistance:
        """Sum the features of all batches in a metric of torchmetrics."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        if self.inception:
            fid = FrechetInceptionDistance(
                normalize=True, feature_extractor_weights_path=str(self.inception)
            )
        else:
            fid = FrechetInceptionDistance(
                feature=Vgg(), normalize=True, input_img_size=(3, 32, 32)
            )
        for batch in batches:
            for part in batch.split(BATCH):
                fid.update(part, real=real)
        return fid


def _tensor(state: object) -> Tensor:
    """Narrow a state of a torchmetrics metric, which is typed as Tensor or Module."""
    assert isinstance(state, Tensor)
    return state


def _count(state: object) -> int:
    return int(_tensor(state))


class Reference:
    """The real pictures that a set of restored pictures is compared with.

    paths: files of real pictures. crop_statistics: statistics of crops, read from a file; they
    replace those of the pictures. Everything is computed when it is first used, and kept. A
    property is None if there are no real pictures to compute it from.
    """

    def __init__(
        self,
        paths: tuple[Path, ...],
        resolution: int,
        frechet: Frechet,
        crop_statistics: Statistics | None = None,
    ):
        self.paths, self.resolution, self.frechet = paths, resolution, frechet
        self.crop_size = Crops.of(resolution)
        self.complete = all(path.exists() for path in paths)
        self._crop_statistics = crop_statistics

    @cached_property
    def crops(self) -> Statistics | None:
        """Statistics of random crops."""
        if self._crop_statistics is not None:
            return self._crop_statistics
        if not self.complete:
            return None
        return self.frechet.of(self.crops_of(self.paths))

    @cached_property
    def whole(self) -> Statistics | None:
        """Statistics of whole pictures."""
        return self.frechet.of(images(self.paths)) if self.complete else None

    @cached_property
    def niqe_model(self) -> niqe.Model | None:
        """The NIQE model of the real pictures."""
        if not self.complete:
            return None
        return niqe.Model.of(images(self.paths), niqe.side_of(self.resolution))

    def crops_of(self, paths: Iterable[Path]) -> Iterator[Tensor]:
        """Cut the random crops of each picture. Pictures of one name are cut at equal positions."""
        for path in paths:
            yield self.crop_size.take(files.read_image(path), path.stem)


def images(paths: Iterable[Path]) -> Iterator[Tensor]:
    """Read pictures one after another, each [1, 3, H, W] in [0, 1]."""
    for path in paths:
        yield files.read_image(path)


def crop_distance(restored: list[Path], reference: Reference) -> float | None:
    """The Fréchet distance between random crops of restored and of real pictures."""
    if reference.crops is None:
        return None
    return reference.frechet.between(reference.crops_of(restored), reference.crops)


def whole_distance(restored: list[Path], reference: Reference) -> float | None:
    """The Fréchet distance between whole restored and real pictures."""
    if reference.whole is None:
        return None
    return reference.frechet.between(images(restored), reference.whole)


def mean_niqe(restored: list[Path], reference: Reference) -> float | None:
    """The mean NIQE of restored pictures under the model of the real ones."""
    model = reference.niqe_model
    if model is None:
        return None
    values = [model.distance(image) for image in images(restored)]
    return sum(values) / len(values)
