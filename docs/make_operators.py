"""Write docs/operators.md and a picture per operator at two strengths.

python docs/make_operators.py
"""

from pathlib import Path

import torch
from PIL import Image

import degrade
from degrade.params import described
from degrade.registry import REGISTRY
from degrade.rng import child_seed
from pipelines.files import encode, read_image, to_pil, write
from pipelines.operators import linear
from pipelines.sheet import sheet

DOCS = Path(__file__).parent
CLEAN = read_image(DOCS.parent / "examples" / "avatars" / "000.png")

# Each operator at two strengths. Some need a second stage to have a visible effect.
SPECS = {
    "blur": ("blur:motion,15,angle=30", "blur:gaussian,3,across=0.5,angle=45,side=21"),
    "brightness": ("brightness:0.6", "brightness:1.5"),
    "box": ("box", "box:0.5,0.5,top=0,left=0"),
    "contrast": ("contrast:0.4", "contrast:1.8 >> clamp"),
    "correlated": ("correlated:0.1", "correlated:0.3"),
    "clamp": ("gaussian:0.2 >> clamp", "gaussian:0.6 >> clamp"),
    "codec": ("codec:webp,20", "codec:jpeg2000,20"),
    "compressedsensing": ("compressedsensing:0.5", "compressedsensing:0.1"),
    "crop": ("crop:16,16,height=96,width=96", "crop:40,40,height=48,width=48"),
    "deadpixels": ("deadpixels:0.04", "deadpixels:0.32"),
    "diffjpeg": ("diffjpeg:30.5", "diffjpeg:8"),
    "downsample": ("downsample:2", "downsample:8,filter=lanczos"),
    "frame": (
        "frame(downsample:4 >> resize:scale=1,of=frame)",
        "frame(resize:scale=0.1 >> gaussian:0.1 >> resize:scale=0.5,of=frame)",
    ),
    "gamma": ("gamma:0.5", "gamma:2.2"),
    "gaussian": ("gaussian:0.05", "gaussian:0.3"),
    "gray": ("gray", "gray >> quantize:4"),
    "hotpixels": ("hotpixels:0.02", "hotpixels:0.2"),
    "hue": ("hue:0.1", "hue:0.5"),
    "identity": ("identity", "identity >> identity"),
    "jpeg": ("jpeg:18", "jpeg:6"),
    "mask": None,  # drawn with the masks of strengths()
    "maybe": ("maybe:0.5(jpeg:6)", "maybe:1(jpeg:6)"),
    "oneof": (
        "oneof(jpeg:5..30 ; blur:gaussian,2)",
        "oneof(jpeg:3..9 >> gaussian:0.2 ; downsample:8)",
    ),
    "offset": ("offset:0.1,0,-0.1", "offset:-0.3,0.1,0.2"),
    "perimage": ("perimage(jpeg:18)", "perimage(downsample:4)"),
    "pixels": ("pixels:0.2", "pixels:0.7"),
    "place": ("place:80|-20|34|20|80|14,128x128", "place:30|0|90|0|30|90,128x128"),
    "poisson": ("poisson:96", "poisson:6"),
    "poissongaussian": ("poissongaussian:96,0.05", "poissongaussian:12,0.2"),
    "pool": ("pool:2", "pool:8"),
    "quantize": ("quantize:8", "quantize:3"),
    "resize": ("resize:48", "resize:24|96,filter=lanczos"),
    "saltpepper": ("saltpepper:0.05", "saltpepper:0.3"),
    "saturation": ("saturation:0.3", "saturation:2"),
    "scaledpoisson": ("scaledpoisson:1", "scaledpoisson:3,gray=1"),
    "shift": ("shift:8,8", "shift:-30,40"),
    "shuffle": (
        "shuffle(jpeg:10 ; gaussian:0.1 ; blur:gaussian,1)",
        "shuffle:keep=2|1(gray ; hotpixels:0.02)",
    ),
    "sinc": ("sinc:1.2", "sinc:0.5"),
    "speckle": ("speckle:0.1", "speckle:0.5"),
    "strokes": ("strokes:3", "strokes:13"),
    "subsample": ("subsample:2,1", "subsample:4,2"),
    "turn": ("turn:1,0", "turn:3,1"),
    "uncrop": ("uncrop:0.5", "uncrop:0.25,where=center"),
    "uniform": ("uniform:0.1", "uniform:0.6"),
    "usm": ("usm", "usm:3,threshold=0.01"),
}


def degraded(f: degrade.Operator) -> Image.Image:
    """The picture that an operator makes of the clean one.

    Measurements of compressed sensing are no picture; they are folded into a square.
    """
    seed = child_seed(0, str(f))
    y = f(CLEAN, torch.Generator().manual_seed(seed))
    height, width = y.shape[2:]
    if height == 1 and width > 1024:
        side = int(width**0.5)
        square = y[..., : side * side].view(1, 1, side, side)
        y = square * 0.5 + 0.5
    return to_pil(y)


def strengths(name: str) -> list[degrade.Operator]:
    if SPECS[name]:
        return [degrade.parse(spec) for spec in SPECS[name]]
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    return [degrade.Mask(ramp), degrade.Mask((ramp > 0.5).float())]


def section(name: str) -> str:
    cls = REGISTRY[name]
    operators = strengths(name)
    pictures = {"clean": to_pil(CLEAN)}
    for f in operators:
        pictures[str(f)[:34]] = degraded(f)
    write(DOCS / "operators" / f"{name}.png", encode(sheet(pictures)))
    summary = (cls.__doc__ or "").split("\n\n")[0]
    text = summary.replace("\n    ", " ")
    specs = " · ".join(f"`{f}`" for f in operators)
    picture = f"![{name}](operators/{name}.png)"
    return f"## {name}\n\n{text}\n\n{parameter_list(cls)}{specs}\n\n{picture}\n"


def parameter_list(cls: type[degrade.Operator]) -> str:
    """The parameters with what each may hold, from their declarations."""
    lines = []
    for parameter in described(cls):
        line = f"* `{parameter.name}`: {parameter.description}"
        if parameter.default_text:
            line += f"; default {parameter.default_text}"
        lines.append(line)
    return "\n".join(lines) + "\n\n" if lines else ""


def row(name: str) -> str:
    cls = REGISTRY[name]
    return f"| [{name}](#{name}) | {cls.exact} | {cls.gradient} | {linear(cls)} |"


def main() -> None:
    missing = set(REGISTRY) ^ set(SPECS)
    assert not missing, f"operators without an example, or examples without an operator: {missing}"
    head = (
        "# Operators\n\n`python docs/make_operators.py` writes this page. "
        "The values of each operator equal those of the second column; tests compare them. "
        "The third column is the declared gradient. `degrade ops` prints the same at a shell. "
        "Where linearity depends on a parameter, such as the seed of a mask, ask `f.linear`.\n\n"
        "| operator | values equal | gradient | linear |\n|---|---|---|---|\n"
    )
    table = "\n".join(row(name) for name in sorted(REGISTRY))
    sections = "\n".join(section(name) for name in sorted(REGISTRY))
    write(DOCS / "operators.md", f"{head}{table}\n\n{sections}".encode())


if __name__ == "__main__":
    main()
