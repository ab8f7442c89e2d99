"""A chain as cards that a person edits: text → cards, cards → text, and a control per parameter.

A card holds one operator. Operators check every value, so that a card is never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, singledispatch

from degrade import Identity, Operator, Range
from degrade.kinds import FlagKind, Kind, NumberKind, OptionKind, SizeKind
from degrade.operator import compose
from degrade.params import described, format_value, parse_value
from degrade.published import pipelines as published
from degrade.registry import REGISTRY
from degrade.spec import build, parse

from ..operators import example

INNER = "operators"  # the name of the control with the operators in a stage's parentheses
WIDEST_SLIDER = 1024  # a wider interval gets a box for a number, which a hand can set exactly
SLIDER_STEPS = 1000
MOST_CARDS = 100  # of a chain; drawing more would keep the page busy for every visitor
FIRST_RANGE = 20  # steps from one end to the other of a range that is not chosen yet


@dataclass(frozen=True)
class Control:
    """How a parameter is edited.

    shape: "slider", "number", "choice", "flag" or "text". value: of the parameter, or its text.
    hint: what is allowed, in words, where the control does not show it.
    low, high, step: of a slider or a number; None where there is no bound. may_vary: whether a
    range may be given, to draw from. required: whether the operator needs the value.
    """

    name: str
    shape: str
    value: object
    hint: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    may_vary: bool = False
    required: bool = False


@dataclass(frozen=True)
class Card:
    """One operator of a chain. A card that is off takes no part in the chain."""

    operator: Operator
    is_on: bool = True

    def controls(self) -> list[Control]:
        """A control for each parameter, as the operator's class declares it."""
        controls = []
        for parameter in described(type(self.operator)):
            if parameter.kind.nested:
                continue
            value = getattr(self.operator, parameter.name)
            control = _control(parameter.kind, parameter.name, value)
            controls.append(replace(control, required=parameter.required))
        if self.operator.nested:
            inner = " ; ".join(map(str, self.operator.nested))
            hint = "operators, separated by semicolons"
            controls.append(Control(INNER, "text", inner, hint, required=True))
        return controls

    def control(self, name: str) -> Control:
        """The control of one parameter."""
        for control in self.controls():
            if control.name == name:
                return control
        raise ValueError(f"{self.operator.name} has no parameter {name!r}")

    def with_value(self, name: str, value: object) -> Card:
        """The card with another value of a parameter; None or an empty text gives the default.

        Raises ValueError, in one line, for a value that the operator refuses, and for operators in
        parentheses that name a file.
        """
        operator = self.operator
        if name == INNER and operator.holds is not None:
            return replace(self, operator=_with_inner(operator, str(value)))
        values = {key: old for key, old, _ in operator.arguments()}
        if isinstance(value, str):
            value = parse_value(value.strip()) if value.strip() else None
        values[name] = value
        if value is None:
            del values[name]
        return replace(self, operator=_built(operator, values))

    def with_range(self, name: str, low: float, high: float) -> Card:
        """The card with a range to draw a parameter from; the ends may be given in any order."""
        before = getattr(self.operator, name)
        power = before.power if isinstance(before, Range) else 1
        return self.with_value(name, Range(min(low, high), max(low, high), power))

    def with_first_range(self, name: str) -> Card:
        """The card with a range that begins at the value, to be changed by hand."""
        control = self.control(name)
        value = getattr(self.operator, name)
        reach = value if control.step is None else control.step * FIRST_RANGE
        high = round(value + reach, 6)
        if control.high is not None:
            high = min(high, control.high)
        return self.with_range(name, value, high)

    def with_one_value(self, name: str) -> Card:
        """The card with the low end of a range instead of the range."""
        return self.with_value(name, getattr(self.operator, name).low)


Cards = tuple[Card, ...]


def _built(operator: Operator, values: dict[str, object]) -> Operator:
    try:
        return build(type(operator), list(operator.nested), values, None)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{operator.name}: {error}") from error


def _with_inner(operator: Operator, text: str) -> Operator:
    """The operator with others in its parentheses."""
    head, _, _ = str(operator).partition("(")
    changed = parse(f"{head}({text})")
    if len(changed) != 1:
        raise ValueError(f"{operator.name}: {text!r} closes its parentheses; leave out the last )")
    refuse_files(changed)
    return changed[0]


# How each kind of parameter is edited ----------------------------------------------------------


@singledispatch
def _control(kind: Kind, name: str, value: object) -> Control:
    text = "" if value is None else format_value(value)
    return Control(name, "text", text, kind.text, may_vary=kind.drawn)


@_control.register
def _(kind: NumberKind, name: str, value: object) -> Control:
    if value is None or isinstance(value, tuple):
        text = "" if value is None else format_value(value)
        return Control(name, "text", text, kind.text)
    low = None if math.isinf(kind.low) else kind.low
    high = None if math.isinf(kind.high) else kind.high
    is_narrow = kind.high - kind.low <= WIDEST_SLIDER
    step = _step(kind)
    if kind.above and low is not None and step is not None:
        low += step  # `kind.low` itself is refused
    shape = "slider" if is_narrow else "number"
    return Control(name, shape, value, kind.text, low, high, step, (), kind.drawn)


@_control.register
def _(kind: SizeKind, name: str, value: object) -> Control:
    text = value if value is None else format_value(value)
    if isinstance(value, tuple):
        text = "x".join(map(str, value))
    return Control(name, "text", text or "", kind.text)


@_control.register
def _(kind: OptionKind, name: str, value: object) -> Control:
    if isinstance(value, tuple):
        return Control(name, "text", format_value(value), kind.text)
    choices = (*kind.names, *kind.undecided)
    if kind.optional:
        choices = ("", *choices)
    return Control(name, "choice", value or "", "", choices=choices)


@_control.register
def _(kind: FlagKind, name: str, value: object) -> Control:
    return Control(name, "flag", bool(value), "")


def _step(kind: NumberKind) -> float | None:
    """Integers go by 1 or 2. Others go by a power of ten, in about SLIDER_STEPS; a box in none."""
    if kind.odd:
        return 2
    if kind.integer:
        return 1
    way = kind.high - kind.low
    if way > WIDEST_SLIDER:
        return None
    return float(10.0 ** round(math.log10(way / SLIDER_STEPS)))


# Chains ----------------------------------------------------------------------------------------


def cards_of(text: str, before: Sequence[Card] = ()) -> Cards:
    """The cards of a text. An empty text is no card.

    before: the cards until now. Those that are off stay, if the text changes no number of stages.
    Raises ValueError for a text that is wrong, that names a file, or that has too many stages.
    """
    if not text.strip():
        return ()
    stages = list(parse(text))
    refuse_files(stages)
    _check_count(len(stages))
    on_count = sum(card.is_on for card in before)
    if on_count != len(stages):
        return tuple(map(Card, stages))
    cards = []
    for card in before:
        cards.append(Card(stages.pop(0)) if card.is_on else card)
    return tuple(cards)


def _check_count(count: int) -> None:
    if count > MOST_CARDS:
        raise ValueError(
            f"the chain has {count:,} stages, and the studio takes {MOST_CARDS}; "
            "leave some out, or use `degrade apply`"
        )


def text_of(cards: Iterable[Card]) -> str:
    """The text of the cards that are on."""
    return " >> ".join(str(card.operator) for card in cards if card.is_on)


def operator_of(cards: Iterable[Card]) -> Operator:
    """The chain of the cards that are on; without any, the picture stays as it is."""
    stages = [card.operator for card in cards if card.is_on]
    return compose(stages) if stages else Identity()


def refuse_files(operators: Iterable[Operator]) -> None:
    """Raise ValueError for an operator that names a file, which a visitor may not read."""
    for operator in operators:
        for name in operator.files:
            if getattr(operator, name) is not None:
                raise ValueError(
                    f"{operator.name}: {name} names a file, and the studio opens none; "
                    "use `degrade apply` for this chain"
                )
        for inner in operator.nested:
            refuse_files(inner)


@cache
def known_names() -> tuple[str, ...]:
    """The operators and published pipelines that a card can be made of."""
    names = []
    for name in sorted(REGISTRY):
        with suppress(ValueError):
            cards_of(example(name))
            names.append(name)
    return (*names, *published)


def added(cards: Cards, name: str) -> Cards:
    """The cards and, after them, an operator with typical values, or a published pipeline."""
    text = name if name in published else example(name)
    longer = (*cards, *cards_of(text))
    _check_count(len(longer))
    return longer


def replaced(cards: Cards, index: int, card: Card) -> Cards:
    """The cards with another one in the place `index`."""
    return (*cards[:index], card, *cards[index + 1 :])


def removed(cards: Cards, index: int) -> Cards:
    """The cards without one."""
    return (*cards[:index], *cards[index + 1 :])


def moved(cards: Cards, index: int, by: int) -> Cards:
    """The cards with one moved by some places; it stays within the chain."""
    target = min(max(index + by, 0), len(cards) - 1)
    rest = removed(cards, index)
    return (*rest[:target], cards[index], *rest[target:])
