"""Files and names that people have: damaged, hostile, odd; and how pictures are found."""

import io
import os
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade.imagefile import FORMATS, PIXELS, SUFFIXES, picture
from pipelines.files import gather, read_image
from tests.conftest import AVATARS, cases
from tests.processes import start

from .handmade import claims
from .shell import FAST, TINY_128, run

BAD = {
    "empty.png": (b"", "is empty"),
    "cut.png": ((AVATARS / "000.png").read_bytes()[:3000], "cannot be read"),
    "garbage.jpg": (bytes(range(256)) * 4, "is not an image"),
    "huge.png": (claims(20_000, 20_000), f"at most {PIXELS:,}"),
    "large.png": (claims(10_001, 10_000), f"at most {PIXELS:,}"),
    "program.png": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) print\nshowpage\n",
        "is not an image",
    ),
}


@pytest.mark.parametrize("command", ["apply", "restore", "bench"])
def test_bad_files_are_named_and_others_go_on(tmp_path, command):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for name, (data, _) in BAD.items():
        (folder / "deep" / name).write_bytes(data)
    (folder / "deep" / "unreadable.png").symlink_to(
        "/proc/self/mem"
    )  # the kernel refuses, whoever asks
    (folder / "good.png").write_bytes((AVATARS / "000.png").read_bytes())
    (folder / "deep" / "loop").symlink_to(folder, target_is_directory=True)
    before = {path: path.read_bytes() for path in folder.glob("**/*.*") if not path.is_symlink()}
    inputs = {
        "apply": ["apply", folder, "--op", "clamp"],
        "restore": ["restore", folder, "--op", "clamp", *FAST],
        "bench": ["bench", "--images", folder, "--tasks", "UNAP", *FAST],
    }
    result = run(*inputs[command], "-o", tmp_path / "out")
    assert result.exit_code == 3, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    expected = {name: words for name, (_, words) in BAD.items()} | {
        "unreadable.png": "Input/output error"
    }
    assert len(said) == len(expected)
    for name, words in expected.items():
        assert [line for line in said if name in line and words in line], (name, said)
    assert list((tmp_path / "out").rglob("good.png"))
    assert not list((tmp_path / "out").rglob("*cut*")) and not list(
        (tmp_path / "out").rglob("*.tmp")
    )
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("command", [["apply", "--op", "clamp"], ["bench", "--images"]])
def test_exit_code_is_2_if_every_file_is_bad(tmp_path, command):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    last = ["--tasks", "UNAP"] if command[0] == "bench" else []
    result = run(*command, tmp_path / "in", *last, "-o", tmp_path / "out")
    assert result.exit_code == 2 and "a.png is empty" in result.stderr


def test_pipe_as_input_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    result = run("apply", tmp_path / "pipe.png", "-o", tmp_path / "out", "--op", "clamp")
    assert result.exit_code == 2 and "neither a file nor a folder" in result.stderr
    (tmp_path / "picture.png").write_bytes((AVATARS / "000.png").read_bytes())
    assert run("apply", tmp_path, "-o", tmp_path / "out", "--op", "clamp").exit_code == 0


@pytest.mark.parametrize(
    "name", ["two words.png", "two\nlines.png", "-dash.png", "日本.png", b"not \xff text.png"]
)
def test_file_names_may_hold_any_bytes(tmp_path, name):
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    with open(os.path.join(folder, os.fsencode(name)), "wb") as file:
        file.write((AVATARS / "000.png").read_bytes())
    damaged, restored = tmp_path / "a", tmp_path / "b"
    restore = ["restore", damaged, "-o", restored, "--steps", "1", *TINY_128]
    for arguments in (["apply", tmp_path / "in", "-o", damaged, "--op", "jpeg:40"], restore):
        exit_code, errors = start(tmp_path, *arguments)
        assert exit_code == 0, errors
    stem = os.path.splitext(os.fsencode(name))[0]
    assert os.path.exists(os.path.join(os.fsencode(tmp_path), b"b", stem + b".sheet.png"))


def encoded(kind):
    image, buffer = Image.open(AVATARS / "000.png").convert("RGB").resize((40, 30)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
    image.save(buffer, kind, **more)
    return buffer.getvalue()


VALID = {kind: encoded(kind) for kind in FORMATS}


@cases(200)
@given(st.data())
def test_damaged_pictures_are_read_or_refused(data):
    content = bytearray(VALID[data.draw(st.sampled_from(FORMATS))])
    for _ in range(data.draw(st.integers(0, 6))):
        content[
            data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(120, len(content) - 1)))
        ] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = picture(bytes(content), "some.png")
        except ValueError as error:
            assert str(error).startswith("some.png ") and "\n" not in str(error)
        else:
            assert found.mode == "RGB" and 0 < found.width * found.height <= PIXELS


def test_results_have_distinct_names_beside_kept_suffixes(tmp_path):
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        (tmp_path / name).write_bytes(VALID["PNG"])
    results = {source.path.name: str(source.result_name(".json")) for source in gather([tmp_path])}
    assert results == {
        "a.jpg": "a.jpg.json",
        "a.png": "a.png.json",
        "a.jpg.png": "a.jpg.png.json",
        "b.png": "b.json",
    }


def test_gather_counts_a_file_once_and_its_link_as_the_same(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(VALID["PNG"])
    (tmp_path / "link").symlink_to(tmp_path / "in")
    found = gather([tmp_path / "in", tmp_path / "in" / "a.png", tmp_path / "link"])
    assert [source.path for source in found] == [tmp_path / "in" / "a.png"]


@pytest.mark.parametrize("kind", FORMATS)
def test_gather_finds_every_readable_format(tmp_path, kind):
    for suffix in SUFFIXES[kind]:
        (tmp_path / f"a{suffix.upper()}").write_bytes(VALID[kind])
    found = gather([tmp_path])
    assert len(found) == len(SUFFIXES[kind])
    assert all(read_image(source.path).shape[1] == 3 for source in found)
