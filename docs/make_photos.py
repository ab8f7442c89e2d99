"""Draws the pictures of docs/photos.md, and prints what `degrade inspect` says of the photo.

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
from pipelines.faces import ffhq
from pipelines.files import encode, read_image, to_pil, write
from pipelines.sheet import sheet

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
SIDE, TURN, X, Y = 112, math.radians(17), 400, 150  # of the portrait in the photo
HAPPENED = "gaussian:0.06 >> clamp >> quantize >> jpeg:40"


def degrade(*arguments) -> None:
    subprocess.run([Path(sys.executable).parent / "degrade", *map(str, arguments)], check=True)


def main() -> None:
    c, s = SIDE * math.cos(TURN), SIDE * math.sin(TURN)
    matrix = (c, -s, X - (c - s) / 2, s, c, Y - (s + c) / 2)
    portrait, photo = EXAMPLES / "avatars" / "005.png", EXAMPLES / "photos" / "astronaut.jpg"
    clean = Place(matrix, (512, 512), read_image(photo))(read_image(portrait))
    # points of a face whose square by FFHQ's recipe is the portrait's: eyes, corners of the mouth
    at = [
        (u * c - v * s + X - 0.5, u * s + v * c + Y - 0.5)
        for u, v in ((-0.125, -0.025), (0.125, -0.025), (-0.0625, 0.225), (0.0625, 0.225))
    ]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write(work / "clean.png", encode(to_pil(clean)))
        degrade(
            "apply",
            work / "clean.png",
            "-o",
            work / "sent",
            "--op",
            HAPPENED,
            "--seed",
            1,
            "--quiet",
        )
        shutil.move(
            work / "sent" / "clean.jpg", work / "family.jpg"
        )  # and nobody knows any more what happened
        (work / "points.json").write_text(json.dumps(at))
        degrade("inspect", work / "family.jpg")
        align = ["--align", "ffhq", "--landmarks", work / "points.json"]
        degrade("restore", work / "family.jpg", "-o", work / "one", *align)
        degrade(
            "restore",
            work / "family.jpg",
            "-o",
            work / "many",
            *align,
            "--samples",
            3,
            "--steps",
            150,
        )
        marked = Image.open(work / "family.jpg").convert("RGB")
        draw, spot = ImageDraw.Draw(marked), ffhq(at)
        draw.polygon(spot.corners(), outline="lime", width=2)
        for x, y in at:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), "red")
        one = work / "one"
        near = (X - 90, Y - 90, X + 90, Y + 90)
        pictures = {
            "the photo": marked,
            "its part": Image.open(work / "family.jpg").crop(near),
            "restored": Image.open(one / "family.part.png"),
            "pasted back": Image.open(one / "family.png").crop(near),
            "as it was": Image.open(work / "clean.png").crop(near),
        }
        write(DOCS / "photos" / "way.png", encode(sheet(pictures)))
        answers = Image.open(work / "many" / "family.sheet.png")
        write(DOCS / "photos" / "answers.png", encode(answers))


if __name__ == "__main__":
    (DOCS / "photos").mkdir(exist_ok=True)
    main()
