"""The classes of pictures, for conditional generators.

There is one for all, one for each in a CSV, or a classifier that looks at the observation.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from degrade.imagefile import contents
from invert.solve import Classifier

from .files import Source
from .foreign import function_of

COLUMNS = ("picture", "class")
CLASSIFIER = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True)
class Classes:
    """The value of `--class`.

    common: the class of every picture, or "module:function", a classifier. single: the class of
    each picture, by its path within the folder that was given, such as "birds/01.png". file: where
    `single` was read, for messages.
    """

    common: int | str | None = None
    single: Mapping[str, int] = field(default_factory=dict)
    file: str = ""

    @staticmethod
    def read(text: str | None) -> Classes:
        """Read "7", the name of a classifier, or of a CSV file. Raises ValueError otherwise."""
        if text is None:
            return Classes()
        if text.isdecimal():
            return Classes(common=int(text))
        path = Path(text)
        if not path.is_file() and CLASSIFIER.fullmatch(text):
            function_of(text, "class")
            return Classes(common=text)
        if not path.is_file():
            raise ValueError(
                f"class={text!r} is no class and no file; give a number, a CSV file with the "
                "columns picture and class, or module:function of a classifier"
            )
        return Classes(single=_rows(path), file=text)

    @property
    def given(self) -> bool:
        """Whether there is any class."""
        return self.common is not None or bool(self.single)

    def refuse_without(self, c_dim: int) -> None:
        """Raise ValueError if there is a class, and the prior has none (c_dim is 0)."""
        if self.given and not c_dim:
            raise ValueError("--class: this prior has no classes; leave it out")

    def of(self, source: Source) -> int | str | None:
        """The class of a picture, or the name of the classifier that finds it.

        Raises ValueError for a picture without a line in the file.
        """
        if not self.single:
            return self.common
        name = source.relative.as_posix()
        if name not in self.single:
            raise ValueError(f"class={self.file} has no line for {name}; add one")
        return self.single[name]


NO_CLASSES = Classes()


def label_of(value: int | str | None) -> int | Classifier | None:
    """A value of `Classes.of` as `invert.restore` takes it."""
    return function_of(value, "class") if isinstance(value, str) else value


def labels_of(values: list[int | str]) -> list[int | str] | Classifier:
    """The same for a batch, which has one classifier, or a class for each picture."""
    first = values[0]
    return function_of(first, "class") if isinstance(first, str) else values


def _rows(path: Path) -> dict[str, int]:
    """The lines of a CSV file. Raises ValueError for a file of another kind."""
    text = contents(path).decode("utf-8-sig", errors="replace")
    lines = io.StringIO(text, newline=None)  # any kind of line endings
    reader = csv.DictReader(lines, skipinitialspace=True)
    classes: dict[str, int] = {}
    try:
        columns = reader.fieldnames or ()
        if not set(COLUMNS) <= set(columns):
            names = " and ".join(COLUMNS)
            raise ValueError(f"class={path} has no columns {names}; begin it with them")
        for row in reader:
            where = f"class={path}, line {reader.line_num}"
            value = (row["class"] or "").strip()
            if not value.isdecimal():
                raise ValueError(f"{where}: {value!r} is no class; give a number")
            name = (row["picture"] or "").strip()
            number = int(value)
            if classes.setdefault(name, number) != number:
                raise ValueError(f"{where}: {name} has two classes; remove one line")
    except csv.Error as error:
        raise ValueError(f"class={path} is no CSV file: {error}; save it anew") from error
    if not classes:
        raise ValueError(f"class={path} has no lines; add one for each picture")
    return classes
