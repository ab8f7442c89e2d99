"""Where the faces of a photo are, and the square in which a generator of aligned faces draws one."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy
from PIL import Image

from degrade.imagefile import contents

from .photo import Spot, box, centre

_LONGEST = 1600  # of the photo that faces are looked for in; those of 40 pixels and more are found
_SURE = 0.5  # the detector's score above which what it found is hardly ever anything else
Points = list[tuple[float, float]]  # (x, y) in pixels, whole at a pixel's centre, y downward


@dataclass(frozen=True)
class Face:
    points: Points  # 68
    score: float


def ffhq(points: Points) -> Spot:
    """The oriented square of FFHQ's recipe around a face.

    points: both eyes and both corners of the mouth, left before right as one looks at the photo;
    the same with the nose between them (5, as most detectors give them); or the 68 of iBUG.
    Source: the published preparation of FFHQ (Karras et al. 2019, appendix A), after CelebA-HQ.
    """
    if len(points) == 68:
        p = numpy.array(points)
        eyes, mouth = (p[36:42].mean(0), p[42:48].mean(0)), (p[48], p[54])
    elif len(points) in (4, 5):
        p = numpy.array(points)
        eyes, mouth = p[:2], p[-2:]
    else:
        raise ValueError(
            f"{len(points)} landmarks; give 4 (eyes, mouth's corners), 5 (with the nose between), or 68"
        )
    eye, down = (eyes[0] + eyes[1]) / 2, (mouth[0] + mouth[1]) / 2 - (eyes[0] + eyes[1]) / 2
    across = eyes[1] - eyes[0]
    x = across - numpy.array(
        [-down[1], down[0]]
    )  # down, turned by a right angle, points the other way
    if not across[0] * down[1] - across[1] * down[0] > 0:
        raise ValueError(
            "the landmarks are not those of a face: left before right in the photo, eyes before mouth"
        )
    x *= max(math.hypot(*across) * 2.0, math.hypot(*down) * 1.8) / math.hypot(*x)  # half a side
    y = numpy.array([-x[1], x[0]])
    corner = eye + 0.1 * down - x - y + 0.5  # pixels count from their outer corner
    return Spot(tuple(map(float, (2 * x[0], 2 * y[0], corner[0], 2 * x[1], 2 * y[1], corner[1]))))


def read_landmarks(path: Path, photo: Path, width: int, height: int) -> Points:
    """A photo's landmarks from a .json: [[x, y], …], or {"photo.jpg": [[x, y], …], …}."""
    try:
        given = json.loads(contents(path))
        given = given[photo.name] if isinstance(given, dict) else given
        points = [(float(x), float(y)) for x, y in given]
    except KeyError:
        raise ValueError(f"{path} has no landmarks of {photo.name}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(
            f"{path} holds no landmarks; write [[x, y], …] or {{{photo.name!r}: [[x, y], …]}}"
        ) from error
    outside = [
        point for point in points if not (-0.5 <= point[0] < width and -0.5 <= point[1] < height)
    ]
    if outside:
        x, y = outside[0]
        raise ValueError(
            f"{path}: the landmark {x:g}, {y:g} lies outside the photo's {width}x{height} pixels"
        )
    return points


def find(photo: Image.Image) -> list[Face]:
    """The faces of an RGB photo, the surest first. Raises ValueError where the extra `faces` is missing."""
    detect, landmarks = _networks()
    scale = min(1.0, _LONGEST / max(photo.size))
    small = numpy.array(
        photo.resize([max(1, round(n * scale)) for n in photo.size]) if scale < 1 else photo
    )
    found, scores, _ = detect.run(
        small, 1, 0.0
    )  # enlarged twofold: the detector knows faces of 80 pixels
    faces = []
    for area, score in zip(found, scores, strict=True):
        parts = landmarks(small, area).parts()
        faces.append(
            Face([((p.x + 0.5) / scale - 0.5, (p.y + 0.5) / scale - 0.5) for p in parts], score)
        )
    return sorted(faces, key=lambda face: -face.score)


def choose(faces: list[Face], number: int | None) -> tuple[Face, str | None]:
    """Face `number` from 1, or the surest, and what is to be said of it."""
    if not faces:
        raise ValueError(
            "no face found; give its points with --landmarks, or a part of the photo with --box"
        )
    scores = ", ".join(f"{face.score:.2f}" for face in faces)
    if number is None:
        sure = sum(face.score >= _SURE for face in faces)
        many = f"{len(faces)} faces found, of scores {scores}; the first is restored, --face N takes another"
        return (
            faces[0],
            many
            if sure > 1
            else "the face is not sure; look whether it is one"
            if not sure
            else None,
        )
    if not 1 <= number <= len(faces):
        raise ValueError(
            f"face={number}, but {len(faces)} found, of scores {scores}; count from 1, the surest"
        )
    return faces[number - 1], None


@dataclass(frozen=True)
class Where:
    """Which part of a photo is to be restored, as a user says it; nothing said is the middle."""

    align: bool = False  # as FFHQ's faces are
    landmarks: Path | None = None
    face: int | None = None
    box: tuple[float, ...] | None = None  # x, y, w, h in pixels

    def __bool__(self) -> bool:
        return self.align or self.box is not None

    def __str__(self) -> str:
        """Equal for what leads to equal squares: landmarks by their content."""
        points = None if self.landmarks is None else sha256(contents(self.landmarks)).hexdigest()
        parts = {
            "ffhq": self.align or None,
            "landmarks": points,
            "face": self.face,
            "box": self.box,
        }
        return " ".join(f"{name} {value}" for name, value in parts.items() if value is not None)

    def spot(self, path: Path, photo: Image.Image) -> tuple[Spot, str | None]:
        """The square, and what is to be said of it."""
        if self.box is not None:
            return box(*self.box, photo.height, photo.width), None
        if not self.align:
            return centre(photo.height, photo.width), None
        if self.landmarks is not None:
            return ffhq(read_landmarks(self.landmarks, path, photo.width, photo.height)), None
        face, told = choose(find(photo.convert("RGB")), self.face)
        return ffhq(face.points), told


def where_of(align: str | None, landmarks: Path | None, face: int | None, box: str | None) -> Where:
    """What the options of a command say. Raises ValueError where they contradict each other."""
    if align not in (None, "ffhq"):
        raise ValueError(f"align={align!r} must be ffhq")
    if align is None and (landmarks is not None or face is not None):
        raise ValueError("landmarks and face belong to --align ffhq; add it")
    if landmarks is not None and face is not None:
        raise ValueError(
            "face counts the faces that are found, landmarks say where one is; leave one of them out"
        )
    if box is None:
        return Where(align is not None, landmarks, face)
    if align is not None:
        raise ValueError(f"box={box} takes the place of a face; leave out it or --align")
    try:
        x, y, w, h = map(float, box.split(","))
    except ValueError:
        raise ValueError(f"box={box} must be four numbers x,y,w,h, in pixels") from None
    return Where(box=(x, y, w, h))


@cache
def _networks() -> tuple:
    try:
        import dlib
    except ImportError as error:
        raise ValueError(
            "finding faces needs dlib; pip install 'degrade[faces]', or give --landmarks"
        ) from error
    models = importlib.util.find_spec(
        "face_recognition_models"
    )  # its own code needs a setuptools long gone
    if models is None:
        raise ValueError(
            "finding faces needs its models; pip install 'degrade[faces]', or give --landmarks"
        )
    file = Path(models.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(file))
