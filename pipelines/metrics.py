"""How good restorations are: near the clean picture, true to the observation, and like real pictures."""

from __future__ import annotations

import importlib.util
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from degrade.imagefile import contents
from degrade.rng import child_seed
from invert import FaceIdentity, perceptual

SMALLEST = 32  # observations with a shorter side are enlarged to it before LPIPS, by whole pixels
INCEPTION = (
    "weights-inception-2015-12-05-6726825d.pth"  # as torch's hub keeps the standard FID network
)


def scores(
    restored: Tensor,
    clean: Tensor | None,
    again: Tensor,
    observed: Tensor,
    identity: FaceIdentity | None = None,
) -> dict[str, list[float]]:
    """Of 8-bit pictures in [0, 1], a number for each: LPIPS is VGG's; PSNR in dB; SSIM with its usual window of 11.

    again: the restored pictures after the true degradation, with its own draws. identity: cosine
    of the embeddings of restored and clean.
    """
    found = {
        "fidelity": perceptual.lpips(*(perceptual.enlarged(x, SMALLEST) for x in (again, observed)))
    }
    if clean is not None:
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        found["accuracy"] = perceptual.lpips(restored, clean)
        found["psnr"] = (
            -10 * (restored - clean).square().flatten(1).mean(1).clamp_min(1e-10).log10()
        )
        found["ssim"] = ssim(restored, clean, data_range=1.0, reduction=None).reshape(-1)
        if identity is not None:
            with torch.no_grad():
                found["identity"] = identity.similarity(restored, clean)
    return {name: [round(v, 5) for v in values.tolist()] for name, values in found.items()}


@dataclass(frozen=True)
class Crops:
    """How many random crops of which side are taken of each picture."""

    count: int
    side: int

    @classmethod
    def of(cls, resolution: int) -> Crops:
        """1000 of 128 at 1024², 250 of 64 at 256² (Poirier-Ginter & Lalonde 2023, §4.1); 64 of 32 below."""
        return (
            cls(1000, 128)
            if resolution >= 512
            else cls(250, 64)
            if resolution >= 256
            else cls(64, 32)
        )

    def __str__(self) -> str:
        return f"{self.count} crops of {self.side}×{self.side} per picture"

    def take(self, image: Tensor, name: str) -> Tensor:
        """[count, C, side, side] of one picture [1, C, H, W], the same for the same name."""
        draws = torch.Generator().manual_seed(child_seed("crops", name))
        tops, lefts = (
            torch.randint(n - self.side + 1, (self.count,), generator=draws).tolist()
            for n in image.shape[2:]
        )
        places = zip(tops, lefts, strict=True)
        return torch.cat([image[:, :, y : y + self.side, x : x + self.side] for y, x in places])


class Vgg(nn.Module):
    """Mean of the last feature map of the bundled VGG: 512 numbers for an image in [0, 1]."""

    num_features = 512

    def __init__(self):
        super().__init__()
        self.network = perceptual.load("vgg")

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.network.maps(images)[-1].mean((2, 3))


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of the features of many pictures, float64."""

    mean: Tensor
    covariance: Tensor
    count: int = 1_000_000


def statistics(path: Path) -> Statistics:
    """From an .npz with "mu" and "sigma", as FID's programs keep them. Raises ValueError for another file."""
    import numpy

    try:
        with numpy.load(io.BytesIO(contents(path)), allow_pickle=False) as held:
            mean, covariance = (
                torch.from_numpy(held["mu"]).double(),
                torch.from_numpy(held["sigma"]).double(),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is neither a folder nor an .npz with mu and sigma: {error}"
        ) from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path}: mu is {list(mean.shape)} and sigma {list(covariance.shape)}; they do not fit"
        )
    return Statistics(mean, covariance)


@dataclass(frozen=True)
class Frechet:
    """The Fréchet distance between the features of two sets of pictures.

    By the standard Inception where its weights and torch-fidelity are on this machine; else by the
    bundled VGG, and then it is called so: its values are no paper's FID.
    """

    inception: Path | None

    @classmethod
    def here(cls) -> Frechet:
        path = Path(torch.hub.get_dir(), "checkpoints", INCEPTION)
        return cls(path if path.is_file() and importlib.util.find_spec("torch_fidelity") else None)

    @property
    def names(self) -> tuple[str, str]:
        """Of the distance between crops, and between whole pictures."""
        return ("pFID", "FID") if self.inception else ("patch-FD (VGG)", "FD (VGG)")

    def of(self, batches: Iterable[Tensor]) -> Statistics:
        """The statistics of real pictures, a stream of batches [N, 3, H, W] in [0, 1]."""
        fid = self._seen(batches, real=True)
        count = int(fid.real_features_num_samples)
        mean = fid.real_features_sum / count
        return Statistics(
            mean, (fid.real_features_cov_sum - count * mean.outer(mean)) / max(count - 1, 1), count
        )

    def between(self, found: Iterable[Tensor], real: Statistics) -> float | None:
        """The distance of a stream of batches; None where either side has fewer than two pictures.

        Raises ValueError for statistics of another network.
        """
        fid = self._seen(found, real=False)
        if min(real.count, int(fid.fake_features_num_samples)) < 2:
            return None
        if len(real.mean) != len(fid.real_features_sum):
            raise ValueError(
                f"the statistics have {len(real.mean)} features, {self.names[0]} {len(fid.real_features_sum)}"
            )
        fid.real_features_sum = real.mean * real.count
        fid.real_features_cov_sum = real.covariance * (
            real.count - 1
        ) + real.count * real.mean.outer(real.mean)
        fid.real_features_num_samples = torch.tensor(real.count)
        return round(float(fid.compute()), 4)

    def _seen(self, batches: Iterable[Tensor], real: bool) -> nn.Module:
        """torchmetrics' FID with its sums over the batches."""
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
            for some in batch.split(128):
                fid.update(some, real=real)
        return fid


def crops_of(images: Iterable[tuple[str, Tensor]], crops: Crops) -> Iterator[Tensor]:
    for name, image in images:
        yield crops.take(image, name)
