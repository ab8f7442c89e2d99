"""Does a restored face belong to the same person? Any embedding network can say."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 112


@dataclass(frozen=True)
class Identity:
    """An embedding of faces and, if there is one, another photo of the same person.

    embedding: a module from aligned crops [B, 3, 112, 112] in [-1, 1] (ArcFace's convention: RGB,
    eyes at heights 0.46 and mouth corners at 0.82 of the crop) to vectors [B, D]. Images are taken
    as such crops and resized. reference: [1 or B, 3, H, W] in [0, 1]. Without it, the degraded
    restoration is compared with the observation: the clean image is never known.
    """

    embedding: nn.Module  # put into eval mode
    reference: Tensor | None = None

    def __post_init__(self):
        self.embedding.eval()
        shape = None if self.reference is None else tuple(self.reference.shape)
        if shape is not None and (len(shape) != 4 or shape[1] != 3):
            raise ValueError(f"reference is {list(shape)}; give [1 or B, 3, H, W] in [0, 1]")

    def embed(self, image: Tensor) -> Tensor:
        """Unit vectors [B, D]."""
        crop = F.interpolate(
            image, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
        )
        return F.normalize(self.embedding(crop * 2 - 1), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosine [B] between the embeddings of images [B, 3, H, W] in [0, 1]."""
        return (self.embed(a) * self.embed(b)).sum(1)

    def row(self, index: int, batch: int) -> Identity:
        shared = self.reference is None or len(self.reference) == 1
        return self if shared else replace(self, reference=self.reference[index : index + 1])


def load_embedding(path: str | Path) -> nn.Module:
    """The embedding network in a TorchScript (.pt) or ONNX (.onnx) file, frozen.

    ONNX runs through onnxruntime and knows no gradient: good to measure, refused as a loss.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"embedding {str(path)!r} is no file")
    if path.suffix == ".onnx":
        return _tried(OnnxEmbedding(path), path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to save in another format
            module = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(
            f"embedding {path} is no TorchScript file: {str(error).splitlines()[0]}"
        ) from error
    for weight in module.parameters():
        weight.requires_grad_(False)
    return _tried(module, path)


@torch.no_grad()
def _tried(module: nn.Module, path: Path) -> nn.Module:
    """The module, if it makes a row of numbers of a face."""
    try:
        shape = list(module(torch.zeros(1, 3, SIDE, SIDE)).shape)
    except Exception as error:  # whatever a stranger's program raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(
            f"embedding {path} cannot take faces [B, 3, {SIDE}, {SIDE}]: {reason}"
        ) from error
    if len(shape) != 2 or shape[0] != 1:
        raise ValueError(f"embedding {path} makes {shape} of one face; it must be [1, D]")
    return module


class OnnxEmbedding(nn.Module):
    """An ONNX file as a module without a gradient."""

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
        except Exception as error:  # onnxruntime's own, of many kinds
            raise ValueError(
                f"embedding {path} is no ONNX file: {str(error).splitlines()[0]}"
            ) from error

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "an ONNX embedding has no gradient; give a TorchScript file or a torch module for a loss"
            )
        name = self._session.get_inputs()[0].name
        return torch.from_numpy(self._session.run(None, {name: x.cpu().numpy()})[0]).to(x)
