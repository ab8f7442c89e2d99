"""Find faces in a photo, and the square in which a generator of aligned faces draws one."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from degrade.imagefile import contents

from .spot import Spot, box, centre

_LONGEST = 1600  # the detector gets a photo of this side at most, and finds faces from 40 pixels
_SURE = 0.5  # detector score above which a detection is almost always a face
NO_FACE = "no face found; give its points with --landmarks"
NOT_SURE = "the face is not sure; look whether it is one"
Points = list[tuple[float, float]]  # (x, y) in pixels; whole numbers are pixel centres; y downward
Box = tuple[float, float, float, float]  # x, y, w, h in pixels


@dataclass(frozen=True)
class Face:
    """A detected face."""

    points: Points  # 68 landmarks of iBUG
    score: float  # of the detector; higher is more certain


def ffhq(points: Points) -> Spot:
    """The oriented square of FFHQ's recipe around a face.

    points: both eyes and both corners of the mouth, left before right as seen in the photo; the
    same with the nose between them (5, as most detectors give them); or the 68 landmarks of iBUG.
    Source: the published preparation of FFHQ (Karras et al. 2019, appendix A), after CelebA-HQ.
    """
    if len(points) not in (4, 5, 68):
        expected = "give 4 (eyes, mouth's corners), 5 (with the nose between), or 68"
        raise ValueError(f"{len(points)} landmarks; {expected}")
    p = numpy.array(points)
    if len(points) == 68:
        left_eye = p[36:42].mean(0)
        right_eye = p[42:48].mean(0)
        left_mouth = p[48]
        right_mouth = p[54]
    else:
        left_eye = p[0]
        right_eye = p[1]
        left_mouth = p[-2]
        right_mouth = p[-1]
    eye = (left_eye + right_eye) / 2
    mouth = (left_mouth + right_mouth) / 2
    across = right_eye - left_eye
    down = mouth - eye
    area = across[0] * down[1] - across[1] * down[0]
    if not area > 0:
        expected = "left before right in the photo, eyes before mouth"
        raise ValueError(f"the landmarks are not those of a face: {expected}")
    x = across - _turned(down)  # both point across
    eye_distance = math.hypot(*across)
    mouth_distance = math.hypot(*down)
    half_side = max(eye_distance * 2.0, mouth_distance * 1.8)
    x *= half_side / math.hypot(*x)
    y = _turned(x)
    corner = eye + 0.1 * down - x - y + 0.5  # from pixel centres to pixel corners
    matrix = numpy.stack([2 * x, 2 * y, corner], 1)
    entries = matrix.flatten().tolist()
    return Spot(tuple(entries))


def _turned(vector: numpy.ndarray) -> numpy.ndarray:
    """Turn a vector (x, y) by 90°, from rightward to downward."""
    x, y = vector
    return numpy.array([-y, x])


def read_landmarks(path: Path, photo: Path, width: int, height: int) -> list[Points]:
    """The landmarks of a photo's faces from a .json file.

    It holds [[x, y], …] for one face, a list of these for several, or {"photo.jpg": either, …}.
    """
    try:
        content = json.loads(contents(path))
        if isinstance(content, dict):
            content = content[photo.name]
        faces = [_points(face) for face in _as_several(content)]
    except KeyError:
        raise ValueError(f"{path} has no landmarks of {photo.name}") from None
    except (ValueError, TypeError, OverflowError, RecursionError, IndexError) as error:
        if str(error).startswith(str(path)):
            raise
        mend = f"write [[x, y], …] or {{{photo.name!r}: [[x, y], …]}}"
        raise ValueError(f"{path} holds no landmarks; {mend}") from error
    for x, y in itertools.chain(*faces):
        in_columns = -0.5 <= x < width
        in_rows = -0.5 <= y < height
        if not (in_columns and in_rows):
            size = f"{width}x{height}"
            raise ValueError(
                f"{path}: the landmark {x:g}, {y:g} lies outside the photo's {size} pixels"
            )
    return faces


def _as_several(lists: list) -> list:
    """A list of faces, from the points of one face or from such a list."""
    first_point_or_face = lists[0]
    has_several_faces = isinstance(first_point_or_face[0], list)
    return lists if has_several_faces else [lists]


def _points(pairs: list) -> Points:
    points = []
    for x, y in pairs:
        points.append((float(x), float(y)))
    return points


def find(photo: Image.Image) -> list[Face]:
    """The faces of an RGB photo, the most certain first.

    Raises ValueError if the extra `faces` is not installed.
    """
    detector, predictor = _networks()
    scale = min(1.0, _LONGEST / max(photo.size))
    if scale < 1:
        width = max(1, round(photo.width * scale))
        height = max(1, round(photo.height * scale))
        photo = photo.resize((width, height))
    pixels = numpy.array(photo)
    enlargements = 1  # doubles the photo once: the detector knows faces of 80 pixels
    areas, scores, _ = detector.run(pixels, enlargements, 0.0)
    faces = []
    for area, score in zip(areas, scores, strict=True):
        landmarks = predictor(pixels, area)
        points = []
        for part in landmarks.parts():
            x = (part.x + 0.5) / scale - 0.5
            y = (part.y + 0.5) / scale - 0.5
            points.append((x, y))
        faces.append(Face(points, score))
    return sorted(faces, key=lambda face: -face.score)


def choose(faces: list[Face], number: int | None) -> tuple[Face, str | None]:
    """Face `number`, counted from 1, or the most certain one; and a message for the user."""
    if not faces:
        raise ValueError(f"{NO_FACE}, or a part of the photo with --box")
    count = len(faces)
    scores = ", ".join(f"{face.score:.2f}" for face in faces)
    if number is not None:
        if not 1 <= number <= count:
            raise ValueError(
                f"face={number}, but {count} found, of scores {scores}; count from 1, the surest"
            )
        return faces[number - 1], None
    message = None
    certain_count = len(certain(faces))
    if certain_count == 0:
        message = NOT_SURE
    elif certain_count > 1:
        message = (
            f"{count} faces found, of scores {scores}; the first is restored, "
            "--face N takes another"
        )
    return faces[0], message


def certain(faces: list[Face]) -> list[Face]:
    """The detections that are almost certainly faces."""
    return [face for face in faces if face.score >= _SURE]


def choose_all(faces: list[Face], number: int | None) -> tuple[list[Face], str | None]:
    """All certain faces, or face `number`; and a message for the user.

    If no face is certain, the most certain one is chosen; if there is no face, none.
    """
    if not faces:
        return [], f"{NO_FACE}; the whole photo is restored without one"
    if number is not None:
        face, message = choose(faces, number)
        return [face], message
    if not certain(faces):
        return faces[:1], NOT_SURE
    return certain(faces), None


@dataclass(frozen=True)
class Where:
    """Which part of a photo is to be restored, as the options say; the middle by default."""

    align: bool = False  # find a face and align it as FFHQ does
    landmarks: Path | None = None
    face: int | None = None
    box: Box | None = None

    def __bool__(self) -> bool:
        return self.align or self.box is not None

    def __str__(self) -> str:
        """A text that is equal for options that lead to equal squares; landmarks by content."""
        parts = []
        if self.align:
            parts.append("ffhq True")
        if self.landmarks is not None:
            digest = sha256(contents(self.landmarks)).hexdigest()
            parts.append(f"landmarks {digest}")
        if self.face is not None:
            parts.append(f"face {self.face}")
        if self.box is not None:
            parts.append(f"box {self.box}")
        return " ".join(parts)

    def spots(
        self, path: Path, photo: Image.Image, several: bool
    ) -> tuple[tuple[Spot, ...], str | None]:
        """The squares to restore, and a message for the user.

        several: whether every certain face is restored, or only one.
        """
        width, height = photo.size
        if self.box is not None:
            spot = box(*self.box, height, width)
            return (spot,), None
        if not self.align:
            spot = centre(height, width)
            return (spot,), None
        if self.landmarks is not None:
            points = read_landmarks(self.landmarks, path, width, height)
            message = None
            if len(points) > 1 and not several:
                message = f"{self.landmarks} has {len(points)} faces; the first is restored"
                points = points[:1]
            return tuple(ffhq(face) for face in points), message
        faces = find(photo.convert("RGB"))
        if several:
            chosen, message = choose_all(faces, self.face)
        else:
            face, message = choose(faces, self.face)
            chosen = [face]
        return tuple(ffhq(face.points) for face in chosen), message


def where_of(align: str | None, landmarks: Path | None, face: int | None, box: str | None) -> Where:
    """The part that the options select. Raises ValueError if they contradict each other."""
    if align not in (None, "ffhq"):
        raise ValueError(f"align={align!r} must be ffhq")
    has_landmarks = landmarks is not None
    has_face = face is not None
    if align is None and (has_landmarks or has_face):
        raise ValueError("landmarks and face belong to --align ffhq; add it")
    if has_landmarks and has_face:
        meanings = "face counts the faces that are found, landmarks say where one is"
        raise ValueError(f"{meanings}; leave one of them out")
    if box is None:
        return Where(align is not None, landmarks, face)
    if align is not None:
        raise ValueError(f"box={box} takes the place of a face; leave out --box or --align")
    try:
        x, y, w, h = map(float, box.split(","))
    except ValueError:
        raise ValueError(f"box={box} must be four numbers x,y,w,h, in pixels") from None
    return Where(box=(x, y, w, h))


@cache
def _networks() -> tuple[Any, Any]:
    """dlib's face detector and its predictor of landmarks; dlib has no types."""
    mend = "pip install 'degrade[faces]', or give --landmarks"
    try:
        import dlib
    except ImportError as error:
        raise ValueError(f"finding faces needs dlib; {mend}") from error
    # we locate the package without importing it: its code needs a setuptools that is long gone
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise ValueError(f"finding faces needs its models; {mend}")
    models = Path(package.origin).parent / "models"
    file = models / "shape_predictor_68_face_landmarks.dat"
    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(file))
    return detector, predictor
