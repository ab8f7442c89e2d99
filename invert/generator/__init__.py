"""Generators: what turns a latent into an image."""

from .base import Features, Generator, StyleGenerator
from .checkpoint import BUNDLED, find, load_discriminator, load_generator, save_generator
from .stylegan2 import StyleGAN2
from .stylegan3 import StyleGAN3
from .wrap import wrap

__all__ = [
    "BUNDLED",
    "Features",
    "Generator",
    "StyleGAN2",
    "StyleGAN3",
    "StyleGenerator",
    "find",
    "load_discriminator",
    "load_generator",
    "save_generator",
    "wrap",
]
