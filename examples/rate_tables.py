"""Optimise the quantisation tables of JPEG: less error in files of the same size.

    python examples/rate_tables.py [FOLDER] [PHOTO ...]

`jpeg` gives the decoded pixels and `jpeg_size` the bytes of the file. Both have a gradient with
respect to the tables. The tables are optimised on every second picture. On the others they are
compared with the standard tables at the quality that gives as many bytes. Without photos the
pictures are avatars.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from degrade import jpeg, jpeg_size
from degrade.jpeg.header import quality_tables
from invert import perceptual
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

AVATARS = Path(__file__).parent / "avatars"
QUALITY = 75
SIDE = 256  # the largest part of a photo that is used
LPIPS = perceptual.load("alex")


def standard_tables(quality: float) -> Tensor:
    tables: Tensor = quality_tables(torch.tensor([float(quality)]))[0]
    return tables


def distortion(x: Tensor, tables: Tensor) -> Tensor:
    """The mean logarithm of the squared error after JPEG."""
    error: Tensor = jpeg(x, tables=tables) - x
    mean_square = error.square().mean((1, 2, 3))
    return mean_square.log().mean()


def rate(x: Tensor, tables: Tensor) -> Tensor:
    """The mean logarithm of the size of the files."""
    size: Tensor = jpeg_size(x, tables=tables, exact=False)
    return size.log().mean()


def optimised_tables(x: Tensor, steps: int = 40) -> Tensor:
    """Minimise distortion + λ · rate, λ being the exchange rate of the standard tables."""
    coarse, fine = standard_tables(QUALITY - 8), standard_tables(QUALITY + 8)
    with torch.no_grad():
        gain = distortion(x, coarse) - distortion(x, fine)
        exchange_rate = gain / (rate(x, fine) - rate(x, coarse))
    logarithms = standard_tables(QUALITY).log().requires_grad_()
    optimizer = torch.optim.Adam([logarithms], lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        tables = logarithms.exp().clamp(1, 255)
        loss = distortion(x, tables) + exchange_rate * rate(x, tables)
        loss.backward()
        optimizer.step()
    return logarithms.detach().exp().clamp(1, 255).round()


@torch.no_grad()
def measured(x: Tensor, tables: Tensor) -> tuple[float, float, float]:
    """Mean bytes of the files, PSNR and LPIPS."""
    y = jpeg(x, tables=tables)
    psnr = -10 * (y - x).square().mean((1, 2, 3)).log10()
    lpips = LPIPS.distance(LPIPS.features(x), LPIPS.features(y))
    return jpeg_size(x, tables=tables).mean().item(), psnr.mean().item(), lpips.mean().item()


def same_size(x: Tensor, size: float) -> int:
    """The quality at which the standard tables make files of about this size or larger."""
    for quality in range(1, 100):
        if jpeg_size(x, quality).mean() >= size:
            return quality
    return 100


def main(folder: str = "out/rate_tables", *photos: str) -> None:
    paths = [Path(photo) for photo in photos] or sorted(AVATARS.glob("*.png"))
    pictures = torch.cat([read_image(path)[..., :SIDE, :SIDE] for path in paths])
    training, others = pictures[::2], pictures[1::2]
    tables = optimised_tables(training)
    print(tables[0].int())
    quality = same_size(others, measured(others, tables)[0])
    rows = {"optimised": tables, f"quality {quality}": standard_tables(quality)}
    for name, own_tables in rows.items():
        size, psnr, lpips = measured(others, own_tables)
        print(f"{name:12} {size:8.0f} bytes, PSNR {psnr:.2f} dB, LPIPS {lpips:.4f}")
    shown = {"original": to_pil(others[:1])}
    for name, own_tables in rows.items():
        shown[name] = to_pil(jpeg(others[:1], tables=own_tables))
    path = Path(folder) / "tables.png"
    write(path, encode(sheet(shown)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
