"""Imports go one way. The architecture and API pages name every file and public name."""

import ast
import re
import subprocess
import sys
from dataclasses import fields
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import degrade
import invert

ROOT = Path(__file__).parent.parent
# The packages that each package must not import.
FORBIDDEN = {"degrade": {"invert", "pipelines"}, "invert": {"pipelines"}, "pipelines": set()}
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in FORBIDDEN}
# What `degrade.operator` offers and these define. They name its class in their types only.
PARTS_OF_OPERATOR = ("declared", "knowledge", "linearity", "locality", "movement", "stages")
SLOW_LIBRARIES = (
    "torchvision",
    "lpips",
    "kornia",
    "PIL",
    "pipelines",
    "torchmetrics",
    "ray",
    "optuna",
    "onnxruntime",
)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def imports(source: str) -> set[str]:
    """The top-level packages that a file imports, also inside functions.

    Relative imports stay in their own package and are left out.
    """
    packages = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            packages.add(node.module.split(".")[0])
    return packages


def files_in_table(package: str) -> set[str]:
    """The files that docs/architecture.md lists under a package."""
    page = read("docs/architecture.md")
    section = re.search(rf"^### {package}/\n(.*?)(?=^### |\Z)", page, re.M | re.S)
    return set(re.findall(r"^\| `([\w/]+\.py)` \|", section[1], re.M))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_never_go_upward(package):
    assert FILES[package]
    for path in FILES[package]:
        imported = imports(path.read_text(encoding="utf-8"))
        assert not FORBIDDEN[package] & imported, path


def module_graph(package: str) -> dict[str, set[str]]:
    """For each module of a package, the modules of it that it imports when it is imported itself.

    An import for the type checker counts, too; an import inside a function does not.
    """
    modules = {}
    for path in FILES[package]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = (path, parts[:-1])
    graph = {}
    for name, (path, folder) in modules.items():
        statements = []
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            statements += statement.body if isinstance(statement, ast.If) else [statement]
        graph[name] = set()
        for statement in statements:
            if not isinstance(statement, ast.ImportFrom) or not statement.level:
                continue
            above = folder[: len(folder) - statement.level + 1]
            source = ".".join([*above, *filter(None, [statement.module])])
            for alias in statement.names:
                part = f"{source}.{alias.name}"
                graph[name].add(part if part in modules else source)
    return graph


@pytest.mark.parametrize("package", FORBIDDEN)
def test_modules_do_not_import_each_other(package):
    graph = module_graph(package)
    if package == "degrade":
        for part in PARTS_OF_OPERATOR:
            graph[f"degrade.{part}"].remove("degrade.operator")
    assert len(graph) == len(FILES[package]) and any(graph.values())
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_imports_are_found_in_every_form():
    source = "import a.b as c, torch\ndef f():\n    from invert.loss import L1\nfrom .d import e\n"
    assert imports(source) == {"a", "invert", "torch"}


def test_imports_load_no_slow_library():
    """First of degrade, then of invert; tests/pipelines/test_cli checks the same of the command."""
    code = (
        "import sys, degrade\n"
        f"print(*({{'invert', *{SLOW_LIBRARIES}}} & set(sys.modules)))\n"
        "import invert\n"
        f"print(*(set({SLOW_LIBRARIES}) & set(sys.modules)))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout == "\n\n"


@pytest.mark.parametrize("package", FORBIDDEN)
def test_architecture_page_lists_every_file(package):
    """Files whose names begin with an underscore may be left out."""
    existing = {path.relative_to(ROOT / package).as_posix() for path in FILES[package]}
    required = {path for path in existing if not Path(path).name.startswith("_")}
    listed = files_in_table(package)
    assert required <= listed
    assert listed <= existing


@pytest.mark.parametrize("package", [degrade, invert], ids=["degrade", "invert"])
def test_api_page_shows_every_public_name(package):
    page = read(f"docs/api/{package.__name__}.md")
    directives = re.findall(rf"^::: ({package.__name__}[\w.]*)$", page, re.M)
    generated = {path.split(".")[-1] for path in directives}
    written_by_hand = set(re.findall(r"^##+ `(\w+)`", page, re.M))
    assert set(package.__all__) <= generated | written_by_hand


@pytest.mark.parametrize("cls", [invert.Restoration, invert.Step])
def test_api_page_describes_every_field(cls):
    page = read("docs/api/invert.md")
    bullets = re.search(rf"^::: invert.{cls.__name__}$\n\n((?:\* .*\n)+)", page, re.M)[1]
    described = set()
    for bullet in bullets.splitlines():
        described.update(re.findall(r"`(\w+)`", bullet.split(":")[0]))
    assert described == {field.name for field in fields(cls)}


def test_version_agrees_with_changelog_and_citation():
    assert f"\nversion: {degrade.__version__}\n" in read("CITATION.cff")
    newest = re.search(r"^## (\d\S*\d)", read("CHANGELOG.md"), re.M)[1]
    assert newest == degrade.__version__
