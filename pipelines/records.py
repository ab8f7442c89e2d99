"""Records beside results: JSON files that say what was made, how, and of which size."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from degrade.imagefile import contents

from . import atomic
from .files import Source, digest

FORMAT = 1  # of all records
BYTES = "bytes"  # the key that holds the sizes of the files which a record describes


def write_json(path: Path, kind: str, record: dict) -> None:
    """Write a record of some kind, such as "manifest", atomically."""
    atomic.write(path, _json(kind, record))


def read_json(path: Path, kind: str) -> dict | None:
    """A record of `write_json`, or None without a file. Raises ValueError for other content."""
    if not path.exists():
        return None
    try:
        record = json.loads(contents(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split("\n"))
        raise ValueError(f"{path} is not a {kind} of degrade's: {reason}; move it away") from error
    if not isinstance(record, dict) or not _is_of_kind(record, kind):
        raise ValueError(
            f"{path} is not a {kind} of degrade's, format {FORMAT}; move it away, or make it again"
        )
    return record


def write_result(
    record: Path, kind: str, about: dict, made: dict[Path, bytes], stale: Iterable[Path] = ()
) -> None:
    """Write the files of one result and, last, its record; remove the `stale` files it replaces.

    While the files are being renamed, the record is marked `begun`: a run that is killed meanwhile
    leaves files that are known to be results, and that nobody takes for finished. The record gets
    the sizes of the files. For the order of all steps see `atomic.write_together`.
    """
    sizes = {_beside(record, path): len(data) for path, data in made.items()}
    about = about | {BYTES: about.get(BYTES, {}) | sizes}
    begun = _json(kind, about | {"begun": True})
    final = _json(kind, about)
    atomic.write_together(record, begun, final, made, stale)


def are_whole(record: Path, about: dict, made: Iterable[Path]) -> bool:
    """Whether files have the sizes with which they were written, by the content of their record.

    Something else may have cut or emptied a file since, such as a copy that was stopped.
    """
    sizes = about.get(BYTES)
    if not isinstance(sizes, dict):
        return False
    for path in made:
        try:
            size = path.stat().st_size
        except OSError:
            return False
        if size != sizes.get(_beside(record, path)):
            return False
    return True


def earlier(record: Path, kind: str, targets: Iterable[Path]) -> dict | None:
    """The record of an earlier result, or None.

    Raises ValueError if a target exists without a record: such a file is no result, and writing
    would destroy it.
    """
    before = read_json(record, kind)
    if before is not None:
        return before
    for path in targets:
        # a run beside this one may have begun a result meanwhile, whose record comes first
        if path.exists() and not record.exists():
            raise ValueError(
                f"{path} is there, and no {kind} says that it is a result; choose another --output"
            )
    return None


def another_source(before: dict | None, key: str, source: Source) -> list[str]:
    """What to say if a record holds, at `key`, the digest of another picture than the source's."""
    if before is None or before.get(key) in (None, digest(source.path)):
        return []
    return [f"of another picture than {source.path}"]


def _json(kind: str, record: dict) -> bytes:
    whole = {"kind": kind, "format": FORMAT, **record}
    text = json.dumps(whole, indent=2) + "\n"
    return text.encode()


def _is_of_kind(record: dict, kind: str) -> bool:
    return record.get("kind") == kind and record.get("format") == FORMAT


def _beside(record: Path, path: Path) -> str:
    """The path of a file relative to the folder of its record, such as ../HQ/a.png."""
    if path.parent == record.parent:
        return path.name
    return Path(os.path.relpath(path, record.parent)).as_posix()
