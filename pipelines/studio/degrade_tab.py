"""The first tab: a picture, a chain of cards beside its text, and what the chain does."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from degrade import Range

from . import cards as chains
from .cards import Card, Cards, Control
from .view import EXPORTS, component, look, problem_text, refused
from .workspace import SAMPLES, Picture, Workspace

# How many visitors an event computes for at the same time. Gradio's default is one, so that a slow
# chain of one visitor would delay all others.
VISITORS = 16
# Events of the chain: of several in a row only the last is taken.
CHAIN_EVENT: dict[str, Any] = {
    "concurrency_limit": VISITORS,
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
# Those that draw no card anew bypass Gradio's queue, which needs two requests for each.
QUICK = CHAIN_EVENT | {"queue": False}
SEEDS = 10_000  # how many the die can draw
LAST_SEED = 2**53 - 1  # a browser is exact up to it, and `degrade apply` takes it
CHAIN = "op"  # the page's address may end in ?op= and the text of a chain
VISIT = 24 * 3600  # seconds after which the files of a visitor who left are removed


class DegradeTab:
    """The components of the tab, and what happens when a visitor uses them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.workspace = gr.State(None, time_to_live=VISIT, delete_callback=_forget)
        self.picture = gr.State(None)
        self.cards = gr.State(())
        self.revision = gr.State(0)  # another number draws the cards anew
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self._picture_column()
            with gr.Column(scale=2, min_width=320):
                self._chain_column()
        self.state = [self.workspace, self.picture, self.cards, self.seed]
        self.view = [self.problem, self.compare, self.status, *self.downloads, *self.exports]
        self._connect()

    def _picture_column(self) -> None:
        self.compare = gr.ImageSlider(
            label="before | after", elem_id="compare", interactive=False, buttons=["fullscreen"]
        )
        self.status = gr.HTML(elem_id="status", elem_classes="small", padding=False)
        with gr.Row():
            self.downloads = [
                gr.DownloadButton("Save picture", elem_id="save-picture", min_width=120),
                gr.DownloadButton("Save manifest", elem_id="save-manifest", min_width=120),
                gr.DownloadButton("Save clean picture", elem_id="save-clean", min_width=120),
            ]
        with gr.Row():
            self.upload = gr.File(label="Your picture", height=140, elem_id="upload")
            with gr.Column(min_width=200):
                self.sample = gr.Dropdown(
                    list(SAMPLES), value=SAMPLES[0], label="or a sample", elem_id="sample"
                )
                self.seed = gr.Number(
                    0, label="seed", precision=0, minimum=0, maximum=LAST_SEED, elem_id="seed"
                )
                self.die = gr.Button("⚄ Draw again", elem_id="die")

    def _chain_column(self) -> None:
        self.text = gr.Textbox(
            label="the chain as text",
            placeholder="downsample:2 >> jpeg:18",
            lines=2,
            elem_id="chain",
        )
        self.problem = gr.HTML(elem_id="problem", elem_classes="problem", padding=False)
        with gr.Row():
            self.name = gr.Dropdown(
                list(chains.known_names()),
                value="jpeg",
                label="operator, or published pipeline",
                elem_id="name",
                scale=2,
            )
            self.add = gr.Button("Add a card", variant="primary", elem_id="add", min_width=120)
        self.cards_place = gr.Column(elem_id="cards")
        self.exports = []
        with gr.Accordion("Copy the chain", open=False, elem_id="copy"):
            for label, language in EXPORTS.items():
                with gr.Tab(label):
                    code = gr.Code(
                        language=language,
                        interactive=False,
                        show_label=False,
                        wrap_lines=True,
                        elem_id=f"copy-{label.lower()}",
                    )
                self.exports.append(code)

    def _connect(self) -> None:
        """Connect the components with the functions below, and draw the cards."""
        self.structure = [self.cards, self.revision, self.text, *self.view]
        self._on_structure(self.add.click, -1, _added, self.name)
        self.text.input(
            self._read_text,
            [*self.state, self.revision, self.text],
            [self.cards, self.revision, *self.view],
            **CHAIN_EVENT,
        )
        self.seed.input(look, self.state, self.view, **QUICK)
        drawn = self.die.click(_draw_seed, None, self.seed, **QUICK)
        drawn.then(look, self.state, self.view, **QUICK)
        received = [self.picture, self.problem]
        uploaded = self.upload.upload(
            _receive, [self.workspace, self.upload, self.picture], received, **QUICK
        )
        uploaded.then(self._look_unless, [*self.state, self.problem], self.view, **QUICK)
        taken = self.sample.input(_sample, [self.workspace, self.sample], received, **QUICK)
        taken.then(look, self.state, self.view, **QUICK)
        with self.cards_place:
            gr.render(
                self.cards,
                triggers=[self.revision.change],
                show_progress="hidden",
                concurrency_limit=VISITORS,
            )(self._draw_cards)

    def begin_with(self, blocks: gr.Blocks) -> None:
        """Give every visitor a folder, a sample, and the chain of the address."""
        opened = blocks.load(
            self._begin,
            None,
            [self.workspace, self.picture, self.cards, self.revision, self.text, self.problem],
            concurrency_limit=VISITORS,
            api_visibility="private",
        )
        opened.then(_first_look, [*self.state, self.problem], self.view, **QUICK)

    def _begin(self, request: gr.Request) -> list[Any]:
        workspace = Workspace.new(self.folder)
        picture = workspace.sample(SAMPLES[0])
        text = request.query_params.get(CHAIN, "")
        try:
            cards = chains.cards_of(text)
        except ValueError as error:
            return [workspace, picture, (), 0, text, problem_text(error)]
        return [workspace, picture, cards, int(bool(cards)), text, ""]

    # Cards --------------------------------------------------------------------------------------

    def _draw_cards(self, cards: Cards) -> None:
        for index, card in enumerate(cards):
            classes = ["card"] if card.is_on else ["card", "off"]
            with gr.Column(elem_classes=classes, elem_id=f"card-{index}"):
                self._draw_card(index, card)

    def _draw_card(self, index: int, card: Card) -> None:
        summary, _, _ = (inspect.getdoc(card.operator) or "").partition("\n")
        gr.Markdown(f"**{index + 1}. {card.operator.name}** · {summary}")
        with gr.Row():
            on = gr.Checkbox(
                card.is_on, label="on", interactive=True, min_width=60, container=False
            )
            self._on_structure(on.input, index, _switched, on)
            for label, change in CHANGES.items():
                button = gr.Button(label, size="sm", min_width=60)
                self._on_structure(button.click, index, change)
        given = {name for name, _, _ in card.operator.arguments()}
        rest = []
        for control in card.controls():
            if control.required or control.name in given:
                self._draw_control(index, control)
            else:
                rest.append(control)
        if not rest:
            return
        with gr.Accordion("more", open=len(rest) == len(card.controls())):
            for control in rest:
                self._draw_control(index, control)

    def _draw_control(self, index: int, control: Control) -> None:
        value = control.value
        if isinstance(value, Range):
            with gr.Row():
                low = component(replace(control, hint=""), value.low, "from")
                high = component(replace(control, hint=""), value.high, "to")
            set_range = partial(_with_range, control.name)
            for end in (low, high):
                self._on_value(end.input, index, set_range, low, high)
        else:
            edited = component(control, value)
            self._on_value(edited.input, index, partial(_with_value, control.name), edited)
        if control.may_vary:
            varies = gr.Checkbox(
                isinstance(value, Range),
                label=f"draw {control.name} from a range",
                interactive=True,
                container=False,
            )
            self._on_structure(varies.input, index, partial(_with_or_without, control.name), varies)

    def _on_value(self, event: Any, index: int, change: Callable, *inputs: Any) -> None:
        """Let an event change one card, without drawing the cards anew."""
        event(
            partial(self._change_value, index, change),
            [*self.state, *inputs],
            [self.cards, self.text, *self.view],
            **QUICK,
        )

    def _on_structure(self, event: Any, index: int, change: Callable, *inputs: Any) -> None:
        """Let an event change the cards, and draw them anew."""
        event(
            partial(self._change_structure, index, change),
            [*self.state, self.revision, *inputs],
            self.structure,
            **CHAIN_EVENT,
        )

    # What happens -------------------------------------------------------------------------------

    def _look_unless(
        self, workspace: Workspace, picture: Picture, cards: Cards, seed: float, problem: str
    ) -> list[Any]:
        """Show the picture, unless an upload was refused."""
        if problem:
            return [gr.skip()] * len(self.view)
        return look(workspace, picture, cards, seed)

    def _change_value(
        self,
        index: int,
        change: Callable[..., Card],
        workspace: Workspace,
        picture: Picture,
        cards: Cards,
        seed: float,
        *values: Any,
    ) -> list[Any]:
        try:
            card = change(cards[index], *values)
        except ValueError as error:
            return [cards, gr.skip(), *refused(error)]
        cards = chains.replaced(cards, index, card)
        return [cards, chains.text_of(cards), *look(workspace, picture, cards, seed)]

    def _change_structure(
        self,
        index: int,
        change: Callable[..., Cards],
        workspace: Workspace,
        picture: Picture,
        cards: Cards,
        seed: float,
        revision: int,
        *values: Any,
    ) -> list[Any]:
        try:
            cards = change(cards, index, *values)
        except ValueError as error:
            return [cards, revision + 1, gr.skip(), *refused(error)]
        text = chains.text_of(cards)
        return [cards, revision + 1, text, *look(workspace, picture, cards, seed)]

    def _read_text(
        self,
        workspace: Workspace,
        picture: Picture,
        cards: Cards,
        seed: float,
        revision: int,
        text: str,
    ) -> list[Any]:
        try:
            cards = chains.cards_of(text, cards)
        except ValueError as error:
            return [cards, revision, *refused(error)]
        return [cards, revision + 1, *look(workspace, picture, cards, seed)]


def _added(cards: Cards, index: int, name: str) -> Cards:
    return chains.added(cards, name)


def _with_value(name: str, card: Card, value: Any) -> Card:
    return card.with_value(name, value)


def _with_range(name: str, card: Card, low: float, high: float) -> Card:
    return card.with_range(name, low, high)


def _with_or_without(name: str, cards: Cards, index: int, varies: bool) -> Cards:
    card = cards[index]
    changed = card.with_first_range(name) if varies else card.with_one_value(name)
    return chains.replaced(cards, index, changed)


def _switched(cards: Cards, index: int, is_on: bool) -> Cards:
    return chains.replaced(cards, index, Card(cards[index].operator, is_on))


CHANGES: dict[str, Callable[[Cards, int], Cards]] = {
    "Up": partial(chains.moved, by=-1),
    "Down": partial(chains.moved, by=1),
    "Remove": chains.removed,
}


def _first_look(
    workspace: Workspace, picture: Picture, cards: Cards, seed: float, problem: str
) -> list[Any]:
    """The view when the page is opened; the address may have named a wrong chain."""
    shown_problem, *rest = look(workspace, picture, cards, seed)
    return [shown_problem or problem, *rest]


def _receive(workspace: Workspace, upload: str | None, picture: Picture) -> tuple[Picture, str]:
    """The picture that was uploaded; the one before and an error if it is refused."""
    if upload is None:
        return picture, ""
    try:
        return workspace.receive(Path(upload)), ""
    except ValueError as error:
        return picture, problem_text(error)


def _sample(workspace: Workspace, name: str) -> tuple[Picture, str]:
    return workspace.sample(name), ""


def _draw_seed() -> int:
    return secrets.randbelow(SEEDS)


def _forget(workspace: Workspace | None) -> None:
    if workspace is not None:
        workspace.remove()
