"""A method of your own in ten lines: coarse to fine with Adam, then a touch of PTI.

    python examples/own_method.py [sheet.png]

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
from pipelines import files
from pipelines.sheet import sheet

LOSS = (Lpips(levels=6), L1(0.1, coarsest=True))
MINE = Method((
    Phase("W", 30, NGD(0.1), LOSS),
    Phase("W+", 30, Adam(0.03, schedule=Ramp()), LOSS),
    Phase(Weights(), 15, Adam(3e-4), LOSS),
))  # fmt: skip

if __name__ == "__main__":
    generator = invert.load_generator("avatars-128")
    clean = files.read_image(Path(__file__).parent / "avatars" / "003.png")
    f = degrade.parse("downsample:4 >> jpeg:30")
    observed = f(clean)
    shown = {"clean": clean, "observed": observed}
    for name, method in (("mine", MINE), ("robust", "robust")):
        r = invert.restore(observed, f.approx(), generator, method, perceptual="alex", steps=75)
        print(f"{name}: LPIPS to the clean picture {invert.perceptual.lpips(r.image, clean).item():.3f}")
        shown[name] = r.image
    path = sys.argv[1] if len(sys.argv) > 1 else "own_method.png"
    sheet({name: files.to_pil(image) for name, image in shown.items()}).save(path)
    print(path)
