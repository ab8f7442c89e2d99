"""A natural photo in which an avatar lies somewhere, turned; and where exactly."""

import math

import numpy

from degrade import Place
from pipelines import files
from pipelines.spot import Spot
from tests.conftest import AVATARS

ASTRONAUT = AVATARS.parent / "photos" / "astronaut.jpg"


def turned(side, degrees, x, y):
    """A square of `side` pixels about (x, y), turned clockwise as one looks at it."""
    c, s = side * math.cos(math.radians(degrees)), side * math.sin(math.radians(degrees))
    return Spot((c, -s, x - (c - s) / 2, s, c, y - (s + c) / 2))


def landmarks_of(spot):
    """Eyes and corners of the mouth that FFHQ's recipe leads from to this square."""
    a, b, c, d, e, f = spot.matrix
    across, down = numpy.array([a, d]), numpy.array([b, e])
    eye = numpy.array([c, f]) - 0.5 + (across + down) / 2 - 0.1 * down / 4
    mouth = eye + down / 4
    return [eye - across / 8, eye + across / 8, mouth - across / 16, mouth + across / 16]


def scene(spot, name="003.png"):
    """A natural photo in which an avatar lies; and where."""
    return Place(spot.matrix, (512, 512), files.read_image(ASTRONAUT))(
        files.read_image(AVATARS / name)
    )
