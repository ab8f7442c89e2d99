"""Generators: what turns a latent into an image."""

from .checkpoint import BUNDLED, load_generator
from .stylegan2 import StyleGAN2

__all__ = ["BUNDLED", "StyleGAN2", "load_generator"]
