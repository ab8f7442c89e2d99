"""Operators as JSON, and the files they refer to.

{"version": 1, "stages": [{"name": "jpeg", "quality": 12}, …]}. A tensor or file is stored by
reference: a file's name within one folder, and nowhere outside it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from .imagefile import contents
from .operator import Operator, compose
from .params import Range
from .registry import REGISTRY
from .spec import DEEPEST, build

VERSION = 1


def to_json(f: Operator, folder: str | Path | None = None) -> dict[str, Any]:
    """The record of an operator, for json.dump. Files and tensors that f holds are put into `folder`.

    Without `folder` files keep their paths; raises ValueError if f holds a tensor.
    """
    if folder is not None:
        f = collect(f, lambda name, data: (Path(folder) / name).write_bytes(data))
    return {"version": VERSION, "stages": _stages(f)}


def from_json(record: dict[str, Any], folder: str | Path | None = None) -> Operator:
    """The operator of a record. Raises ValueError for anything else.

    Files are looked up in `folder`, and nowhere outside it; without it, wherever the record says:
    give a folder if the record is a stranger's.
    """
    if not isinstance(record, dict) or not isinstance(record.get("stages"), list):
        raise ValueError("this is no operator: it needs 'version' and a list 'stages'")
    if record.get("version") != VERSION or isinstance(record["version"], bool):
        raise ValueError(
            f"version={record.get('version')!r} is unknown; this release reads version {VERSION}"
        )
    return _chain(record["stages"], None if folder is None else Path(folder), 0)


def collect(f: Operator, write: Callable[[str, bytes], object]) -> Operator:
    """f with every file or tensor it holds written by `write(name, bytes)`, and named by that name.

    The name is a digest of the content, so equal contents share a file. It does not end as a
    picture's does: what lies beside pictures is not to be taken for one of them.
    """
    stages = []
    for stage in f:
        for field in stage.files:
            value = getattr(stage, field)
            if value is None:
                continue
            if isinstance(value, Tensor):
                from safetensors.torch import save

                data, suffix = save({field: value.contiguous().cpu()}), ".safetensors"
            else:
                data, suffix = contents(value, str(stage)), Path(value).suffix
            name = f"{sha256(data).hexdigest()[:16]}.{field}" + (
                ".safetensors" if suffix == ".safetensors" else ""
            )
            write(name, data)
            stage = stage.with_values({field: name})
        stages.append(stage.with_nested(lambda g: collect(g, write)))
    return compose(stages)


def _stages(f: Operator) -> list[dict]:
    records = []
    for stage in f:
        if any(isinstance(getattr(stage, field), Tensor) for field in stage.files):
            raise ValueError(f"{stage} holds a tensor; give a folder to put it into")
        record = {"name": stage.name, **{n: _value(v) for n, v, _ in stage.arguments()}}
        if stage.nested:
            record["operators"] = [_stages(g) for g in stage.nested]
        records.append(record)
    return records


def _value(value: object) -> object:
    if isinstance(value, Range):
        return {"range": [value.low, value.high]}
    return [_value(item) for item in value] if isinstance(value, tuple) else value


def _chain(records: object, folder: Path | None, depth: int) -> Operator:
    if not isinstance(records, list) or not records or depth > DEEPEST:
        raise ValueError(
            "'stages' and 'operators' are lists of at least one stage, not too deep in each other"
        )
    return compose(_stage(record, folder, depth) for record in records)


def _stage(record: object, folder: Path | None, depth: int) -> Operator:
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise ValueError(f"a stage is an object with a 'name', not {str(record)[:60]}")
    cls = REGISTRY.get(record["name"])
    if cls is None:
        raise ValueError(f"unknown operator {record['name']!r}")
    values = {
        key: _parsed(key, value)
        for key, value in record.items()
        if key not in ("name", "operators")
    }
    inner = record.get("operators", [])
    if not isinstance(inner, list) or (inner and cls.holds is None):
        raise ValueError(f"{cls.name}: 'operators' does not belong here")
    nested = [_chain(stages, folder, depth + 1) for stages in inner]
    try:
        return build(cls, nested, values, folder)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{cls.name}: {error}") from error


def _parsed(key: str, value: object) -> object:
    if isinstance(value, list):
        return tuple(_parsed(key, item) for item in value)
    if isinstance(value, dict):
        ends = value.get("range")
        if set(value) != {"range"} or not isinstance(ends, list) or len(ends) != 2:
            raise ValueError(f"{key}: an object here is {{'range': [low, high]}}")
        return Range(*ends)
    return value
