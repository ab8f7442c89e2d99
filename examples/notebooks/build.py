"""Make the notebooks of this folder from the scripts in examples/, and execute them.

    pip install 'degrade[notebooks]'
    python examples/notebooks/build.py [NAME ...]

A notebook needs nothing but its file: it installs degrade where it is missing, and holds the
pictures that its script reads. The script's docstring becomes its title and text, each top-level
statement a part of a cell, and the body of `main` the last cells, split at its blank lines.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EXAMPLES = HERE.parent
# The scripts that become notebooks, and the pictures that each of them reads
PICTURES = {
    "compose_and_restore": ("000",),
    "own_operator": ("012",),
    "own_method": ("003",),
    "blind_training_pairs": ("000", "001", "002", "003", "004"),
    "jpeg_in_training": ("000", "001", "002", "003"),
}
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
COLAB = "https://colab.research.google.com/"
ABOUT = """\
{badge}({colab}) Colab asks for a notebook: choose *Upload*, and give
it this file. It needs no other.

This notebook is made from `examples/{name}.py` by `examples/notebooks/build.py`."""
INSTALL = """\
# Installs degrade where it is missing, as on Colab. SOURCE may also be a wheel or a git address.
import importlib.util
import subprocess
import sys

SOURCE = "degrade"
if importlib.util.find_spec("degrade") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", SOURCE], check=True)"""
UNPACK = """\
# The pictures of this example, written to the folder avatars.
from pathlib import Path

Path("avatars").mkdir(exist_ok=True)
PNG = {{
{lines}
}}
for name, content in PNG.items():
    Path("avatars", f"{{name}}.png").write_bytes(bytes.fromhex(content))"""
SHOW = """\
from PIL import Image

Image.open(path)"""


def cells(name: str) -> list[tuple[str, str]]:
    """The cells of a notebook: their kind, "markdown" or "code", and their text."""
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    title, *paragraphs = (ast.get_docstring(tree) or "").split("\n\n")
    about = ABOUT.format(badge=BADGE, colab=COLAB, name=name)
    text = [f"# {title.rstrip('.')}", about]
    text += [words for words in paragraphs if not words.startswith("    ")]
    made = [("markdown", "\n\n".join(text)), ("code", INSTALL), ("code", _unpack(PICTURES[name]))]
    main, statements = None, tree.body[1:]  # without the docstring
    for statement in statements:
        if isinstance(statement, ast.FunctionDef) and statement.name == "main":
            main = statement
    assert main is not None, f"{name}.py has no main"
    before = [statement for statement in statements if statement.lineno < main.lineno]
    made += [("code", code) for code in _top_level(lines, before)]
    made += [("code", code) for code in _body(lines, main)]
    if main.args.args:  # it writes a picture
        made.append(("code", SHOW))
    return made


def _unpack(names: tuple[str, ...]) -> str:
    entries = []
    for name in names:
        content = (EXAMPLES / "avatars" / f"{name}.png").read_bytes()
        entries.append(f'    "{name}": "{content.hex()}",')
    return UNPACK.format(lines="\n".join(entries))


def _top_level(lines: list[str], statements: list[ast.stmt]) -> Iterator[str]:
    """The imports and constants in one cell, then a cell for each function and class."""
    imports = []
    constants = []
    definitions = []
    for statement in statements:
        code = _source(lines, statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.append(code)
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            definitions.append(code)
        else:
            constants.append(code)
    yield "\n".join(imports)
    yield "\n".join(constants).replace("Path(__file__).parent", "Path()")
    yield from definitions


def _source(lines: list[str], statement: ast.stmt) -> str:
    first = statement.lineno
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.decorator_list:
        first = statement.decorator_list[0].lineno
    return "\n".join(lines[first - 1 : statement.end_lineno])


def _body(lines: list[str], main: ast.FunctionDef) -> Iterator[str]:
    """The body of `main` at the top level, a cell for each paragraph."""
    for argument, value in zip(main.args.args, main.args.defaults, strict=True):
        yield f"{argument.arg} = {ast.unparse(value)}"
    indented = lines[main.body[0].lineno - 1 : main.end_lineno]
    text = "\n".join(line.removeprefix("    ") for line in indented)
    yield from text.split("\n\n")


def notebook(name: str) -> Any:
    """The notebook of a script, not executed."""
    import nbformat.v4

    made = []
    for number, (kind, text) in enumerate(cells(name)):
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        made.append(make(text, id=f"{name[:40]}-{number}"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})


def build(name: str, folder: Path) -> Path:
    """Execute the notebook of a script in a folder, and write it with its outputs beside this."""
    import nbclient
    import nbformat

    made = notebook(name)
    nbclient.NotebookClient(made, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # the times of execution differ from run to run
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)  # Pillow gives a JPEG of it, too
    nbformat.validate(made)
    path = HERE / f"{name}.ipynb"
    nbformat.write(made, path)
    return path


def main() -> None:
    import tempfile

    for name in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            print(build(name, Path(folder)))


if __name__ == "__main__":
    main()
