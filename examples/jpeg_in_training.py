"""Hide 64 bits in each picture so that they survive JPEG, by training through it.

    python examples/jpeg_in_training.py

JPEG is used in a torchvision pipeline like any other transform. Its output equals what Pillow saves
and opens, and gradients pass through it. The last column shows the bits read from files that Pillow
wrote. Here the gradient must know what JPEG removes: for_use="robustness" chooses one that does.
"""

import io
from pathlib import Path

import numpy
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.transforms import v2

from degrade import JPEG

PICTURES = sorted((Path(__file__).parent / "avatars").glob("*.png"))[:4]
QUALITY = 30
LARGEST = 6 / 255  # a picture changes by at most 6 levels


def load(paths) -> torch.Tensor:
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pixels = numpy.stack([numpy.asarray(picture) for picture in pictures])
    return to_images(pixels)


def to_images(pixels: numpy.ndarray) -> torch.Tensor:
    """Turn 8-bit pixels [B, H, W, 3] into images [B, 3, H, W] in [0, 1]."""
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return channels_first.float() / 255


def to_pixels(x: torch.Tensor) -> numpy.ndarray:
    """Turn images [B, 3, H, W] in [0, 1] into 8-bit pixels [B, H, W, 3]."""
    levels = (x * 255).round().byte()
    return levels.permute(0, 2, 3, 1).contiguous().numpy()


def saved_and_opened(x: torch.Tensor) -> torch.Tensor:
    """Save each image as a JPEG file with Pillow and open it again."""
    opened = []
    for pixels in to_pixels(x):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
        opened.append(numpy.array(Image.open(file)))
    return to_images(numpy.stack(opened))


def read(y: torch.Tensor, carriers: torch.Tensor) -> torch.Tensor:
    """Read one number per bit, positive for 1."""
    return (y - 0.5).flatten(1) @ carriers.T


def hide(
    x: torch.Tensor,
    bits: torch.Tensor,
    carriers: torch.Tensor,
    channel: v2.Compose,
    steps: int = 100,
) -> torch.Tensor:
    """Change x so that the bits can be read after it passed through `channel`."""
    change = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=0.5 / 255)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = read(channel(x + change), carriers)
        loss = binary_cross_entropy_with_logits(logits, bits)
        loss.backward()
        optimizer.step()
        change.data.clamp_(-LARGEST, LARGEST)
    marked = (x + change.detach()).clamp(0, 1)
    return (marked * 255).round() / 255


def share_read(y: torch.Tensor, bits: torch.Tensor, carriers: torch.Tensor) -> float:
    """The share of bits that are read correctly."""
    correct = (read(y, carriers) > 0) == (bits > 0)
    return correct.float().mean().item()


def main() -> None:
    rng = torch.Generator().manual_seed(0)
    x = load(PICTURES)
    bits = torch.randint(0, 2, (len(PICTURES), 64), generator=rng).float()
    coarse = torch.randn(64, 3, 64, 64, generator=rng)
    fine = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    carriers = fine.flatten(1) / 8  # one pattern per bit
    to_float = v2.ToDtype(torch.float32)
    channels = {"without JPEG": v2.Compose([to_float])}
    for surrogate in ("identity", "ste", "cubic", "smoothed"):  # the last is for robustness
        jpeg = JPEG(QUALITY, surrogate=surrogate)
        channels[f"through JPEG, {surrogate}"] = v2.Compose([to_float, jpeg])
    print("trained                    bits read at once    from Pillow's files")
    for name, channel in channels.items():
        marked = hide(x, bits, carriers, channel)
        direct = share_read(marked, bits, carriers)
        from_files = share_read(saved_and_opened(marked), bits, carriers)
        print(f"{name:26}{direct:18.1%}{from_files:23.1%}")


if __name__ == "__main__":
    main()
