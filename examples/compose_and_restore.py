"""A chain of damage: written, drawn, applied, and undone.

    python examples/compose_and_restore.py [FOLDER]

What happened is one operator, `drawn`; what a solver may assume of it is another, `drawn.approx()`:
it knows the strokes and the JPEG, but neither the noise nor which filter made the picture smaller.
"""

import sys
from pathlib import Path

import torch

import degrade
import invert
from pipelines.files import encode, read_image, to_pil, write
from pipelines.sheet import sheet


def main(folder: str = "out/compose_and_restore") -> None:
    clean = read_image(Path(__file__).parent / "avatars" / "000.png")
    f = (
        degrade.Downsample(2, filter="any")
        >> degrade.Poisson(48)
        >> degrade.Clamp()
        >> degrade.Quantize()
    )
    f = f >> degrade.JPEG(18) >> degrade.Strokes(5)
    assert f == degrade.parse(str(f))  # a chain is its text

    drawn = f.sample(clean.shape, torch.Generator().manual_seed(1))  # which filter, which strokes
    observed = drawn(clean, torch.Generator().manual_seed(1))  # and, with it, which photons
    print(f"written  {f}\ndrawn    {drawn}\nassumed  {drawn.approx()}")

    G = invert.load_generator("avatars-128")
    r = invert.restore(observed, drawn.approx(), G, perceptual="alex", steps=60)
    again = drawn(r.image, torch.Generator().manual_seed(1))
    for name, image in (
        ("mean of W", G.synthesize(G.w_avg[None]).clamp(0, 1)),
        *r.phase_images.items(),
    ):
        print(
            f"{name:10} LPIPS to the clean picture {invert.perceptual.lpips(image, clean).item():.3f}"
        )

    path = Path(folder) / "compose_and_restore.png"
    shown = {"clean": clean, "observed": observed, "restored": r.image, "and degraded again": again}
    write(path, encode(sheet({name: to_pil(image) for name, image in shown.items()})))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
