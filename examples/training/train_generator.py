"""Train a generator of aligned pictures further, so that its samples become sharper.

    python examples/training/train_generator.py PICTURES -o FOLDER [--attributes FILE.npy]

PICTURES is a folder of square pictures, or an .npy file of them (uint8, [N, H, W, 3]); they are
reduced to the generator's side. The generator is the bundled one; --generator names another
StyleGAN2. Its mapping is kept; the synthesis network and its noise strengths learn that

* samples should look like pictures to a discriminator, which sees the features of a frozen VGG
  (a projected GAN: Sauer et al. 2021, "Projected GANs Converge Faster");
* with --attributes (float32, [N, A]: what each picture shows, as numbers), the image of a
  picture's code should be the picture (L1 + LPIPS); a small network finds the code;
* reduced to a quarter, a sample should stay what it was, so that its code keeps its meaning (L1).

FOLDER gets generator.safetensors, samples.png, log.txt and state.pt. The same command goes on from
the state; every draw depends on --seed and the number of the step alone.
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import invert
from invert import perceptual
from pipelines import files

SAVE_EVERY = 100  # steps
HIDDEN = 256  # width of the network that finds codes
AVERAGE = 0.998  # decay of the moving average of the weights


class Discriminator(nn.Module):
    """A small network on each layer of the VGG; each gives a map of scores, high for pictures."""

    def __init__(self, maps: tuple[Tensor, ...], width: int = 64):
        super().__init__()
        self.scales = [float(layer.float().square().mean().sqrt()) for layer in maps]
        self.heads = nn.ModuleList(_head(layer.shape[1], width) for layer in maps)

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        scores = []
        for layer, scale, head in zip(maps, self.scales, self.heads, strict=True):
            scores.append(head(layer / scale).float())
        return scores


def _head(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )


class Trainer:
    """The networks, their optimisers, and one step of training."""

    def __init__(self, options: argparse.Namespace, pictures: Pictures, attributes: Tensor | None):
        torch.manual_seed(options.seed)  # for the weights of new networks
        self.options = options
        self.pictures = pictures
        self.attributes = attributes
        self.generator = invert.load_generator(options.generator)
        synthesis = self.generator.get_submodule("synthesis")
        synthesis.requires_grad_(True)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.first = copy.deepcopy(self.average)
        dtype = perceptual.fastest_dtype(torch.device("cpu"))
        self.precision = dtype
        self.vgg = perceptual.for_losses("vgg", "cpu", dtype)
        self.discriminator = Discriminator(self.vgg.maps(pictures.some(0, options.batch)))
        width = self.generator.config["w_dim"]
        count = 1 if attributes is None else attributes.shape[1]
        self.encoder = nn.Sequential(
            nn.Linear(count, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, width)
        )
        self.optimisers = {
            "synthesis": _adam(synthesis, options.rate),
            "encoder": _adam(self.encoder, 5e-4),
            "discriminator": _adam(self.discriminator, options.rate_of_discriminator),
        }
        self.step = 0

    def advance(self) -> dict[str, float]:
        """Make one step, and return the losses."""
        options = self.options
        draws = numpy.random.default_rng([options.seed, self.step])
        noise = torch.Generator().manual_seed(int(draws.integers(2**63)))
        rows = draws.integers(len(self.pictures), size=options.batch)
        real = self.pictures[rows]
        codes, pairs = self._codes(rows, noise)
        layers = codes[:, None].expand(-1, self.generator.num_ws, -1)
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            images = self.generator.synthesize(layers, "random", noise).float()
        maps = self.vgg.maps(images)
        with torch.no_grad():
            maps_of_real = self.vgg.maps(real)
        losses = {"adversarial": -_mean(self._scores(maps))}
        with torch.no_grad():
            first = self.first.synthesize(layers[pairs:], "none")
        losses["kept"] = _coarse_distance(images[pairs:], first)
        if pairs:
            paired = [layer[:pairs] for layer in maps]
            known = [layer[:pairs] for layer in maps_of_real]
            losses["L1"] = (images[:pairs] - real[:pairs]).abs().mean()
            losses["LPIPS"] = _lpips(self.vgg, paired, known)
        self._learn(losses)
        losses["discriminator"] = self._judge(maps, maps_of_real)
        self._average()
        self.step += 1
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _codes(self, rows: numpy.ndarray, noise: torch.Generator) -> tuple[Tensor, int]:
        """The codes of a batch, and how many of the first ones are of the pictures of `rows`."""
        batch = len(rows)
        pairs = 0 if self.attributes is None else batch // 2
        z = torch.randn(batch - pairs, self.generator.z_dim, generator=noise)
        with torch.no_grad():
            drawn = self.generator.mapping(z)
        if self.attributes is None:
            return drawn, 0
        known = self.encoder(self.attributes[rows[:pairs]])
        return torch.cat([known, drawn]), pairs

    def _scores(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            scores: list[Tensor] = self.discriminator(maps)
        return scores

    def _learn(self, losses: dict[str, Tensor]) -> None:
        """Move the generator, and the network that finds codes."""
        options = self.options
        total = losses["adversarial"] * (0 if self.step < options.warmup else options.adversarial)
        for name in ("L1", "LPIPS", "kept"):
            if name in losses:
                total = total + losses[name]
        moved = ["encoder"]
        if self.step >= options.warmup:
            moved.append("synthesis")
        self._move(total, moved)

    def _judge(self, maps: tuple[Tensor, ...], maps_of_real: tuple[Tensor, ...]) -> Tensor:
        """Move the discriminator by the hinge loss, and return it."""
        fake = self._scores(tuple(layer.detach() for layer in maps))
        real = self._scores(maps_of_real)
        too_high = [F.relu(1 + score) for score in fake]
        too_low = [F.relu(1 - score) for score in real]
        loss = _mean(too_high) + _mean(too_low)
        self._move(loss, ["discriminator"])
        return loss

    def _move(self, loss: Tensor, names: list[str]) -> None:
        """One step of these optimisers. The rate falls to 0 over the last third of the steps."""
        remaining = 1 - self.step / self.options.steps
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        loss.backward()
        for name in names:
            optimiser = self.optimisers[name]
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * min(1.0, 3 * remaining)
            optimiser.step()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(AVERAGE, (self.step + 1) / (self.step + 10))
        current = dict(self.generator.named_parameters())
        for name, averaged in self.average.named_parameters():
            averaged.lerp_(current[name], 1 - decay)

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything that has a state."""
        return {
            "generator": self.generator,
            "average": self.average,
            "discriminator_network": self.discriminator,
            "encoder_network": self.encoder,
            **self.optimisers,
        }


class Pictures:
    """Square pictures of one side, as float [B, 3, side, side] in [0, 1]."""

    def __init__(self, path: Path, side: int):
        if path.suffix == ".npy":
            self.pixels = numpy.load(path, mmap_mode="r")
        else:
            names = sorted(name for name in path.rglob("*") if name.is_file())
            self.pixels = numpy.stack([_pixels(name, side) for name in names])
        if self.pixels.shape[1:] != (side, side, 3):
            raise SystemExit(
                f"{path} holds {self.pixels.shape[1:]}; give pictures of {side}x{side}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: numpy.ndarray) -> Tensor:
        batch = torch.from_numpy(self.pixels[rows])
        return batch.permute(0, 3, 1, 2).float() / 255

    def some(self, seed: int, count: int) -> Tensor:
        return self[numpy.random.default_rng(seed).integers(len(self), size=count)]


def _pixels(path: Path, side: int) -> numpy.ndarray:
    picture = Image.open(path).convert("RGB")
    return numpy.asarray(picture.resize((side, side), Image.Resampling.BOX))


def _adam(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    parameters = [{"params": list(network.parameters()), "initial_lr": rate}]
    return torch.optim.Adam(parameters, rate, betas=(0.0, 0.99))


def _mean(maps: list[Tensor]) -> Tensor:
    """The mean over layers of the mean of each."""
    return torch.stack([layer.mean() for layer in maps]).mean()


def _coarse_distance(images: Tensor, others: Tensor) -> Tensor:
    """The mean absolute difference of the images reduced to a quarter."""
    return (F.avg_pool2d(images, 4) - F.avg_pool2d(others, 4)).abs().mean()


def _lpips(vgg: perceptual.Perceptual, maps: list[Tensor], known: list[Tensor]) -> Tensor:
    total = torch.zeros(())
    for layer, other, head in zip(maps, known, vgg.heads, strict=True):
        difference = F.normalize(layer.float(), dim=1) - F.normalize(other.float(), dim=1)
        total = total + (difference * head).square().sum(1).mean()
    return total


def save(trainer: Trainer, folder: Path) -> None:
    """Write the state, the generator with averaged weights, and 64 samples of it."""
    state = {name: part.state_dict() for name, part in trainer.parts().items()}
    partial = folder / "state.tmp"
    torch.save({"step": trainer.step, **state}, partial)
    os.replace(partial, folder / "state.pt")
    trainer.average.save(folder / "generator.safetensors")
    z = torch.randn(64, trainer.average.z_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        codes = trainer.average.mapping(z)
        layers = codes[:, None].expand(-1, trainer.average.num_ws, -1)
        samples = trainer.average.synthesize(layers, "const").clamp(0, 1)
    rows = [torch.cat(list(samples[first : first + 8]), 2) for first in range(0, 64, 8)]
    files.to_pil(torch.cat(rows, 1)[None]).save(folder / "samples.png")


def load(trainer: Trainer, path: Path) -> None:
    state = torch.load(path, weights_only=True)
    trainer.step = state.pop("step")
    for name, part in trainer.parts().items():
        part.load_state_dict(state[name])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--attributes", type=Path)
    parser.add_argument("--generator", default="avatars-128")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--warmup", type=int, default=100, help="steps before the generator moves")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of the generator")
    parser.add_argument("--rate-of-discriminator", type=float, default=4e-4)
    parser.add_argument("--adversarial", type=float, default=0.03, help="weight of its loss")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    side = invert.load_generator(options.generator).resolution
    pictures = Pictures(options.pictures, side)
    attributes = None
    if options.attributes is not None:
        attributes = torch.from_numpy(numpy.load(options.attributes))
    trainer = Trainer(options, pictures, attributes)
    state = options.output / "state.pt"
    if state.exists():
        load(trainer, state)
    sums: dict[str, float] = {}
    while trainer.step < options.steps:
        for name, loss in trainer.advance().items():
            sums[name] = sums.get(name, 0) + loss
        if trainer.step % SAVE_EVERY == 0 or trainer.step == options.steps:
            save(trainer, options.output)
        if trainer.step % 25 == 0:
            line = "  ".join(f"{name} {total / 25:.4f}" for name, total in sums.items())
            print(f"step {trainer.step}  {line}", flush=True)
            sums = {}


if __name__ == "__main__":
    main()
