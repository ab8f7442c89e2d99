"""What must never be in the tree: code that runs what a file says."""

import ast
import shutil
from pathlib import Path

import pytest

import invert
from invert import bundled

ROOT = Path(__file__).parent.parent
SHIPPED = "degrade", "invert", "pipelines", "docs", "examples"
SOURCES = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
RUNS_WHAT_IT_IS_GIVEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "dill.load",
    "dill.loads",
    "yaml.load",
    "torch.hub.load",
    "pandas.read_pickle",
}


def calls(path):
    """(full name, keywords) of every call in a file, whatever the imports call it there."""
    tree, known = ast.parse(path.read_text(encoding="utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, *rest = ast.unparse(node.func).split(".")
            yield (
                ".".join([known.get(first, first), *rest]),
                {k.arg: ast.unparse(k.value) for k in node.keywords},
            )


def offences(path):
    for name, keywords in calls(path):
        if name in RUNS_WHAT_IT_IS_GIVEN:
            yield name
        if name == "torch.load" and keywords.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if (
            name == "torch.jit.load" and path.name != "identity.py"
        ):  # embeddings are trusted, see SECURITY.md
            yield name
        if name == "numpy.load" and keywords.get("allow_pickle", "False") != "False":
            yield "numpy.load with allow_pickle"
        if keywords.get("shell", "False") != "False":
            yield "a shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_never_executes_file_contents(path):
    assert not list(offences(path))


def test_safety_check_finds_every_offence(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import torch, numpy as n, subprocess\nfrom pickle import loads as read\n"
        "from torch import load\nload('x')\ntorch.load('y', weights_only=True)\n"
        "print(eval('1'))\nread(b'')\ntorch.jit.load('z')\n"
        "n.load('a', allow_pickle=True)\nn.load('b')\nsubprocess.run('c', shell=1)\n"
    )
    assert sorted(offences(bad)) == [
        "a shell",
        "eval",
        "numpy.load with allow_pickle",
        "pickle.loads",
        "torch.jit.load",
        "torch.load without weights_only=True",
    ]


def test_bundled_weights_reject_changed_file(tmp_path, monkeypatch):
    folder = Path(bundled.__file__).parent / "weights"
    shutil.copy(folder / "avatars-128.safetensors", tmp_path / "keep")
    changed = bytearray((tmp_path / "keep").read_bytes())
    changed[-1] ^= 1  # one bit of a weight
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "avatars-128.safetensors").write_bytes(changed)
    bundled.bundled.cache_clear()
    monkeypatch.setattr(bundled, "__file__", str(tmp_path / "bundled.py"))
    with pytest.raises(ValueError, match="is not the file that comes with degrade"):
        invert.load_generator("avatars-128")
    bundled.bundled.cache_clear()
