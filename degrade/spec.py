"""The text form of operators: `downsample:8 >> poisson:24 >> jpeg:quality=12,subsampling=4:2:0`.

A stage is `name`, or `name:` and its parameters, separated by commas, in the order of the class or
by keyword. `12|15|9` gives one value per image. `5..30` is drawn for each image. Special characters
in a string are percent-encoded. Operators made of operators hold them in parentheses:
`maybe:0.5(jpeg:12)`, `oneof(jpeg:5..30 ; blur:gaussian,2 >> jpeg:50)`. parse(str(f)) == f.
The name of a published pipeline, such as `gfpgan`, stands for its whole chain.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from .operator import Operator, compose
from .params import parse_value, show
from .registry import ALIASES, REFUSED, REGISTRY

DEEPEST = 20  # how deep parentheses may be nested
_QUOTED = 60  # how many characters an error shows on each side of the mistake


class SpecError(ValueError):
    """A text that cannot be parsed as an operator. The message marks the position."""

    def __init__(self, message: str, text: str, position: int):
        self.text = text
        self.position = position
        start = max(0, position - _QUOTED)
        before = text[start:position]
        after = text[position : position + _QUOTED]
        super().__init__(f"{message}: {before}⟨here⟩{after}")


def parse(text: str, folder: str | Path | None = None) -> Operator:
    """The operator that `text` describes. Raises SpecError (a ValueError) that marks the mistake.

    folder: where the files that the text names are looked up; a file outside it is refused.
        Without it, file names are used as they are.
    """
    folder_path = None if folder is None else Path(folder)
    parser = _Parser(text, folder_path)
    return parser.chain(0, len(text), depth=0)


def operator_of(f: Operator | str, name: str = "f") -> Operator:
    """The operator itself, or the one that a text describes. name: of the argument, for errors."""
    if isinstance(f, str):
        return parse(f)
    if not isinstance(f, Operator):
        raise ValueError(f"{name}={show(f)} must be an operator or its text, such as 'jpeg:50'")
    return f


class _Parser:
    """Parses pieces text[start:end] of one text, so that every error knows its position."""

    def __init__(self, text: str, folder: Path | None):
        self.text = text
        self.folder = folder

    def chain(self, start: int, end: int, depth: int) -> Operator:
        if depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} parentheses within each other", start)
        stages: list[Operator] = []
        for stage_start, stage_end in self.split(start, end, ">>"):
            name = self.text[stage_start:stage_end].strip()
            if name in ALIASES:
                stages.extend(parse(ALIASES[name]))
            else:
                stages.append(self.stage(stage_start, stage_end, depth))
        return compose(stages)

    def split(self, start: int, end: int, separator: str) -> list[tuple[int, int]]:
        """The (start, end) of the pieces between separators outside parentheses."""
        pieces = []
        depth = 0
        piece_start = i = start
        while i < end:
            if self.text[i] == "(":
                depth += 1
            elif self.text[i] == ")":
                depth -= 1
            if depth < 0:
                raise self.error("a closing parenthesis without an opening one", i)
            if depth == 0 and self.text.startswith(separator, i, end):
                pieces.append((piece_start, i))
                i += len(separator)
                piece_start = i
            else:
                i += 1
        if depth:
            raise self.error("a parenthesis is not closed", end)
        pieces.append((piece_start, end))
        return pieces

    def stage(self, start: int, end: int, depth: int) -> Operator:
        start, end = self.stripped(start, end)
        opening = self.text.find("(", start, end)
        has_parentheses = opening >= 0
        head_end = opening if has_parentheses else end
        head = self.text[start:head_end]
        name, colon, parameters = head.partition(":")
        cls = self.operator_class(name, start)
        args: list[object] = []
        kwargs: dict[str, object] = {}
        if colon:
            position = head_end - len(parameters)
            args, kwargs = self.values(cls, parameters, position)
        if has_parentheses:
            if cls.holds is None and not colon:
                self.refuse_call(cls, opening, end)
            if cls.holds is None or self.text[end - 1] != ")":
                raise self.error(
                    f"{cls.name}: nothing may stand in or after its parentheses", opening
                )
            inner = self.split(opening + 1, end - 1, ";")
            for inner_start, inner_end in inner:
                args.append(self.chain(inner_start, inner_end, depth + 1))
        return self.build(cls, args, kwargs, start)

    def refuse_call(self, cls: type[Operator], opening: int, end: int) -> None:
        """Refuse values in parentheses, as in jpeg(12), and say how to write them."""
        if self.text[end - 1] != ")":
            return
        inner = self.text[opening + 1 : end - 1]
        values = " ".join(inner.split())[:60]
        correct = f"{cls.name}:{values}" if values else cls.name
        raise self.error(
            f"{cls.name} takes its values after a colon, not in parentheses; write {correct}",
            opening,
        )

    def stripped(self, start: int, end: int) -> tuple[int, int]:
        """The (start, end) of a piece without the white space around it."""
        while start < end and self.text[start].isspace():
            start += 1
        while end > start and self.text[end - 1].isspace():
            end -= 1
        return start, end

    def operator_class(self, name: str, position: int) -> type[Operator]:
        name_only = name.strip()
        if not name_only:
            raise self.error("an operator is missing", position)
        cls = REGISTRY.get(name_only)
        if cls is not None:
            return cls
        if name_only in ALIASES:
            raise self.error(
                f"{name_only} is a pipeline, and takes no values or parentheses; "
                f"write {name_only} alone, or change its text, degrade.pipelines.about(…).text",
                position,
            )
        if name_only in REFUSED:
            raise self.error(f"{name_only} {REFUSED[name_only]}", position)
        lower = name_only.lower()
        similar = difflib.get_close_matches(lower, [*REGISTRY, *ALIASES], n=3, cutoff=0.5)
        mend = f"did you mean {' or '.join(similar)}?" if similar else "`degrade ops` lists them."
        raise self.error(
            f"unknown operator {show(name)}; {mend} Your own must be imported first", position
        )

    def values(
        self, cls: type[Operator], text: str, position: int
    ) -> tuple[list[object], dict[str, object]]:
        """The positional and keyword parameters in `text`, which begins at `position`."""
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for piece in text.split(","):
            before, equals, after = piece.partition("=")
            key = before.strip() if equals else None
            value = after.strip() if equals else before.strip()
            if not value:
                raise self.error(f"{cls.name}: a value is missing", position)
            if key in kwargs:
                raise self.error(f"{cls.name}: {key} is given twice", position)
            if key is not None:
                kwargs[key] = parse_value(value)
            elif kwargs:
                raise self.error(
                    f"{cls.name}: a plain value follows a keyword; name it too", position
                )
            else:
                args.append(parse_value(value))
            position += len(piece) + 1
        return args, kwargs

    def build(
        self, cls: type[Operator], args: list[object], kwargs: dict[str, object], position: int
    ) -> Operator:
        """The operator, or an error that says which parameter is unknown, missing or wrong."""
        try:
            return build(cls, args, kwargs, self.folder)
        except (ValueError, OverflowError) as error:
            raise self.error(f"{cls.name}: {error}", position) from error

    def error(self, message: str, position: int) -> SpecError:
        return SpecError(message, self.text, position)


def build(
    cls: type[Operator], args: list[object], kwargs: dict[str, object], folder: Path | None
) -> Operator:
    """cls(*args, **kwargs), with files looked up in `folder`.

    args: plain values first, then the operators in parentheses. Raises ValueError that names the
    parameter that is unknown, missing, given twice or wrong.
    """
    plain: list[object] = []
    nested: list[Operator] = []
    for value in args:
        if isinstance(value, Operator):
            nested.append(value)
        else:
            plain.append(value)
    values = _by_name(cls, plain, kwargs)
    if cls.holds and not nested:
        raise ValueError(f"an operator is missing, as in {cls.name}(jpeg:12)")
    if folder is not None:
        for name in cls.files:
            file = values.get(name)
            if isinstance(file, str):
                cls.kinds[name].check(name, file)
                values[name] = _path_in_folder(file, folder)
    return cls.assembled(values, nested)


def _by_name(
    cls: type[Operator], plain: list[object], kwargs: dict[str, object]
) -> dict[str, object]:
    """All values by the names of their parameters, the positional ones first."""
    names = [name for name in cls.kinds if name != cls.holds]
    offered = f"it takes {', '.join(names)}" if names else "it takes no parameters"
    for key in kwargs:
        if key not in names:
            raise ValueError(f"no parameter {show(key)}; {offered}")
    if len(plain) > len(names):
        raise ValueError(f"{len(plain)} values are too many; {offered}")
    values = dict(zip(names, plain, strict=False))
    for key in kwargs:
        if key in values:
            raise ValueError(f"{key} is given twice")
    values.update(kwargs)
    for name in cls.positional:
        if name not in values:
            raise ValueError(f"{name} is missing, as in {cls.name}:{name}=…")
    return values


def _path_in_folder(file: str, folder: Path) -> str:
    """The path of a file that must lie in `folder`. Raises ValueError for a file outside it."""
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is outside {folder}; a file must lie beside what names it")
    return str(path)
