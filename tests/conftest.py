"""Settings and fixtures for all tests.

A run of the whole suite uses a worker process per core; a selection of files or `-k` runs in
the process that was started, where a debugger works. `-n 4` or `-n 0` says otherwise. Slow tests
run with `-m slow`, or if the command has the id of a test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

# Workers would compete for cores with the threads of torch, and a process that is forked after such
# threads have run waits for them forever; so each computes with one thread, whatever the caller has
# set. This must be set before torch and numpy are imported; processes that tests start inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:  # the process that starts the workers would import torch for nothing
    import torch

# Multiplies the number of random cases and of killed runs. `.ci/run` repeats the laws with 8.
EFFORT = int(os.environ.get("DEGRADE_EFFORT", "1"))

AVATARS = Path(__file__).parent.parent / "examples" / "avatars"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """The number of workers for `-n auto`: 0 for a selection, None for one per core."""
    selected_by_path = config.args_source is pytest.Config.ArgsSource.ARGS
    selected_by_name = config.option.keyword
    if selected_by_path or selected_by_name:
        return 0
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests, unless the command has `-m` or the id of a test."""
    named_by_id = any("::" in argument for argument in config.args)
    if config.option.markexpr or named_by_id:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in slow]
    config.hook.pytest_deselected(items=slow)


def slow_except(quick: Container, values: Iterable) -> list:
    """The values as parameters of a test; all but the quick ones have the marker slow."""
    slow = [pytest.mark.slow]
    return [pytest.param(value, marks=() if value in quick else slow) for value in values]


def cases(count: int) -> settings:
    """Hypothesis settings with `count` examples, times the effort."""
    return settings(max_examples=count * EFFORT)


# The same cases on every run, so that a failure can be repeated.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=25 * EFFORT,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def rng(seed: int = 0) -> torch.Generator:
    """A CPU generator with this seed."""
    import torch

    return torch.Generator().manual_seed(seed)


def picture(index: int) -> torch.Tensor:
    """An avatar of examples/avatars, [1, 3, 128, 128] in [0, 1]."""
    import numpy
    import torch
    from PIL import Image

    with Image.open(AVATARS / f"{index:03}.png") as image:
        pixels = numpy.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def empty_caches(*packages: str) -> None:
    """Empty the caches of all modules of these packages, as in a new process."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages:
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


@pytest.fixture(scope="module")
def model_of_jpeg():
    """JPEG by its model alone: Pillow, which the tests compare it with, takes no part in it."""
    from degrade.jpeg import pillow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow, "files", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def model_of_resize():
    """Pillow's resize by its model alone: Pillow, which the tests compare it with, has no part."""
    from degrade import pillow_library

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pillow_library, "levels_of", lambda x: None)
        yield


@pytest.fixture(scope="session")
def avatars():
    """The bundled generator."""
    import invert

    return invert.load_generator("avatars-128")
