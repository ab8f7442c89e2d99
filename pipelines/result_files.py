"""The files of one restored picture, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .files import Source

LATENT = ".latent.safetensors"


@dataclass(frozen=True)
class ResultFiles:
    """Where the result of a picture lies.

    Those of samples after the first are <name>.sample2.png and so on.
    """

    source: Source
    output: Path
    samples: int

    def _path(self, suffix: str) -> Path:
        return self.source.target(self.output, suffix)

    @property
    def record(self) -> Path:
        """Settings and losses, written last."""
        return self._path(".json")

    @property
    def sheet(self) -> Path:
        return self._path(".sheet.png")

    @property
    def latent(self) -> Path:
        return self._path(LATENT)

    @property
    def pictures(self) -> list[Path]:
        """The restored pictures, one for each sample."""
        suffixes = [".png"]
        for number in range(2, self.samples + 1):
            suffixes.append(f".sample{number}.png")
        return [self._path(suffix) for suffix in suffixes]

    @property
    def drawn(self) -> list[Path]:
        """What a generator drew for a photo, one for each sample, as <name>.part.png."""
        return [picture.with_suffix(".part.png") for picture in self.pictures]

    def all(self, photo: bool, latent: bool) -> list[Path]:
        """All files. photo: whether a generator draws parts of a photo. latent: whether it is kept.

        A denoiser has no latent.
        """
        paths = self.pictures
        if photo:
            paths += self.drawn
        paths.append(self.sheet)
        if latent:
            paths.append(self.latent)
        paths.append(self.record)
        return paths
