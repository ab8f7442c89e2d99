"""The studio's restorations without its page: pictures, the queue, how they are cancelled."""

import threading
import time

import numpy
import pytest
from PIL import Image

from pipelines.studio import restoring
from pipelines.studio.cards import cards_of
from pipelines.studio.restoring import Restoration, Wish

from .shell import refusal, run


@pytest.fixture
def observed(visitor, portrait):
    """A small degraded picture with its manifest."""
    shown = visitor.apply(portrait, cards_of("downsample:4 >> gaussian:0.05"), 1)
    return restoring.copied(shown.after, shown.manifest, visitor.folder)


def test_studio_restores_as_the_command_does(visitor, observed, tmp_path):
    wish = Wish(observed, "photo", "ddnm", steps=2)
    *_, last = Restoration(wish, visitor.folder).frames()
    assert last.is_done and last.words == "restored"
    assert len(last.terms["loss"]) == 2
    options = ("--prior", "photo", "--method", "ddnm", "--steps", 2)
    result = run("restore", observed, "-o", tmp_path / "shell", *options)
    assert result.exit_code == 0, result.output
    assert last.image.read_bytes() == (tmp_path / "shell" / "000.png").read_bytes()
    assert last.log.read_bytes() == (tmp_path / "shell" / "000.json").read_bytes()


def test_studio_gives_several_answers_and_their_spread(visitor, observed, tmp_path):
    wish = Wish(observed, "photo", "ddnm", steps=2, answers=2)
    *_, last = Restoration(wish, visitor.folder).frames()
    paths = [path for path, _ in last.answers]
    captions = [caption for _, caption in last.answers]
    assert captions == ["answer 1", "answer 2", "spread, white is 0.25"]
    answers = [numpy.array(Image.open(path)) / 255 for path in paths[:2]]
    deviation = numpy.std(answers, axis=0).mean(-1)
    assert deviation.max() > 0.01
    shown = numpy.array(Image.open(paths[2])) / 255
    assert numpy.abs(shown - (deviation / 0.25).clip(0, 1)).max() < 1 / 255
    options = ("--prior", "photo", "--method", "ddnm", "--steps", 2, "--samples", 2)
    result = run("restore", observed, "-o", tmp_path / "shell", *options)
    assert result.exit_code == 0, result.output
    for path in paths[:2]:
        assert path.read_bytes() == (tmp_path / "shell" / path.name).read_bytes()


def test_studio_says_which_methods_give_one_answer(visitor, observed):
    restoration = Restoration(Wish(observed, "photo", "pnp", steps=2, answers=2), visitor.folder)
    assert "method pnp gives one answer" in refusal(list, restoration.frames())


@pytest.mark.parametrize("cancel", [Restoration.cancel, lambda _: restoring.cancel_all()])
def test_studio_restoration_is_cancelled(visitor, observed, cancel):
    restoration = Restoration(Wish(observed, "photo", "ddnm", steps=2), visitor.folder)
    cancel(restoration)
    *_, last = restoration.frames()
    assert last.words == "cancelled" and not last.is_done
    assert not (restoration.folder / "restored").exists()


@pytest.fixture
def slow_restorations(monkeypatch):
    """Restorations that only note their prior, and end when an event is set."""
    begun, may_end = [], threading.Event()

    def restore(restoration, wish):
        begun.append(wish.seed)
        may_end.wait(10)
        raise ValueError("no picture")

    monkeypatch.setattr(Restoration, "_restore", restore)
    yield begun, may_end
    may_end.set()


def test_studio_restoration_that_waits_for_another_is_cancelled(
    visitor, observed, slow_restorations
):
    begun, may_end = slow_restorations
    first = Restoration(Wish(observed, "photo", "ddnm", seed=1), visitor.folder)
    second = Restoration(Wish(observed, "photo", "ddnm", seed=2), visitor.folder)
    words = set()
    for frame in second.frames():
        words.add(frame.words)
        second.cancel()
    assert "cancelled" in words and begun == [1]
    may_end.set()
    assert refusal(list, first.frames()) == "no picture"


def test_studio_restores_one_after_another(visitor, observed, slow_restorations):
    begun, may_end = slow_restorations
    restorations = []
    for seed in range(3):
        restorations.append(Restoration(Wish(observed, "photo", "ddnm", seed=seed), visitor.folder))
    first, *others = restorations
    while not all(each.film.frame.words.startswith("waiting") for each in others):
        time.sleep(0.01)
    assert begun == [0]
    may_end.set()
    for restoration in restorations:
        assert refusal(list, restoration.frames()) == "no picture"
    assert begun == [0, 1, 2] and first not in Restoration.in_line


def test_studio_restoration_fails_in_words(visitor, observed):
    restoration = Restoration(Wish(observed, "photo", "robust", steps=2), visitor.folder)
    message = refusal(list, restoration.frames())
    assert "'robust' needs a generator" in message
    assert str(visitor.folder) not in message


def test_studio_offers_the_methods_of_a_prior():
    assert "pnp" in restoring.methods_for("photo")
    assert "robust" in restoring.methods_for("avatars-128")
    assert not set(restoring.methods_for("photo")) & set(restoring.methods_for("avatars-128"))


def test_studio_inspects_as_the_command_does(visitor, portrait):
    shown = visitor.apply(portrait, cards_of("jpeg:40"), 0)
    rows = dict(restoring.inspected(shown.after))
    assert rows["format"] == "JPEG"
    assert rows["what happened"] == "jpeg:40"
