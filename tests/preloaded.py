"""What the server of `processes` imports, reads and does once, so that no run has to."""

from importlib import import_module

from typer.testing import CliRunner

import invert
from pipelines.cli import app

for module in (
    "lpips",
    "tests.conftest",
    "torchmetrics.functional.image",
    "pipelines.__main__",
    "pipelines.apply",
    "pipelines.bench",
    "pipelines.report",
    "pipelines.restore",
    "pipelines.restored",
):
    import_module(module)

for net in ("alex", "vgg"):
    invert.perceptual.load(net)

CliRunner().invoke(app, ["ops", "clamp"])  # typer imports more when it reads a command line
