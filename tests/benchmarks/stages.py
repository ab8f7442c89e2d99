"""Time single stages beside torch's own: Pillow's resize, and Gaussian noise.

    OMP_NUM_THREADS=1 python tests/benchmarks/stages.py [ROUNDS]

Both sides of a pair take turns. It prints the medians of their CPU time, which other load changes
less than wall time, and the ratio.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from degrade import Gaussian, Resize

SIZES = ((1, 256), (1, 512), (8, 256), (8, 512))  # images, side
SCALES = {"halved": 0.5, "to three quarters": 0.75, "enlarged by 1.5": 1.5}
SIGMA = 0.1


def pair(theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> str:
    """The medians of both in ms, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 2):
        for run, kept in zip((theirs, ours), times, strict=True):
            start = time.process_time()
            run()
            kept.append(time.process_time() - start)
    torchs, degrades = (1000 * statistics.median(kept[2:]) for kept in times)
    return f"torch {torchs:7.2f} ms  degrade {degrades:7.2f} ms  ratio {degrades / torchs:.2f}"


def resize_pair(x: torch.Tensor, scale: float, filter: str, rounds: int) -> str:
    side = round(x.shape[3] * scale)
    f = Resize(side, filter=filter)

    def theirs() -> torch.Tensor:
        return F.interpolate(x, size=(side, side), mode=filter, antialias=True)

    return pair(theirs, lambda: f(x), rounds)


def noise_pair(x: torch.Tensor, rounds: int) -> str:
    f = Gaussian(SIGMA)
    return pair(lambda: x + SIGMA * torch.randn(x.shape), lambda: f(x), rounds)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    torch.set_num_threads(1)
    for images, side in SIZES:
        free = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))
        name = f"{images} of {side}²"
        print(f"{name:9} noise                            {noise_pair(free, rounds)}", flush=True)
        for kind, x in {"8 bits": (free * 255).round() / 255, "floats": free}.items():
            for filter in ("bicubic", "bilinear"):
                for how, scale in SCALES.items():
                    line = resize_pair(x, scale, filter, rounds)
                    print(f"{name:9} {kind} {filter:8} {how:17} {line}", flush=True)


if __name__ == "__main__":
    main()
