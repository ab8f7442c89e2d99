"""How long the studio takes for a preview of a picture of 512² pixels.

    python tests/benchmarks/studio.py           # processor time of the preview, with one thread
    python tests/benchmarks/studio.py browser   # from the key on a slider to the picture on screen

The first applies each chain with the seeds 0 to 5; the first run is left out, and the median
printed. The second starts `degrade studio` and Chromium, chooses the sample "shapes", and presses a
key on the slider of the quality PRESSES times. It prints the median and the quartiles of the time
until the new picture has loaded, and the load of the machine, which other programs raise.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the browser of the tests
from pipelines.studio.cards import cards_of
from pipelines.studio.workspace import SAMPLES, Workspace
from tests.pipelines import browser as browsers

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
IN_BROWSER = ("jpeg:60", "gaussian:0.02..0.1 >> jpeg:60")
PRESSES = 12
# The time from a key to the loading of the picture that it leads to, measured within the page.
CLOCK = """
window.times = [];
document.addEventListener('keydown', () => { window.pressed = performance.now(); }, true);
document.addEventListener('load', event => {
    const isPicture = event.target.closest && event.target.closest('#compare');
    if (isPicture && window.pressed) {
        requestAnimationFrame(() => {
            window.times.push(performance.now() - window.pressed);
            window.pressed = null;
        });
    }
}, true);
"""
PICTURES = "return [...document.querySelectorAll('#compare img')].map(image => image.naturalWidth)"


def processor_times() -> None:
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


def browser_times() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pipelines", "studio"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = re.findall(r"http://\S+", server.stdout.readline())[0]
            with browsers.browser(folder) as window:
                for text in IN_BROWSER:
                    measure(window, f"{address}?op={text}", text)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()


def measure(window: browsers.Browser, address: str, text: str) -> None:
    """Print how long a key on the slider of the last card takes."""
    window.open(address)
    card = f"#card-{text.count('>>')}"
    window.wait(lambda: window.count(card))
    choose_shapes(window)
    window.wait(lambda: window.run(PICTURES) == [512, 512])
    time.sleep(2)
    window.run(CLOCK)
    for done in range(PRESSES + 2):
        window.press(f"{card} input[type=range]", browsers.LEFT)
        window.wait(has_times(window, done + 1))
    times = window.run("return window.times")[2:]
    low, median, high = statistics.quantiles(times, n=4)
    load = os.getloadavg()[0]
    print(f"{text:32} {median:5.0f} ms ({low:.0f} to {high:.0f}), load {load:.1f}")


def has_times(window: browsers.Browser, count: int) -> Callable[[], bool]:
    return lambda: window.run("return window.times.length") >= count


def choose_shapes(window: browsers.Browser) -> None:
    assert "shapes" in SAMPLES
    window.click("#sample input")
    window.replace("#sample input", f"shapes{browsers.ENTER}")


if __name__ == "__main__":
    if sys.argv[1:] == ["browser"]:
        browser_times()
    else:
        processor_times()
