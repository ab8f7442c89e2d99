"""Measure `degrade apply` on many tiny pictures: python tests/benchmarks/many_files.py 2000 20000

Each number of pictures is degraded, and then the same command is run again, when all are done.
Prints the time to the first result, the time of the whole run, its CPU time, and its peak memory.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
from PIL import Image

SIDE = 32  # pixels
PER_FOLDER = 1000


def make(folder, count):
    """Write random pictures, so many in all, into folders of 1000."""
    levels = numpy.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    for number in range(count):
        path = folder / f"{number // PER_FOLDER:03}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())


def has_result(folder):
    return next(folder.rglob("*.json"), None) is not None


def has_ended(process):
    """Whether a process has ended; its times are still to be read."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def measure(pictures, output):
    """Seconds to the first result and in all, seconds of CPU time, and megabytes at the peak."""
    command = [sys.executable, "-m", "pipelines", "apply", pictures, "-o", output, "--quiet"]
    begun = time.perf_counter()
    process = subprocess.Popen([*command, "--op", "jpeg:50"])
    while not has_ended(process) and not has_result(output):
        time.sleep(0.02)
    first = time.perf_counter() - begun
    _, _, usage = os.wait4(process.pid, 0)
    whole = time.perf_counter() - begun
    return first, whole, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    print("| pictures | run | first result | all | CPU time | peak memory |")
    print("|---|---|---|---|---|---|")
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            pictures, output = Path(folder, "in"), Path(folder, "out")
            make(pictures, count)
            for run in ("new", "all done"):
                first, whole, cpu, memory = measure(pictures, output)
                begin = f"{first:.1f} s" if run == "new" else ""
                row = [count, run, begin, f"{whole:.1f} s", f"{cpu:.1f} s", f"{memory:.0f} MB"]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
