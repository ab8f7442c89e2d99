"""What the server of `processes` imports, so that no run has to."""

from importlib import import_module

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
