"""What it means for a prediction to match an observation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from degrade.rng import Rng

from .perceptual import Perceptual

L1_WEIGHT = 0.1
LEVELS = 6  # at most this many scales
FILL_MEAN, FILL_STD = 0.25, 0.5  # noise that hides what is masked, in units of [0, 1]


class RobustLoss:
    """Multi-resolution LPIPS + 0.1·L1 against one observation.

    LPIPS at full resolution and after every 2×2 average pooling down to the smallest side the
    network takes (above 16; 32 for alex), at most six scales; then L1 on what is left. Hidden
    regions of both images get the same fresh noise N(0.25, 0.5²) before every LPIPS.
    Source: Poirier-Ginter & Lalonde 2023, §3.3, as its published code behaves.

    observation: [B, 3, h, w] in [0, 1]. visible: [1 or B, 1, h, w] (1 = seen), or None.
    """

    def __init__(self, observation: Tensor, visible: Tensor | None, perceptual: Perceptual):
        self.perceptual = perceptual
        hidden = None if visible is None else 1 - visible.to(observation)
        self.scales = []  # (image, hidden share of each pixel, features); what is hidden changes the features
        y = observation
        while len(self.scales) < LEVELS and min(y.shape[2:]) >= perceptual.min_side:
            self.scales.append((y, hidden, perceptual.features(y) if hidden is None else None))
            y = F.avg_pool2d(y, 2)
            hidden = None if hidden is None else F.avg_pool2d(hidden, 2)
        self.smallest = y

    def __call__(self, prediction: Tensor, rng: Rng) -> Tensor:
        """Loss [B] of prediction [B, 3, h, w]; the fill noise comes from `rng`."""
        x, total = prediction, 0.0
        for y, hidden, features in self.scales:
            shown = x
            if hidden is not None:
                fill = (FILL_MEAN + FILL_STD * rng.normal(y)) * hidden
                shown, features = x + fill, self.perceptual.features(y + fill)
            total = total + self.perceptual.distance(self.perceptual.features(shown), features)
            x = F.avg_pool2d(x, 2)
        return total + L1_WEIGHT * (x - self.smallest).abs().flatten(1).mean(1)
