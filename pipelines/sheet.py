"""A row of captioned pictures to look at."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

TILE, GAP, CAPTION = 256, 8, 26


def sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """The pictures side by side under their captions, each enlarged to fill its tile."""
    width = len(pictures) * (TILE + GAP) + GAP
    canvas = Image.new("RGB", (width, CAPTION + TILE + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(15)
    for i, (caption, picture) in enumerate(pictures.items()):
        left = GAP + i * (TILE + GAP)
        scale = TILE / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        # whole pixels where it is enlarged, so that the damage is seen as it is
        tile = picture.convert("RGB").resize(size, Image.NEAREST if scale >= 1 else Image.LANCZOS)
        canvas.paste(tile, (left + (TILE - size[0]) // 2, CAPTION + (TILE - size[1]) // 2))
        draw.text((left + TILE / 2, CAPTION / 2), caption, "black", font, anchor="mm")
    return canvas
