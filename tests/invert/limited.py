"""What a process does that must not run programs, take long, or take much memory.

The limits and the audit hook hold for the rest of a process: `tests.processes` makes one for it.
"""

import os
import random
import resource
import signal
import sys
from pathlib import Path

import invert

MEMORY = 2**29  # bytes beyond those in use
FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.remove",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "ctypes.dlopen",
    "shutil.rmtree",
}


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def load_once(path: Path) -> None:
    """Load a generator's file in 30 s of CPU, and print why it was refused."""
    limit_memory()
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    try:
        invert.load_generator(path)
    except ValueError as error:
        print(error)


def load_damaged(whole: Path, kind: str, count: int, loader: str) -> None:
    """Load damaged copies of a file; print how many loaded and how many were refused."""
    data = whole.read_bytes()
    path = whole.with_name("g" + kind)
    load = getattr(invert, loader)
    path.write_bytes(data)
    load(path)  # imports what it needs
    limit_memory()
    armed = False

    def watch(event: str, arguments: tuple) -> None:
        if armed and event in FORBIDDEN:
            print(event, arguments, file=sys.stderr)
            os._exit(7)

    sys.addaudithook(watch)
    chance = random.Random(0)
    loaded = refused = 0
    for _ in range(count):
        path.write_bytes(damaged(data, chance))
        signal.alarm(10)
        armed = True
        try:
            load(path)
            loaded += 1
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error), error
        armed = False
    signal.alarm(0)
    print(loaded, refused)


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Change bytes in the whole file, or where its structure is, and cut some of its end."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        byte = chance.randrange(256)
        end = chance.choice((len(data), min(len(data), 2000)))
        data[chance.randrange(end)] = byte
    length = chance.choice((len(data), len(data), chance.randrange(len(data))))
    return bytes(data[:length])
