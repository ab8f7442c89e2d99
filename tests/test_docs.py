"""The Python snippets of the pages run, each page from its first snippet to its last."""

import importlib.util
import re
from functools import partial
from pathlib import Path

import pytest

import degrade
import invert
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
    "docs/howto.md",
    "docs/questions.md",
]
SNIPPET = re.compile(r"```python\n(.*?)```", re.S)


def snippets_of(page: str) -> list[str]:
    return SNIPPET.findall((ROOT / page).read_text("utf-8"))


def restore_briefly(restore, *arguments, **options):
    """The first two steps of a restoration, whatever it asks for."""
    return restore(*arguments, **options | {"steps": 2})


@pytest.mark.parametrize("page", PAGES)
def test_snippets_of_page_run(page, monkeypatch):
    """Later snippets may use the names of earlier ones, as a reader would."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(invert, "restore", partial(restore_briefly, invert.restore))
    # The README registers this name, and so do other tests.
    monkeypatch.delitem(REGISTRY, "fade", raising=False)
    registered = dict(REGISTRY)
    names = {"__name__": "snippet"}
    try:
        for number, code in enumerate(snippets_of(page), 1):
            exec(compile(code, f"{page}, snippet {number}", "exec"), names)
    finally:
        REGISTRY.clear()
        REGISTRY.update(registered)


@pytest.mark.parametrize("overview", ["README.md", "llms.txt", "docs/index.md", "mkdocs.yml"])
def test_overview_names_every_page(overview):
    text = (ROOT / overview).read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "index.md":
            assert page.name in text, f"{overview} does not link {page.name}"


def test_page_of_names_has_texts_that_parse():
    rows = re.findall(r"^\|.*\| `(.*)` \|$", (ROOT / "docs" / "names.md").read_text("utf-8"), re.M)
    assert len(rows) > 50
    for row in rows:
        degrade.parse(row.replace("\\|", "|"))


def explore():
    """docs/explore.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("explore", ROOT / "docs" / "explore.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_operators_page_has_the_table_of_declarations():
    """`python docs/explore.py` writes it."""
    page = (ROOT / "docs" / "operators.md").read_text("utf-8")
    assert page.endswith(explore().table())


def test_explore_page_of_each_operator_shows_its_declaration():
    pages = explore()
    for name in pages.names():
        assert len(pages.strengths(name)) == 5
        page = pages.page(name)
        for parameter in REGISTRY[name].kinds:
            assert f"| `{parameter}` |" in page
        assert REGISTRY[name].gradient in page
        _, meanings = pages.docstring(name)
        assert all(meanings[parameter] for parameter in REGISTRY[name].kinds), name
        has_no_text = name in ("frost", "mask")  # their pixels are parameters
        assert ("`degrade studio --op " in page) != has_no_text
    assert '`degrade.pipelines["imagenet-c/fog/1 … 5"]`' in pages.page("fog")
    assert "tests/test_imagenet_c.py::test_imagenet_c_fog_equals_its_code" in pages.page("fog")
    assert pages.picture("glass") == pages.picture("glass")
    _, of_turn = pages.docstring("turn")
    assert of_turn["mirror"].startswith("0 or 1")
    _, of_shuffle = pages.docstring("shuffle")
    assert of_shuffle["operators"] == "what stands in the parentheses"
