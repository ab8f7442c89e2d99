"""Memory that was freed goes back to the system."""

import platform
import subprocess
import sys

import pytest

# Blocks of 8 MB, of which the last one stays in use: what is resident before and after the others
# are freed, in MB. The first block teaches glibc that blocks of its size come and go.
SCRIPT = """
import sys
from pipelines.memory import return_blocks_at_once

def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * 4096 / 2**20

if sys.argv[1] == "at once":
    return_blocks_at_once()
bytearray(30 * 2**20)
blocks = [bytearray(8 * 2**20) for _ in range(20)]
before = resident()
del blocks[:-1]
print(before - resident())
"""


def returned(when: str) -> float:
    """How many MB a process gets rid of."""
    command = [sys.executable, "-c", SCRIPT, when]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(run.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc keeps freed blocks"
)
def test_freed_blocks_are_returned_at_once():
    assert returned("later") < 20
    assert returned("at once") > 150
