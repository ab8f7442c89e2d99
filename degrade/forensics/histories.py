"""The likeliest history of a file as a chain of operators, and other histories nearly as likely."""

from __future__ import annotations

from dataclasses import dataclass

from ..choice import Identity
from ..geometry import Turn
from ..operator import Operator, compose
from .evidence import Evidence

_NEAR = 0.2  # an alternative is at least this likely, relative to the likeliest history
_MOST_ALTERNATIVES = 2


@dataclass(frozen=True)
class Alternative:
    """Another history of the same file, which differs from the likeliest one in one stage.

    likelihood: relative to the likeliest history, from 0.2 to 1; a rough number, since it takes the
    confidence of a finding as its probability. stage: the one that differs. added: whether this
    history has the stage, or lacks it. kind: of the stage; "enlargement", "noise" or "jpeg".
    """

    operator: Operator
    likelihood: float
    stage: str
    added: bool
    kind: str


def alternatives_of(
    evidence: list[Evidence], likeliest: Operator, turn: Turn | None
) -> tuple[Alternative, ...]:
    """The histories that decide on one uncertain piece of the evidence differently."""
    alternatives = []
    for doubtful in evidence:
        if doubtful.stage is None or doubtful.odds < _NEAR:
            continue
        pieces = []
        for piece in evidence:
            is_included = piece.reported
            if piece is doubtful:
                is_included = not piece.reported
            if is_included:
                pieces.append(piece)
        operator = chain_of(pieces, turn)
        if operator == likeliest:
            continue
        alternative = Alternative(
            operator=operator,
            likelihood=round(doubtful.odds, 3),
            stage=doubtful.finding.stage,
            added=not doubtful.reported,
            kind=doubtful.kind,
        )
        alternatives.append(alternative)
    alternatives.sort(key=lambda alternative: -alternative.likelihood)
    return tuple(alternatives[:_MOST_ALTERNATIVES])


def chain_of(evidence: list[Evidence], turn: Turn | None) -> Operator:
    """Chain the stages in order. A picture that was saved on its side is turned and turned back."""
    stages: list[Operator] = []
    for piece in evidence:
        if piece.stage is not None:
            stages.extend(piece.stage)
    if not stages:
        return Identity()
    if turn is not None:
        stages = [*turn.inverse, *stages, *turn]
    return compose(stages)
