"""Draw a row of captioned pictures to look at, and what only a sheet shows of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from degrade import Resize

TILE = 256  # side of a tile, in pixels
GAP = 8  # between tiles, in pixels
CAPTION = 26  # height of the line of captions, in pixels
CAPTION_SIZE = 15  # of the font
DETAIL = 128  # side of the enlarged detail of a large photo, in pixels
DETAIL_STEP = DETAIL // 4  # distance between the details that are compared, in pixels
SPREAD = 0.25  # the sheet shows this standard deviation of samples as white


def sheet(pictures: dict[str, Image.Image]) -> Image.Image:
    """Draw pictures side by side under their captions, each scaled to fit its tile."""
    width = GAP
    width += len(pictures) * (TILE + GAP)
    height = CAPTION + TILE + GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(CAPTION_SIZE)
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
    """Scale a picture to a tile; enlarging repeats whole pixels, which shows damage as it is."""
    scale = TILE / max(picture.size)
    width = max(1, round(picture.width * scale))
    height = max(1, round(picture.height * scale))
    resampling = Image.Resampling.LANCZOS
    if scale >= 1:
        resampling = Image.Resampling.NEAREST
    in_colour = picture.convert("RGB")
    return in_colour.resize((width, height), resampling)


def details(observed: Tensor, restored: Tensor) -> dict[str, Tensor]:
    """Cut out the square that the restoration changed most: caption → tile.

    There is none for a small photo, which the sheet shows without reducing it much.
    """
    height, width = restored.shape[2:]
    is_small = max(height, width) <= 2 * DETAIL
    if is_small or min(height, width) < DETAIL:
        return {}
    before = observed
    if observed.shape != restored.shape:
        resize = Resize((height, width))
        before = resize(observed)
    channels = restored.shape[1]
    before = before[:, :channels]
    difference = restored - before
    change = difference.abs_().mean(1, keepdim=True)
    mean_changes = F.avg_pool2d(change, DETAIL, DETAIL_STEP)
    largest = int(mean_changes.argmax())
    row, column = divmod(largest, mean_changes.shape[3])
    top = row * DETAIL_STEP
    left = column * DETAIL_STEP
    rows = slice(top, top + DETAIL)
    columns = slice(left, left + DETAIL)
    return {
        "detail, before": before[..., rows, columns].clamp(0, 1),
        "detail, restored": restored[..., rows, columns],
    }


def spread(images: list[Tensor]) -> Tensor:
    """Compute the standard deviation over samples, [1, 1, H, W], the mean over channels."""
    samples = torch.cat(images).clamp(0, 1)
    deviation = samples.std(0, correction=0)
    return deviation.mean(0)[None, None]
