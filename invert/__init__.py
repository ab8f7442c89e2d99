"""Unsupervised restoration: search a generator's latent space for what an operator degraded.

>>> import degrade, invert
>>> G = invert.load_generator("avatars-128")
>>> f = degrade.parse("downsample:4 >> jpeg:18")
"""

from . import perceptual
from .generator import Generator, StyleGAN2, StyleGAN3, load_generator, save_generator, wrap
from .methods import METHODS, Phase
from .solve import Restoration, Step, restore

__all__ = [
    "METHODS", "Generator", "Phase", "Restoration", "Step", "StyleGAN2", "StyleGAN3", "load_generator", "perceptual",
    "restore", "save_generator", "wrap",
]  # fmt: skip
