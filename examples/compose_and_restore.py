"""Compose a chain of operators, draw its random parts, apply it, and restore the picture.

    python examples/compose_and_restore.py [FOLDER]

`drawn` is the degradation. `drawn.approx()` is what a solver may assume of it: it contains the
strokes and the JPEG, but neither the noise nor the filter of the downsampling.
"""

import sys
from pathlib import Path

import torch

import degrade
import invert
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

AVATAR = Path(__file__).parent / "avatars" / "000.png"


def main(folder: str = "out/compose_and_restore") -> None:
    clean = read_image(AVATAR)
    sensor = degrade.Downsample(2, filter="any") >> degrade.Poisson(48)
    file = degrade.Clamp() >> degrade.Quantize() >> degrade.JPEG(18)
    f = sensor >> file >> degrade.Strokes(5)
    assert f == degrade.parse(str(f))  # the text describes the chain completely

    rng = torch.Generator()
    drawn = f.sample(clean.shape, rng.manual_seed(1))  # draws filter and strokes
    observed = drawn(clean, rng.manual_seed(1))  # draws the noise
    assumed = drawn.approx()
    print("written ", f)
    print("drawn   ", drawn)
    print("assumed ", assumed)

    G = invert.load_generator("avatars-128")
    r = invert.restore(observed, assumed, G)
    start = G.synthesize(G.w_avg[None]).clamp(0, 1)
    images = {"mean of W": start, **r.phase_images}
    for name, image in images.items():
        distance = invert.perceptual.lpips(image, clean)
        print(f"{name:10} LPIPS to the clean picture {distance.item():.3f}")

    panels = {
        "clean": clean,
        "observed": observed,
        "restored": r.image,
        "degraded again": drawn(r.image, rng.manual_seed(1)),
    }
    pictures = {name: to_pil(image) for name, image in panels.items()}
    path = Path(folder) / "compose_and_restore.png"
    write(path, encode(sheet(pictures)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
