"""What a free tensor of a search is: its role says how optimisers and constraints treat it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Role:
    """A kind of free tensor.

    follows_spread: whether its learning rate is multiplied by the spread of the generator's W.
    axes: the axes that form one vector; constraints keep the length or the mean of each vector.
    """

    name: str
    follows_spread: bool = False
    axes: tuple[int, ...] = (-1,)


CODES = Role("codes", follows_spread=True)  # of W, W+ or W++, or an offset added to them
Z = Role("z")  # what the mapping turns into codes
NOISE = Role("noise map", axes=(2, 3))  # [B, 1, r, r]
FEATURES = Role("features", axes=(1, 2, 3))  # [B, F, r, r], within the synthesis network
WEIGHTS = Role("weights")  # of the synthesis network, one copy per image


@dataclass(frozen=True)
class Variable:
    """A free tensor [B, …] and its role."""

    value: Tensor
    role: Role


Free = dict[str, Variable]  # the free tensors of a space, by names that the space chooses
Variables = dict[str, Tensor]  # their values, [B, …] each
