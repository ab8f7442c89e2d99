"""Draw a row of captioned pictures to look at, and what only a sheet shows of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from degrade import Resize

TILE, GAP, CAPTION = 256, 8, 26  # sides in pixels
DETAIL = 128  # side of the enlarged detail of a large photo, in pixels
SPREAD = 0.25  # the standard deviation of samples that the sheet shows as white


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


def details(observed: Tensor, restored: Tensor) -> dict[str, Tensor]:
    """The part that the restoration changed most, of a photo that the sheet shows reduced."""
    height, width = restored.shape[2:]
    if max(height, width) <= 2 * DETAIL or min(height, width) < DETAIL:
        return {}
    before = observed
    if observed.shape != restored.shape:
        before = Resize((height, width))(observed)
    if before.shape[1] != restored.shape[1]:
        before = before[:, : restored.shape[1]]
    change = (restored - before).abs_().mean(1, keepdim=True)
    change = F.avg_pool2d(change, DETAIL, DETAIL // 4)
    row, column = divmod(int(change.argmax()), change.shape[3])
    top, left = row * DETAIL // 4, column * DETAIL // 4
    window = (..., slice(top, top + DETAIL), slice(left, left + DETAIL))
    return {"detail, before": before[window].clamp(0, 1), "detail, restored": restored[window]}


def spread(images: list[Tensor]) -> Tensor:
    """Standard deviation over samples, [1, 1, H, W], mean over channels."""
    samples = torch.cat(images).clamp(0, 1)
    return samples.std(0, correction=0).mean(0)[None, None]
