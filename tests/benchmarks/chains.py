"""Time Real-ESRGAN's chain against the code of BasicSR, on one thread.

    python tests/benchmarks/chains.py BASICSR [--rounds 12]

BASICSR is a checkout of BasicSR, whose requirement opencv-python must be installed. Both draw
kernels and degrade a batch: BasicSR with one chain for the whole batch, as it does in training, and
`degrade.pipelines["real-esrgan-x4"]` with a chain for each image. They take turns. The table has
the median CPU time of a batch in milliseconds, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import degrade

CASES = ((1, 512), (8, 256), (4, 512))  # (images, side)
LONGEST = 21  # taps of a kernel; shorter ones are padded
FIRST = {
    "resize_prob": [0.2, 0.7, 0.1],
    "resize_range": [0.15, 1.5],
    "gray_noise_prob": 0.4,
    "gaussian_noise_prob": 0.5,
    "noise_range": [1, 30],
    "poisson_scale_range": [0.05, 3],
    "jpeg_range": [30, 95],
}
SECOND = {
    "second_blur_prob": 0.8,
    "resize_prob2": [0.3, 0.4, 0.3],
    "resize_range2": [0.3, 1.2],
    "gray_noise_prob2": 0.4,
    "gaussian_noise_prob2": 0.5,
    "noise_range2": [1, 25],
    "poisson_scale_range2": [0.05, 2.5],
    "jpeg_range2": [30, 95],
}
KINDS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
SHARES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
SINC = 0.1  # share of sinc kernels in both blurs
LAST_SINC = 0.8


class BasicSR:
    """The chain of BasicSR's RealESRGANModel, without its networks."""

    def __init__(self, checkout: Path):
        sys.path.insert(0, str(checkout))
        add_removed_module()
        from basicsr.data import degradations
        from basicsr.models import realesrgan_model
        from basicsr.utils import DiffJPEG, USMSharp

        self.degradations = degradations
        self.feed = realesrgan_model.RealESRGANModel.feed_data
        filter2D = realesrgan_model.filter2D
        # its `view` fails on the layout that newer versions of torch give to a result
        realesrgan_model.filter2D = lambda x, kernel: filter2D(x.contiguous(), kernel)
        self.model = types.SimpleNamespace(
            opt={"scale": 4, "high_order_degradation": True, "gt_size": 1, **FIRST, **SECOND},
            is_train=True,
            device=torch.device("cpu"),
            jpeger=DiffJPEG(differentiable=False),
            usm_sharpener=self.sharpened_once,
            _dequeue_and_enqueue=lambda: None,
        )
        self.opt = self.model.opt
        self.sharpen = USMSharp()
        self.is_sharp = False

    def __call__(self, x: Tensor) -> Tensor:
        """Degrade a batch."""
        side = x.shape[2]
        self.opt["gt_size"] = side  # no crop: the queue's size would be the crop's
        kernels = [self.kernels() for _ in x]
        first, second, last = (torch.stack(group) for group in zip(*kernels, strict=True))
        self.is_sharp = False
        data = {"gt": x, "kernel1": first, "kernel2": second, "sinc_kernel": last}
        self.feed(self.model, data)
        return self.model.lq

    def sharpened_once(self, x: Tensor) -> Tensor:
        """Sharpen what is degraded. `feed_data` sharpens the target later, which is not timed."""
        if self.is_sharp:
            return x
        self.is_sharp = True
        sharp: Tensor = self.sharpen(x)
        return sharp

    def kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the three kernels of an image as its data set does."""
        first = self.blur([0.2, 3])
        second = self.blur([0.2, 1.5])
        last = np.zeros((LONGEST, LONGEST))
        last[LONGEST // 2, LONGEST // 2] = 1
        if random.random() < LAST_SINC:
            last = self.sinc(math.pi / 3, odd_size(), LONGEST)
        return tuple(torch.tensor(kernel, dtype=torch.float32) for kernel in (first, second, last))

    def blur(self, sigma: list[float]) -> np.ndarray[Any, Any]:
        """Draw a kernel of one of the two blurs."""
        size = odd_size()
        if random.random() < SINC:
            lowest = math.pi / 3 if size < 13 else math.pi / 5
            kernel = self.sinc(lowest, size, size)
        else:
            turn = [-math.pi, math.pi]
            kernel = self.degradations.random_mixed_kernels(
                KINDS, SHARES, size, sigma, sigma, turn, [0.5, 4], [1, 2], noise_range=None
            )
        return np.pad(kernel, (LONGEST - size) // 2)

    def sinc(self, lowest: float, size: int, padded: int) -> np.ndarray[Any, Any]:
        """Draw a circular low-pass kernel."""
        cutoff = random.uniform(lowest, math.pi)
        kernel: np.ndarray[Any, Any] = self.degradations.circular_lowpass_kernel(
            cutoff, size, pad_to=padded
        )
        return kernel


def odd_size() -> int:
    """The taps of a kernel: 7, 9, … 21."""
    return random.choice(range(7, LONGEST + 1, 2))


def add_removed_module() -> None:
    """BasicSR imports a module that torchvision has renamed."""
    from torchvision.transforms import functional

    renamed = types.ModuleType("torchvision.transforms.functional_tensor")
    renamed.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[renamed.__name__] = renamed


def cpu_ms(degradation: Any, x: Tensor) -> float:
    """CPU time of a batch, in milliseconds."""
    started = time.process_time()
    degradation(x)
    return (time.process_time() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("basicsr", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theirs = BasicSR(options.basicsr)
    chain = degrade.pipelines["real-esrgan-x4"]
    rng = torch.Generator().manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    print("| batch | BasicSR, ms | degrade, ms | ratio |\n|---|---|---|---|")
    for count, side in CASES:
        x = torch.rand(count, 3, side, side, generator=rng)
        theirs_ms, ours_ms = [], []
        with torch.no_grad():
            for _ in range(options.rounds):
                theirs_ms.append(cpu_ms(theirs, x))
                ours_ms.append(cpu_ms(lambda x: chain(x, rng), x))
        a, b = statistics.median(theirs_ms), statistics.median(ours_ms)
        print(f"| {count} of {side}² | {a:.0f} | {b:.0f} | {b / a:.2f} |", flush=True)


if __name__ == "__main__":
    main()
