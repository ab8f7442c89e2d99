"""Test that H.264 and H.265 give the pixels that PyAV gives when it writes and reads a file."""

import io
import sys
from types import SimpleNamespace

import numpy
import pytest
import torch

from degrade import Codec, Range, parse
from degrade.video import VIDEO

from .conftest import picture, rng


def levels_of(x):
    """Pixels [h, w, 3] of 8 bits of an image [C, H, W]."""
    pixels = (x.permute(1, 2, 0).numpy() * 255).round().astype(numpy.uint8)
    return pixels.repeat(3 // len(x), axis=2)


def through_file(pixels, codec, crf):
    """The pixels [h, w, 3] of even sides after a file of one frame was written and read."""
    av = pytest.importorskip("av", reason="needs the extra degrade[video]")
    height, width, _ = pixels.shape
    file = io.BytesIO()
    with av.open(file, "w", format="nut") as container:
        options = {"crf": str(crf), "threads": "1", "x265-params": "log-level=none"}
        stream = container.add_stream(VIDEO[codec].encoder, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        (frame,) = container.decode(video=0)
        return frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("codec", VIDEO)
@pytest.mark.parametrize("crf", [1, 18, 28, 51])
def test_video_of_photo_equals_pyav(codec, crf):
    x = picture(8)
    theirs = through_file(levels_of(x[0]), codec, crf)
    y = Codec(codec, crf)(x)
    assert numpy.array_equal(levels_of(y[0]), theirs)
    assert torch.equal((y * 255).round() / 255, y) and not torch.equal(x, y)


@pytest.mark.parametrize("codec", VIDEO)
@pytest.mark.parametrize("sides", [(1, 1), (7, 16), (17, 40), (33, 21)])
def test_video_of_odd_or_short_sides_repeats_the_edge(codec, sides):
    height, width = sides
    x = torch.rand(1, 3, height, width, generator=rng())
    larger = [max(n + n % 2, 16) - n for n in sides]
    padded = numpy.pad(levels_of(x[0]), [(0, larger[0]), (0, larger[1]), (0, 0)], mode="edge")
    theirs = through_file(padded, codec, 30)[:height, :width]
    assert numpy.array_equal(levels_of(Codec(codec, 30)(x)[0]), theirs)


@pytest.mark.parametrize("codec", VIDEO)
def test_video_of_grey_equals_that_of_three_equal_channels(codec):
    x = picture(3)[:, :1]
    theirs = through_file(levels_of(x[0]), codec, 35)
    y = Codec(codec, 35)(x)
    assert y.shape == x.shape and numpy.array_equal(levels_of(y[0]), theirs)


@pytest.mark.parametrize("codec", VIDEO)
def test_video_has_a_crf_for_each_image_and_passes_gradients(codec):
    pytest.importorskip("av", reason="needs the extra degrade[video]")
    x = torch.cat([picture(1), picture(2)]).requires_grad_()
    y = Codec(codec, (20, 45))(x)
    for i, crf in enumerate((20, 45)):
        assert torch.equal(y[i : i + 1], Codec(codec, crf)(x[i : i + 1]))
    weight = torch.rand(y.shape, generator=rng(1))
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    assert torch.equal(gradient, weight)


def test_video_refuses_a_crf_that_no_encoder_takes():
    for quality in (0, 52, 101, (20, 60), Range(1, 100)):
        with pytest.raises(ValueError, match="quality=.* must be an integer from 1 to 51"):
            Codec("h264", quality)
    assert Codec("webp", 60).quality == 60


def test_video_refuses_a_side_that_the_encoder_does_not_hold():
    pytest.importorskip("av", reason="needs the extra degrade[video]")
    with pytest.raises(ValueError, match="h264 cannot hold this image of 70000 x 2") as error:
        Codec("h264", 30)(torch.zeros(1, 3, 2, 70000))
    assert "\n" not in str(error.value)


def test_video_without_pyav_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"h265 needs PyAV; pip install 'degrade\[video\]'"):
        parse("codec:h265,28")(picture(0))


def test_video_without_the_encoder_says_so(monkeypatch):
    fake = SimpleNamespace(codecs_available={"mpeg4"}, __version__="0")
    monkeypatch.setitem(sys.modules, "av", fake)
    with pytest.raises(ValueError, match=r"this PyAV \(0\) was built without libx264; install"):
        parse("codec:h264,28")(picture(0))
