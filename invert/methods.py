"""All methods by name, and the one that a name or an object stands for."""

from __future__ import annotations

from .calibrated import CALIBRATED
from .ddrm import DDRM
from .method import RestorationMethod
from .pnp import PlugAndPlay
from .published_samplers import SAMPLERS
from .published_searches import SEARCHES

METHODS: dict[str, RestorationMethod] = {
    **SEARCHES,
    "calibrated": CALIBRATED,
    "ddrm": DDRM(),
    "ddrm-linear": DDRM(
        assumes_linear=True, departures="no classifier guidance; stages that are not linear ignored"
    ),
    **SAMPLERS,
    "pnp": PlugAndPlay(),
}

DEFAULT_METHODS = {"generator": "calibrated", "denoiser": "pnp"}  # by the kind of prior


def method_of(method: str | RestorationMethod, steps: int | None = None) -> RestorationMethod:
    """Look up a method by name, and shorten it to `steps` in all (None: as published)."""
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")
        method = METHODS[method]
    if not isinstance(method, RestorationMethod):
        raise ValueError(f"method={method!r} must be a Method, or one of {', '.join(METHODS)}")
    if steps is None:
        return method
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps={steps!r} must be an integer ≥ 0")
    return method.with_steps(steps)
