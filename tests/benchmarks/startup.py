"""How long one waits before anything happens: the command's help, its version, a shell's Tab, and the import.

    python tests/benchmarks/startup.py [count]

Each is a new process, the fastest and the median of `count`; they take turns, so that a busy machine is busy for all.
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
    rounds = [[seconds(*wait) for wait in WAITS.values()] for _ in range(count + 1)][
        1:
    ]  # the first fills caches
    for name, times in zip(WAITS, zip(*rounds, strict=True), strict=True):
        print(
            f"{name:27}  fastest {min(times):.2f} s  median {statistics.median(times):.2f} s  of {count}"
        )


if __name__ == "__main__":
    main()
