"""An enlargement of the whole picture, by the pattern of its lines."""

from __future__ import annotations

from torch import Tensor

from ..resample import Resize
from .evidence import Evidence, Finding, confidence_of
from .lattice import lattice
from .view import View

_LEAST_FACTOR = 1.3  # smaller enlargements are not reported
_FEW_LINES = 160  # pixels: on a shorter side, the edges of a drawing line up by chance


def enlargement_evidence(view: View, size: tuple[int, int], compressed: bool) -> list[Evidence]:
    """Find an enlargement of the whole picture of `size`, by the pattern of its lines."""
    if _repeats_lines(view.luma):
        why = "lines of pixels are repeated: enlarged by nearest, or drawn so"
        finding = Finding("", 1.0, why)
        return [Evidence(None, finding)]
    estimate = lattice(view.luma, compressed)
    if estimate is None or estimate.factor < _LEAST_FACTOR:
        return []
    clear_contrast, clear_margin = 0.1, 3.2
    if compressed or min(size) < _FEW_LINES:
        clear_contrast, clear_margin = 0.25, 4
    if estimate.contrast < clear_contrast / 2:
        return []
    if estimate.margin < clear_margin / 2:
        return []
    is_clear = estimate.contrast >= clear_contrast and estimate.margin >= clear_margin
    factor = f"{estimate.factor:.2f}"
    confidence = confidence_of(estimate.margin, 3)
    height, width = size
    small_height = max(1, round(height / estimate.factor))
    small_width = max(1, round(width / estimate.factor))
    try:
        chain = Resize((small_height, small_width)) >> Resize(size, filter=estimate.filter)
    except ValueError as error:  # Resize limits the number of pixels
        finding = Finding("", confidence, f"enlarged by {factor}, but {error}")
        return [Evidence(None, finding, is_clear)]
    why = f"its lines lie near those enlarged by {factor}, at one phase of the small grid only"
    finding = Finding(str(chain), confidence, why)
    return [Evidence(chain, finding, is_clear, "enlargement")]


def _repeats_lines(luma: Tensor) -> bool:
    """Whether, in both directions, at least a fifth of the lines equal the line before them.

    Lines that are almost constant do not count.
    """
    return _repeats_rows(luma) and _repeats_rows(luma.T)


def _repeats_rows(plane: Tensor) -> bool:
    """Whether at least a fifth of the rows equal the row before them."""
    variance = plane.var(1, correction=0)
    rows = plane[variance > 1]
    if len(rows) < 16:
        return False
    steps = rows.diff(dim=0)
    is_repeated = (steps == 0).all(1)
    share = is_repeated.double().mean()
    return float(share) >= 0.2
