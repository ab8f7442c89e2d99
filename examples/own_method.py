"""A method of your own in ten lines: coarse to fine with Adam, then a touch of PTI.

    python examples/own_method.py [FOLDER]

A method is data: where to begin, and phases, each with a space, an optimiser and terms of a loss.
"""

import sys
from pathlib import Path

import degrade
import invert
from invert import Method, Phase
from invert.latent import Weights
from invert.loss import L1, Lpips
from invert.optim import NGD, Adam, Ramp
from pipelines.files import encode, read_image, to_pil, write
from pipelines.sheet import sheet

LOSS = (Lpips(levels=6), L1(0.1, coarsest=True))
MINE = Method(
    (
        Phase("W", 30, NGD(0.1), LOSS),
        Phase("W+", 30, Adam(0.03, schedule=Ramp()), LOSS),
        Phase(Weights(), 15, Adam(3e-4), LOSS),
    )
)


def main(folder: str = "out/own_method") -> None:
    generator = invert.load_generator("avatars-128")
    clean = read_image(Path(__file__).parent / "avatars" / "003.png")
    f = degrade.parse("downsample:4 >> jpeg:30")
    observed = f(clean)
    shown = {"clean": clean, "observed": observed}
    for name, method in (("mine", MINE), ("robust", "robust")):
        r = invert.restore(observed, f.approx(), generator, method, perceptual="alex", steps=48)
        print(
            f"{name}: LPIPS to the clean picture {invert.perceptual.lpips(r.image, clean).item():.3f}"
        )
        shown[name] = r.image
    path = Path(folder) / "own_method.png"
    write(path, encode(sheet({name: to_pil(image) for name, image in shown.items()})))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
