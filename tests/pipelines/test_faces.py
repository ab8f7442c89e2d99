"""Faces are found where there are any; with the optional extra `faces`, and said without it."""

import sys

import pytest
from PIL import Image

from pipelines import faces
from pipelines.faces import Face, choose, ffhq

from .photos import ASTRONAUT
from .shell import FAST, run

QUICK = [*FAST, "--quiet"]


def test_choose_takes_the_surest_and_names_others():
    sure, less, hardly = (Face([], score) for score in (1.7, 0.6, 0.1))
    assert choose([sure, hardly], None) == (sure, None)
    face, told = choose([sure, less, hardly], None)
    assert (
        face is sure
        and "3 faces found, of scores 1.70, 0.60, 0.10; the first is restored, --face N" in told
    )
    assert "not sure" in choose([hardly], None)[1]
    assert choose([sure, less], 2) == (less, None)
    with pytest.raises(
        ValueError, match="face=3, but 2 found, of scores 1.70, 0.60; count from 1, the surest"
    ):
        choose([sure, less], 3)
    with pytest.raises(
        ValueError, match="no face found; give its points with --landmarks, or a part"
    ):
        choose([], None)


@pytest.mark.parametrize("module", ["dlib", "face_recognition_models"])
def test_find_without_the_extra_says_what_to_install(monkeypatch, tmp_path, module):
    if module == "face_recognition_models":
        pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    faces._networks.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    result = run(
        "restore", ASTRONAUT, "-o", tmp_path / "out", "--op", "jpeg:90", "--align", "ffhq", *QUICK
    )
    assert (
        result.exit_code == 2
        and "pip install 'degrade[faces]', or give --landmarks" in result.stderr
    )
    faces._networks.cache_clear()


@pytest.mark.slow
def test_find_locates_the_astronauts_face(tmp_path):
    """Where anybody sees it: the points were read off the photo by eye."""
    pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    first, *rest = faces.find(Image.open(ASTRONAUT).convert("RGB"))
    by_hand = ffhq([(203, 101), (247, 103), (204, 140), (243, 141)])
    found = ffhq(first.points)
    assert first.score > 0.5 and all(face.score < 0.5 for face in rest)
    assert found.side == pytest.approx(by_hand.side, rel=0.05)
    for (x, y), (u, v) in zip(found.corners(), by_hand.corners(), strict=True):
        assert abs(x - u) < 8 and abs(y - v) < 8
    small = Image.open(ASTRONAUT).resize(
        (2560, 2560)
    )  # it is reduced, and points come back in its own pixels
    large = ffhq(faces.find(small)[0].points)
    assert large.side == pytest.approx(5 * found.side, rel=0.1)
    assert all(
        abs(x / 5 - u) < 6 and abs(y / 5 - v) < 6
        for (x, y), (u, v) in zip(large.corners(), found.corners(), strict=True)
    )
    command = ["restore", ASTRONAUT, "-o", tmp_path / "out", "--op", "jpeg:90", "--align", "ffhq"]
    assert run(*command, *QUICK).exit_code == 0


def test_find_without_a_face_is_a_one_line_error(tmp_path):
    pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "a.png")
    result = run(
        "restore",
        tmp_path / "a.png",
        "-o",
        tmp_path / "out",
        "--op",
        "jpeg:90",
        "--align",
        "ffhq",
        *QUICK,
    )
    assert (
        result.exit_code == 2
        and "no face found" in result.stderr
        and result.stderr.count("\n") == 1
    )
