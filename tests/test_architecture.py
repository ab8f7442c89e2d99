"""The parts and what they may know of each other, and that docs/architecture.md and the API pages name all of them."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import degrade
import invert

ROOT = Path(__file__).parent.parent
ABOVE = {"degrade": {"invert", "pipelines"}, "invert": {"pipelines"}, "pipelines": set()}
FILES = {part: sorted((ROOT / part).rglob("*.py")) for part in ABOVE}
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def imports(source: str):
    """The packages that a file imports, at its top or inside of a function; relative ones stay in their own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("part", ABOVE)
def test_nothing_imports_upward(part):
    assert FILES[part]
    for path in FILES[part]:
        assert not ABOVE[part] & set(imports(path.read_text(encoding="utf-8"))), path


def test_the_check_itself_sees_what_it_must():
    source = "import a.b as c, torch\ndef f():\n    from invert.loss import L1\nfrom .d import e\n"
    assert sorted(imports(source)) == ["a", "invert", "torch"]


def test_importing_invert_is_light():
    """Of degrade, see test_operator; of the command, tests/pipelines/test_cli."""
    heavy = "{'torchvision', 'lpips', 'kornia', 'PIL', 'pipelines', 'torchmetrics', 'ray', 'optuna', 'onnxruntime'}"
    code = f"import sys, invert; print(*{heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


@pytest.mark.parametrize("part", ABOVE)
def test_every_file_is_on_the_page_and_no_other(part):
    table = re.search(rf"^### {part}/\n(.*?)(?=^### |\Z)", PAGE, re.M | re.S)[1]
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", table, re.M))
    there = {path.relative_to(ROOT / part).as_posix() for path in FILES[part]}
    assert {path for path in there if not Path(path).name.startswith("_")} <= listed <= there


@pytest.mark.parametrize("package", [degrade, invert], ids=lambda package: package.__name__)
def test_every_public_name_is_on_its_page(package):
    page = (ROOT / "docs" / "api" / f"{package.__name__}.md").read_text(encoding="utf-8")
    shown = {
        path.split(".")[-1] for path in re.findall(rf"^::: ({package.__name__}[\w.]*)$", page, re.M)
    }
    named = set(re.findall(r"^##+ `(\w+)`", page, re.M))  # written by hand
    assert set(package.__all__) <= shown | named


@pytest.mark.parametrize("cls", [invert.Restoration, invert.Step])
def test_results_are_described_field_by_field(cls):
    page = (ROOT / "docs" / "api" / "invert.md").read_text(encoding="utf-8")
    told = re.search(rf"^::: invert.{cls.__name__}$\n\n((?:\* .*\n)+)", page, re.M)[1]
    names = {
        name for line in told.splitlines() for name in re.findall(r"`(\w+)`", line.split(":")[0])
    }
    assert names == {field.name for field in fields(cls)}


def test_version_and_changes_agree():
    said = [(ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "CHANGELOG.md")]
    assert f"\nversion: {degrade.__version__}\n" in said[0]
    assert re.search(r"^## (\d\S*\d)", said[1], re.M)[1] == degrade.__version__
