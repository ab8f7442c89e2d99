"""Read the tensors of a pickle: storages in torch's format before zip files, and their views."""

from __future__ import annotations

import io
import math
import pickle
import struct

import torch
from torch import Tensor

# magic number, protocol, system, object, keys, data
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_UNKNOWN = "a storage has an unknown format"
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
    """Return a view of a storage. Raises ValueError if it needs more elements than there are."""
    shape = list(map(int, size))
    strides = list(map(int, stride))
    last = offset
    for side, step in zip(shape, strides, strict=True):
        last += (side - 1) * step
    count = math.prod(shape)
    is_negative = min([offset, *shape, *strides]) < 0
    is_too_large = last >= len(storage) or count > len(storage)
    if count > 0 and (is_negative or is_too_large):
        raise ValueError(f"a tensor of {shape} does not fit its storage of {len(storage)}")
    return storage.as_strided(shape, strides, offset)


def storage(blob: bytes) -> Tensor:
    """Return the flat numbers of a storage, from a blob in torch's format before zip files."""
    file = io.BytesIO(blob)
    if _next(file) != _MAGIC or _next(file) != _PROTOCOL:
        raise ValueError(_UNKNOWN)
    _next(file)  # the system it was written on
    content = _next(file)
    if not isinstance(content, tuple):
        raise ValueError(_UNKNOWN)
    kind, dtype, key, _, count, view = (*content, None)[:6]
    if kind != "storage" or view is not None:
        raise ValueError(_UNKNOWN)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(_UNKNOWN)
    if _next(file) != [key]:
        raise ValueError(_UNKNOWN)
    (stored_count,) = struct.unpack("<q", file.read(8))
    start = file.tell()
    size = len(blob) - start
    if stored_count != count or count < 0 or size < count * dtype.itemsize:
        raise ValueError(f"a storage says {count} numbers and has {size} bytes")
    if count == 0:
        return torch.empty(0, dtype=dtype, device="cpu")
    numbers = bytearray(memoryview(blob)[start:])
    return torch.frombuffer(numbers, dtype=dtype, count=count)


def _next(file: io.BytesIO) -> object:
    """Read the next small pickle of a storage."""
    return _Blob(file).load()


class _Blob(pickle._Unpickler):
    """Read the small pickles in a storage blob: plain values, and the type of the storage."""

    def find_class(self, module: str, name: str):
        if module not in ("torch", "torch.storage") or name not in _STORAGES:
            raise ValueError(f"a storage names {module}.{name}, which is not allowed")
        return _STORAGES[name]

    def persistent_load(self, pid):
        return pid
