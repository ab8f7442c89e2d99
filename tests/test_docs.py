"""The Python snippets of the pages run, each page from its first snippet to its last."""

import re
from pathlib import Path

import pytest

from degrade.registry import REGISTRY

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/jpeg.md",
    "docs/pipelines.md",
    "docs/fitting.md",
    "docs/training_pairs.md",
    "docs/integrations.md",
    "docs/photos.md",
    "docs/consistency.md",
    "docs/forensics.md",
    "docs/troubleshooting.md",
]
SNIPPET = re.compile(r"```python\n(.*?)```", re.S)


def snippets_of(page: str) -> list[str]:
    return SNIPPET.findall((ROOT / page).read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_snippets_of_page_run(page, monkeypatch):
    """Later snippets may use the names of earlier ones, as a reader would."""
    monkeypatch.chdir(ROOT)
    # The README registers this name, and so do other tests.
    monkeypatch.delitem(REGISTRY, "fade", raising=False)
    names = {"__name__": "snippet"}
    try:
        for number, code in enumerate(snippets_of(page), 1):
            exec(compile(code, f"{page}, snippet {number}", "exec"), names)
    finally:
        REGISTRY.pop("fade", None)


@pytest.mark.parametrize("overview", ["README.md", "llms.txt", "docs/index.md", "mkdocs.yml"])
def test_overview_names_every_page(overview):
    text = (ROOT / overview).read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            assert page.name in text, f"{overview} does not link {page.name}"
