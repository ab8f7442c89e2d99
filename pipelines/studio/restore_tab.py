"""The second tab: restores the picture of the first, and shows the image as it emerges."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from invert.methods import DEFAULT_METHODS

from ..chart import Points, chart
from . import cards as chains
from . import restoring
from .cards import Cards
from .degrade_tab import VISITORS, DegradeTab
from .restoring import Frame, Restoration, Wish
from .view import problem_text
from .workspace import Picture, Workspace

DEGRADED, ORIGINAL = "the degraded picture", "the picture as it came"
CHAIN, GUESS = "the chain of the first tab", "a guess from the file"
MOST_ANSWERS = 8
LINE = "#6366f1"  # of the curves, readable on light and dark


class RestoreTab:
    """The components of the tab, and what happens when a visitor uses them."""

    def __init__(self, degrade_tab: DegradeTab):
        self.running: dict[Path, Restoration] = {}  # by the folder of the visitor
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self._choices()
            with gr.Column(scale=3, min_width=320):
                self._results()
        chosen = [*degrade_tab.state, self.which, self.happened]
        self.start.click(
            self._restore,
            [*chosen, self.prior, self.method, self.steps, self.answers],
            [
                self.problem,
                self.emerging,
                self.words,
                self.curves,
                self.notes,
                self.gallery,
                self.sheet,
                self.save_picture,
                self.save_log,
            ],
            show_progress="hidden",
            concurrency_limit=VISITORS,  # restorations themselves wait for each other
            api_visibility="private",
        )
        self.cancel.click(
            self._cancel, degrade_tab.workspace, None, queue=False, api_visibility="private"
        )
        self.look.click(
            _inspect,
            chosen,
            [self.problem, self.facts],
            concurrency_limit=VISITORS,
            api_visibility="private",
        )
        self.prior.input(_methods, self.prior, self.method, queue=False, api_visibility="private")

    def _choices(self) -> None:
        prior = restoring.PRIORS[0]
        self.which = gr.Radio([DEGRADED, ORIGINAL], value=DEGRADED, label="restore")
        self.happened = gr.Radio([CHAIN, GUESS], value=CHAIN, label="what happened to it")
        self.prior = gr.Dropdown(
            list(restoring.PRIORS), value=prior, label="prior", elem_id="prior"
        )
        self.method = _methods(prior)
        with gr.Row():
            self.steps = gr.Number(
                0, label="steps", info="0: as published", precision=0, minimum=0, elem_id="steps"
            )
            self.answers = gr.Number(
                1,
                label="answers",
                info="more: where they differ",
                precision=0,
                minimum=1,
                maximum=MOST_ANSWERS,
                elem_id="answers",
            )
        with gr.Row():
            self.start = gr.Button("Restore", variant="primary", elem_id="restore", min_width=100)
            self.cancel = gr.Button("Cancel", variant="stop", elem_id="cancel", min_width=100)
            self.look = gr.Button("Inspect", elem_id="inspect", min_width=100)
        self.problem = gr.HTML(elem_id="restore-problem", elem_classes="problem", padding=False)
        self.facts = gr.HTML(elem_id="facts", elem_classes="facts", padding=False)

    def _results(self) -> None:
        self.emerging = gr.Image(
            label="the image",
            interactive=False,
            height=320,
            elem_id="emerging",
            buttons=["fullscreen"],
        )
        self.words = gr.HTML(elem_id="words", elem_classes="small", padding=False)
        self.notes = gr.HTML(elem_id="notes", elem_classes="small", padding=False)
        self.curves = gr.HTML(elem_id="curves", elem_classes="curves", padding=False)
        self.gallery = gr.Gallery(
            label="answers",
            columns=3,
            height="auto",
            object_fit="contain",
            interactive=False,
            visible=False,
            elem_id="gallery",
            buttons=["fullscreen"],
        )
        self.sheet = gr.Image(
            show_label=False, interactive=False, elem_id="sheet", buttons=["fullscreen"]
        )
        with gr.Row():
            self.save_picture = gr.DownloadButton("Save restored picture", elem_id="save-restored")
            self.save_log = gr.DownloadButton("Save log", elem_id="save-log")

    def _restore(
        self,
        workspace: Workspace,
        picture: Picture,
        cards: Cards,
        seed: float,
        which: str,
        happened: str,
        prior: str,
        method: str,
        steps: float | None,
        answers: float | None,
    ) -> Iterator[list[Any]]:
        try:
            observed, op = observation(workspace, picture, cards, seed, which, happened)
            count = int(answers or 1)
            wish = Wish(observed, prior, method, op, int(steps or 0) or None, answers=count)
            restoration = Restoration(wish, workspace.folder)
            self.running[workspace.folder] = restoration
            for frame in restoration.frames():
                yield ["", *_shown(frame)]
        except ValueError as error:
            yield [problem_text(error), gr.skip(), "", *[gr.skip()] * 6]
        finally:
            self.running.pop(workspace.folder, None)

    def _cancel(self, workspace: Workspace) -> None:
        restoration = self.running.get(workspace.folder)
        if restoration is not None:
            restoration.cancel()


def observation(
    workspace: Workspace, picture: Picture, cards: Cards, seed: float, which: str, happened: str
) -> tuple[Path, str | None]:
    """The file to restore, and what happened to it if neither manifest nor guess says it."""
    if which == ORIGINAL:
        path = restoring.copied(picture.source.path, None, workspace.folder)
        op = str(chains.operator_of(cards)) if happened == CHAIN else None
        return path, op
    shown = workspace.apply(picture, cards, int(seed or 0))
    manifest = shown.manifest if happened == CHAIN else None
    return restoring.copied(shown.after, manifest, workspace.folder), None


def _shown(frame: Frame) -> list[Any]:
    """The outputs of a restoration, besides its error."""
    curves = ""
    for name, values in frame.terms.items():
        points: Points = list(enumerate(values))
        curves += chart(name, {name: points}, {name: LINE})
    curves = f"<div>{curves}</div>"
    notes = "<br>".join(html.escape(note) for note in frame.notes)
    if not frame.is_done:
        words = html.escape(frame.words)
        hidden = gr.Gallery([], visible=False)
        return [_path(frame.image), words, curves, notes, hidden, *[gr.skip()] * 3]
    image, sheet, log = map(_path, (frame.image, frame.sheet, frame.log))
    pictures = [(str(path), caption) for path, caption in frame.answers]
    gallery = gr.Gallery(pictures, visible=bool(pictures))
    return [image, html.escape(frame.words), curves, notes, gallery, sheet, image, log]


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _methods(prior: str) -> gr.Dropdown:
    """The choice of methods that suit a prior."""
    names = restoring.methods_for(prior)
    defaults = [name for name in DEFAULT_METHODS.values() if name in names]
    return gr.Dropdown(names, value=defaults[0], label="method", elem_id="method")


def _inspect(
    workspace: Workspace, picture: Picture, cards: Cards, seed: float, which: str, happened: str
) -> tuple[str, str]:
    """What `degrade inspect` finds, as a table."""
    try:
        path, _ = observation(workspace, picture, cards, seed, which, GUESS)
        rows = restoring.inspected(path)
    except ValueError as error:
        return problem_text(error), ""
    cells = ""
    for what, why in rows:
        cells += f"<tr><td>{html.escape(what)}</td><td>{html.escape(why)}</td></tr>"
    return "", f"<table>{cells}</table>"
