"""What the page shows of a chain, and the component that edits a parameter."""

from __future__ import annotations

import html
import threading
from typing import Any

import gradio as gr

from . import cards as chains
from . import exports
from .cards import Cards, Control
from .workspace import Picture, Workspace

# The texts to copy, in the order of `look`, and the language by which each is coloured.
EXPORTS = {"shell": "shell", "text": None, "Python": "python", "JSON": "json"}


_TURN = threading.Lock()  # events come at the same time, and write the same files


def problem_text(error: Exception | str) -> str:
    """An error as HTML, in one line."""
    return html.escape(str(error))


def look(workspace: Workspace, picture: Picture, cards: Cards, seed: float) -> list[Any]:
    """What the page shows of a chain; if it cannot be applied, the error beside what was shown."""
    seed = int(seed or 0)
    try:
        with _TURN:
            shown = workspace.apply(picture, cards, seed)
    except ValueError as error:
        return refused(error)
    operator = chains.operator_of(cards)
    return [
        "",
        (str(shown.before), str(shown.after)),
        html.escape(shown.words),
        *map(str, (shown.after, shown.manifest, shown.before)),
        exports.shell(operator, picture.name, seed),
        str(operator),
        exports.python(operator, picture.name, seed),
        exports.as_json(operator),
    ]


def refused(error: Exception) -> list[Any]:
    """An error in the place of a view that stays as it is."""
    others = 5 + len(EXPORTS)  # the outputs of `look` besides the error
    return [problem_text(error), *[gr.skip()] * others]


def component(control: Control, value: Any, label: str = "") -> Any:
    """The component that edits a parameter, or one end of its range."""
    words = f"{control.name} {label}".strip()
    # Gradio cannot tell of components that are drawn later that they are edited
    common = {"label": words, "info": control.hint or None, "interactive": True}
    if control.shape == "slider":
        return gr.Slider(control.low, control.high, value, step=control.step, **common)
    if control.shape == "number":
        return gr.Number(value, minimum=control.low, maximum=control.high, **common)
    if control.shape == "choice":
        return gr.Dropdown(list(control.choices), value=value, **common)
    if control.shape == "flag":
        return gr.Checkbox(value, **common)
    return gr.Textbox(value, **common)
