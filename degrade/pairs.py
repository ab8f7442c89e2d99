"""A dataset of training pairs, with the same bits for every number of workers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Generic

import torch
from torch.utils.data import Dataset

from .constants import ordinary_tensors
from .operator import Operator
from .params import whole_number
from .pictures import Picture, PictureTransform
from .rng import child_seed


class Pairs(Dataset[tuple[Picture, Picture]], Generic[Picture]):
    """Pairs (degraded, clean) from a dataset of clean pictures, degraded when they are loaded.

    The draws of a picture depend on `seed`, the epoch and its index alone: not on the order, the
    number of workers, nor on torch's global generator.

    clean: a dataset, or a list, of pictures as `PictureTransform` takes them.
    f: the operator, or its text.

    >>> import degrade, torch
    >>> pairs = degrade.Pairs([torch.zeros(3, 8, 8)], "gaussian:0.1", seed=3)
    >>> degraded, clean = pairs[0]
    """

    def __init__(self, clean: Sequence[Picture], f: Operator | str, seed: int = 0):
        self.clean = clean
        self.transform = PictureTransform(f)
        self.seed = whole_number("seed", seed, 0, 2**63 - 1)
        with ordinary_tensors():
            epoch = torch.zeros((), dtype=torch.int64)
        self._epoch = epoch.share_memory_()  # workers that live on see it change

    def set_epoch(self, epoch: int) -> None:
        """Draw other numbers from now on; call it before each epoch, with 0, 1, 2, …"""
        self._epoch.fill_(whole_number("epoch", epoch, 0, 2**63 - 1))

    def seed_of(self, index: int) -> int:
        """The seed of a picture in the present epoch."""
        return child_seed(self.seed, int(self._epoch), int(index))

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, index: int) -> tuple[Picture, Picture]:
        position = operator.index(index)  # of a NumPy number or a tensor, too
        clean = self.clean[position]
        if position < 0:
            position += len(self)
        degraded = self.transform(clean, self.seed_of(position))
        return degraded, clean
