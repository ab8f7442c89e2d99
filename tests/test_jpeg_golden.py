"""Test JPEG against digests of what other JPEG libraries do, which tests/golden/jpeg.json holds."""

import json

import numpy
import pytest
import torch

from degrade import JPEG, jpeg_bytes, jpeg_coefficients
from degrade.jpeg.encoders import ENCODERS

from .golden.make_jpeg import (
    FILE,
    digest,
    digest_of_coefficients,
    digest_of_pixels,
    picture,
    picture_of,
)

pytestmark = pytest.mark.usefixtures("model_of_jpeg")

CASES = json.loads(FILE.read_text())["cases"]
LIBRARIES = sorted({case["library"] for case in CASES})


def image_of(case):
    return torch.from_numpy(picture_of(case).copy()).permute(2, 0, 1)[None].float() / 255


def pixels_of(y):
    return (y[0] * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("library", LIBRARIES)
def test_golden_digests_are_met(library):
    """Coefficients, decoded pixels and, of Pillow, the bytes of files."""
    for case in CASES:
        if case["library"] != library:
            continue
        x = image_of(case)
        quality, sampling, encoder = case["quality"], case["subsampling"], case["encoder"]
        colour = case.get("colour", "ycbcr")
        f = JPEG(
            quality,
            sampling,
            encoder=encoder,
            decoder=case.get("decoder", "libjpeg-turbo"),
            colour=colour,
        )
        coefficients = jpeg_coefficients(x, quality, sampling, encoder=encoder, colour=colour)
        if "coefficients" in case:
            components = [component[0].numpy() for component in coefficients.components]
            assert digest_of_coefficients(components) == case["coefficients"], case
        if "pixels" in case:
            assert digest_of_pixels(pixels_of(f(x))) == case["pixels"], case
        if "bytes" in case:
            modes = {name: case.get(name, False) for name in ("optimize", "progressive")}
            (file,) = jpeg_bytes(x, quality, sampling, colour=colour, **modes)
            assert digest(file) == case["bytes"], case


def test_golden_file_covers_what_it_should():
    encoders = {case["encoder"] for case in CASES}
    assert encoders == set(ENCODERS)
    assert {case.get("colour", "ycbcr") for case in CASES} == {"ycbcr", "cmyk", "ycck"}
    assert FILE.stat().st_size < 200_000
    assert all({"coefficients", "pixels", "bytes"} & set(case) for case in CASES)


def test_golden_pictures_follow_their_formula():
    """The first numbers of each kind, worked out by hand from docs/jpeg.md."""
    noise = picture("noise", 1, 2, 1, 0).ravel()
    states = [1013904223, (1664525 * 1013904223 + 1013904223) % 2**32]
    assert noise.tolist() == [state >> 24 for state in states]
    assert picture("gradient", 2, 2, 3, 1)[1, 1].tolist() == [9, 94, 179]
    assert picture("checkerboard", 1, 4, 1, 1).ravel().tolist() == [0, 0, 255, 255]
    assert picture("waves", 1, 2, 1, 0).ravel().tolist() == [255, 244]
    assert picture("waves", 1, 1, 3, 0).dtype == numpy.uint8
