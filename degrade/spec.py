"""The text form of operators: `downsample:8 >> poisson:24 >> jpeg:quality=12,subsampling=4:2:0`.

A stage is `name`, or `name:` and parameters in the class's order or by keyword, separated by
commas; `12|15|9` is one value per image; a string's odd characters are percent-encoded. parse(str(f)) == f.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path

from .operator import REGISTRY, Operator, compose
from .params import parse_value


class SpecError(ValueError):
    """A text spec that cannot be read; the message shows the place."""

    def __init__(self, message: str, text: str, position: int):
        self.text, self.position = text, position
        super().__init__(f"{message}: {text[:position]}⟨here⟩{text[position:]}")


def parse(text: str, folder: str | Path | None = None) -> Operator:
    """The operator that `text` describes. Raises SpecError (a ValueError) showing what is wrong.

    With `folder`, files that the text names are looked up there, and nowhere outside it.
    """
    stages, start = [], 0
    for part in text.split(">>"):
        stages.append(_parse_stage(part, text, start + len(part) - len(part.lstrip()), folder))
        start += len(part) + 2
    return compose(stages)


def _parse_stage(part: str, text: str, at: int, folder) -> Operator:
    name, colon, rest = part.strip().partition(":")
    if not name:
        raise SpecError("an operator is missing", text, at)
    cls = REGISTRY.get(name)
    if cls is None:
        near = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.5) or sorted(REGISTRY)
        raise SpecError(f"unknown operator {name!r}; did you mean {' or '.join(near)}?", text, at)
    args, kwargs = [], {}
    at_value = at + len(name) + 1
    for piece in rest.split(",") if colon else []:
        before, equals, after = piece.partition("=")
        key, value = before.strip() if equals else None, (after if equals else before).strip()
        if not value:
            raise SpecError(f"{name}: a value is missing", text, at_value)
        if key in kwargs:
            raise SpecError(f"{name}: {key} is given twice", text, at_value)
        if key is None and kwargs:
            raise SpecError(f"{name}: a plain value follows a keyword; name it too", text, at_value)
        if key is None:
            args.append(parse_value(value))
        else:
            kwargs[key] = parse_value(value)
        at_value += len(piece) + 1
    return _build(cls, args, kwargs, text, at, folder)


def _build(cls: type[Operator], args: list, kwargs: dict, text: str, at: int, folder) -> Operator:
    names = [f.name for f in fields(cls)]
    offered = f"it takes {', '.join(names)}" if names else "it takes no parameters"
    unknown = [key for key in kwargs if key not in names]
    if unknown or len(args) > len(names):
        what = f"no parameter {unknown[0]!r}" if unknown else f"{len(args)} values are too many"
        raise SpecError(f"{cls.name}: {what}; {offered}", text, at)
    twice = set(names[: len(args)]) & kwargs.keys()
    if twice:
        raise SpecError(f"{cls.name}: {twice.pop()} is given twice", text, at)
    missing = [n for n in cls.positional if n not in kwargs and n not in names[: len(args)]]
    if missing:
        raise SpecError(f"{cls.name}: {missing[0]} is missing, as in {cls.name}:{missing[0]}=…", text, at)
    try:
        values = dict(zip(names, args, strict=False), **kwargs)
        for key in cls.files if folder is not None else ():
            values[key] = _inside(values[key], Path(folder))
        return cls(**values)
    except (ValueError, OverflowError) as error:
        raise SpecError(f"{cls.name}: {error}", text, at) from error


def _inside(file: object, folder: Path) -> str:
    path = (folder / str(file)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside {folder}; a file must lie beside what names it")
    return str(path)
