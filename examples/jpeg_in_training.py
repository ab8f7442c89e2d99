"""Hide 64 bits in each picture so that they survive JPEG, by training through it.

    python examples/jpeg_in_training.py

JPEG stands in a torchvision pipeline like any transform: what comes out is what Pillow would have
saved and opened, and gradients flow back through it. The last column is the proof: bits read from
files that Pillow wrote. Here the gradient must know what JPEG destroys, so surrogate="cubic".
"""

import io
from pathlib import Path

import numpy
import torch
from PIL import Image
from torchvision.transforms import v2

from degrade import JPEG

PICTURES = sorted((Path(__file__).parent / "avatars").glob("*.png"))[:4]
QUALITY, LARGEST = 30, 6 / 255  # a picture changes by at most 6 levels


def load(paths) -> torch.Tensor:
    pixels = numpy.stack([numpy.asarray(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def saved_and_opened(x: torch.Tensor) -> torch.Tensor:
    """x through real files."""
    out = []
    for pixels in (x * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        out.append(torch.from_numpy(numpy.array(Image.open(file))))
    return torch.stack(out).permute(0, 3, 1, 2).float() / 255


def read(y: torch.Tensor, carriers: torch.Tensor) -> torch.Tensor:
    """One number for every bit, positive for 1."""
    return (y - 0.5).flatten(1) @ carriers.T


def hide(
    x: torch.Tensor, bits: torch.Tensor, carriers: torch.Tensor, channel, steps: int = 100
) -> torch.Tensor:
    """x, changed so that the bits can be read behind `channel`."""
    change = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.5 / 255)
    for _ in range(steps):
        optimizer.zero_grad()
        found = read(channel(x + change), carriers)
        torch.nn.functional.binary_cross_entropy_with_logits(found, bits).backward()
        optimizer.step()
        change.data.clamp_(-LARGEST, LARGEST)
    return ((x + change.detach()).clamp(0, 1) * 255).round() / 255


def main() -> None:
    g = torch.Generator().manual_seed(0)
    x, bits = load(PICTURES), torch.randint(0, 2, (len(PICTURES), 64), generator=g).float()
    carriers = (
        torch.randn(64, 3, 64, 64, generator=g)
        .repeat_interleave(2, 2)
        .repeat_interleave(2, 3)
        .flatten(1)
        / 8
    )
    channels = {"without JPEG": v2.Compose([v2.ToDtype(torch.float32)])}
    for surrogate in ("identity", "ste", "cubic"):
        jpeg = JPEG(QUALITY, surrogate=surrogate)
        channels[f"through JPEG, {surrogate}"] = v2.Compose([v2.ToDtype(torch.float32), jpeg])
    print("trained                    bits read at once    from Pillow's files")
    for name, channel in channels.items():
        marked = hide(x, bits, carriers, channel)
        found = [(read(y, carriers) > 0) == (bits > 0) for y in (marked, saved_and_opened(marked))]
        print(f"{name:26}{found[0].float().mean():18.1%}{found[1].float().mean():23.1%}")


if __name__ == "__main__":
    main()
