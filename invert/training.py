"""Train a denoiser on pictures, from noise of many levels.

A training is a state that can be stopped after any step, saved, and resumed with the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .denoiser import Denoiser
from .draws import normal, stream
from .muon import Muon
from .networks.drunet import MULTIPLE, UNetRes
from .patches import Batch, draw_batch
from .perceptual import fastest_dtype
from .recipe import Recipe
from .training_loss import loss_of

Pictures = Sequence[Tensor]  # each [C, H, W], uint8
OUTER_LAYERS = ("m_head.", "m_tail.")  # trained by Adam; Muon is for hidden layers


class Training:
    """A denoiser in training.

    pictures: each [C, H, W], uint8, with sides of at least `recipe.patch`. start: a denoiser with a
    DRUNet, which is trained further instead of a network with random weights (fine-tuning). Its
    widths, blocks and scaling are kept; the recipe decides the pictures, the noise and the loss.
    step: how many steps were made. loss: that of the last step, NaN before the first.
    Raises ValueError for pictures or a start that do not fit the recipe.
    """

    def __init__(
        self,
        pictures: Pictures,
        recipe: Recipe | None = None,
        device: str = "cpu",
        start: Denoiser | None = None,
    ):
        self.recipe = Recipe() if recipe is None else recipe
        if start is not None:
            self.recipe = recipe_of_start(self.recipe, start)
        check_pictures(pictures, self.recipe)
        self.pictures = pictures
        self.device = device
        self.step = 0
        self.losses: list[float] = []
        if start is None:
            self.network = initial_network(self.recipe)
        else:
            self.network = network_of_start(start)
        self.network.to(device)
        self.network.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self.average.requires_grad_(False)
        self.optimisers = _optimisers(self.network, self.recipe)

    @property
    def loss(self) -> float:
        return self.losses[-1] if self.losses else math.nan

    def advance(self) -> None:
        """Make one step.

        Raises ValueError if the loss is NaN or infinite. The weights are then still those of the
        step before.
        """
        recipe = self.recipe
        batch = draw_batch(self.pictures, recipe, self.step)
        with _reproducible():
            loss = self._loss(batch.to(self.device))
            self.network.zero_grad()
            loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            mend = f"lower learning_rate={recipe.learning_rate:g}"
            raise ValueError(f"the loss is {value} at step {self.step + 1}; {mend}")
        parameters = self.network.parameters()
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        self._move()
        self._update_average()
        self.losses.append(value)
        self.step += 1

    def run(self, callback: Callable[[Training], None] | None = None) -> None:
        """Make all steps that remain. callback: called after each."""
        while self.step < self.recipe.steps:
            self.advance()
            if callback is not None:
                callback(self)

    def _loss(self, batch: Batch) -> Tensor:
        """The loss of the recipe."""
        noisy = batch.noisy.contiguous(memory_format=torch.channels_last)
        with _autocast(self.device):
            estimate = self.network(noisy, batch.sigma)
            return loss_of(estimate, batch, self.recipe)

    def _move(self) -> None:
        """Let the optimisers move the weights, at the learning rate of this step."""
        rate = self.recipe.rate(self.step)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()

    @torch.no_grad()
    def _update_average(self) -> None:
        weight = 1 - self.recipe.decay(self.step)
        averages = dict(self.average.named_parameters())
        for name, current in self.network.named_parameters():
            averages[name].lerp_(current, weight)

    def denoiser(self) -> Denoiser:
        """The denoiser with the averaged weights, on the CPU."""
        network = copy.deepcopy(self.average).to("cpu")
        network = network.to(memory_format=torch.contiguous_format)
        return Denoiser(
            network,
            channels=self.recipe.channels,
            multiple=MULTIPLE,
            takes_map=True,
            upright=not self.recipe.turned,
            sigma_range=self.recipe.sigma,
        )

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that `load_state_dict` needs: tensors, numbers, lists and dicts."""
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        state = {
            "step": self.step,
            "losses": self.losses,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": optimisers,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, with the same pictures, recipe and start.

        Raises ValueError if its network has other weights than the one of this training.
        """
        _check_weights(state["network"], self.network)
        self.step = state["step"]
        self.losses = list(state["losses"])
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        states = state["optimisers"]
        for optimiser, optimiser_state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(optimiser_state)


def train(
    pictures: Pictures,
    recipe: Recipe | None = None,
    callback: Callable[[Training], None] | None = None,
    device: str = "cpu",
    state: dict[str, Any] | None = None,
    start: Denoiser | None = None,
) -> Denoiser:
    """Train a denoiser on pictures.

    pictures: each [C, H, W], uint8, with sides of at least `recipe.patch`. recipe: by default that
    of the bundled prior. callback: called after every step; it may save `training.state_dict()`.
    state: such a state, to resume from; the result has the same bits as that of a training that was
    not stopped, on the same device. start: a denoiser with a DRUNet, such as `load_prior("photo")`,
    whose weights are trained further on these pictures (fine-tuning).
    Raises ValueError for pictures or a start that do not fit the recipe, for a state of another
    network, and if the loss becomes NaN.
    """
    training = Training(pictures, recipe, device, start)
    if state is not None:
        training.load_state_dict(state)
    training.run(callback)
    return training.denoiser()


def initial_network(recipe: Recipe) -> UNetRes:
    """The network before the first step, decided by the recipe's seed.

    PyTorch's usual start, but small in the last layer and in the last layer of each block, so that
    the network begins near the identity.
    """
    generator = stream(recipe.seed, "weights")
    is_residual = recipe.sigma_data is None
    network = UNetRes(recipe.channels, recipe.widths, recipe.blocks, is_residual, recipe.sigma_data)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
            if name.endswith("res.2.weight"):
                weight.mul_(recipe.branch_scale)
            elif name == "m_tail.weight":
                weight.mul_(recipe.tail_scale)
    return network


def _check_weights(weights: dict[str, Tensor], network: UNetRes) -> None:
    """Raise ValueError unless these weights have the names and shapes of the network's."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    expected = {name: weight.shape for name, weight in network.state_dict().items()}
    if shapes != expected:
        raise ValueError(
            f"state is of a network with other weights than widths={network.widths} and "
            f"blocks={network.blocks}; give the start= or the recipe that its training began with"
        )


def network_of_start(start: Denoiser) -> UNetRes:
    """A copy of the network that is trained further, in float32 and with gradients."""
    network = copy.deepcopy(_drunet_of(start))
    return network.float().requires_grad_(True)


def _drunet_of(start: Denoiser) -> UNetRes:
    """The network of a denoiser. Raises ValueError if it is no DRUNet."""
    if not isinstance(start, Denoiser):
        kind = type(start).__name__
        raise ValueError(f'start is a {kind}; give a denoiser, such as load_prior("photo")')
    network = start.module
    if not isinstance(network, UNetRes):
        kind = type(network).__name__
        raise ValueError(f"start has a {kind}; give a DRUNet, such as the denoiser of photos")
    return network


def recipe_of_start(recipe: Recipe, start: Denoiser) -> Recipe:
    """The recipe with the widths and blocks of the network that the training begins from.

    Raises ValueError if the network is no DRUNet, or has other channels than the recipe.
    """
    network = _drunet_of(start)
    if network.channels != recipe.channels:
        raise ValueError(
            f"start has channels={network.channels}, the recipe {recipe.channels}; "
            "change the recipe, or choose another start"
        )
    return replace(recipe, widths=network.widths, blocks=network.blocks)


def check_pictures(pictures: Pictures, recipe: Recipe) -> None:
    """Raise ValueError unless there are pictures, and each holds a patch."""
    if not pictures:
        raise ValueError("pictures is empty; give at least one")
    for number, picture in enumerate(pictures):
        has_channels = picture.ndim == 3 and len(picture) == recipe.channels
        if picture.dtype != torch.uint8 or not has_channels:
            kind = f"{picture.dtype} of shape {list(picture.shape)}"
            wanted = f"uint8 of shape [{recipe.channels}, H, W]"
            raise ValueError(f"pictures[{number}] is {kind}; give {wanted}")
        height, width = picture.shape[1:]
        if min(height, width) < recipe.patch:
            raise ValueError(
                f"pictures[{number}] has {width}x{height} pixels, less than patch={recipe.patch}; "
                "leave it out, or lower patch"
            )


def noisy_picture(picture: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """A picture [C, H, W], uint8, as [1, C, H, W] in [0, 1] units with noise of a seed."""
    generator = stream(seed, "validation")
    clean = picture[None].float() / 255
    noise = normal(clean.shape, generator)
    return clean + sigma * noise


@torch.no_grad()
def denoised(network: nn.Module, noisy: Tensor, sigma: float) -> Tensor:
    """The estimate of a network in training, clamped to [0, 1], on the CPU."""
    device = next(network.parameters()).device
    batch = len(noisy)
    level = torch.full((batch,), sigma, dtype=torch.float32, device=device)
    with _autocast(device.type):
        estimate: Tensor = network(noisy.to(device), level)
    return estimate.float().clamp(0, 1).cpu()


def decibels(estimate: Tensor, picture: Tensor) -> float:
    """The peak signal-to-noise ratio of an estimate [1, C, H, W] of a picture [C, H, W], uint8."""
    difference = estimate - picture / 255
    mse = difference.square().mean().item()
    return -10 * math.log10(max(mse, 1e-10))


def psnr(network: nn.Module, pictures: Pictures, sigma: float) -> float:
    """The mean peak signal-to-noise ratio of the denoised pictures, in dB."""
    total = 0.0
    for number, picture in enumerate(pictures):
        noisy = noisy_picture(picture, sigma, number)
        estimate = denoised(network, noisy, sigma)
        total += decibels(estimate, picture)
    return total / len(pictures)


def _optimisers(network: UNetRes, recipe: Recipe) -> list[torch.optim.Optimizer]:
    hidden, outer = [], []
    for name, weight in network.named_parameters():
        if name.startswith(OUTER_LAYERS):
            outer.append(weight)
        else:
            hidden.append(weight)
    muon = Muon(hidden, recipe.learning_rate, recipe.momentum)
    adam = torch.optim.Adam(outer, recipe.learning_rate, betas=recipe.betas)
    return [muon, adam]


def _reproducible() -> AbstractContextManager[None]:
    """Avoid cuDNN's fastest kernels, which do not give the same bits twice."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True
    )
    return flags


def _autocast(device: str) -> torch.autocast:
    """Compute in bfloat16 where the device multiplies it."""
    kind = torch.device(device).type
    dtype = fastest_dtype(torch.device(device))
    is_faster = dtype is torch.bfloat16
    return torch.autocast(kind, torch.bfloat16, enabled=is_faster)
