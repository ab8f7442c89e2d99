"""A chain and its picture as text to copy: for a shell, for Python, as JSON."""

from __future__ import annotations

import json
import shlex

from degrade import Operator
from degrade.serial import to_json

PYTHON = """\
import numpy
from PIL import Image

import degrade
from degrade.imagefile import contents, picture
from degrade.rng import child_seed

f = degrade.parse({text!r})
image = picture(contents({name!r}), {name!r}, channels=None, deep=True)
pixels = degrade.PictureTransform(f)(numpy.array(image), child_seed({seed}, {name!r}))
Image.fromarray(pixels).save("degraded.png")
"""


def shell(operator: Operator, name: str, seed: int) -> str:
    """The command that writes the same bits. name: of the picture's file, which decides draws."""
    path = f"./{name}" if name.startswith("-") else name  # not to be read as an option
    arguments = ["degrade", "apply", path, "-o", "degraded", "--op", str(operator)]
    return shlex.join([*arguments, "--seed", str(seed)])


def python(operator: Operator, name: str, seed: int) -> str:
    """A script that writes the same pixels."""
    return PYTHON.format(text=str(operator), name=name, seed=seed)


def as_json(operator: Operator) -> str:
    """The JSON form, for `degrade.from_json`."""
    return json.dumps(to_json(operator), indent=2)
