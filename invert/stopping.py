"""Early stopping: rules that end a phase of single images.

As in `optim`, the state is kept outside: `init` makes it, `update` returns the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor

from .optim import NoState

Measured = Mapping[str, Tensor]  # the values that a stop rule may read
S = TypeVar("S")  # a rule's state


class StopRule(Generic[S]):
    """Ends the phase of single images early."""

    needs: tuple[str, ...] = ()  # the terms of the loss that the rule reads

    def init(self, batch: int) -> S:
        """Return the state before the first step."""
        return {}  # type: ignore[return-value]  # a rule with another state defines init

    def update(self, measured: Measured, state: S) -> tuple[Tensor, S]:
        """Return which images stop [B], and the next state.

        measured: the value [B] of each term by its name, and of their sum as "loss".
        """
        raise NotImplementedError


class PatienceState(TypedDict):
    """The lowest loss of each image so far, and how many steps ago it was reached."""

    best: Tensor
    since: Tensor


@dataclass(frozen=True)
class Patience(StopRule[PatienceState]):
    """Stop an image whose loss has not improved for this many steps."""

    steps: int = 15

    def init(self, batch: int) -> PatienceState:
        best = torch.full((batch,), math.inf, dtype=torch.float32, device="cpu")
        return {"best": best, "since": torch.zeros_like(best)}

    def update(self, measured: Measured, state: PatienceState) -> tuple[Tensor, PatienceState]:
        loss = measured["loss"].cpu()
        improved = loss < state["best"]
        since = torch.where(improved, 0, state["since"] + 1)
        best = torch.minimum(state["best"], loss)
        stopped = since >= self.steps
        return stopped, {"best": best, "since": since}


@dataclass(frozen=True)
class Below(StopRule[NoState]):
    """Stop an image, before it is moved, once a term of its loss is at most `limit`."""

    term: str
    limit: float

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.term,)

    def update(self, measured: Measured, state: NoState) -> tuple[Tensor, NoState]:
        value = measured[self.term].cpu()
        return value <= self.limit, state
