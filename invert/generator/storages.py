"""Read the tensors of a pickle: storages in torch's format before zip files, and their views."""

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
    """Return a view of a storage. Raises ValueError if it needs more elements than there are."""
    shape, strides = [int(n) for n in size], [int(n) for n in stride]
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    count = math.prod(shape)
    negative = min([offset, *shape, *strides]) < 0
    if count > 0 and (negative or last >= len(storage) or count > len(storage)):
        raise ValueError(f"a tensor of {shape} does not fit its storage of {len(storage)}")
    return storage.as_strided(shape, strides, offset)


def storage(blob: bytes) -> Tensor:
    """Return the flat numbers of a storage, from a blob in torch's format before zip files."""
    file = io.BytesIO(blob)
    if _Blob(file).load() != _MAGIC or _Blob(file).load() != _PROTOCOL:
        raise ValueError("a storage has an unknown format")
    _Blob(file).load()  # the system it was written on
    content = _Blob(file).load()
    fields = (*content, None)[:6] if isinstance(content, tuple) else (None,) * 6
    kind, dtype, key, _, count, view = fields
    if kind != "storage" or not isinstance(dtype, torch.dtype) or view is not None:
        raise ValueError("a storage has an unknown format")
    if _Blob(file).load() != [key]:
        raise ValueError("a storage has an unknown format")
    start = file.tell() + 8
    (stored,) = struct.unpack("<q", blob[start - 8 : start])
    if stored != count or count < 0 or len(blob) - start < count * dtype.itemsize:
        raise ValueError(f"a storage says {count} numbers and has {len(blob) - start} bytes")
    if count == 0:
        return torch.empty(0, dtype=dtype, device="cpu")
    numbers = bytearray(memoryview(blob)[start:])
    return torch.frombuffer(numbers, dtype=dtype, count=count)


class _Blob(pickle._Unpickler):
    """Read the small pickles in a storage blob: plain values, and the type of the storage."""

    def find_class(self, module: str, name: str):
        if module not in ("torch", "torch.storage") or name not in _STORAGES:
            raise ValueError(f"a storage names {module}.{name}, which is not allowed")
        return _STORAGES[name]

    def persistent_load(self, pid):
        return pid
