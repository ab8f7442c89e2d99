"""Hide 64 bits in a picture so that they survive JPEG, by training through it.

    python examples/jpeg_in_training.py

JPEG(10) stands in a torchvision pipeline like any other transform; what comes out is what Pillow
would have saved and opened, and gradients flow back through it. The last column is the proof: bits
read from a file that Pillow itself wrote.
"""

import io
from pathlib import Path

import numpy
import torch
from PIL import Image
from torchvision.transforms import v2

from degrade import JPEG, Quantize

PICTURES = sorted((Path(__file__).parent / "avatars").glob("*.png"))[:8]


def load(paths) -> torch.Tensor:
    pixels = numpy.stack([numpy.asarray(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def saved_and_opened(x: torch.Tensor, quality: int) -> torch.Tensor:
    """x through real files."""
    out = []
    for pixels in (x * 255).round().byte().permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(numpy.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
        out.append(torch.from_numpy(numpy.array(Image.open(file))))
    return torch.stack(out).permute(0, 3, 1, 2).float() / 255


def hide(x: torch.Tensor, bits: torch.Tensor, carriers: torch.Tensor, channel, steps: int = 150) -> torch.Tensor:
    """x changed by at most 6 levels a channel, so that `channel` leaves the bits readable."""
    change = torch.zeros_like(x, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=1 / 255)
    for _ in range(steps):
        optimizer.zero_grad()
        marked = x + change.clamp(-6 / 255, 6 / 255)
        torch.nn.functional.binary_cross_entropy_with_logits(read(channel(marked), carriers), bits).backward()
        optimizer.step()
    return Quantize()((x + change.detach().clamp(-6 / 255, 6 / 255)).clamp(0, 1))


def read(y: torch.Tensor, carriers: torch.Tensor) -> torch.Tensor:
    return (y.flatten(1) - y.flatten(1).mean(1, keepdim=True)) @ carriers.T


def main() -> None:
    g = torch.Generator().manual_seed(0)
    x = load(PICTURES)
    bits = torch.randint(0, 2, (len(x), 64), generator=g).float()
    carriers = torch.randn(64, x[0].numel(), generator=g) / 8
    without = v2.Compose([v2.Identity()])
    through = v2.Compose([v2.Identity(), JPEG(10)])
    print("trained           bits read at once   bits read from Pillow's JPEG of quality 10")
    for name, channel in {"without JPEG": without, "through JPEG(10)": through}.items():
        marked = hide(x, bits, carriers, channel)
        right = [
            ((read(y, carriers) > 0) == (bits > 0.5)).float().mean() for y in (marked, saved_and_opened(marked, 10))
        ]
        print(f"{name:18}{right[0]:17.1%}{right[1]:20.1%}")


if __name__ == "__main__":
    main()
