"""Unsupervised restoration: search a generator's latent space for what an operator degraded.

>>> import degrade, invert
>>> G = invert.load_generator("avatars-128")
>>> f = degrade.parse("downsample:4 >> jpeg:18")
"""

from . import perceptual
from .ddrm import DDRM
from .denoiser import Denoiser
from .generator import Generator, StyleGAN2, StyleGAN3, load_generator, save_generator, wrap
from .hub import Card
from .identity import FaceIdentity, load_embedding
from .load import load_prior, save_denoiser
from .method import RestorationMethod
from .methods import METHODS
from .misfit import unexplained
from .phase import Phase
from .phases import Method
from .problem import oracle_mask
from .recipe import Recipe
from .result import Restoration, Step
from .sampler import Sampler
from .solve import restore
from .training import Training, train

__all__ = [
    "DDRM",
    "METHODS",
    "Card",
    "Denoiser",
    "FaceIdentity",
    "Generator",
    "Method",
    "Phase",
    "Recipe",
    "Restoration",
    "RestorationMethod",
    "Sampler",
    "Step",
    "StyleGAN2",
    "StyleGAN3",
    "Training",
    "load_embedding",
    "load_generator",
    "load_prior",
    "oracle_mask",
    "perceptual",
    "restore",
    "save_denoiser",
    "save_generator",
    "train",
    "unexplained",
    "wrap",
]
