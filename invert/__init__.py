"""Unsupervised restoration: search a generator's latent space for what an operator degraded.

>>> import degrade, invert
>>> G = invert.load_generator("avatars-128")
>>> f = degrade.parse("downsample:4 >> jpeg:18")
"""

from . import perceptual
from .generator import StyleGAN2, load_generator
from .methods import METHODS, Phase
from .solve import Restoration, Step, restore

__all__ = ["METHODS", "Phase", "Restoration", "Step", "StyleGAN2", "load_generator", "perceptual", "restore"]
