"""The page of the studio in a real browser: it needs Gradio, Chromium and chromedriver."""

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from urllib.parse import quote

import pytest
from PIL import Image

from . import browser as browsers
from .browser import BACKSPACE, ENTER, LEFT, TAB
from .shell import run

MISSING = [
    name
    for name, is_there in {
        "gradio (pip install 'degrade[studio]')": importlib.util.find_spec("gradio"),
        "chromium": browsers.CHROMIUM,
        "chromedriver": browsers.DRIVER,
    }.items()
    if not is_there
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}"),
]
SOURCES = "return [...document.querySelectorAll('#compare img')].map(image => image.src)"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The command in a process; yields its address, its folder of work, and its temporary one."""
    work, temporary = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("temporary")
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "pipelines", "studio"]
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True
    )
    address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
    yield address, work, temporary
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not list(work.iterdir()) and not list(temporary.glob("degrade-studio-*"))


@pytest.fixture(scope="module")
def window(server, tmp_path_factory):
    with browsers.browser(tmp_path_factory.mktemp("browser")) as window:
        yield window


@pytest.fixture
def page(window, server):
    """The page, just opened."""
    window.open(server[0])
    window.wait(lambda: len(window.run(SOURCES)) == 2)
    return window


def fetched(address):
    with urllib.request.urlopen(address) as response:
        return response.read()


def tab(page, name):
    tabs = "[...document.querySelectorAll('button[role=tab]')]"
    page.run(f"{tabs}.find(tab => tab.innerText == arguments[0]).click()", name)


def copied(page):
    """The shell command in the part with the texts to copy."""
    return page.text("#copy-shell").replace("\xa0", " ").replace("\n", " ")


def type_chain(page, text, cards):
    page.type("#chain textarea", text)
    page.wait(lambda: page.count(".card") == cards)


def test_page_gives_the_bits_of_the_copied_command(page, tmp_path):
    before = page.run(SOURCES)
    (tmp_path / "portrait.png").write_bytes(fetched(before[0]))
    page.click("#copy > button")  # opens the part with the texts to copy
    page.click("#add")
    page.wait(lambda: page.count(".card") == 1)
    assert page.value("#chain textarea") == "jpeg:30"
    type_chain(page, " >> gaussian:0.05..0.2", 2)
    page.wait(lambda: "gaussian:0.05..0.2" in copied(page))
    page.wait(lambda: "sigma to" in page.text("#card-1"))  # the last cards are drawn
    page.press("#card-0 input[type=range]", LEFT)
    page.wait(lambda: page.value("#chain textarea") == "jpeg:29 >> gaussian:0.05..0.2")
    page.replace("#seed input", "5")
    page.wait(lambda: "jpeg:29" in copied(page) and "--seed 5" in copied(page))
    after = page.run(SOURCES)
    assert after[0] == before[0] and after[1] != before[1]
    _, command = copied(page).split("degrade apply ")
    name, *arguments = shlex.split(command)
    arguments[arguments.index("degraded")] = tmp_path / "degraded"
    assert run("apply", tmp_path / name, *arguments).exit_code == 0
    assert fetched(after[1]) == (tmp_path / "degraded" / "portrait.png").read_bytes()


def test_page_begins_with_the_chain_of_its_address(page, server):
    chain = quote("downsample:2 >> jpeg:0.5..2")
    page.open(f"{server[0]}?op={chain}")
    page.wait(lambda: "quality" in page.text("#problem") and len(page.run(SOURCES)) == 2)
    assert page.count(".card") == 0
    page.open(f"{server[0]}?op={quote('downsample:2 >> jpeg:5..9')}")
    page.wait(lambda: page.count(".card") == 2)
    page.wait(lambda: "drawn: downsample:2 >> jpeg:" in page.text("#status"))
    assert page.value("#chain textarea") == "downsample:2 >> jpeg:5..9"


def test_page_asks_no_other_host(page, server):
    page.requests()
    page.open(server[0])
    page.wait(lambda: len(page.run(SOURCES)) == 2)
    addresses = page.requests()
    assert addresses
    assert not [one for one in addresses if not one.startswith((server[0], "data:", "blob:"))]


def test_page_shows_a_wrong_chain_in_words(page):
    shown = page.run(SOURCES)
    page.type("#chain textarea", "jpegg:30")
    page.wait(lambda: "did you mean jpeg" in page.text("#problem"))
    assert page.run(SOURCES) == shown
    page.type("#chain textarea", BACKSPACE * 4 + ":20")
    page.wait(lambda: page.count(".card") == 1 and not page.text("#problem"))


def test_page_refuses_a_hostile_upload_in_words(page, tmp_path):
    shown = page.run(SOURCES)
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    page.type("#upload input[type=file]", str(tmp_path / "bomb.png"))
    page.wait(lambda: "9000 x 9000 pixels" in page.text("#problem"))
    assert page.run(SOURCES) == shown


def test_page_restores_and_cancels(page):
    type_chain(page, "downsample:4", 1)
    tab(page, "Restore")
    page.wait(lambda: page.count("#restore"))
    page.click("#method input")
    page.replace("#method input", f"ddnm{ENTER}")
    page.replace("#steps input", f"2{TAB}")
    page.click("#restore")
    page.wait(lambda: page.text("#words") == "restored")
    assert page.count("#emerging img") == 1 and page.count("#sheet img") == 1
    assert page.count("#curves svg") >= 1
    page.replace("#answers input", f"2{TAB}")
    page.click("#restore")
    page.wait(lambda: page.count("#gallery img") == 3)  # two answers, and their spread
    page.replace("#answers input", f"1{TAB}")
    page.replace("#steps input", f"90{TAB}")
    page.click("#restore")
    page.wait(lambda: page.text("#words").startswith("phase"))
    page.click("#cancel")
    page.wait(lambda: page.text("#words") == "cancelled")
