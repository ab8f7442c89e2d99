"""What the pages show, runs."""

import re
from pathlib import Path

import pytest

from degrade.registry import REGISTRY

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/index.md",
    "docs/jpeg.md",
    "docs/photos.md",
    "docs/consistency.md",
    "docs/forensics.md",
]


def snippets():
    for page in PAGES:
        for number, code in enumerate(
            re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S), 1
        ):
            yield pytest.param(page, code, id=f"{page}-{number}")


@pytest.mark.parametrize(("page", "code"), list(snippets()))
def test_a_snippet_runs(page, code, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delitem(
        REGISTRY, "fade", raising=False
    )  # which the README registers, and others do
    try:
        exec(compile(code, page, "exec"), {"__name__": "snippet"})
    finally:
        REGISTRY.pop("fade", None)
