"""Draw docs/photos/ten.jpg: ten photos as phones, scanners and messengers make them, restored.

The pictures are parts of NASA's portrait of Eileen Collins (public domain) and drawn text.
`python docs/make_phone_photos.py DIR` keeps all files in DIR.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy
from PIL import Image, ImageCms, ImageDraw, ImageFont
from typer.testing import CliRunner

from degrade.photofile import read_photo
from pipelines.cli import app
from pipelines.png import png

ROOT = Path(__file__).parent.parent
ASTRONAUT = ROOT / "examples" / "photos" / "astronaut.jpg"
TILE, CAPTION = 240, 22
RNG = numpy.random.default_rng(22)


def portrait(width: int, height: int, left: int = 130, top: int = 10) -> Image.Image:
    """A part of the portrait, at half its size."""
    image = Image.open(ASTRONAUT).convert("RGB")
    part = image.crop((left, top, left + 2 * width, top + 2 * height))
    return part.resize((width, height), Image.Resampling.LANCZOS)


def noisy(image: Image.Image, sigma: float, bits: int = 8) -> numpy.ndarray:
    """The levels of an image with Gaussian noise."""
    values = numpy.asarray(image) / 255
    values = values + RNG.normal(0, sigma, values.shape)
    largest = 2**bits - 1
    levels = numpy.rint(values.clip(0, 1) * largest)
    return levels.astype(numpy.uint8 if bits == 8 else numpy.uint16)


def turned_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[274] = "a phone", 6
    lying = portrait(144, 176).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, quality=25, exif=exif)


def saved_twice(path: Path) -> None:
    buffer = io.BytesIO()
    portrait(184, 160).save(buffer, "JPEG", quality=25)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    first = Image.open(buffer).crop((5, 3, 181, 155))
    first.save(path, quality=85, icc_profile=profile)


def screenshot(path: Path) -> None:
    screen = Image.new("RGB", (200, 176), "white")
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 200, 18), "#075e54")
    draw.text((6, 3), "Holiday", "white", ImageFont.load_default(11))
    buffer = io.BytesIO()
    portrait(120, 110).save(buffer, "JPEG", quality=20)
    screen.paste(Image.open(buffer), (8, 26))
    draw.text((8, 142), "Look at this suit! It is quite\norange, is it not?", "black")
    screen.save(path)


def webp(path: Path) -> None:
    portrait(176, 160).save(path, quality=10)


def grey_scan(path: Path) -> None:
    Image.fromarray(noisy(portrait(176, 160).convert("L"), 0.06)).save(path, quality=60)


def deep_png(path: Path) -> None:
    path.write_bytes(png(noisy(portrait(176, 160), 0.06, 16)))


def transparent(path: Path) -> None:
    colours = noisy(portrait(176, 160, 60, 180), 0.08)
    mask = Image.new("L", (176, 160))
    ImageDraw.Draw(mask).ellipse((8, 4, 168, 156), 255)
    alpha = numpy.asarray(mask)[..., None]
    path.write_bytes(png(numpy.concatenate([colours * (alpha > 0), alpha], 2)))


def tiny(path: Path) -> None:
    portrait(176, 160).resize((26, 19)).save(path, quality=30)


def panorama(path: Path) -> None:
    image = Image.open(ASTRONAUT).convert("RGB").resize((640, 640))
    image.crop((0, 330, 640, 402)).save(path, quality=20)


def cmyk(path: Path) -> None:
    portrait(176, 160).convert("CMYK").save(path, quality=25)


PHOTOS = {
    "turned.jpg": turned_by_exif,
    "twice.jpg": saved_twice,
    "screen.png": screenshot,
    "webp.webp": webp,
    "scan.jpg": grey_scan,
    "deep.png": deep_png,
    "alpha.png": transparent,
    "tiny.jpg": tiny,
    "panorama.jpg": panorama,
    "cmyk.jpg": cmyk,
}


def shown(path: Path) -> Image.Image:
    """A tile that shows a photo over white."""
    photo = read_photo(path)
    image = Image.fromarray(photo.rgb8)
    if photo.alpha is not None:
        alpha = (photo.alpha // (257 if photo.bits == 16 else 1)).astype(numpy.uint8)
        image = Image.composite(
            image, Image.new("RGB", image.size, "white"), Image.fromarray(alpha)
        )
    scale = TILE / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def main(folder: Path) -> None:
    inputs, outputs = folder / "photos", folder / "restored"
    inputs.mkdir(parents=True, exist_ok=True)
    for name, make in PHOTOS.items():
        make(inputs / name)
    result = CliRunner().invoke(app, ["restore", str(inputs), "-o", str(outputs), "--overwrite"])
    print(result.stderr)
    draw_all(inputs, outputs)


def draw_all(inputs: Path, outputs: Path) -> None:
    """Draw each photo with its restoration below it."""
    columns = 5
    height = 2 * TILE + CAPTION
    canvas = Image.new("RGB", (columns * (TILE + 8), 2 * (height + 8)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, name in enumerate(PHOTOS):
        left, top = number % columns * (TILE + 8), number // columns * (height + 8)
        draw.text((left, top + 2), name, "black", ImageFont.load_default(14))
        restored = outputs / Path(name).with_suffix(".png")
        canvas.paste(shown(inputs / name), (left, top + CAPTION))
        canvas.paste(shown(restored), (left, top + CAPTION + TILE))
    canvas.save(ROOT / "docs" / "photos" / "ten.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
