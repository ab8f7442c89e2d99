"""Draw pictures of docs/photos.md and docs/any_photo.md, and print the guess of `inspect`.

python docs/make_photos.py
"""

import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from degrade import Place
from pipelines.atomic import write
from pipelines.faces import ffhq
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
PORTRAIT = EXAMPLES / "avatars" / "005.png"
PHOTO = EXAMPLES / "photos" / "astronaut.jpg"
# Side, angle and centre of the portrait in the photo.
SIDE, TURN, X, Y = 112, math.radians(17), 400, 150
DEGRADATION = "gaussian:0.06 >> clamp >> quantize >> jpeg:40"
# Eyes and corners of the mouth, as shares of the portrait's side from its centre. FFHQ's recipe
# turns them into the square of the portrait.
LANDMARKS = ((-0.125, -0.025), (0.125, -0.025), (-0.0625, 0.225), (0.0625, 0.225))

Point = tuple[float, float]


def degrade(*arguments) -> None:
    """Run the command `degrade`."""
    command = Path(sys.executable).parent / "degrade"
    subprocess.run([command, *map(str, arguments)], check=True)


def landmarks_in_photo() -> list[Point]:
    cosine, sine = SIDE * math.cos(TURN), SIDE * math.sin(TURN)
    points = []
    for u, v in LANDMARKS:
        x = u * cosine - v * sine + X - 0.5
        y = u * sine + v * cosine + Y - 0.5
        points.append((x, y))
    return points


def clean_photo() -> Image.Image:
    """The photo with the portrait pasted into it."""
    cosine, sine = SIDE * math.cos(TURN), SIDE * math.sin(TURN)
    left, top = X - (cosine - sine) / 2, Y - (sine + cosine) / 2
    matrix = (cosine, -sine, left, sine, cosine, top)
    place = Place(matrix, (512, 512), read_image(PHOTO))
    return to_pil(place(read_image(PORTRAIT)))


def marked(photo: Path, points: list[Point]) -> Image.Image:
    """The photo with its landmarks and the square that is restored."""
    picture = Image.open(photo).convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.polygon(ffhq(points).corners(), outline="lime", width=2)
    for x, y in points:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), "red")
    return picture


def draw_motion(work: Path) -> None:
    """A part of the photo, blurred by a motion of which restore is told ranges only."""
    part, blurred = work / "part.png", work / "blurred.png"
    Image.open(PHOTO).crop((120, 0, 376, 256)).save(part)
    operator = "blur:motion,13,angle=30 >> gaussian:0.01 >> clamp"
    degrade("apply", part, "-o", work / "moved", "--op", operator, "--quiet")
    shutil.move(work / "moved" / "part.png", blurred)
    ranges = "blur:motion,3..30,angle=0..180 >> gaussian:0.01"
    degrade("restore", blurred, "-o", work / "still", "--op", ranges)
    pictures = {
        "as it was": Image.open(part),
        "moved by 13 pixels": Image.open(blurred),
        "restored": Image.open(work / "still" / "blurred.png"),
    }
    sheet(pictures).save(DOCS / "photos" / "motion.jpg", quality=88)


def main() -> None:
    points = landmarks_in_photo()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clean, family = work / "clean.png", work / "family.jpg"
        write(clean, encode(clean_photo()))
        apply = ["apply", clean, "-o", work / "sent", "--op", DEGRADATION]
        degrade(*apply, "--seed", 1, "--quiet")
        # Move the picture away from its manifest, so that the degradation is unknown.
        shutil.move(work / "sent" / "clean.jpg", family)
        landmarks = work / "points.json"
        landmarks.write_text(json.dumps(points))
        degrade("inspect", family)

        align = ["--prior", "avatars-128", "--align", "ffhq", "--landmarks", landmarks]
        one, many = work / "one", work / "many"
        degrade("restore", family, "-o", one, *align)
        degrade("restore", family, "-o", many, *align, "--samples", 3, "--steps", 150)

        near = (X - 90, Y - 90, X + 90, Y + 90)
        pictures = {
            "the photo": marked(family, points),
            "its part": Image.open(family).crop(near),
            "restored": Image.open(one / "family.part.png"),
            "pasted back": Image.open(one / "family.png").crop(near),
            "as it was": Image.open(clean).crop(near),
        }
        sheet(pictures).save(DOCS / "photos" / "way.jpg", quality=88)
        answers = Image.open(many / "family.sheet.png").convert("RGB")
        answers.save(DOCS / "photos" / "answers.jpg", quality=88)
        draw_motion(work)


if __name__ == "__main__":
    (DOCS / "photos").mkdir(exist_ok=True)
    main()
