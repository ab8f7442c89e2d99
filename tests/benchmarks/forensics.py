"""Test degrade.guess on files of known history: random chains, made with Pillow and numpy only.

    python tests/benchmarks/forensics.py [--seed 1] [--count 200] [folder of pictures …]

Pictures: examples/avatars, the folders named, and the photos that scikit-image brings along. Those
photos are halved first, since a camera or a JPEG has been at them. A chain is, each with some
probability: enlarged by 1.3 to 8, Gaussian or Poisson-Gaussian noise, a JPEG of quality 30 to 95
cropped by up to 7 rows and columns, and the file: PNG, or JPEG of quality 30 to 98.
"""

import argparse
import io
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy
from PIL import Image

from degrade import JPEG, Gaussian, PoissonGaussian, Resize, Shift, guess, parse
from degrade.forensics import Finding

AVATARS = Path(__file__).parents[2] / "examples" / "avatars"
PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "camera",
    "rocket",
    "hubble_deep_field",
    "motorcycle",
    "coins",
    "moon",
)
LARGEST = 560  # pixels of a side after an enlargement
KERNELS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


@dataclass
class Truth:
    factor: float | None = None
    sigma: float | None = None  # of a mid-grey pixel, in levels
    noise: str = ""
    quality: int | None = None  # of the earlier JPEG
    crop: tuple[int, int] = (0, 0)
    last: int | None = None


def pictures(folders: list[Path]) -> tuple[list[numpy.ndarray], list[numpy.ndarray]]:
    """(drawn, photos), RGB or grey."""
    try:
        from skimage import data
    except ImportError:
        sys.exit(
            "this benchmark uses photos and an estimator of scikit-image; pip install scikit-image"
        )
    drawn = [
        numpy.asarray(Image.open(p).convert("RGB"))
        for d in [AVATARS, *folders]
        for p in sorted(d.glob("*.png"))
    ]
    photos = []
    for name in PHOTOS:
        image = Image.fromarray(
            data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
        )
        photos.append(
            numpy.asarray(image.resize((image.width // 2, image.height // 2), Image.LANCZOS))
        )
    return drawn, photos


def make(x: numpy.ndarray, draw: numpy.random.Generator) -> tuple[bytes, Truth]:
    """A file, and what was done to make it."""
    truth = Truth()
    if draw.random() < 0.4:
        k = float(numpy.exp(draw.uniform(numpy.log(1.3), numpy.log(8))))
        part = x[: round(LARGEST / k), : round(LARGEST / k)]
        size = [round(n * k) for n in part.shape[1::-1]]
        truth.factor = size[0] / part.shape[1]
        x = numpy.asarray(Image.fromarray(part).resize(size, draw.choice(list(KERNELS.values()))))
    kind = draw.choice(["", "gaussian", "poissongaussian"], p=[0.4, 0.35, 0.25])
    sigma = float(numpy.exp(draw.uniform(numpy.log(2), numpy.log(30))))
    if kind:
        y, truth.noise = x.astype(float), kind
        if kind == "gaussian":
            truth.sigma = sigma
            y = y + draw.normal(0, sigma, y.shape)
        else:
            read = sigma * draw.uniform(0, 0.6)
            peak = 127.5 * 255 / (sigma**2 - read**2)  # so that mid-grey has sigma in all
            truth.sigma = sigma
            y = draw.poisson(y / 255 * peak) / peak * 255 + draw.normal(0, read, y.shape)
        x = y.round().clip(0, 255).astype(numpy.uint8)
    if draw.random() < 0.5:
        truth.quality = int(draw.integers(30, 96))
        x = numpy.asarray(Image.open(io.BytesIO(_jpeg(x, truth.quality))))
        if draw.random() < 0.6:
            truth.crop = tuple(int(n) for n in draw.integers(0, 8, 2))
            x = x[truth.crop[0] :, truth.crop[1] :]
    if draw.random() < 0.5:
        truth.last = int(draw.integers(30, 99))
        return _jpeg(x, truth.last), truth
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG")
    return file.getvalue(), truth


def _jpeg(x: numpy.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality)
    return file.getvalue()


def judge(finding: Finding, truth: Truth) -> tuple[str, float | None]:
    """The kind of a finding and its error: relative for a factor and σ, absolute for a quality.

    The error is None for a false alarm.
    """
    ops = parse(finding.stage).stages
    if isinstance(ops[0], Resize):
        small, large = (op.size if isinstance(op.size, tuple) else (op.size, op.size) for op in ops)
        return "factor", truth.factor and large[1] / small[1] / truth.factor - 1
    if isinstance(ops[0], Gaussian):
        return "sigma", truth.sigma and ops[0].sigma * 255 / truth.sigma - 1
    if isinstance(ops[0], PoissonGaussian):
        return "sigma", truth.sigma and (
            0.5 / ops[0].peak + ops[0].sigma ** 2
        ) ** 0.5 * 255 / truth.sigma - 1
    grid = (ops[0].dy % 8, ops[0].dx % 8) if isinstance(ops[0], Shift) else (0, 0)
    jpeg = next(op for op in ops if isinstance(op, JPEG))
    return "earlier", jpeg.quality - truth.quality if truth.quality and grid == truth.crop else None


RIGHT = {"factor": 0.05, "sigma": 0.2, "earlier": 1}  # errors up to which a finding counts as right


def main() -> None:
    from skimage.restoration import estimate_sigma

    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    asked = parser.parse_args()
    pools, draw = pictures(asked.folders), numpy.random.default_rng(asked.seed)
    errors = {kind: [] for kind in (*RIGHT, "rival")}
    missed, false, there = ({kind: 0 for kind in RIGHT} for _ in range(3))
    hidden, law, said, began = 0, [], [], time.monotonic()
    quality = {"PNG": [0, 0], "JPEG": [0, 0]}  # [found, there], by the file that followed
    for _ in range(asked.count):
        pool = pools[int(draw.random() < 0.6)]
        file, truth = make(pool[int(draw.integers(len(pool)))], draw)
        found = {}
        guessed = guess(file)
        for finding in guessed.findings[: -1 if truth.last else None]:
            if not finding.stage:
                hidden += truth.sigma is not None
                continue
            kind, error = judge(finding, truth)
            found[kind] = error
            said.append((finding.confidence, error is not None and abs(error) <= RIGHT[kind]))
            if kind == "sigma" and error is not None:
                law.append(finding.stage.startswith(truth.noise + ":"))
        for kind, value in (
            ("factor", truth.factor),
            ("sigma", truth.sigma),
            ("earlier", truth.quality),
        ):
            there[kind] += value is not None
            missed[kind] += value is not None and found.get(kind) is None
            false[kind] += kind in found and found[kind] is None
            errors[kind] += [abs(found[kind])] if found.get(kind) is not None else []
        if truth.quality:
            kind = "JPEG" if truth.last else "PNG"
            quality[kind] = [
                quality[kind][0] + (found.get("earlier") is not None),
                quality[kind][1] + 1,
            ]
        if truth.sigma:
            x = numpy.asarray(Image.open(io.BytesIO(file)))
            colour = -1 if x.ndim == 3 else None
            rival = estimate_sigma(x.astype(float), channel_axis=colour, average_sigmas=True)
            errors["rival"].append(abs(rival / truth.sigma - 1))

    def cells(kind: str, scale: float, form: str) -> str:
        each = errors[kind]
        return " | ".join(
            form.format(scale * numpy.quantile(each, q)) if each else "" for q in (0.5, 0.9)
        )

    counts = {
        k: f"{there[k] - missed[k]} of {there[k]} | {false[k]} of {asked.count - there[k]}"
        for k in RIGHT
    }
    exact = sum(error == 0 for error in errors["earlier"])
    print(
        f"{asked.count} chains, seed {asked.seed}, "
        f"{(time.monotonic() - began) / asked.count:.1f} s each\n"
    )
    print("| | found | false alarms | error, median | error, 90 % |\n|---|---|---|---|---|")
    print(f"| enlargement: factor | {counts['factor']} | {cells('factor', 100, '{:.1f} %')} |")
    print(f"| noise: σ at mid-grey | {counts['sigma']} | {cells('sigma', 100, '{:.0f} %')} |")
    print(
        "| … scikit-image's estimate_sigma | always gives a number | | "
        f"{cells('rival', 100, '{:.0f} %')} |"
    )
    print(f"| earlier JPEG: quality | {counts['earlier']} | {cells('earlier', 1, '{:.0f}')} |\n")
    print(
        f"Of the earlier JPEGs {quality['PNG'][0]} of {quality['PNG'][1]} under PNG "
        f"and {quality['JPEG'][0]} of"
    )
    print(
        f"{quality['JPEG'][1]} under JPEG; "
        f"the quality is exact in {exact} of {len(errors['earlier'])}."
    )
    print(
        f"Gaussian or Poisson is right in {sum(law)} of {len(law)}; "
        f"{hidden} more are reported as hidden.\n"
    )
    print("| confidence | findings | right |\n|---|---|---|")
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        right = [ok for confidence, ok in said if low <= confidence < high]
        share = f"{100 * sum(right) / len(right):.0f} %" if right else ""
        print(f"| {low:g} to {min(high, 1):g} | {len(right)} | {share} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
