"""`degrade restore` of a part of a photo: a face, a box, or the middle."""

import json

import numpy
import pytest
import torch

import degrade
import invert
from degrade import Place
from pipelines import atomic, files
from pipelines.photo import Photo

from .photos import ASTRONAUT, landmarks_of, scene, turned
from .shell import AVATARS_128, TINY_128, apply, contents, pixels, run

QUICK = ["--steps", 2, *TINY_128]
FACES = ["--steps", 2, *AVATARS_128]


@pytest.mark.slow
def test_restored_tilted_face_is_nearer_to_the_truth(tmp_path):
    spot = turned(110, 17, 400.3, 150.7)
    atomic.write(tmp_path / "scene.png", files.encode(files.to_pil(scene(spot))))
    (tmp_path / "points.json").write_text(
        json.dumps({"scene.jpg": [list(map(float, p)) for p in landmarks_of(spot)]})
    )
    spec = "gaussian:0.2 >> clamp >> quantize >> jpeg:30"
    assert apply(tmp_path / "scene.png", output=tmp_path / "in", op=spec).exit_code == 0
    command = [
        "restore",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--align",
        "ffhq",
        "--clean",
        tmp_path,
    ]
    command += ["--landmarks", tmp_path / "points.json", "--steps", 24, *AVATARS_128]
    assert run(*command).exit_code == 0
    first = contents(tmp_path / "out")
    assert (
        run(*command).exit_code == 0 and contents(tmp_path / "out") == first
    )  # nothing is solved again
    assert set(first[0]) == {
        f"scene{s}" for s in (".png", ".part.png", ".sheet.png", ".latent.safetensors", ".json")
    }

    pictures = [
        files.read_image(tmp_path / path) for path in ("scene.png", "in/scene.jpg", "out/scene.png")
    ]
    faces = [Photo(x, degrade.Identity(), spot).aligned(128) for x in pictures]
    observed, restored = (
        invert.perceptual.lpips(face, faces[0], net="vgg").item() for face in faces[1:]
    )
    assert restored < 0.9 * observed
    outside = (Place(spot.matrix, (512, 512)).visible((1, 3, 128, 128)) == 0).expand_as(pictures[0])
    assert torch.equal(pictures[2][outside], pictures[1][outside])


def test_photo_without_options_restores_its_middle(tmp_path):
    """What happened is guessed from the file, and said."""
    result = run("restore", ASTRONAUT, "-o", tmp_path / "out", *QUICK)
    assert (
        result.exit_code == 0
        and "estimated degradation: jpeg:90,subsampling=4:4:4" in result.stderr
    )
    assert "place:" in json.loads((tmp_path / "out" / "astronaut.json").read_text())["assumed"]
    assert pixels(tmp_path / "out" / "astronaut.png").shape == (512, 512, 3)


@pytest.mark.slow
def test_photo_samples_come_with_their_spread(tmp_path):
    command = [
        "restore",
        ASTRONAUT,
        "-o",
        tmp_path,
        "--op",
        "jpeg:90",
        "--box",
        "100,50,96,64",
        "--samples",
        3,
        *FACES,
    ]
    assert run(*command).exit_code == 0
    drawn = [
        pixels(tmp_path / f"astronaut{i}.part.png") / 255 for i in ("", ".sample2", ".sample3")
    ]
    spread = numpy.std(drawn, 0).mean(-1) / 0.25
    sheet = pixels(tmp_path / "astronaut.sheet.png")
    tile = sheet[26 : 26 + 256, -264:-8][::2, ::2, 0] / 255  # each pixel is shown twofold
    assert abs(tile - spread.clip(0, 1)).max() < 0.01 and spread.max() > 0.1
    before = pixels(ASTRONAUT)
    for name in ("astronaut", "astronaut.sample2", "astronaut.sample3"):
        changed = (pixels(tmp_path / f"{name}.png") != before).any(-1).nonzero()
        assert (
            changed[0].min() >= 50
            and changed[0].max() < 114
            and changed[1].min() >= 100
            and changed[1].max() < 196
        )
    assert run(*command[: -2 - len(FACES)], "--samples", 2, "--overwrite", *FACES).exit_code == 0
    assert not any("sample3" in file for file in contents(tmp_path)[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--box", "500,10,40,40"], "box=500,10,40,40 is not within the photo's 512x512 pixels"),
        (["--box", "1,2,3"], "box=1,2,3 must be four numbers x,y,w,h"),
        (["--box", "nan,2,3,4"], "box=nan,2,3,4 is not within"),
        (["--box", "10,10,4,4"], "is 4 pixels wide; it takes at least 8"),
        (["--align", "celeba"], "align='celeba' must be ffhq"),
        (["--face", "1"], "landmarks and face belong to --align ffhq"),
        (["--align", "ffhq", "--box", "1,2,30,40"], "box=1,2,30,40 takes the place of a face"),
        (["--align", "ffhq", "--landmarks", "{points}", "--face", "1"], "leave one of them out"),
        (["--align", "ffhq", "--landmarks", "{missing}"], "cannot be read"),
        (["--op", "crop:3,5"], "leads to no picture of 512x512 pixels"),
        (["--op", "downsample:17"], "reduce or crop the photo"),
    ],
)
def test_photo_options_that_fail_are_one_line(tmp_path, options, said):
    (tmp_path / "points.json").write_text("[[1, 2], [3, 4], [5, 6], [7, 8]]")
    options = [
        o.format(points=tmp_path / "points.json", missing=tmp_path / "x.json") for o in options
    ]
    op = [] if "--op" in options else ["--op", "jpeg:90"]
    result = run("restore", ASTRONAUT, "-o", tmp_path / "out", *op, *options, *QUICK, "--quiet")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1, (
        result.stderr
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[1, 2]]", "1 landmarks; give 4"),
        ("[[1, 2], [3, 4], [600, 6], [7, 8]]", "the landmark 600, 6 lies outside"),
        ("[[1, 2], [3, 4], [NaN, 6], [7, 8]]", "lies outside"),
        ("{}", "has no landmarks of astronaut.jpg"),
        ("[1, 2, 3, 4]", "holds no landmarks; write [[x, y], …]"),
        ("[" * 100_000, "holds no landmarks"),
        ("", "holds no"),
        ('{"astronaut.jpg": 5}', "holds no landmarks"),
        (f"[[1{'0' * 400}, 2]]", "holds no landmarks"),
        ("[[130, 100], [90, 100], [125, 140], [95, 140]]", "left before right"),
        ("[[5, 5], [5, 5], [5, 5], [5, 5]]", "not those of a face"),
    ],
)
def test_landmarks_that_fail_are_one_line(tmp_path, text, said):
    (tmp_path / "points.json").write_text(text)
    options = ["--align", "ffhq", "--landmarks", tmp_path / "points.json", "--op", "jpeg:90"]
    result = run("restore", ASTRONAUT, "-o", tmp_path / "out", *options, *QUICK, "--quiet")
    assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1, (
        result.stderr
    )
