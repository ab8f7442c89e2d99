"""What MkDocs is told beyond mkdocs.yml, so that pages read the same on the site and on a code host.

Pages link to files outside docs/ by relative paths (`../examples/own_method.py`); such files join the
site: Markdown as pages, Python as pages with the code, others as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import griffe
from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parent.parent
TOP = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]  # pages of the site, whether linked to or not
UP = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")  # from a page of docs/ to a file outside
DOWN = re.compile(r"(?<=\]\()(docs/)?(?!https?:|#)([^)#\s]+)")  # from a file at the top to anything


def place(path: str) -> str:
    """Where a file outside docs/ stands on the site."""
    return f"top/{path}.md" if path.endswith(".py") else f"top/{path}"


def content(path: str) -> str | bytes:
    source = ROOT / path
    if path.endswith(".py"):
        return f"# {source.name}\n\n```python\n{source.read_text(encoding='utf-8')}```\n"
    if path.endswith(".md"):
        text = source.read_text(encoding="utf-8")
        return DOWN.sub(lambda found: f"../{found[2]}" if found[1] else place(found[2])[4:], text)
    return source.read_bytes()


def on_files(files, config):
    pages = [file.content_string for file in files if file.is_documentation_page()]
    for path in sorted({*TOP, *(path for page in pages for path in UP.findall(page))}):
        if (ROOT / path).is_file():  # what is missing stays a broken link, and is reported as one
            level = InclusionLevel.INCLUDED if path in TOP else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, place(path), content=content(path), inclusion=level))
    return files


def on_page_markdown(markdown, page, config, files):
    if page.file.src_uri.startswith("top/"):
        return markdown
    return UP.sub(lambda found: place(found[1]), markdown)


class Doctests(griffe.Extension):
    """Examples of a docstring as code, where Markdown would see quotations."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            lines = re.sub(r"(?m)(^>>> .*\n?(?:.+\n?)*)", lambda found: f"```pycon\n{found[1].rstrip()}\n```\n", obj.docstring.value)
            obj.docstring.value = lines
