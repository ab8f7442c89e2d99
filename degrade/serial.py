"""Operators as JSON, and the files they refer to.

{"version": 1, "stages": [{"name": "jpeg", "quality": 12}, …]}. A tensor or file is stored by
reference: the record holds the name of a file in one folder. A file outside it is refused.
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
    """The record of an operator, for json.dump.

    folder: where the files and tensors of f are written; the record holds their names there.
        Without it files keep their paths, and an operator that holds a tensor raises ValueError.
    """
    if folder is not None:
        target = Path(folder)
        f = collect(f, lambda name, data: (target / name).write_bytes(data))
    records = _stage_records(f)
    return {"version": VERSION, "stages": records}


def from_json(record: dict[str, Any], folder: str | Path | None = None) -> Operator:
    """The operator of a record. Raises ValueError for anything else.

    folder: where the files of the record are looked up; a file outside it is refused. Without it
        the record may name any file, so give a folder if the record comes from someone else.
    """
    if not isinstance(record, dict) or not isinstance(record.get("stages"), list):
        raise ValueError("this is no operator: it needs 'version' and a list 'stages'")
    version = record.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ValueError(f"version={version!r} is unknown; this release reads version {VERSION}")
    folder_path = None if folder is None else Path(folder)
    return _chain(record["stages"], folder_path, depth=0)


def collect(f: Operator, write: Callable[[str, bytes], object]) -> Operator:
    """Write every file or tensor that f holds with `write(name, bytes)`.

    Returns f with each of them replaced by its name, which is a digest of the content: equal
    contents share a file. The name does not end like that of an image, so that a folder of images
    may hold these files too.
    """
    stages = []
    for stage in f:
        for field in stage.files:
            if getattr(stage, field) is not None:
                name, data = _named_content(stage, field)
                write(name, data)
                stage = stage.with_values({field: name})
        collected = stage.with_nested(lambda inner: collect(inner, write))
        stages.append(collected)
    return compose(stages)


def _named_content(stage: Operator, field: str) -> tuple[str, bytes]:
    """The file name and the bytes of the tensor or file that a stage holds."""
    value = getattr(stage, field)
    suffix = ""
    if isinstance(value, Tensor):
        from safetensors.torch import save

        tensors = {field: value.detach().contiguous().cpu()}
        data = save(tensors)
        suffix = ".safetensors"
    else:
        data = contents(value, str(stage))
        if Path(value).suffix == ".safetensors":
            suffix = ".safetensors"
    digest = sha256(data).hexdigest()[:16]
    return f"{digest}.{field}{suffix}", data


def _stage_records(f: Operator) -> list[dict[str, object]]:
    records = []
    for stage in f:
        for field in stage.files:
            value = getattr(stage, field)
            if isinstance(value, Tensor):
                raise ValueError(f"{stage} holds a tensor; give a folder to put it into")
        record: dict[str, object] = {"name": stage.name}
        for name, value, _ in stage.arguments():
            record[name] = _plain_value(value)
        if stage.nested:
            record["operators"] = list(map(_stage_records, stage.nested))
        records.append(record)
    return records


def _plain_value(value: object) -> object:
    if isinstance(value, Range):
        record: dict[str, object] = {"range": [value.low, value.high]}
        if value.power != 1:
            record["power"] = value.power
        return record
    if isinstance(value, tuple):
        return list(map(_plain_value, value))
    return value


def _chain(records: object, folder: Path | None, depth: int) -> Operator:
    if not isinstance(records, list) or not records or depth > DEEPEST:
        raise ValueError(
            "'stages' and 'operators' are lists of at least one stage, not too deep in each other"
        )
    return compose(_stage(record, folder, depth) for record in records)


def _stage(record: object, folder: Path | None, depth: int) -> Operator:
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        raise ValueError(f"a stage is an object with a 'name', not {str(record)[:60]}")
    name = record["name"]
    cls = REGISTRY.get(name)
    if cls is None:
        raise ValueError(f"unknown operator {name!r}")
    values: dict[str, object] = {}
    for key, value in record.items():
        if key not in ("name", "operators"):
            values[key] = _parameter_value(key, value)
    nested_records = record.get("operators", [])
    is_list = isinstance(nested_records, list)
    if not is_list or (nested_records and cls.holds is None):
        raise ValueError(f"{cls.name}: 'operators' does not belong here")
    nested: list[object] = []
    for stage_records in nested_records:
        nested.append(_chain(stage_records, folder, depth + 1))
    try:
        return build(cls, nested, values, folder)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{cls.name}: {error}") from error


def _parameter_value(key: str, value: object) -> object:
    if isinstance(value, list):
        return tuple(_parameter_value(key, item) for item in value)
    if not isinstance(value, dict):
        return value
    ends = value.get("range")
    power = value.get("power", 1)
    if not set(value) <= {"range", "power"} or not isinstance(ends, list) or len(ends) != 2:
        raise ValueError(f"{key}: an object here is {{'range': [low, high], 'power': 1}}")
    low, high = ends
    return Range(low, high, power)
