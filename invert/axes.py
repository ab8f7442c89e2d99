"""In which directions the codes of a generator lie far apart: the principal axes of W."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axes:
    """The principal axes of W, of the class of each image.

    directions: a unit vector in each column, [1 or B, w_dim, w_dim]. variances: of W along each
    direction, relative to their mean, [1 or B, w_dim].
    """

    directions: Tensor
    variances: Tensor

    @staticmethod
    def of(w: Tensor) -> Axes:
        """The axes of some draws of W, [count, w_dim]."""
        covariance = torch.cov(w.cpu().double().T)  # not every device has float64
        variances, directions = torch.linalg.eigh(covariance)
        positive = variances.clamp_min(0)
        relative = positive / positive.mean()
        return Axes(directions[None].to(w), relative[None].to(w))

    @staticmethod
    def cat(axes: list[Axes]) -> Axes:
        """The axes of a batch of images, from those of single images."""
        directions = [one.directions for one in axes]
        variances = [one.variances for one in axes]
        return Axes(torch.cat(directions), torch.cat(variances))

    def stretched(self, codes: Tensor, power: float) -> Tensor:
        """Multiply codes [B, …, w_dim] by Cᵖ, where C is the covariance of W relative to its mean.

        A power of 0 changes nothing. The higher it is, the more a code is turned towards the
        directions in which W spreads.
        """
        rows = codes.reshape(len(codes), -1, codes.shape[-1])
        directions = self.directions.to(codes)  # codes of a generator in half precision are float32
        factors = self.variances.to(codes) ** power
        along = rows @ directions
        stretched = (along * factors[:, None]) @ directions.mT
        return stretched.view_as(codes)
