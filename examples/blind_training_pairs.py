"""Training pairs for blind super-resolution: random second-order degradations in two lines of text.

    python examples/blind_training_pairs.py [FOLDER]

Each image of the batch gets its own random chain. The drawn chain is text as well, so each pair can
be reproduced. The recipe follows Wang et al. 2021, "Real-ESRGAN".
"""

import sys
from pathlib import Path

import torch

import degrade
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

ONCE = (
    "maybe:0.8(blur:gaussian,0.2..2)"
    " >> oneof(resize:scale=0.5..1.2,filter=any ; resize:scale=0.5..1,filter=box)"
    " >> oneof(gaussian:0.01..0.1 ; poisson:20..200) >> jpeg:30..95"
)
FINISH = "oneof(resize:64 >> sinc:1.0..3.1 >> jpeg:30..95 ; resize:64 >> jpeg:30..95)"
AVATARS = Path(__file__).parent / "avatars"


def seeded_generators(count: int) -> list[torch.Generator]:
    """Make one generator per image, so that an image does not depend on the rest of its batch."""
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def main(folder: str = "out/blind_training_pairs") -> None:
    chain = degrade.parse(f"{ONCE} >> {ONCE} >> {FINISH}")
    images = [read_image(path) for path in sorted(AVATARS.glob("*.png"))[:5]]
    x = torch.cat(images)
    drawn = chain.sample(x.shape, seeded_generators(len(x)))
    y = drawn(x, seeded_generators(len(x)))
    for f in drawn.nested:
        print(f)
    pictures = {}
    for i, image in enumerate(y.split(1)):
        pictures[f"image {i}"] = to_pil(image)
    path = Path(folder) / "blind_training_pairs.png"
    write(path, encode(sheet(pictures)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
