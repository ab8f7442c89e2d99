"""A picture drawn into another: against Pillow, closed forms, and the law of the adjoint."""

import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from degrade import JPEG, Downsample, Mask, Place, Pool, from_json, parse, to_json
from tests.conftest import AVATARS, rng


def turned(side, degrees, x, y):
    """A square of `side` pixels about (x, y), turned clockwise as one looks at it."""
    c, s = side * math.cos(math.radians(degrees)), side * math.sin(math.radians(degrees))
    return (c, -s, x - (c - s) / 2, s, c, y - (s + c) / 2)


def test_place_onto_same_square_changes_nothing():
    x = torch.rand(2, 3, 17, 17, generator=rng(), dtype=torch.float64)
    assert torch.allclose(Place((17, 0, 0, 0, 17, 0), 17)(x), x, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_place_reduction_is_mean_of_each_cell(factor):
    x = torch.rand(1, 3, 24, 48, generator=rng(), dtype=torch.float64)
    f = Place((48 // factor, 0, 0, 0, 24 // factor, 0), (24 // factor, 48 // factor))
    assert torch.allclose(f(x), Pool(factor)(x), atol=1e-12)


def test_place_corners_follow_matrix():
    x = torch.zeros(1, 1, 64, 64)
    x[..., :32, :32] = 1  # the top left quarter
    y = Place(turned(40, 90, 30, 50), (90, 60))(x)[0, 0]
    # clockwise by a quarter: top left comes to the top right
    assert y[35:45, 35:45].min() == 1 and y[35:45, 15:25].max() == 0 and y[55:65].max() == 0


def test_place_equals_pillow_affine_map():
    """Pillow samples bilinearly at pixels' centres, in coordinates of the result."""
    photo = Image.open(AVATARS / "001.png").convert("RGB")
    x = torch.from_numpy(numpy.array(photo)).permute(2, 0, 1)[None].double() / 255
    matrix = turned(300, 25, 128, 120)
    a, b, c, d, e, f = matrix
    area = (a * e - b * d) / 128
    back = (
        e / area,
        -b / area,
        (b * f - e * c) / area,
        -d / area,
        a / area,
        (d * c - a * f) / area,
    )
    theirs = numpy.array(photo.transform((256, 240), Image.AFFINE, back, Image.BILINEAR)).astype(
        float
    )
    ours = Place(matrix, (240, 256))(x)[0].permute(1, 2, 0).numpy() * 255
    inside = Place(matrix, (240, 256)).visible(x.shape)[0, 0].numpy() == 1
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    assert inside.sum() > 30_000 and abs(ours - theirs)[inside].max() <= 1.01


@given(
    st.floats(3, 60),
    st.floats(-180, 180),
    st.floats(-10, 40),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_place_adjoint_is_transpose(side, degrees, at, height, width):
    f, x = (
        Place(turned(side, degrees, at, at), (20, 30)),
        torch.rand(1, 2, height, width, dtype=torch.float64),
    )
    y = torch.randn(1, 2, 20, 30, dtype=torch.float64)
    assert torch.allclose(
        (f(x) * y).sum(), (x * f.adjoint(y, x.shape)).sum(), rtol=1e-9, atol=1e-12
    )


@given(st.floats(5, 30), st.floats(-180, 180))
def test_place_visible_is_coverage(side, degrees):
    f = Place(turned(side, degrees, 25, 25), (50, 50))
    seen = f.visible((1, 3, 16, 16))
    assert seen.sum().item() == pytest.approx(
        side**2, abs=1
    )  # its area, but for what corners cut of a pixel
    assert torch.allclose(f(torch.ones(1, 3, 16, 16)), seen, atol=1e-6)


def test_place_keeps_onto_around_image():
    around = torch.rand(1, 3, 50, 60, generator=rng())
    f = Place(turned(20, 30, 30, 25), (50, 60), around)
    x = torch.rand(2, 3, 16, 16, generator=rng(1))
    away = f.visible((2, 3, 16, 16)) is None and Place(f.matrix, f.size).visible(x.shape) == 0
    assert torch.equal(
        f(x)[away.expand(2, 3, -1, -1)], around.expand(2, -1, -1, -1)[away.expand(2, 3, -1, -1)]
    )
    assert not f.linear and f(x).shape == (2, 3, 50, 60)
    seen = (f >> JPEG(50)).visible((1, 3, 16, 16), torch.zeros(1, 1, 16, 16))
    assert torch.allclose(
        seen, away.float().where(away, 1 - Place(f.matrix, f.size).visible(x.shape))
    )


def test_place_reduction_is_antialiased():
    """Stripes too fine for the result become their mean."""
    x = (torch.arange(256) % 2).float().expand(1, 1, 256, 256)
    y = Place(turned(40, 20, 32, 32), (64, 64))(x)[..., 25:40, 25:40]
    assert (y - 0.5).abs().max() < 0.06
    assert (Downsample(4)(x) - 0.5).abs().max() < 0.06
    for flat in (x[..., :8, :], x[..., :8, :].mT):  # of another aspect: fine along one axis only
        assert (
            Place(turned(40, 0, 32, 32), (64, 64))(flat)[..., 25:40, 25:40] - 0.5
        ).abs().max() < 0.06
    large = Place(turned(50, 20, 1500, 1000), (2000, 2000))(x)[
        ..., 990:1010, 1490:1510
    ]  # much around it is not sampled
    assert (large - 0.5).abs().max() < 0.06


def test_place_round_trips_with_onto(tmp_path):
    around = (torch.rand(1, 3, 6, 9, generator=rng()) * 255).round() / 255
    f = Place((3, 0, 1, 0, 3, 1), (6, 9), around) >> JPEG(50)
    record = to_json(f, tmp_path)
    assert from_json(record, tmp_path) == f and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="holds a tensor"):
        to_json(f)
    Image.fromarray((around[0].permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "a.png")
    g = parse(f"place:3|0|1|0|3|1,6x9,onto={tmp_path / 'a.png'}")
    x = torch.rand(1, 3, 5, 5)
    assert g == f[0] and hash(g) == hash(f[0]) and torch.equal(g(x), f[0](x))
    assert g != Place((3, 0, 1, 0, 3, 1), (6, 9)) and g != Place((3, 0, 2, 0, 3, 1), (6, 9), around)
    assert g != Mask(torch.ones(1, 1, 6, 9))
    two = Place(f[0].matrix, (6, 9), torch.cat([around, 1 - around]))
    x = torch.rand(2, 3, 5, 5)
    assert torch.equal(two(x)[1:], two.row(1, 2)(x[1:]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((1, 0, 0, 0, 1), 4), "matrix=(1, 0, 0, 0, 1) must be six numbers"),
        ((3, 4), "matrix=3 must be six numbers"),
        (((2, 4, 0, 1, 2, 0), 4), "leaves no area"),
        (((math.nan, 0, 0, 0, 1, 0), 4), "matrix="),
        (((1, 0, 0, 0, 1, 0), "4xa"), "size="),
        (((1, 0, 0, 0, 1, 0), (4, 5, 6)), "has 3 sides; give (h, w), or one for a square"),
        (((1, 0, 0, 0, 1, 0), (60000, 60000)), "size=(60000, 60000) must be (h, w)"),
        (((1, 0, 0, 0, 1, 0), 4, torch.zeros(4, 4)), "onto has shape [4, 4]"),
        (((1, 0, 0, 0, 1, 0), 4, torch.full((1, 3, 4, 4), 2.0)), "onto has values outside [0, 1]"),
        (((1, 0, 0, 0, 1, 0), 4, 5), "onto=5 must be a tensor"),
    ],
)
def test_place_errors_are_one_line(arguments, said):
    with pytest.raises(ValueError, match="^[^\n]*$") as error:
        Place(*arguments)
    assert said in str(error.value)


def test_place_rejects_onto_of_other_size():
    f = Place((3, 0, 1, 0, 3, 1), (6, 9), torch.rand(1, 3, 6, 8))
    with pytest.raises(
        ValueError, match=r"onto is \[1, 3, 6, 8\]; give \[1, 3, 6, 9\], or one for all"
    ):
        f(torch.rand(1, 3, 5, 5))


def test_place_without_onto_is_read_from_folder(tmp_path):
    f = Place((8, 0, 0, 0, 8, 0), (8, 8))
    record = to_json(f, tmp_path)
    assert from_json(record, tmp_path) == f == parse(str(f), tmp_path)
    record["stages"][0]["onto"] = None
    assert from_json(record, tmp_path) == f
    for onto in (3, [1, 2], True):
        record["stages"][0]["onto"] = onto
        with pytest.raises(ValueError, match="onto="):
            from_json(record, tmp_path)


@pytest.mark.parametrize("word", ["None", "none", "null"])
def test_word_for_no_file_is_refused(word, tmp_path):
    text = f"place:1|0|0|0|1|0,8x8,onto={word}"
    record = {"name": "place", "matrix": [1, 0, 0, 0, 1, 0], "size": "8x8", "onto": word}
    for folder in (None, tmp_path):
        with pytest.raises(ValueError, match=f"onto={word} is a word and no file; leave onto out"):
            parse(text, folder)
        with pytest.raises(ValueError, match=f"onto={word} is a word and no file"):
            from_json({"version": 1, "stages": [record]}, folder)
        with pytest.raises(ValueError, match=f"mask={word} .*; give the path of a file"):
            parse(f"mask:{word}", folder)
    assert parse(f"mask:./{word}").mask == f"./{word}"
