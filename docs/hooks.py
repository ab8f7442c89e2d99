"""Hooks of MkDocs: pages read the same on the site and in the repository.

Pages link to files outside of docs/ by relative paths (`../examples/own_method.py`). The hooks add
these files to the site under top/: Markdown as pages, Python as pages with the source, others as
they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parent.parent
IN_NAV = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
UP = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")  # a link of a page in docs/ to a file outside of it
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")  # a link of a file at the top


def place(path: str) -> str:
    """Where a file outside of docs/ stands on the site."""
    return f"top/{path}.md" if path.endswith(".py") else f"top/{path}"


def content(path: str) -> str | bytes:
    if not path.endswith((".py", ".md")):
        return (ROOT / path).read_bytes()
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        return f"# {Path(path).name}\n\n```python\n{text}```\n"
    back = lambda link: link.removeprefix("docs/") if link.startswith("docs/") else place(link)  # noqa: E731
    return LINK.sub(lambda found: "../" * (path.count("/") + 1) + back(found[1]), text)


def on_files(files, config):
    """Add what the pages link to; what is missing stays a broken link, and is reported as one."""
    ours = [file for file in files.documentation_pages() if "/" not in file.src_uri]
    wanted = [*IN_NAV, *(path for file in ours for path in UP.findall(file.content_string))]
    done = set()
    while wanted:
        path = wanted.pop()
        if path in done or not (ROOT / path).is_file():
            continue
        done.add(path)
        if path.endswith(".md"):
            links = LINK.findall((ROOT / path).read_text(encoding="utf-8"))
            wanted += [link for link in links if not link.startswith("docs/")]
        level = InclusionLevel.INCLUDED if path in IN_NAV else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, place(path), content=content(path), inclusion=level))
    return files


def on_page_markdown(markdown, page, config, files):
    ours = "/" not in page.file.src_uri
    return UP.sub(lambda found: place(found[1]), markdown) if ours else markdown


class Doctests(griffe.Extension):
    """Examples in docstrings as code; Markdown would take `>>>` for quotations."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            fence = lambda found: f"```pycon\n{found[0].rstrip()}\n```\n"  # noqa: E731
            obj.docstring.value = re.sub(
                r"^>>> .*\n?(?:.+\n?)*", fence, obj.docstring.value, flags=re.M
            )
