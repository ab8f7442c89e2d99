"""Measure the time to start: help, version, shell completion, the first line, and the import.

    python tests/benchmarks/startup.py [COUNT]

Each run is a new process. The kinds alternate, so that other load affects all of them alike. It
prints the fastest and the median of COUNT runs, and the median of their CPU time, which other load
changes less.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "degrade")
TAB = {
    "_DEGRADE_COMPLETE": "complete_bash",
    "COMP_WORDS": "degrade restore --method p",
    "COMP_CWORD": "3",
}
PICTURE = str(Path(__file__).parent.parent.parent / "examples" / "avatars" / "000.png")
WAITS = {
    "degrade --help": ([COMMAND, "--help"], {}),
    "degrade --version": ([COMMAND, "--version"], {}),
    "degrade restore --method p⇥": ([COMMAND], TAB),
    "python -c 'import torch'": ([sys.executable, "-c", "import torch"], {}),
    "python -c 'import degrade'": ([sys.executable, "-c", "import degrade"], {}),
}


def cpu_seconds() -> float:
    """The CPU time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time and CPU time until the command ends."""
    start, cpu_start = time.perf_counter(), cpu_seconds()
    subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, cpu_seconds() - cpu_start


def seconds_to_first_line() -> tuple[float, float]:
    """The times until `degrade restore` prints something to a terminal; then it is killed."""
    terminal, stderr = os.openpty()
    with tempfile.TemporaryDirectory() as folder:
        command = [COMMAND, "restore", PICTURE, "--output", folder, "--op", "jpeg:50"]
        start, cpu_start = time.perf_counter(), cpu_seconds()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
        os.close(stderr)
        os.read(terminal, 1)
        elapsed = time.perf_counter() - start
        process.kill()
        process.wait()
    os.close(terminal)
    return elapsed, cpu_seconds() - cpu_start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    first_line = "degrade restore, first line"
    times_of: dict[str, list[tuple[float, float]]] = {name: [] for name in (*WAITS, first_line)}
    for number in range(count + 1):
        measured = {name: seconds(*wait) for name, wait in WAITS.items()}
        measured[first_line] = seconds_to_first_line()
        if number > 0:  # the first round fills caches
            for name, times in measured.items():
                times_of[name].append(times)
    for name, times in times_of.items():
        wall, cpu = zip(*times, strict=True)
        print(
            f"{name:27}  fastest {min(wall):.2f} s  median {statistics.median(wall):.2f} s  "
            f"CPU {statistics.median(cpu):.2f} s  of {count}"
        )


if __name__ == "__main__":
    main()
