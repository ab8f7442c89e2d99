"""What the server of `processes` imports and reads, so that no run has to."""

from importlib import import_module

import invert

for module in (
    "lpips",
    "tests.conftest",
    "torchmetrics.functional.image",
    "pipelines.apply",
    "pipelines.bench",
    "pipelines.report",
    "pipelines.restore",
):
    import_module(module)

for net in ("alex", "vgg"):
    invert.perceptual.load(net)
