"""What pyproject.toml declares agrees with the files that pin versions."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def pinned(path):
    """The lines `name==version` of a constraints file, as pairs."""
    text = (ROOT / "requirements" / path).read_text(encoding="utf-8")
    return re.findall(r"^([\w-]+)==([\w.]+)", text, re.M)


def test_lowest_pins_equal_the_declared_floors():
    floors = dict(re.findall(r'"([\w-]+)>=([\w.]+)', PROJECT))
    for name, version in pinned("lowest.txt"):
        assert (version + ".0.0").startswith(floors[name] + "."), name


def test_lock_holds_every_declared_tool():
    exact = re.findall(r'"([\w-]+)==([\w.]+)"', PROJECT)
    assert exact
    assert set(exact) <= set(pinned("dev.lock"))


def test_pin_files_name_no_host_and_no_path():
    for path in (ROOT / "requirements").iterdir():
        text = path.read_text(encoding="utf-8")
        assert "://" not in text and "@" not in text


def test_nox_runs_every_declared_python():
    declared = re.findall(r"Python :: (3\.\d+)", PROJECT)
    listed = re.search(r"PYTHONS = \[(.*)\]", (ROOT / "noxfile.py").read_text(encoding="utf-8"))[1]
    assert re.findall(r"3\.\d+", listed) == declared
