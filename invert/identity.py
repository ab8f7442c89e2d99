"""Compare the identity of faces with an embedding network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.images import check_image, warn_if_signed

SIDE = 112


@dataclass(frozen=True)
class FaceIdentity:
    """A face embedding and, optionally, another photo of the same person.

    embedding: a module that maps aligned crops [B, 3, 112, 112] in [-1, 1] to vectors [B, D]. Crops
    follow ArcFace: RGB, the eyes at 0.46 and the corners of the mouth at 0.82 of the height. Images
    are assumed to be such crops, and resized. The module is put into eval mode. reference:
    [1 or B, 3, H, W] in [0, 1]. Without it, the degraded restoration is compared with the
    observation, because the clean image is unknown.
    """

    embedding: nn.Module
    reference: Tensor | None = None

    def __post_init__(self):
        self.embedding.eval()
        if self.reference is None:
            return
        shape = list(self.reference.shape)
        if len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"reference is {shape}; give [1 or B, 3, H, W] in [0, 1]")
        check_image(self.reference, "reference")
        warn_if_signed(self.reference, "reference")

    @property
    def has_gradient(self) -> bool:
        """Whether the embedding can be a loss, and not only a measure."""
        return getattr(self.embedding, "has_gradient", True)

    def embed(self, image: Tensor) -> Tensor:
        """Return unit vectors [B, D] for images [B, 3, H, W] in [0, 1]."""
        size = (SIDE, SIDE)
        crop = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        signed = crop * 2 - 1
        return F.normalize(self.embedding(signed), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the cosine [B] of the embeddings of images [B, 3, H, W] in [0, 1]."""
        products = self.embed(a) * self.embed(b)
        return products.sum(1)

    def row(self, index: int, batch: int) -> FaceIdentity:
        """Select the reference of one image of a batch."""
        if self.reference is None or len(self.reference) == 1:
            return self
        reference = self.reference[index : index + 1]
        return replace(self, reference=reference)


def load_embedding(path: str | Path) -> nn.Module:
    """Load the embedding network in a TorchScript (.pt) or ONNX (.onnx) file, frozen.

    An ONNX file runs in onnxruntime without a gradient: use it to measure, not as a loss.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"embedding {str(path)!r} is no file")
    if path.suffix == ".onnx":
        return _checked(OnnxEmbedding(path), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises to save in another format
            module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"embedding {path} is no TorchScript file: {reason}") from error
    module.eval()
    for weight in module.parameters():
        weight.requires_grad_(False)
    return _checked(module, path)


@torch.no_grad()
def _checked(module: nn.Module, path: Path) -> nn.Module:
    """Return the module if it maps a face to one vector. Raises ValueError if not."""
    face = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float32, device="cpu")
    try:
        shape = list(module(face).shape)
    except Exception as error:  # the module may raise anything
        message = str(error).strip() or type(error).__name__
        reason = message.splitlines()[-1]
        raise ValueError(
            f"embedding {path} cannot take faces [B, 3, {SIDE}, {SIDE}]: {reason}"
        ) from error
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(f"embedding {path} makes {shape} of one face; it must be [1, D]")
    return module


class OnnxEmbedding(nn.Module):
    """An ONNX file as a module. It has no gradient."""

    has_gradient = False

    def __init__(self, path: Path):
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                f"embedding {path} needs onnxruntime; install it, or give a TorchScript file"
            ) from error
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises exceptions of many kinds
            reason = str(error).splitlines()[0]
            raise ValueError(f"embedding {path} is no ONNX file: {reason}") from error

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "an ONNX embedding has no gradient; "
                "give a TorchScript file or a torch module for a loss"
            )
        name = self._session.get_inputs()[0].name
        inputs = {name: x.cpu().numpy()}
        outputs = self._session.run(None, inputs)
        return torch.from_numpy(outputs[0]).to(x)
