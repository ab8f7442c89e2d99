"""The studio without its page: cards, uploads, the bits it shows, what it copies, the command."""

import ast
import inspect
import json
import shlex
import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import degrade
from degrade.kinds import NumberKind, SizeKind
from degrade.registry import REGISTRY
from pipelines import studio
from pipelines.studio import exports, workspace
from pipelines.studio.cards import (
    Card,
    added,
    cards_of,
    known_names,
    moved,
    operator_of,
    removed,
    replaced,
    text_of,
)
from tests.conftest import AVATARS, cases
from tests.properties.examples import STRATEGIES

from .shell import refusal, run

CHAIN = "downsample:2 >> gaussian:0.05..0.2 >> jpeg:20..60"
WITHOUT_FILES = sorted(name for name in STRATEGIES if not REGISTRY[name].files)
stages = st.sampled_from(WITHOUT_FILES).flatmap(STRATEGIES.get)


# Cards and text


@pytest.mark.parametrize("name", WITHOUT_FILES)
@cases(6)
@given(data=st.data())
def test_studio_cards_keep_every_operator(name, data):
    card = Card(data.draw(STRATEGIES[name]))
    assert cards_of(text_of([card])) == (card,)


@pytest.mark.parametrize("name", WITHOUT_FILES)
@cases(4)
@given(data=st.data())
def test_studio_controls_change_nothing_untouched(name, data):
    card = Card(data.draw(STRATEGIES[name]))
    for control in card.controls():
        assert card.with_value(control.name, control.value) == card


@cases(30)
@given(st.lists(st.tuples(stages, st.booleans()), max_size=4))
def test_studio_cards_that_are_off_stay(pairs):
    cards = tuple(Card(operator, is_on) for operator, is_on in pairs)
    on = [card for card in cards if card.is_on]
    assert cards_of(text_of(cards), cards) == (cards if on else ())
    assert cards_of(text_of(cards)) == tuple(on)


def test_studio_controls_have_the_declared_bounds():
    sliders = 0
    for name in known_names():
        for card in added((), name):
            kinds = type(card.operator).kinds
            for control in card.controls():
                kind = kinds.get(control.name)
                if control.shape not in ("slider", "number"):
                    continue
                assert isinstance(kind, NumberKind) and not isinstance(kind, SizeKind)
                assert control.high in (kind.high, None)
                is_first = control.low == kind.low or control.low is None
                assert is_first or kind.above
                for bound in (control.low, control.high):
                    if bound is not None:
                        assert kind.stored(control.name, bound) == bound
                sliders += control.shape == "slider"
    assert sliders > 60


def test_studio_offers_every_operator_without_a_file():
    ours = {name for name, cls in REGISTRY.items() if cls.__module__.startswith("degrade.")}
    assert ours - set(known_names()) == {"mask", "frost"}  # a file's pixels are their parameter
    assert {"gfpgan", "real-esrgan-x4"} < set(known_names())


def test_studio_ranges_begin_and_end():
    card, *_ = cards_of("gaussian:0.1")
    ranged = card.with_first_range("sigma")
    assert text_of([ranged]) == "gaussian:0.1..0.12"
    assert text_of([ranged.with_range("sigma", 0.4, 0.2)]) == "gaussian:0.2..0.4"
    assert ranged.with_one_value("sigma") == card
    squared, *_ = cards_of("blur:gaussian,size=1..2^2")
    assert text_of([squared.with_range("size", 1, 3)]) == "blur:gaussian,size=1..3^2"


def test_studio_cards_are_moved_and_removed():
    cards = cards_of("gray >> clamp >> jpeg:30")
    assert text_of(moved(cards, 2, -1)) == "gray >> jpeg:30 >> clamp"
    assert moved(cards, 0, -1) == cards == moved(cards, 2, 1)
    assert text_of(removed(cards, 1)) == "gray >> jpeg:30"
    off = replaced(cards, 0, Card(cards[0].operator, is_on=False))
    assert text_of(off) == "clamp >> jpeg:30"
    assert operator_of(removed(removed(removed(cards, 0), 0), 0)) == degrade.Identity()


def test_studio_edits_operators_in_parentheses():
    card, *_ = cards_of("oneof:weights=1|3(gray ; jpeg:30)")
    changed = card.with_value("operators", "jpeg:10 ; blur:gaussian,2 >> gray")
    expected = "oneof:weights=1|3(jpeg:10 ; blur:gaussian,size=2 >> gray)"
    assert text_of([changed]) == expected
    assert "parentheses" in refusal(card.with_value, "operators", "gray ; gray) >> clamp(gray")


def test_studio_tells_the_librarys_errors():
    assert "did you mean jpeg" in refusal(cards_of, "gray >> jpegg:30")
    (card,) = cards_of("jpeg:30")
    assert "quality=200 must be an integer from 1 to 100" in refusal(
        card.with_value, "quality", 200
    )


@pytest.mark.parametrize("text", ["mask:secret.png", "maybe:0.5(mask:/etc/passwd)"])
def test_studio_opens_no_file_that_a_text_names(text):
    assert "the studio opens none" in refusal(cards_of, text)
    (card,) = cards_of("maybe:0.5(gray)")
    assert "the studio opens none" in refusal(card.with_value, "operators", text)


def test_studio_refuses_a_chain_of_too_many_cards():
    longest = cards_of(" >> ".join(["gray"] * 100))
    assert "has 101 stages" in refusal(added, longest, "gray")
    assert "has 20,000 stages" in refusal(cards_of, " >> ".join(["gray"] * 20_000))


# Uploads


def test_studio_refuses_too_many_bytes(visitor, monkeypatch):
    monkeypatch.setattr(workspace, "MOST_BYTES", 1000)
    assert "the studio takes 1,000" in refusal(visitor.receive, AVATARS / "000.png")


def test_studio_refuses_too_many_pixels(visitor, tmp_path):
    bomb = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(bomb)
    assert bomb.stat().st_size < 20_000
    assert "9000 x 9000 pixels" in refusal(visitor.receive, bomb)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_studio_refuses_what_is_no_picture(visitor, portrait, tmp_path, damage):
    whole = (AVATARS / "001.png").read_bytes()
    data = {"text": b"<script>alert(1)</script>", "truncated": whole[:3000], "empty": b""}[damage]
    upload = tmp_path / "upload.png"
    upload.write_bytes(data)
    assert "upload.png" in refusal(visitor.receive, upload)
    assert portrait.source.path.exists()  # the picture before stays


def test_studio_refuses_stages_that_enlarge_too_much(visitor, portrait):
    message = refusal(visitor.apply, portrait, cards_of("resize:5000 >> downsample:50"), 0)
    assert "5000 x 5000 pixels" in message


def test_studio_visitor_leaves_nothing_behind(visitor, portrait, tmp_path):
    visitor.apply(portrait, cards_of("jpeg:30"), 0)
    visitor.remove()
    assert not list(tmp_path.iterdir())


# The bits


@pytest.mark.parametrize("text", ["", CHAIN, "poisson:48 >> strokes:3"])
def test_studio_shows_the_bits_of_apply(visitor, portrait, tmp_path, text):
    shown = visitor.apply(portrait, cards_of(text), 7)
    command = exports.shell(operator_of(cards_of(text)), portrait.name, 7)
    program, *arguments = shlex.split(command)
    assert program == "degrade"
    arguments[arguments.index("000.png")] = AVATARS / "000.png"
    arguments[arguments.index("degraded")] = tmp_path / "shell"
    assert run(*arguments).exit_code == 0
    assert shown.after.read_bytes() == (tmp_path / "shell" / shown.after.name).read_bytes()
    assert shown.manifest.read_bytes() == (tmp_path / "shell" / "000.json").read_bytes()
    assert shown.before.read_bytes() == (AVATARS / "000.png").read_bytes()


@pytest.mark.slow
def test_studio_takes_only_seeds_of_the_command(tmp_path):
    gradio = pytest.importorskip("gradio")
    from pipelines.studio.page import page

    (seed,) = [block for block in page(tmp_path).blocks.values() if block.elem_id == "seed"]
    with pytest.raises(gradio.Error, match="greater than maximum value"):
        seed.preprocess(2**63)
    largest = seed.preprocess(2**53 - 1)
    options = ("-o", tmp_path, "--op", "gaussian:0.1", "--seed", largest)
    assert run("apply", AVATARS / "000.png", *options).exit_code == 0


def test_studio_command_takes_a_name_with_a_dash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-o.png").write_bytes((AVATARS / "000.png").read_bytes())
    _, *arguments = shlex.split(exports.shell(degrade.parse("gray"), "-o.png", 0))
    assert run(*arguments).exit_code == 0
    assert (tmp_path / "degraded" / "-o.png").is_file()


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_studio_python_gives_the_same_pixels(visitor, tmp_path, monkeypatch, mode):
    picture = Image.open(AVATARS / "000.png").convert("L" if mode != "RGB" else mode)
    if mode == "I;16":
        picture = Image.fromarray(numpy.array(picture).astype("uint16") * 250)
    picture.save(tmp_path / "it's.png")
    given_picture = visitor.receive(tmp_path / "it's.png")
    cards = cards_of("downsample:2 >> gaussian:0.05..0.2")
    shown = visitor.apply(given_picture, cards, 3)
    script = exports.python(operator_of(cards), given_picture.name, 3)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "copied.py", "exec"), {})
    written, expected = (Image.open(path) for path in ("degraded.png", shown.after))
    assert written.mode == expected.mode == mode
    assert numpy.array_equal(numpy.array(written), numpy.array(expected))


def test_studio_json_reads_back():
    operator = operator_of(cards_of(CHAIN))
    assert degrade.from_json(json.loads(exports.as_json(operator))) == operator


def test_studio_says_what_was_drawn(visitor, portrait):
    first, again, other = (
        visitor.apply(portrait, cards_of("jpeg:10..90"), seed).words for seed in (0, 0, 1)
    )
    assert "drawn: jpeg:" in first
    drawn = [words.rpartition("drawn: ")[2] for words in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", workspace.SAMPLES)
def test_studio_samples_are_pictures(visitor, name):
    sample = visitor.sample(name)
    with Image.open(sample.source.path) as image:
        assert image.mode == "RGB"
        assert len(image.getcolors(2**24)) > 1000


# The command


def test_studio_serves_several_visitors_at_a_time(tmp_path, monkeypatch):
    """By default, an event that waits in Gradio's queue runs for one visitor at a time."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    pytest.importorskip("gradio", reason="needs the extra degrade[studio]")
    from pipelines.studio.page import page

    queued = [event for event in page(tmp_path).fns.values() if event.queue]
    assert len(queued) > 3
    for event in queued:
        assert event.concurrency_limit >= 8, event.name


def test_studio_refuses_a_wrong_chain_before_it_starts():
    result = run("studio", "--op", "jpegg:30")
    assert result.exit_code == 2 and "did you mean jpeg" in result.stderr


def test_studio_without_gradio_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = run("studio")
    assert result.exit_code == 2
    expected = "error: degrade studio needs Gradio; run pip install 'degrade[studio]'\n"
    assert result.stderr == expected


def test_studio_imports_gradio_for_its_page_only():
    folder = Path(inspect.getfile(studio)).parent
    importers = set()
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import) and "gradio" in {name.name for name in node.names}:
                importers.add(path.name)
    assert importers == {"page.py", "degrade_tab.py", "restore_tab.py", "view.py"}
