"""Draw a row of captioned pictures to look at."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

TILE, GAP, CAPTION = 256, 8, 26  # sides in pixels


def sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """The pictures side by side under their captions, each scaled to fit its tile."""
    width = len(pictures) * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (width, CAPTION + TILE + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(15)
    left = GAP
    for caption, picture in pictures.items():
        tile = _scaled(picture)
        x = left + (TILE - tile.width) // 2
        y = CAPTION + (TILE - tile.height) // 2
        canvas.paste(tile, (x, y))
        middle = (left + TILE / 2, CAPTION / 2)
        draw.text(middle, caption, "black", font, anchor="mm")
        left += TILE + GAP
    return canvas


def _scaled(picture: Image.Image) -> Image.Image:
    """A tile; enlarging repeats whole pixels, so that damage is seen as it is."""
    scale = TILE / max(picture.size)
    width = max(1, round(picture.width * scale))
    height = max(1, round(picture.height * scale))
    enlarging = scale >= 1
    resampling = Image.Resampling.NEAREST if enlarging else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((width, height), resampling)
