"""Apply a function to the stages of a chain, one after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .images import WrongOutput
from .transforms import NO_FORWARD_MODE, asks_for_forward_mode

if TYPE_CHECKING:
    from .operator import Operator

State = TypeVar("State")

_LONGEST = 120  # characters of a stage that an error quotes


def through_stages(
    f: Operator, state: State, step: Callable[[Operator, State, str], State]
) -> State:
    """Apply state = step(stage, state, key) for each stage of f, and return the last state.

    key: the name of the stage and the number of earlier stages with this name. A ValueError gets
    the stage's position and text in front of its message; any other error gets them as a note.
    """
    occurred: Counter[str] = Counter()
    for index, stage in enumerate(f.stages):
        key = f"{stage.name}/{occurred[stage.name]}"
        try:
            state = step(stage, state, key)
        except ValueError as error:
            error_type = WrongOutput if isinstance(error, WrongOutput) else ValueError
            raise error_type(f"{_quoted(f, index)}: {error}") from error
        except (Exception, SystemExit) as error:  # an operator of one's own may raise anything
            if asks_for_forward_mode(error):
                raise ValueError(f"{_quoted(f, index)}: {NO_FORWARD_MODE}") from error
            # what add_note does, which Python 3.10 lacks
            notes = getattr(error, "__notes__", [])
            error.__notes__ = [*notes, _quoted(f, index)]
            raise
        occurred[stage.name] += 1
    return state


def _quoted(f: Operator, index: int) -> str:
    """A stage as an error quotes it: its position in a chain, and its text or the start of it."""
    text = str(f.stages[index])
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    if len(f.stages) == 1:
        return text
    return f"stage {index + 1}, {text}"
