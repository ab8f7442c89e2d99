"""Measure the time to start: the command's help, its version, shell completion, and the import.

    python tests/benchmarks/startup.py [COUNT]

Each run is a new process. The kinds alternate, so that other load affects all of them alike. It
prints the fastest and the median of COUNT runs.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "degrade")
TAB = {
    "_DEGRADE_COMPLETE": "complete_bash",
    "COMP_WORDS": "degrade restore --method p",
    "COMP_CWORD": "3",
}
WAITS = {
    "degrade --help": ([COMMAND, "--help"], {}),
    "degrade --version": ([COMMAND, "--version"], {}),
    "degrade restore --method p⇥": ([COMMAND], TAB),
    "python -c 'import degrade'": ([sys.executable, "-c", "import degrade"], {}),
}


def seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    times_of: dict[str, list[float]] = {name: [] for name in WAITS}
    for number in range(count + 1):
        for name, wait in WAITS.items():
            elapsed = seconds(*wait)
            if number > 0:  # the first round fills caches
                times_of[name].append(elapsed)
    for name, times in times_of.items():
        print(
            f"{name:27}  fastest {min(times):.2f} s  "
            f"median {statistics.median(times):.2f} s  of {count}"
        )


if __name__ == "__main__":
    main()
