"""A face by a generator, everything else by the photo prior; and what is refused."""

import json

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import degrade
from degrade import Place
from invert.networks.drunet import UNetRes
from pipelines import atomic, files, job
from pipelines.faces import Face, choose_all, read_landmarks
from tests.conftest import AVATARS

from .photos import ASTRONAUT, landmarks_of, turned
from .shell import AVATARS_128, TINY_128, apply, contents, pixels, run

SPOTS = (turned(40, 10, 32, 30), turned(36, -5, 88, 34))
DAMAGE = "jpeg:30"


@pytest.fixture
def scene(tmp_path):
    """A small photo with two avatars in it, damaged; and the landmarks of both."""
    photo = files.from_pil(Image.open(ASTRONAUT).convert("RGB").crop((60, 300, 180, 364)))
    for spot, name in zip(SPOTS, ("003.png", "011.png"), strict=True):
        photo = Place(spot.matrix, (64, 120), photo)(files.read_image(AVATARS / name))
    atomic.write(tmp_path / "clean.png", files.encode(files.to_pil(photo)))
    apply(tmp_path / "clean.png", output=tmp_path / "in", op=DAMAGE)
    (tmp_path / "in" / "clean.json").unlink()
    points = [[list(map(float, point)) for point in landmarks_of(spot)] for spot in SPOTS]
    (tmp_path / "both.json").write_text(json.dumps(points))
    (tmp_path / "one.json").write_text(json.dumps(points[0]))
    return tmp_path / "in" / "clean.jpg"


def with_faces(scene, output, landmarks, *more):
    command = ["restore", scene, "-o", output, "--op", DAMAGE, "--face-prior", "avatars-128"]
    command += ["--align", "ffhq", "--landmarks", scene.parent.parent / landmarks]
    return run(*command, "--perceptual", "alex", *more)


def changed(first, second):
    """Where two pictures differ, [h, w]."""
    return (pixels(first) != pixels(second)).any(2)


def test_face_prior_draws_each_face_on_its_own_pixels(scene, tmp_path):
    out = tmp_path / "faces"
    result = with_faces(scene, out, "both.json", "--steps", 2)
    assert result.exit_code == 0, result.output
    assert f"everything else: method pnp, prior photo; assumed {DAMAGE}" in result.stderr
    for number in (1, 2):
        assert f"face {number}: prior avatars-128, method calibrated" in result.stderr
    assert result.stderr.count("1 of 1") == 1  # one progress bar
    names = {path.name for path in out.iterdir()}
    suffixes = (".png", ".part.png", ".sheet.png", ".latent.safetensors", ".json")
    assert names == {f"clean{suffix}" for suffix in suffixes}
    assert Image.open(out / "clean.part.png").size == (256, 128)
    assert len(load_file(out / "clean.latent.safetensors")["latent"]) == 2
    log = json.loads((out / "clean.json").read_text())
    assert log["method"] == "pnp" and log["face_method"] == "calibrated" and len(log["faces"]) == 2
    assert len(log["loss"]) == 2 and len(log["unexplained"]) == 2

    plain = run("restore", scene, "-o", tmp_path / "plain", "--op", DAMAGE)
    assert plain.exit_code == 0, plain.output
    difference = changed(out / "clean.png", tmp_path / "plain" / "clean.png")
    squares = [Place(spot.matrix, (64, 120)).visible((1, 3, 128, 128)) for spot in SPOTS]
    inside = numpy.maximum(*[square[0, 0].numpy() > 0 for square in squares])
    assert not difference[~inside].any() and difference[inside].mean() > 0.5

    first = contents(out)
    again = with_faces(scene, out, "both.json", "--steps", 2)
    assert "1 already done, skipped" in again.stderr and contents(out) == first
    other = with_faces(scene, out, "one.json", "--steps", 2)
    assert other.exit_code == 2 and "add --overwrite" in other.stderr


@pytest.mark.slow
def test_face_prior_that_explains_too_little_is_not_pasted(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "QUICK_LOOK", 0)
    monkeypatch.setattr(job, "unexplained", lambda *_: 0.9)
    out = tmp_path / "faces"
    torch.save(UNetRes(3, (4, 4, 4, 4), 1).state_dict(), tmp_path / "any.pth")
    rest = ("--prior", tmp_path / "any.pth")
    result = with_faces(scene, out, "one.json", "--steps", 1, *rest)
    assert result.exit_code == 0, result.output
    assert "face: prior avatars-128, method calibrated; refused: " in result.stderr
    assert json.loads((out / "clean.json").read_text())["refused"] == [1]
    plain = run("restore", scene, "-o", tmp_path / "plain", "--op", DAMAGE, *rest)
    assert plain.exit_code == 0
    assert not changed(out / "clean.png", tmp_path / "plain" / "clean.png").any()
    forced = with_faces(scene, out, "one.json", "--steps", 1, *rest, "--force")
    assert forced.exit_code == 0 and "look at the result" in forced.stderr
    assert changed(out / "clean.png", tmp_path / "plain" / "clean.png").any()


def test_generator_refuses_what_it_cannot_draw(tmp_path):
    """A space suit is no avatar."""
    suit = Image.open(ASTRONAUT).convert("RGB").crop((60, 250, 316, 506)).resize((128, 128))
    suit.save(tmp_path / "suit.jpg", quality=40)
    command = ["restore", tmp_path / "suit.jpg", "-o", tmp_path / "r", *AVATARS_128]
    refused = run(*command, "--steps", job.QUICK_LOOK)
    assert refused.exit_code == 2 and "refused, and nothing was written" in refused.stderr
    assert "--prior photo restores any" in refused.stderr and not (tmp_path / "r").exists()


def test_generator_result_refused_is_written_by_force(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "QUICK_LOOK", 0)
    monkeypatch.setattr(job, "unexplained", lambda *_: 1.2)
    command = ["restore", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp", "--steps", 1]
    refused = run(*command, *AVATARS_128)
    assert refused.exit_code == 2
    assert "a plain colour explains the picture better" in refused.stderr
    forced = run(*command, *AVATARS_128, "--force")
    assert forced.exit_code == 0 and "leaves 120% of what it shows unexplained" in forced.stderr
    assert run(*command, *AVATARS_128).exit_code == 0  # it is there already


@pytest.mark.parametrize(("share", "is_told"), [(0.9, True), (0.1, False)])
def test_quick_look_that_explains_too_little_is_written(tmp_path, monkeypatch, share, is_told):
    monkeypatch.setattr(job, "unexplained", lambda *_: share)
    command = ["restore", AVATARS / "000.png", "-o", tmp_path, "--op", "clamp", "--steps", 1]
    result = run(*command, *TINY_128)
    assert result.exit_code == 0 and (tmp_path / "000.png").exists()
    told = "drawn images that leave more than 40% of what their picture shows unexplained: 1; they"
    assert (told in result.stderr) == is_told
    assert result.stderr.count("note:") == is_told
    assert "note" not in run(*command, *TINY_128, "--quiet", "--overwrite").stderr


def test_generator_accepts_what_it_draws(tmp_path):
    apply(AVATARS / "005.png", output=tmp_path / "o", op="downsample:2 >> poisson:48 >> jpeg:18")
    result = run(
        "restore", tmp_path / "o", "-o", tmp_path / "r", *AVATARS_128, "--steps", job.QUICK_LOOK
    )
    assert result.exit_code == 0 and "note" not in result.stderr, result.output
    log = json.loads((tmp_path / "r" / "005.json").read_text())
    assert log["unexplained"][0] < job.MOST_UNEXPLAINED / 2 and log["refused"] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prior", "avatars-128"], "--prior a denoiser for the rest"),
        (["--face-prior", "photo"], "--face-prior names a generator"),
        ([], "needs to know where the face is; add --align ffhq"),
    ],
)
def test_face_prior_options_that_fail_are_one_line(tmp_path, options, words):
    face_prior = [] if "--face-prior" in options else ["--face-prior", "avatars-128"]
    command = ["restore", ASTRONAUT, "-o", tmp_path / "r", "--op", "jpeg:90", "--quiet"]
    result = run(*command, *face_prior, *options)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_choose_all_takes_every_certain_face():
    sure, less, hardly = (Face([], score) for score in (1.7, 0.6, 0.1))
    assert choose_all([sure, less, hardly], None) == ([sure, less], None)
    assert choose_all([sure, less], 2) == ([less], None)
    faces, message = choose_all([hardly], None)
    assert faces == [hardly] and "not sure" in message
    faces, message = choose_all([], None)
    assert faces == [] and "the whole photo is restored without one" in message


def test_landmarks_of_one_or_several_faces(tmp_path):
    one = [[1, 2], [3, 2], [1, 4], [3, 4]]
    path = tmp_path / "points.json"
    for content, count in ((one, 1), ([one, one], 2), ({"a.png": [one, one]}, 2)):
        path.write_text(json.dumps(content))
        faces = read_landmarks(path, tmp_path / "a.png", 8, 8)
        assert len(faces) == count and faces[0] == [(1, 2), (3, 2), (1, 4), (3, 4)]


def test_border_that_a_guess_loses_is_the_photos_own():
    """The blocks of a JPEG before a crop lie on a shifted grid; nothing was lost at the border."""
    observed = files.read_image(AVATARS / "000.png")
    f = degrade.parse("shift:3,5 >> jpeg:30 >> shift:-3,-5")
    blank = torch.zeros_like(observed)
    hidden = torch.zeros_like(observed, dtype=torch.bool)
    hidden[..., -3:, :] = True
    hidden[..., -5:] = True
    for guessed in (True, False):
        restore_job = job.RestoreJob("a.png", observed, f, f, (), [0], None, guessed=guessed)
        result = restore_job.with_border(blank)
        assert (result[~hidden] == 0).all()
        assert torch.equal(result[hidden], observed[hidden] if guessed else blank[hidden])
