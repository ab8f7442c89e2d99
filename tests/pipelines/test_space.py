"""The Space of huggingface.co in examples/space serves the studio."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

SPACE = Path(__file__).parents[2] / "examples" / "space"
PROJECT = SPACE.parents[1] / "pyproject.toml"


def settings():
    """The Space's settings, above its README."""
    _, front, _ = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return dict(line.split(": ", 1) for line in front.splitlines())


def test_space_asks_for_files_and_versions_that_exist():
    declared = settings()
    assert declared["sdk"] == "gradio"
    assert (SPACE / declared["app_file"]).is_file()
    assert (SPACE / "requirements.txt").read_text(encoding="utf-8") == "degrade[studio]\n"
    project = PROJECT.read_text(encoding="utf-8")
    lowest, highest = re.search(r'studio = \["gradio>=([\d.]+),<(\d+)"\]', project).groups()
    version = declared["sdk_version"]
    numbers = [int(part) for part in version.split(".")]
    assert numbers[:2] >= [int(part) for part in lowest.split(".")]
    assert numbers[0] < int(highest)
    python = declared["python_version"].strip('"')
    assert f"Python :: {python}" in project


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="missing: gradio")
def test_space_serves_the_studio(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"PORT": str(port), "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(SPACE.parents[1])
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=SPACE, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert "degrade studio is at" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
            page = response.read().decode()
        assert response.status == 200 and "degrade studio" in page
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
