"""Methods of inversion, as lists of phases."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Phase:
    """Descend in one latent space: `steps` steps of length `lr`, in units of a W with FFHQ's spread."""

    space: str
    steps: int
    lr: float


# Poirier-Ginter & Lalonde 2023, Algorithm 1, with the constants of its published code
ROBUST = (Phase("W", 150, 0.08), Phase("W+", 150, 0.02), Phase("W++", 150, 0.005))

METHODS: dict[str, tuple[Phase, ...]] = {"robust": ROBUST}


def phases_of(method: str, steps: int | None = None) -> tuple[Phase, ...]:
    """The phases of `method`, shortened in proportion to `steps` in all (None: as published)."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be one of {', '.join(METHODS)}")
    phases = METHODS[method]
    if steps is None:
        return phases
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps={steps!r} must be an integer ≥ 0")
    total, done, shortened = sum(p.steps for p in phases), 0, []
    for i in range(len(phases)):  # round where each phase *ends*, so that the sum is exact
        end = round(steps * sum(p.steps for p in phases[: i + 1]) / total)
        shortened.append(replace(phases[i], steps=end - done))
        done = end
    return tuple(shortened)
