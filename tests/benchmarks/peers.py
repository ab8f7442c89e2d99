"""Run what other libraries' authors test their JPEG with, on ours.

    python tests/benchmarks/peers.py --kornia FOLDER     # a checkout of github.com/kornia/kornia
    python tests/benchmarks/peers.py --diff-jpeg FOLDER  # one of github.com/necla-ml/Diff-JPEG
    python tests/benchmarks/peers.py --torchvision FOLDER  # one of github.com/pytorch/vision
    python tests/benchmarks/peers.py                     # torchvision's cases, which need no files

Nothing of these repositories is copied: the folders are the reader's own.
kornia: its tests in tests/enhance/test_jpeg.py call our JPEG. Left out are those that assert the
values or the slope of kornia's approximation, or its exceptions.
Diff-JPEG: the evaluation of its paper. The PSNR to the codec's image, which should be high, over
qualities; and the attack of `jpeg_gradient.py` with Diff-JPEG as one more gradient. Pictures by
which nothing was chosen.
torchvision: its `jpeg` of tensors and of PIL images at the qualities and colours of its tests of
values, on batches and at odd sizes; how many differ from ours. From a folder, its class TestJPEG in
test/test_transforms_v2.py, in which our JPEG stands for torchvision's encoder and decoder of
tensors; PIL images go through Pillow as before.
"""

import argparse
import itertools
import sys
from functools import partial
from pathlib import Path

import kornia
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

sys.path.insert(0, str(Path(__file__).parents[2]))
from degrade import jpeg
from degrade.jpeg.header import quality_tables
from tests.benchmarks.jpeg import pictures, with_kornia, with_pillow
from tests.benchmarks.jpeg_gradient import Codec, attack, methods
from tests.jpeg_reference import KINDS, content

OF_THE_APPROXIMATION = ("test_cardinality", "test_gradcheck", "test_exception")
QUALITIES = (5, 10, 25, 50, 75, 90, 99)
HELD_OUT = {"count": 24, "first": 12}  # see jpeg_gradient.py


def as_kornia(
    input: Tensor,
    jpeg_quality: Tensor,
    quantization_table_y: Tensor | None = None,
    quantization_table_c: Tensor | None = None,
) -> Tensor:
    """Our JPEG with kornia's arguments: any leading axes, quality 0, tables that quality scales."""
    images = input.reshape(-1, *input.shape[-3:])
    qualities = jpeg_quality.clamp(1, 100).expand(len(images))
    if quantization_table_y is None or quantization_table_c is None:
        return jpeg(images, qualities).view_as(input)
    both = [
        table.expand(len(images), 8, 8) for table in (quantization_table_y, quantization_table_c)
    ]
    tables = []
    for i, base in enumerate(torch.stack(both, 1)):
        tables.append(quality_tables(qualities[i : i + 1], base))
    return jpeg(images, tables=torch.cat(tables)).view_as(input)


class AsKorniasModule(nn.Module):
    """The same with the tables as parameters of a module."""

    def __init__(self, quantization_table_y: Tensor, quantization_table_c: Tensor) -> None:
        super().__init__()
        self.tables = (quantization_table_y, quantization_table_c)

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        return as_kornia(x, quality, *self.tables)


def kornias_tests(folder: Path) -> None:
    sys.path.insert(0, str(folder))  # for its package `testing`
    kornia.enhance.jpeg_codec_differentiable = as_kornia
    kornia.enhance.JPEGCodecDifferentiable = AsKorniasModule
    chosen = " and ".join(f"not {name}" for name in OF_THE_APPROXIMATION)
    run_tests(folder, folder / "tests" / "enhance" / "test_jpeg.py", chosen)


def run_tests(folder: Path, file: Path, chosen: str) -> None:
    options = [f"--rootdir={folder}", "-o", "addopts=", "-p", "no:xdist", "-q", "-k", chosen]
    pytest.main([str(file), *options], plugins=[WarningsAreNoErrors()])


class WarningsAreNoErrors:
    """Leaves out that torchvision's tests fail of warnings: PyTorch deprecates scripting by now."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            module = item.getparent(pytest.Module)
            if module is not None:
                module.own_markers.clear()


@torch.jit.ignore
def levels_of_jpeg(image: Tensor, quality: int) -> Tensor:
    return (jpeg(image[None] / 255, quality)[0] * 255).round().byte()


def as_torchvisions_encoder(image: Tensor, quality: int) -> Tensor:
    """The pixels of the file in place of its bytes; uint8 [C, H, W]."""
    return levels_of_jpeg(image, quality)


def as_torchvisions_decoder(pixels: Tensor) -> Tensor:
    return pixels


def torchvisions_tests(folder: Path) -> None:
    sys.path.insert(0, str(folder / "test"))  # for its helpers
    functional._augment.encode_jpeg = as_torchvisions_encoder
    functional._augment.decode_jpeg = as_torchvisions_decoder
    run_tests(folder, folder / "test" / "test_transforms_v2.py", "TestJPEG")


def torchvisions_cases() -> None:
    sizes = ((17, 11), (32, 32), (33, 62), (128, 96))
    cases = itertools.product((5, 75), (1, 3), sizes, KINDS)
    different = count = 0
    for quality, channels, size, kind in cases:
        x = torch.cat([content(kind, *size, channels, seed) for seed in (0, 1)])
        levels = (x * 255).round().byte()
        ours = (jpeg(x, quality) * 255).round().byte()
        theirs = functional.jpeg(levels, quality)
        different += not torch.equal(ours, theirs)
        image = functional.to_pil_image(levels[0])
        of_pil = functional.pil_to_tensor(functional.jpeg(image, quality))
        different += not torch.equal(ours[0], of_pil)
        count += 2
    print(f"\ntorchvision: {count} cases, {different} differ")


def psnr(x: Tensor, y: Tensor) -> float:
    """In dB, the mean of the images; infinite where all are equal."""
    error = (x - y).square().flatten(1).mean(1)
    return float((-10 * error.log10()).mean())


def diff_jpegs(folder: Path) -> dict[str, Codec]:
    """The two codecs of a checkout of Diff-JPEG."""
    sys.path.insert(0, str(folder))
    from diff_jpeg import diff_jpeg_coding

    def coded(x: Tensor, quality: Tensor, ste: bool = False) -> Tensor:
        result: Tensor = diff_jpeg_coding(x * 255, quality, ste=ste)
        return result / 255

    return {"Diff-JPEG": coded, "Diff-JPEG, ste": partial(coded, ste=True)}


def diff_jpegs_evaluation(folder: Path) -> None:
    theirs = diff_jpegs(folder)
    codecs: dict[str, Codec] = {"kornia": with_kornia, **theirs, "degrade": jpeg}
    x = pictures(**HELD_OUT)
    print(f"\n| PSNR to the codec, dB | {' | '.join(f'q {q}' for q in QUALITIES)} |")
    print("|---|" + "---|" * len(QUALITIES))
    for name, codec in codecs.items():
        row = []
        for quality in QUALITIES:
            given = quality if codec is with_kornia else torch.full((len(x),), float(quality))
            with torch.no_grad():
                row.append(psnr(codec(x, given), with_pillow(x, quality)))
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in row)} |", flush=True)
    attack(x, theirs | methods())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kornia", type=Path)
    parser.add_argument("--diff-jpeg", type=Path)
    parser.add_argument("--torchvision", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torchvisions_cases()
    if options.diff_jpeg is not None:
        diff_jpegs_evaluation(options.diff_jpeg)
    if options.kornia is not None:
        kornias_tests(options.kornia)
    if options.torchvision is not None:
        torchvisions_tests(options.torchvision)
