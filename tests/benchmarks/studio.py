"""Processor time of a preview in the studio, on a picture of 512² pixels, with one thread.

    python tests/benchmarks/studio.py

Each chain is applied with the seeds 0 to 5; the first run is left out, and the median printed.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch

from pipelines.studio.cards import cards_of
from pipelines.studio.workspace import Workspace

CHAINS = (
    "",
    "jpeg:30",
    "downsample:2 >> jpeg:18",
    "gaussian:0.02..0.1 >> jpeg:20",
    "poisson:48 >> jpeg:18",
    "gaussian:0.1",
    "strokes:5",
    "gfpgan",
    "codec:avif,30",
)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.new(Path(folder))
        picture = workspace.sample("shapes")
        for text in CHAINS:
            cards = cards_of(text)
            times = []
            for seed in range(6):
                begun = time.process_time()
                workspace.apply(picture, cards, seed)
                times.append(time.process_time() - begun)
            print(f"{text or 'no operator':32} {1000 * statistics.median(times[1:]):6.0f} ms")


if __name__ == "__main__":
    main()
