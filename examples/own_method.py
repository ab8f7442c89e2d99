"""A method of your own in ten lines: W, then W+, then pivotal tuning of the weights.

    python examples/own_method.py [FOLDER]

A method has a start and a list of phases. A phase has a latent space, a number of steps, an
optimiser and the terms of a loss.
"""

import sys
from pathlib import Path

import degrade
import invert
from invert import Method, Phase
from invert.latent import Weights
from invert.loss import L1, Lpips
from invert.optim import NGD, Adam, Ramp
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

AVATAR = Path(__file__).parent / "avatars" / "003.png"
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
    clean = read_image(AVATAR)
    f = degrade.parse("downsample:4 >> jpeg:30")
    observed = f(clean)
    panels = {"clean": clean, "observed": observed}
    for name, method in (("mine", MINE), ("robust", "robust")):
        r = invert.restore(observed, f.approx(), generator, method, perceptual="alex", steps=48)
        distance = invert.perceptual.lpips(r.image, clean)
        print(f"{name}: LPIPS to the clean picture {distance.item():.3f}")
        panels[name] = r.image
    pictures = {name: to_pil(image) for name, image in panels.items()}
    path = Path(folder) / "own_method.png"
    write(path, encode(sheet(pictures)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
