"""An operator of your own: registered, written as text, checked, and undone by a solve.

    python examples/own_operator.py [FOLDER]

A lens that darkens the corners. The same file is a plugin of the command:

    degrade apply examples/avatars -o out/dark --op "vignette:0.9 >> jpeg:30" --plugin examples.own_operator
"""

import sys
from pathlib import Path

import torch

import degrade
import invert
from degrade.params import Numbers, number, per_image
from pipelines.files import encode, read_image, to_pil, write
from pipelines.sheet import sheet


@degrade.register("vignette", exact="x · (1 - strength r²)", gradient="the mask")
class Vignette(degrade.Operator):
    """The corners get darker: x · (1 - strength r²), r = 1 in the corners. strength: 0 to 1, or one per image."""

    strength: Numbers = number(low=0, high=1)
    linear = True  # so there is an adjoint, which is one backward pass

    def forward(self, x, rng):
        h, w = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
        r2 = (h[:, None] ** 2 + w**2) / 2
        return x * (1 - per_image(self.strength, x, "strength") * r2)


def main(folder: str = "out/own_operator") -> None:
    x = torch.rand(2, 3, 5, 7)
    degrade.check(Vignette(0.9), x.shape)  # text, rows, draws, and ⟨f x, y⟩ = ⟨x, fᵀ y⟩
    drawn = degrade.parse("vignette:0.2..0.9").sample(x.shape, torch.Generator().manual_seed(0))
    print(f"{Vignette(0.9)} keeps the laws; drawn for each image: {drawn}")

    clean = read_image(Path(__file__).parent / "avatars" / "012.png")
    f = degrade.parse("vignette:0.9 >> downsample:2 >> jpeg:40")
    observed = f(clean)
    r = invert.restore(
        observed, f.approx(), invert.load_generator("avatars-128"), perceptual="alex", steps=60
    )
    path = Path(folder) / "own_operator.png"
    shown = {
        "clean": clean,
        "observed": observed,
        "restored": r.image,
        "and degraded again": f(r.image),
    }
    write(path, encode(sheet({name: to_pil(image) for name, image in shown.items()})))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
