"""Hooks of MkDocs: pages read the same on the site and in the repository.

Pages link to files outside of docs/ by relative paths (`../examples/own_method.py`). The hooks add
these files to the site under top/: Markdown as pages, Python as pages with the source, others as
they are. The page of each operator is made by explore.py.
"""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Iterable
from pathlib import Path

import explore  # beside this file
import griffe
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parent.parent
IN_NAV = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
# A link from a page in docs/ to a file outside of docs/.
UP = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")
# A link from a file at the top of the repository.
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")
# A name that a page of the API describes.
DESCRIBED = re.compile(r"^::: (\S+)", re.M)
API_INDEX = "api/names.md"
LISTED = InclusionLevel.INCLUDED
DOCTEST = re.compile(r"^>>> .*\n?(?:.+\n?)*", re.M)


def place(path: str) -> str:
    """Where a file outside of docs/ stands on the site."""
    return f"top/{path}.md" if path.endswith(".py") else f"top/{path}"


def is_top_page(file: File) -> bool:
    """Whether a page stands directly in docs/."""
    return "/" not in file.src_uri


def content(path: str) -> str | bytes:
    """The text of a file outside of docs/, with links that work on the site."""
    if not path.endswith((".py", ".md")):
        return (ROOT / path).read_bytes()
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        return f"# {Path(path).name}\n\n```python\n{text}```\n"
    to_root = "../" * (path.count("/") + 1)

    def on_site(link: re.Match[str]) -> str:
        target = link[1]
        if target.startswith("docs/"):
            return to_root + target.removeprefix("docs/")
        return to_root + place(target)

    return LINK.sub(on_site, text)


def on_files(files, config):
    """Add the files that pages link to.

    A link to a missing file stays as it is, so that MkDocs reports it as broken.
    """
    to_add = list(IN_NAV)
    for page in files.documentation_pages():
        if is_top_page(page):
            to_add += UP.findall(page.content_string)
    added = set()
    while to_add:
        path = to_add.pop()
        if path in added or not (ROOT / path).is_file():
            continue
        added.add(path)
        if path.endswith(".md"):
            links = LINK.findall((ROOT / path).read_text(encoding="utf-8"))
            to_add += [link for link in links if not link.startswith("docs/")]
        level = InclusionLevel.INCLUDED if path in IN_NAV else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, place(path), content=content(path), inclusion=level))
    add_explored(files, config)
    text = api_index(page.content_string for page in files.documentation_pages() if is_api(page))
    files.append(File.generated(config, API_INDEX, content=text, inclusion=LISTED))
    return files


def is_api(file: File) -> bool:
    return file.src_uri.startswith("api/")


def api_index(pages: Iterable[str]) -> str:
    """A page of all names that the API pages describe, in the order of the alphabet."""
    rows = {}
    for text in pages:
        for name in DESCRIBED.findall(text):
            documentation = inspect.getdoc(pydoc.locate(name)) or ""
            summary, *_ = documentation.splitlines() or [""]
            summary = summary.replace("|", "\\|")
            rows[name] = f"| [`{name}`][{name}] | {summary} |"
    ordered = sorted(rows, key=lambda name: name.rpartition(".")[2].lower())
    head = ["# All names", "", "| name | what it is |", "|---|---|"]
    return "\n".join([*head, *[rows[name] for name in ordered]]) + "\n"


def add_explored(files, config):
    """Add a page and a picture for each operator, made from its declaration."""
    outside = InclusionLevel.NOT_IN_NAV
    for name in explore.names():
        text = explore.page(name)
        picture = explore.picture(name)
        path = f"operators/{name}"
        files.append(File.generated(config, f"{path}.md", content=text, inclusion=outside))
        files.append(File.generated(config, f"{path}.png", content=picture))


def on_page_markdown(markdown, page, config, files):
    """Make links of pages in docs/ lead to the files that `on_files` added."""
    if not is_top_page(page.file):
        return markdown
    if page.file.src_uri == "operators.md":
        markdown = explore.with_links(markdown)
    return UP.sub(lambda link: place(link[1]), markdown)


def fenced(example: re.Match[str]) -> str:
    return f"```pycon\n{example[0].rstrip()}\n```\n"


class Doctests(griffe.Extension):
    """Marks examples in docstrings as code; Markdown would take `>>>` for quotations."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(fenced, obj.docstring.value)
