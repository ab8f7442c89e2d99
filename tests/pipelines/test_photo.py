"""A part of a photo: where it lies, what happened to it, and how it is pasted back."""

import io

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import degrade
from degrade import JPEG, Downsample, Place, Pool, Resize, Turn
from pipelines import files
from pipelines.faces import ffhq
from pipelines.padding import padded
from pipelines.photo import Photo
from pipelines.spot import box, centre
from tests.conftest import AVATARS, cases, picture

from .photos import ASTRONAUT, landmarks_of, scene, turned

# Where ------------------------------------------------------------------------


def test_ffhq_square_of_an_upright_face():
    """Half its side is 2 × the distance of the eyes, or 1.8 × that from eyes to mouth."""
    spot = ffhq([(90, 100), (130, 100), (95, 140), (125, 140)])
    assert spot.side == pytest.approx(2 * max(2 * 40, 1.8 * 40))
    middle = numpy.mean(spot.corners(), 0)
    assert middle == pytest.approx(
        (110.5, 104.5)
    )  # a tenth of the way down, counted from the outer corner
    a, b, _, d, e, _ = spot.matrix
    assert (b, d) == (0, 0) and a == e == spot.side
    assert ffhq([(90, 100), (130, 100), (95, 160), (125, 160)]).side == pytest.approx(2 * 1.8 * 60)
    with_nose = ffhq([(90, 100), (130, 100), (3, 3), (95, 140), (125, 140)])
    ibug = numpy.zeros((68, 2))
    ibug[36:42], ibug[42:48], ibug[48], ibug[54] = (90, 100), (130, 100), (95, 140), (125, 140)
    assert with_nose == spot == ffhq([tuple(p) for p in ibug])


@given(st.floats(20, 500), st.floats(-180, 180), st.floats(-50, 500), st.floats(-50, 500))
def test_ffhq_square_follows_the_face(side, degrees, x, y):
    spot = turned(side, degrees, x, y)
    assert ffhq(landmarks_of(spot)).matrix == pytest.approx(spot.matrix, abs=1e-6)


def test_box_is_the_kept_part_of_its_square():
    spot = box(10, 20, 60, 30, 100, 100)
    assert spot.corners() == [(10, 5), (70, 5), (70, 65), (10, 65)]
    assert spot.corners(keep=True) == [(10, 20), (70, 20), (70, 50), (10, 50)]
    assert centre(100, 60).corners() == [(0, 20), (60, 20), (60, 80), (0, 80)]


# What happened to a part ------------------------------------------------------------------------


@given(
    st.sampled_from(
        [
            "jpeg:30",
            "shift:30,-40",
            "shift:3,5 >> jpeg:60 >> shift:-3,-5",
            "resize:200x301 >> resize:300x450",
            "resize:211x317,filter=lanczos >> resize:300x450 >> jpeg:60",
            "turn:1,0 >> jpeg:30 >> turn:3,0",
            "turn:1,1 >> strokes:4,seed=2 >> jpeg:40 >> turn:1,1",
            "deadpixels:0.3,seed=4",
            "codec:webp,50",
            "blur:gaussian,3",
            "blur:defocus,6",
            "perimage(strokes:5,seed=3)",
            "downsample:3 >> jpeg:50 >> resize:300x450",
            "strokes:9,seed=1 >> downsample:2",
        ]
    ),
    st.integers(0, 389),
    st.integers(0, 239),
)
def test_window_operator_equals_the_photos_operator(spec, x, y):
    f = degrade.parse(spec)
    clean = files.read_image(ASTRONAUT)[..., 100:400, 30:480]
    observed = f(clean)
    times = 300 // observed.shape[2]
    spot = box(x // times, y // times, 60 // times, 60 // times, *observed.shape[2:])
    photo = Photo(observed, f, spot)
    assert photo.enlarged == times
    rows, columns = photo.window
    part = photo.happened(
        clean[
            ...,
            rows.start * times : rows.stop * times,
            columns.start * times : columns.stop * times,
        ]
    )
    left, top = (round(at) for at in spot.corners()[0])
    side = 60 // times
    here = (
        ...,
        slice(top - rows.start, top - rows.start + side),
        slice(left - columns.start, left - columns.start + side),
    )
    there = observed[..., top : top + side, left : left + side]
    assert (part[here] - there).abs().max() < (
        0.02 if "downsample" in spec else 1e-6
    )  # a block at the window's edge


@pytest.mark.parametrize("size", [(96, 128), (100, 61)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_window_of_a_turned_jpeg_is_exact(tmp_path, size, orientation):
    """A viewer shows the photo upright; its blocks were cut as it lay."""
    turns = {1: (0, 0), 2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}
    lying = Image.fromarray(
        numpy.random.default_rng(0).integers(0, 256, (*size, 3), dtype=numpy.uint8)
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / "a.jpg", quality=40, exif=exif)
    upright = files.read_image(tmp_path / "a.jpg")
    turn = Turn(*turns[orientation])
    f = turn.inverse >> JPEG.from_file(tmp_path / "a.jpg") >> turn
    clean = turn(files.from_pil(lying))
    assert torch.equal(f(clean), upright)
    photo = Photo(upright, f, box(20, 20, 40, 40, *upright.shape[2:]))
    part = photo.happened(clean[(..., *photo.window)])
    # inside the window chroma is interpolated across its border alone
    assert torch.equal(part[..., 2:-2, 2:-2], upright[(..., *photo.window)][..., 2:-2, 2:-2])


# The problem ------------------------------------------------------------------------


def test_problem_keeps_the_photos_own_pixels():
    spot = turned(110, 17, 400, 150)
    clean = scene(spot)
    observed = JPEG(30)(clean)
    photo = Photo(observed, JPEG(30), spot)
    y, f = photo.problem(128)
    assert torch.equal(y, observed[(..., *photo.window)])
    assert all(s.start % 16 == 0 and s.stop % 16 == 0 for s in photo.window)
    # the avatar itself explains the observation, but for the photo's own blocks around it
    predicted = f(files.read_image(AVATARS / "003.png"))
    inside = Place(spot.matrix, (512, 512)).visible((1, 3, 128, 128))[(..., *photo.window)]
    inside = torch.nn.functional.avg_pool2d(inside, 35, 1, 17, count_include_pad=False) == 1
    assert inside.sum() > 2000
    assert (predicted - y).abs()[inside.expand_as(y)].max() == 0
    assert (predicted - y).abs().mean() < 0.01


def test_problem_is_reduced_to_the_generators_size():
    photo = Photo(files.read_image(ASTRONAUT), JPEG(90), centre(512, 512))
    y, f = photo.problem(128)
    assert y.shape == (1, 3, 128, 128) and torch.equal(y, Pool(4)(photo.observed))
    assert f.output_shape((1, 3, 128, 128)) == y.shape and f[-1] == Pool(4)
    for side, reduced in ((255, 1), (256, 2), (383, 2)):  # never below what is drawn
        _, f = Photo(photo.observed, JPEG(90), box(0, 0, side, side, 512, 512)).problem(128)
        assert (f[-1] if reduced > 1 else Pool(1)) == Pool(reduced)


def test_problem_of_a_downsampled_photo():
    photo = Photo(picture(1)[..., :60, :70], Downsample(4) >> JPEG(30), box(10, 10, 30, 30, 60, 70))
    assert photo.enlarged == 4
    y, f = photo.problem(128)
    assert f.output_shape((1, 3, 128, 128)) == y.shape
    assert photo.pasted(picture(0)).shape == (1, 3, 240, 280)
    with pytest.raises(ValueError, match="leads to no picture of 70x60 pixels; check the operator"):
        Photo(photo.observed, degrade.Resize(40), photo.spot)


def test_pasted_square_lies_at_its_rows_and_columns():
    """Of a photo that is wider than high, and a square far right."""
    clean = torch.zeros(1, 3, 64, 200)
    f = Photo(clean, degrade.Identity(), box(150, 10, 40, 40, 64, 200))
    pasted = f.pasted(torch.ones(1, 3, 32, 32))
    rows, columns = pasted[0, 0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 49, 150, 189)


# Back into the photo ------------------------------------------------------------------------


@cases(15)
@given(st.floats(30, 200), st.floats(-180, 180), st.floats(100, 400), st.floats(100, 400))
def test_pasted_keeps_the_photo_outside_the_square(side, degrees, x, y):
    observed, spot = files.read_image(ASTRONAUT), turned(side, degrees, x, y)
    pasted = Photo(observed, JPEG(90), spot).pasted(torch.rand(1, 3, 64, 64))
    outside = (Place(spot.matrix, (512, 512)).visible((1, 3, 64, 64)) == 0).expand_as(observed)
    assert torch.equal(pasted[outside], observed[outside])
    inner = turned(side * 0.8, degrees, x, y)
    covered = (Place(inner.matrix, (512, 512)).visible((1, 3, 64, 64)) == 1).expand_as(observed)
    drawn = Place(spot.matrix, (512, 512))(torch.ones(1, 3, 64, 64) * 0.25)
    white = Photo(observed, JPEG(90), spot).pasted(torch.full((1, 3, 64, 64), 0.25))
    assert torch.allclose(white[covered], drawn[covered], atol=1e-6)


def test_seam_is_smooth_and_absent_at_the_border():
    observed = torch.full((1, 3, 100, 60), 0.25)
    pasted = Photo(observed, degrade.Identity(), centre(100, 60)).pasted(torch.ones(1, 3, 32, 32))
    line = pasted[0, 0, :, 30]
    assert line[:20].eq(0.25).all() and line[26:74].eq(1).all() and line.diff().abs().max() < 0.3
    assert pasted[0, 0, 50].eq(1).all()
    whole = Photo(observed[..., :60, :], degrade.Identity(), centre(60, 60)).pasted(
        torch.ones(1, 3, 32, 32)
    )
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-6)


@pytest.mark.parametrize(("w", "h"), [(490, 16), (16, 490), (300, 40)])
def test_seam_leaves_the_middle_of_a_narrow_box(w, h):
    photo = Photo(torch.zeros(1, 3, 512, 512), degrade.Identity(), box(10, 10, w, h, 512, 512))
    pasted = photo.pasted(torch.ones(1, 3, 64, 64))
    assert pasted[..., 10 + h // 2, 10 + w // 2].eq(1).all()
    assert pasted[..., 10 : 10 + h, 10 : 10 + w].mean() > 0.7 and pasted.sum() <= 3 * w * h


def test_seam_is_as_wide_in_an_enlarged_photo():
    """Measured in the photo's own pixels."""
    widths = []
    for times in (1, 4):
        f = degrade.Identity() if times == 1 else Pool(4)
        photo = Photo(torch.zeros(1, 3, 100, 100), f, box(20, 20, 50, 50, 100, 100))
        line = photo.pasted(torch.ones(1, 3, 64, 64))[0, 0, 45 * times]
        widths.append(((line > 0.01) & (line < 0.99)).sum().item() / times)
    assert widths[0] == pytest.approx(widths[1], rel=0.35) and widths[0] > 4


def test_aligned_maps_pixels_across_the_border():
    """A photo whose colours are its coordinates, so that each pixel tells where it comes from."""
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(200.0), indexing="ij")
    photo = Photo(
        torch.stack([columns / 255, rows / 255, rows * 0])[None],
        degrade.Identity(),
        turned(80, 20, 185, 25),
    )
    part = photo.aligned(80)[0] * 255
    a, b, c, d, e, f = photo.spot.matrix
    v, u = torch.meshgrid(
        (torch.arange(80) + 0.5) / 80, (torch.arange(80) + 0.5) / 80, indexing="ij"
    )
    x, y = a * u + b * v + c - 0.5, d * u + e * v + f - 0.5
    inside = (x > 30) & (x < 165) & (y > 30) & (y < 90)  # beyond the blur of the border
    assert inside.sum() > 500
    assert (part[0] - x)[inside].abs().max() < 0.6 and (part[1] - y)[inside].abs().max() < 0.6


def test_aligned_equals_pillows_quad_transform():
    spot = turned(150, 20, 222, 120)
    photo = Photo(files.read_image(ASTRONAUT), degrade.Identity(), spot)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = spot.corners()
    quad = (x0, y0, x3, y3, x2, y2, x1, y1)  # Pillow goes round the other way
    theirs = Image.open(ASTRONAUT).transform((150, 150), Image.QUAD, quad, Image.BILINEAR)
    away = photo.aligned(150)[0].permute(1, 2, 0).numpy() * 255 - numpy.array(theirs).astype(float)
    assert abs(away).max() <= 1.01


def test_padded_reflects_and_fades_to_the_median():
    photo = files.read_image(ASTRONAUT)
    inside, added = padded(photo, turned(100, 0, 250, 250))
    assert inside is photo and added == (0, 0)
    wide, (left, top) = padded(photo, turned(200, 0, 20, 500))
    assert (
        left >= 80 and top == 60 and wide.shape[3] > 512 + left and wide.shape[2] >= top + 512 + 88
    )
    near = wide[..., top + 40 : top + 400, left + 40 : left + 480]
    assert torch.allclose(near, photo[..., 40:400, 40:480], atol=1e-6)
    median = photo.flatten(2).median(2).values
    assert torch.allclose(
        wide[0, :, 0, 0], wide.new_tensor([wide[0, c].median() for c in range(3)]), atol=0.1
    )
    assert median.shape == (1, 3)
    assert padded(torch.rand(1, 3, 1, 30), turned(9, 0, 15, 0))[0].isfinite().all()


def test_keep_visible_reproduces_the_observed_jpeg():
    """Pillow saves the result as JPEG again: the pixels of the observed photo come back."""
    spot = turned(110, 17, 400, 150)
    buffer = io.BytesIO(
        files.encode(files.to_pil(scene(spot)), "JPEG", quality=25, subsampling="4:2:0")
    )
    observed = files.from_pil(Image.open(buffer))
    photo = Photo(observed, JPEG(25), spot)
    x = files.read_image(AVATARS / "001.png")  # somebody else
    free, kept = (
        files.from_pil(
            Image.open(
                io.BytesIO(files.encode(files.to_pil(y), "JPEG", quality=25, subsampling="4:2:0"))
            )
        )
        for y in (photo.pasted(x), photo.pasted(x, consistent=True))
    )
    inside = Place(spot.matrix, (512, 512)).visible((1, 3, 128, 128))
    whole = (
        torch.nn.functional.avg_pool2d(inside, 35, 1, 17, count_include_pad=False) == 1
    ).expand_as(free)  # blocks
    assert (free != observed)[whole].sum() > 3000 and torch.equal(kept[whole], observed[whole])
    result = photo.pasted(x, consistent=True)
    assert (result != observed)[whole].sum() > 3000  # and it is not the observation itself
    assert torch.equal(
        result[(inside == 0).expand_as(result)], observed[(inside == 0).expand_as(result)]
    )


@pytest.mark.parametrize(
    "spec", ["strokes:8,seed=3", "downsample:4", "resize:256 >> resize:512", "jpeg:60"]
)
def test_keep_visible_changes_only_the_square(spec):
    f = degrade.parse(spec)
    observed = f(files.read_image(ASTRONAUT))
    times = 512 // observed.shape[2]
    spot = box(200 // times, 160 // times, 96 // times, 96 // times, *observed.shape[2:])
    photo = Photo(observed, f, spot)
    free, kept = (
        photo.pasted(files.read_image(AVATARS / "003.png"), kept) for kept in (False, True)
    )
    outside = torch.ones_like(free, dtype=torch.bool)
    outside[..., 160:256, 200:296] = False
    assert torch.equal(free[outside], kept[outside])
    whole = observed if times == 1 else Resize((512, 512))(observed)
    assert torch.equal(free[outside], whole[outside].clamp(0, 1))
    assert (f(kept) - observed).abs().mean() < 0.7 * (f(free) - observed).abs().mean()
