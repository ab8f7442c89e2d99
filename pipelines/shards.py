"""WebDataset shards of training pairs: tar files, packed from the files of `degrade apply`."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import atomic, records
from .apply import MANIFEST, Apply
from .files import Source

FOLDER = "shards"  # below the output folder


@dataclass(frozen=True)
class Member:
    """A file on its way into a shard."""

    name: str
    path: Path


@dataclass(frozen=True)
class Shards:
    """The shards <output>/shards/pairs-000000.tar, … of the pairs of a flow.

    A pair is three files: KEY.lq.png, KEY.hq.png and its manifest KEY.json. KEY is the number of
    the pair among all pairs, so that it holds no dot, at which WebDataset would cut it. Equal pairs
    give equal bytes.

    size: the number of pairs in a shard; a pair that could not be made is left out.
    """

    flow: Apply
    sources: Sequence[Source]
    size: int

    @property
    def folder(self) -> Path:
        return self.flow.output / FOLDER

    def refuse_others(self) -> None:
        """Raise ValueError if the folder holds a shard that this run would not replace."""
        count = len(range(0, len(self.sources), self.size))
        expected = {self._path(number) for number in range(count)}
        for path in sorted(self.folder.glob("*.tar")):
            if path not in expected:
                raise ValueError(
                    f"{path} is a shard of other pictures or settings, and readers would take it "
                    "for one of these; remove it"
                )

    def write(self) -> Iterator[Path]:
        """Write each shard atomically, and yield it; a shard that is up to date stays as it is."""
        atomic.sweep(self.folder)
        for number, start in enumerate(range(0, len(self.sources), self.size)):
            members = self._members(start)
            path = self._path(number)
            if not members:
                continue
            if not _is_current(path, members):
                with atomic.replacing(path) as temporary:
                    _pack(temporary, members)
            yield path

    def _path(self, number: int) -> Path:
        return self.folder / f"pairs-{number:06d}.tar"

    def _members(self, start: int) -> list[Member]:
        """The files of the shard whose first pair has the number `start`."""
        members = []
        for position, source in enumerate(self.sources[start : start + self.size], start):
            manifest = source.target(self.flow.degraded_folder, ".json")
            record = records.read_json(manifest, MANIFEST)
            if record is None or record.get("begun"):
                continue
            key = f"{position:08d}"
            members.append(Member(f"{key}.hq.png", self.flow.clean_target(source)))
            members.append(Member(f"{key}.json", manifest))
            members.append(Member(f"{key}.lq.png", manifest.with_name(record["image"])))
        return members


def _pack(path: Path, members: list[Member]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            entry = tarfile.TarInfo(member.name)  # of no owner and no time: equal bytes
            entry.size = member.path.stat().st_size
            with member.path.open("rb") as content:
                archive.addfile(entry, content)


def _is_current(path: Path, members: list[Member]) -> bool:
    """Whether a shard exists and holds these files: equal names, sizes and manifests."""
    if not path.exists():
        return False
    try:
        with tarfile.open(path, "r:") as archive:
            entries = archive.getmembers()
            if [entry.name for entry in entries] != [member.name for member in members]:
                return False
            for entry, member in zip(entries, members, strict=True):
                if entry.size != member.path.stat().st_size:
                    return False
                content = archive.extractfile(entry)
                is_manifest = entry.name.endswith(".json")
                if is_manifest and (content is None or content.read() != member.path.read_bytes()):
                    return False
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no shard of degrade's: {error}; move it away") from error
    return True
