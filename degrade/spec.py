"""The text form of operators: `downsample:8 >> poisson:24 >> jpeg:quality=12,subsampling=4:2:0`.

A stage is `name`, or `name:` and parameters in the class's order or by keyword, separated by
commas; `12|15|9` is one value per image, `5..30` is drawn for each image; a string's odd characters
are percent-encoded. Operators made of operators hold them in parentheses: `maybe:0.5(jpeg:12)`,
`oneof(jpeg:5..30 ; blur:gaussian,2 >> jpeg:50)`. parse(str(f)) == f.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from .operator import Operator, compose
from .params import parse_value
from .registry import REGISTRY

DEEPEST = 20  # parentheses within parentheses


class SpecError(ValueError):
    """A text spec that cannot be read; the message shows the place."""

    def __init__(self, message: str, text: str, position: int):
        self.text, self.position = text, position
        near = text[max(0, position - 60) : position], text[position : position + 60]
        super().__init__(f"{message}: {near[0]}⟨here⟩{near[1]}")


def parse(text: str, folder: str | Path | None = None) -> Operator:
    """The operator that `text` describes. Raises SpecError (a ValueError) showing what is wrong.

    With `folder`, files that the text names are looked up there, and nowhere outside it.
    """
    return _Parser(text, None if folder is None else Path(folder)).chain(0, len(text), 0)


class _Parser:
    """Reads pieces text[start:end] of one text, so that every mistake knows its place."""

    def __init__(self, text: str, folder: Path | None):
        self.text, self.folder = text, folder

    def chain(self, start: int, end: int, depth: int) -> Operator:
        if depth > DEEPEST:
            raise SpecError(f"more than {DEEPEST} parentheses within each other", self.text, start)
        return compose(self.stage(a, b, depth) for a, b in self.split(start, end, ">>"))

    def split(self, start: int, end: int, separator: str) -> list[tuple[int, int]]:
        """The pieces between separators that stand in no parentheses."""
        pieces, depth, at = [], 0, start
        i = start
        while i < end:
            depth += (self.text[i] == "(") - (self.text[i] == ")")
            if depth < 0:
                raise SpecError("a closing parenthesis without an opening one", self.text, i)
            if depth == 0 and self.text.startswith(separator, i, end):
                pieces.append((at, i))
                i = at = i + len(separator)
            else:
                i += 1
        if depth:
            raise SpecError("a parenthesis is not closed", self.text, end)
        return [*pieces, (at, end)]

    def stage(self, start: int, end: int, depth: int) -> Operator:
        text = self.text
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        opened = text.find("(", start, end)
        head = end if opened < 0 else opened
        name, colon, rest = text[start:head].partition(":")
        if not name.strip():
            raise SpecError("an operator is missing", text, start)
        cls = REGISTRY.get(name.strip())
        if cls is None:
            near = difflib.get_close_matches(
                name.strip().lower(), REGISTRY, n=3, cutoff=0.5
            ) or sorted(REGISTRY)
            said = f"unknown operator {name!r}; did you mean {' or '.join(near)}? Your own must be imported first"
            raise SpecError(said, text, start)
        args, kwargs = self.values(cls, rest, head - len(rest)) if colon else ([], {})
        if opened >= 0:
            if cls.holds is None and not colon and text[end - 1] == ")":
                values = " ".join(text[opened + 1 : end - 1].split())[:60]
                correct = f"{cls.name}:{values}" if values else cls.name
                message = (
                    f"{cls.name} takes its values after a colon, not in parentheses; "
                    f"write {correct}"
                )
                raise SpecError(message, text, opened)
            if cls.holds is None or text[end - 1] != ")":
                raise SpecError(
                    f"{cls.name}: nothing may stand in or after its parentheses", text, opened
                )
            args += [self.chain(a, b, depth + 1) for a, b in self.split(opened + 1, end - 1, ";")]
        return self.build(cls, args, kwargs, start)

    def values(self, cls: type[Operator], rest: str, at: int) -> tuple[list, dict]:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for piece in rest.split(","):
            before, equals, after = piece.partition("=")
            key, value = before.strip() if equals else None, (after if equals else before).strip()
            if not value:
                raise SpecError(f"{cls.name}: a value is missing", self.text, at)
            if key in kwargs:
                raise SpecError(f"{cls.name}: {key} is given twice", self.text, at)
            if key is None and kwargs:
                raise SpecError(
                    f"{cls.name}: a plain value follows a keyword; name it too", self.text, at
                )
            if key is None:
                args.append(parse_value(value))
            else:
                kwargs[key] = parse_value(value)
            at += len(piece) + 1
        return args, kwargs

    def build(self, cls: type[Operator], args: list, kwargs: dict, at: int) -> Operator:
        """The operator, or an error that says which parameter is unknown, missing or wrong."""
        try:
            return build(cls, args, kwargs, self.folder)
        except (ValueError, OverflowError) as error:
            raise SpecError(f"{cls.name}: {error}", self.text, at) from error


def build(cls: type[Operator], args: list, kwargs: dict, folder: Path | None) -> Operator:
    """cls(*args, **kwargs) with files looked up in `folder`. Raises ValueError for wrong arguments."""
    names = [name for name in cls.kinds if name != cls.holds]
    plain = [value for value in args if not isinstance(value, Operator)]
    nested = args[len(plain) :]
    offered = f"it takes {', '.join(names)}" if names else "it takes no parameters"
    unknown = [key for key in kwargs if key not in names]
    if unknown:
        raise ValueError(f"no parameter {unknown[0]!r}; {offered}")
    if len(plain) > len(names):
        raise ValueError(f"{len(plain)} values are too many; {offered}")
    twice = set(names[: len(plain)]) & kwargs.keys()
    if twice:
        raise ValueError(f"{twice.pop()} is given twice")
    missing = [n for n in cls.positional if n not in kwargs and n not in names[: len(plain)]]
    if missing:
        raise ValueError(f"{missing[0]} is missing, as in {cls.name}:{missing[0]}=…")
    if cls.holds and not nested:
        raise ValueError(f"an operator is missing, as in {cls.name}(jpeg:12)")
    values = dict(zip(names, plain, strict=False), **kwargs)
    if folder is not None:
        for name in cls.files:
            if isinstance(values.get(name), str):
                values[name] = _inside(values[name], folder)
    try:
        return cls(*values.values(), *nested) if nested else cls(**values)
    except TypeError as error:
        raise ValueError(f"{len(nested)} operators in parentheses are too many") from error


def _inside(file: str, folder: Path) -> str:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside {folder}; a file must lie beside what names it")
    return str(path)
