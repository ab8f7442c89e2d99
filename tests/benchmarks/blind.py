"""Blind restoration beside restoration that is told the truth.

    pip install scikit-image
    python tests/benchmarks/blind.py [--side 128] [--tasks "jpeg:30;…"] [--pictures coffee,chelsea]

Each picture is damaged, and written as PNG, so that no header tells what happened. `blind` restores
it by what `degrade restore` would take to have happened, `told` by the truth. Prints PSNR in dB.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

from torch import Tensor

import degrade
import invert
from invert.linear_model import with_known_filters
from pipelines import files
from pipelines.history import what_happened
from tests.benchmarks.photos import NAMES, pictures, psnr

TASKS = (
    "gaussian:0.047 >> clamp >> quantize",
    "jpeg:30",
    "poisson:100 >> clamp >> quantize",
    "jpeg:50 >> gaussian:0.01 >> clamp >> quantize",
)


def restored(y: Tensor, operator: degrade.Operator, prior: invert.Denoiser) -> Tensor:
    assumed = with_known_filters(operator, operator.input_shape(y.shape))
    return invert.restore(y, assumed, prior, "pnp").image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--tasks", default=";".join(TASKS))
    parser.add_argument("--pictures", default=",".join(NAMES))
    arguments = parser.parse_args()
    prior = invert.load_prior("photo")
    chosen = arguments.pictures.split(",")
    crops = dict(zip(NAMES, pictures(arguments.side), strict=True))
    for task in arguments.tasks.split(";"):
        truth = degrade.parse(task)
        for name in chosen:
            clean = crops[name]
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.png"
                files.to_pil(truth(clean, 0)).save(path)
                y = files.read_image(path)
                _, operator = what_happened(files.Source(path, Path(path.name)), None, prior)
            observed = psnr(y, clean)
            blind = psnr(restored(y, operator, prior), clean)
            told = psnr(restored(y, truth, prior), clean)
            numbers = f"observed {observed:.2f}, blind {blind:.2f}, told {told:.2f}"
            print(f"{task}: {name}: {numbers}, by {operator}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
