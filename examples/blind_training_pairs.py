"""Random second-order degradations, of the kind Real-ESRGAN is trained on, as two lines of text.

    python examples/blind_training_pairs.py [FOLDER]

Every image of the batch draws its own chain; the drawn chain is text too, so each pair can be made
again. Source of the recipe: Wang et al. 2021, "Real-ESRGAN".
"""

import sys
from pathlib import Path

import torch

import degrade
from pipelines.files import encode, read_image, to_pil, write
from pipelines.sheet import sheet

ONCE = (
    "maybe:0.8(blur:gaussian,0.2..2) >> oneof(resize:scale=0.5..1.2,filter=any ; resize:scale=0.5..1,filter=box)"
    " >> oneof(gaussian:0.01..0.1 ; poisson:20..200) >> jpeg:30..95"
)
FINISH = "oneof(resize:64 >> sinc:1.0..3.1 >> jpeg:30..95 ; resize:64 >> jpeg:30..95)"
AVATARS = Path(__file__).parent / "avatars"


def main(folder: str = "out/blind_training_pairs") -> None:
    chain = degrade.parse(f"{ONCE} >> {ONCE} >> {FINISH}")
    x = torch.cat([read_image(AVATARS / f"{i:03}.png") for i in range(5)])
    generators = [torch.Generator().manual_seed(i) for i in range(len(x))]
    drawn = chain.sample(x.shape, generators)
    y = drawn(x, [torch.Generator().manual_seed(i) for i in range(len(x))])
    for f in drawn.nested:
        print(f)
    path = Path(folder) / "blind_training_pairs.png"
    write(path, encode(sheet({f"image {i}": to_pil(row[None]) for i, row in enumerate(y)})))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
