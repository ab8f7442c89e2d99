"""An operator of your own: register it, write it as text, check its laws, restore with it.

    python examples/own_operator.py [FOLDER]

The operator models a lens that darkens the corners. The same file is a plugin of the command:

    degrade apply examples/avatars -o out/dark --op "darkcorners:0.9 >> jpeg:30" \\
        --plugin examples.own_operator
"""

import sys
from pathlib import Path

import torch

import degrade
import invert
from degrade.params import Numbers, number, per_image
from pipelines.atomic import write
from pipelines.files import encode, read_image, to_pil
from pipelines.sheet import sheet

AVATAR = Path(__file__).parent / "avatars" / "012.png"


@degrade.register("darkcorners", exact="x · (1 - strength r²)", gradient="the mask")
class DarkCorners(degrade.Operator):
    """Darken the corners: x · (1 - strength r²), with r = 1 in the corners.

    strength: 0 to 1, a number or one per image.
    """

    strength: Numbers = number(low=0, high=1)
    linear = True  # gives the operator an adjoint, computed by one backward pass

    def forward(self, x, rng):
        height, width = x.shape[2:]
        rows = torch.linspace(-1, 1, height, dtype=x.dtype, device=x.device)
        columns = torch.linspace(-1, 1, width, dtype=x.dtype, device=x.device)
        r2 = (rows[:, None] ** 2 + columns**2) / 2
        strength = per_image(self.strength, x, "strength")
        return x * (1 - strength * r2)


def main(folder: str = "out/own_operator") -> None:
    x = torch.rand(2, 3, 5, 7)
    degrade.check(DarkCorners(0.9), x.shape)  # among others ⟨f x, y⟩ = ⟨x, fᵀ y⟩
    print(DarkCorners(0.9), "keeps the laws")
    random = degrade.parse("darkcorners:0.2..0.9")
    rng = torch.Generator().manual_seed(0)
    print("drawn for each image:", random.sample(x.shape, rng))

    clean = read_image(AVATAR)
    f = degrade.parse("darkcorners:0.9 >> downsample:2 >> jpeg:40")
    observed = f(clean)
    G = invert.load_generator("avatars-128")
    r = invert.restore(observed, f.approx(), G)
    panels = {
        "clean": clean,
        "observed": observed,
        "restored": r.image,
        "degraded again": f(r.image),
    }
    pictures = {name: to_pil(image) for name, image in panels.items()}
    path = Path(folder) / "own_operator.png"
    write(path, encode(sheet(pictures)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
