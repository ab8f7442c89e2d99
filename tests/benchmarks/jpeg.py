"""Compare JPEG with other libraries: exact pixels, speed, memory, descent with each surrogate.

    python tests/benchmarks/jpeg.py [exact] [speed] [memory] [descent]

Speed: 4×3×512×512 float32, 2 threads (or OMP_NUM_THREADS), quality 75, 4:2:0, in alternating runs;
medians with quartiles.
Descent: x* from y = codec(x*), minimising ‖jpeg(x) - y‖² from mid-grey with Adam, learning rate
0.02, 200 steps; the error of the true codec at the result, on levels 0 to 255.
"""

import io
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import kornia
import numpy
import torch
import torchvision.io
from PIL import Image
from torch import Tensor

from degrade import jpeg
from degrade.jpeg import CLAMPS, SURROGATES

AVATARS = sorted((Path(__file__).parents[2] / "examples" / "avatars").glob("*.png"))
Q_EXACT, Q_DESCENT = (12, 50, 95), (9, 50, 90)
THREADS = int(os.environ.get("OMP_NUM_THREADS", 2))


def pictures(count: int, size: int = 128) -> Tensor:
    """Avatars [count, 3, size, size] of k/255, with some grain where they are enlarged."""
    images = [
        Image.open(path).convert("RGB").resize((size, size), Image.BICUBIC)
        for path in AVATARS[:count]
    ]
    pixels = (
        torch.stack([torch.from_numpy(numpy.array(image)) for image in images])
        .permute(0, 3, 1, 2)
        .float()
    )
    grain = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * 6 * (size > 128)
    return ((pixels + grain).round().clamp(0, 255) / 255).contiguous()


def with_pillow(x: Tensor, quality: int) -> Tensor:
    out = []
    for pixels in (x * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        out.append(torch.from_numpy(numpy.array(Image.open(file))))
    return torch.stack(out).permute(0, 3, 1, 2).float() / 255


def with_torchvision(x: Tensor, quality: int) -> Tensor:
    files = torchvision.io.encode_jpeg(list((x * 255).round().byte()), quality)
    return torch.stack(torchvision.io.decode_jpeg(files)).float() / 255


def with_kornia(x: Tensor, quality: int) -> Tensor:
    return kornia.enhance.jpeg_codec_differentiable(
        x, torch.tensor([float(quality)], device=x.device)
    )


def exact() -> None:
    x = pictures(6)
    print(f"\nvalues (channels of pixels) that equal Pillow's, at quality {Q_EXACT}")
    for name, f in {
        "degrade": jpeg,
        "kornia": with_kornia,
        "torchvision.io": with_torchvision,
    }.items():
        equal = [((f(x, q) * 255).round() == (with_pillow(x, q) * 255).round()) for q in Q_EXACT]
        print(f"{name:28}", *(f"{share.float().mean():7.1%}" for share in equal))


def step(f, x: Tensor, quality: int) -> None:
    x = x.detach().requires_grad_()
    f(x, quality).sum().backward()


def speed(rounds: int = 15) -> None:
    torch.set_num_threads(THREADS)
    x = pictures(4, 512)
    runs = {
        "Pillow": with_pillow,
        "torchvision.io": with_torchvision,
        "kornia forward": with_kornia,
    }
    runs["kornia forward + backward"] = partial(step, with_kornia)
    runs["degrade forward"] = jpeg
    for surrogate in SURROGATES:
        runs[f"degrade forward + backward, {surrogate}"] = partial(
            step, partial(jpeg, surrogate=surrogate)
        )
    runs["degrade forward + backward, residual, clamp ste"] = partial(
        step, partial(jpeg, surrogate="residual", clamp="ste")
    )
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(x, 75)
            times[name] += [(time.perf_counter() - start) * 1e3 / len(x)] if i else []
    fastest = {name: min(each) for name, each in times.items()}
    print(
        f"\nms per 512² image, {torch.get_num_threads()} threads, {rounds} rounds: "
        "median (quartiles), fastest;"
    )
    print("the fastest as a multiple of kornia's same pass, and of Pillow's codec")
    for name, each in times.items():
        low, middle, high = statistics.quantiles(each, n=4)
        rival = "kornia forward + backward" if "+" in name else "kornia forward"
        ratios = f"{fastest[name] / fastest[rival]:5.2f} {fastest[name] / fastest['Pillow']:6.2f}"
        print(f"{name:48} {middle:7.2f} ({low:.2f}-{high:.2f}) {fastest[name]:7.2f} {ratios}")


def memory() -> None:
    x = pictures(4, 512).requires_grad_()
    print(
        "\npeak of extra memory, forward + backward, as a multiple of the input "
        "(its gradient and output included)"
    )
    for surrogate in SURROGATES:
        with torch.profiler.profile(profile_memory=True) as profile:
            y = jpeg(x, 75, surrogate=surrogate)
            torch.autograd.grad(y, x, torch.ones_like(y))
        held, peak = 0, 0
        records = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        for event in sorted(records, key=lambda e: e.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        print(f"{surrogate:28} {peak / x.nbytes:5.1f}")


def descend(f, x: Tensor, quality: int, loss) -> float:
    y, z = with_pillow(x, quality), torch.full_like(x, 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss((f(z, quality) - y).square()).backward()
        optimizer.step()
    result = (z.detach().clamp(0, 1) * 255).round() / 255
    return (with_pillow(result, quality) - y).mul(255).square().mean().item()


def descent(count: int = 6) -> None:
    x = pictures(count)
    methods = {"kornia": with_kornia, "real codec, identity": partial(jpeg, surrogate="identity")}
    for surrogate in SURROGATES[1:]:
        methods |= {
            f"{surrogate}, {clamp}": partial(jpeg, surrogate=surrogate, clamp=clamp)
            for clamp in CLAMPS
        }
    print(
        f"\nmean squared error after descent on {count} pictures, at quality {Q_DESCENT}: "
        "summed loss | mean loss"
    )
    for name, f in methods.items():
        columns = [
            [f"{descend(f, x, q, loss):7.2f}" for q in Q_DESCENT]
            for loss in (torch.sum, torch.mean)
        ]
        print(f"{name:28}", *columns[0], " |", *columns[1], flush=True)


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["exact", "speed", "memory", "descent"]
    for part in chosen:
        {"exact": exact, "speed": speed, "memory": memory, "descent": descent}[part]()
