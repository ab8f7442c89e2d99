"""Tensors of a pickle: storages as torch wrote them before zip files, and views of them."""

from __future__ import annotations

import io
import math
import pickle
import struct

import torch
from torch import Tensor

# magic number, protocol, system, object, keys, data
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_) -> Tensor:
    """A view of a storage, if every element of it has one of its own."""
    size, stride = [*map(int, size)], [*map(int, stride)]
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    inside = (
        min([offset, *size, *stride]) >= 0
        and last < len(storage)
        and math.prod(size) <= len(storage)
    )
    if not inside and math.prod(size) > 0:
        raise ValueError(f"a tensor of {size} does not fit its storage of {len(storage)}")
    return storage.as_strided(size, stride, offset)


def storage(blob: bytes) -> Tensor:
    """The numbers of a storage, flat. The blob has torch's format before zip files."""
    file = io.BytesIO(blob)
    if _Blob(file).load() != _MAGIC or _Blob(file).load() != _PROTOCOL:
        raise ValueError("a storage has an unknown format")
    _Blob(file).load()  # the system it was written on
    held = _Blob(file).load()
    kind, dtype, key, _, count, view = (*held, None)[:6] if isinstance(held, tuple) else (None,) * 6
    if kind != "storage" or not isinstance(dtype, torch.dtype) or view is not None:
        raise ValueError("a storage has an unknown format")
    if _Blob(file).load() != [key]:
        raise ValueError("a storage has an unknown format")
    start = file.tell() + 8
    (stored,) = struct.unpack("<q", blob[start - 8 : start])
    if stored != count or count < 0 or len(blob) - start < count * dtype.itemsize:
        raise ValueError(f"a storage says {count} numbers and has {len(blob) - start} bytes")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(memoryview(blob)[start:]), dtype=dtype, count=count)


class _Blob(pickle._Unpickler):
    """The small pickles in a storage blob: plain values and the storage's type."""

    def find_class(self, module: str, name: str):
        if module not in ("torch", "torch.storage") or name not in _STORAGES:
            raise ValueError(f"a storage names {module}.{name}, which is not allowed")
        return _STORAGES[name]

    def persistent_load(self, pid):
        return pid
