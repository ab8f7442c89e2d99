"""Download files once, and keep them in a cache folder."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import urllib.request
from hashlib import sha256
from pathlib import Path

TIMEOUT = 30  # seconds without data


def is_address(text: str) -> bool:
    return re.match(r"(https?|file)://", text) is not None


def cache() -> Path:
    """Return the cache folder: $DEGRADE_CACHE, or `degrade` in the user's cache folder."""
    chosen = os.environ.get("DEGRADE_CACHE")
    if chosen:
        return Path(chosen)
    cache_of_user = os.environ.get("XDG_CACHE_HOME")
    folder = Path(cache_of_user) if cache_of_user else Path.home() / ".cache"
    return folder / "degrade"


def fetch(address: str) -> Path:
    """Return the file at `address`, from the cache if it was downloaded before.

    An address may end in #sha256:…, the digest that the file must have. Raises ValueError if the
    digest differs, or the download fails.
    """
    url, _, check = address.partition("#")
    kind, _, digits = check.partition(":")
    wanted = digits.lower()
    is_digest = kind == "sha256" and re.fullmatch("[0-9a-f]{64}", wanted)
    if check and not is_digest:
        raise ValueError(f"{address}: what follows # must be sha256: and 64 hexadecimal digits")
    path = cache() / _cached_name(url)
    if not path.exists():
        _download(url, path, wanted)
    elif wanted and _digest(path) != wanted:
        raise ValueError(
            f"{path}, fetched from {url}, is not the file with that sha256; "
            "delete it to fetch it again"
        )
    return path


def _cached_name(url: str) -> str:
    """The name of a downloaded file: a digest of its address, and the end of the address."""
    last_part = url.rpartition("/")[2]
    without_query = last_part.partition("?")[0]
    name = re.sub(r"[^\w.-]", "_", without_query)
    shortened = name[-100:] or "file"
    digest = sha256(url.encode()).hexdigest()
    return f"{digest[:16]}-{shortened}"


def _download(url: str, path: Path, wanted: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=TIMEOUT) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            promised = source.headers.get("Content-Length")
        size = temporary.stat().st_size
        if promised is not None and size != int(promised):
            raise OSError(f"it broke off after {size} of {promised} bytes")
        if wanted and _digest(temporary) != wanted:
            raise ValueError(f"{url} is not the file with that sha256, but {_digest(temporary)}")
        os.replace(temporary, path)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{url} cannot be fetched: {reason}; fetch it yourself and give the file"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()
