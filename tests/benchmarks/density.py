"""Measure how dense the code is to read: `python tests/benchmarks/density.py [FILE or FOLDER …]`.

It prints, for each folder: code lines, tokens per code line (mean and 90th percentile),
comprehensions per 100 code lines, the widest line, and how many lines opt out of formatting.
A code line holds at least one token that is neither a comment nor part of a docstring.
"""

from __future__ import annotations

import ast
import statistics
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("degrade", "invert", "pipelines")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass
class Density:
    """Counts over one or several files."""

    tokens_per_line: list[int] = field(default_factory=list)
    comprehensions: int = 0
    unformatted: int = 0
    widest: int = 0

    def add(self, path: Path) -> None:
        """Count the lines and tokens of one Python file."""
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        in_docstring = docstring_lines(tree)
        tokens: Counter[int] = Counter()
        with tokenize.open(path) as lines:
            for token in tokenize.generate_tokens(lines.readline):
                if token.type not in LAYOUT and token.start[0] not in in_docstring:
                    tokens[token.start[0]] += 1
        self.tokens_per_line.extend(tokens.values())
        self.comprehensions += sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(tree))
        self.unformatted += source.count("# fmt: ")
        self.widest = max([self.widest, *map(len, source.splitlines())])

    def __str__(self) -> str:
        lines = len(self.tokens_per_line)
        if lines == 0:
            return f"{lines:6} {'no code':>6}"
        mean = statistics.fmean(self.tokens_per_line)
        highest_tenth = self.tokens_per_line[0]
        if lines > 1:
            highest_tenth = statistics.quantiles(self.tokens_per_line, n=10)[-1]
        share = 100 * self.comprehensions / lines
        return (
            f"{lines:6} {mean:6.1f} {highest_tenth:5.0f} {share:8.1f} "
            f"{self.widest:7} {self.unformatted:5}"
        )


def docstring_lines(tree: ast.Module) -> set[int]:
    """The numbers of all lines that belong to docstrings."""
    numbers: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            numbers.update(range(docstring.lineno, docstring.end_lineno + 1))
    return numbers


def measure(path: Path) -> Density:
    """The density of a file, or of all Python files in a folder."""
    density = Density()
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        if file.stat().st_size:
            density.add(file)
    return density


def main() -> None:
    paths = [Path(argument) for argument in sys.argv[1:] or PACKAGES]
    print(f"{'':32} {'lines':>6} {'mean':>6} {'p90':>5} {'compr.':>8} {'widest':>7} {'skip':>5}")
    for path in paths:
        print(f"{str(path):32} {measure(path)}")
    if len(paths) > 1:
        total = Density()
        for path in paths:
            part = measure(path)
            total.tokens_per_line += part.tokens_per_line
            total.comprehensions += part.comprehensions
            total.unformatted += part.unformatted
            total.widest = max(total.widest, part.widest)
        print(f"{'all':32} {total}")


if __name__ == "__main__":
    main()
