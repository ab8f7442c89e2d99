"""The report's page, in a browser where one is installed."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

from pipelines import report


class Browser:
    """Headless Chromium through its WebDriver."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=400,900"]
        options = {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        session = self.call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self.base += f"/session/{session['sessionId']}"

    def call(self, verb, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            self.base + path, data, {"Content-Type": "application/json"}, method=verb
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def do(self, script):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def type(self, selector, keys):
        (element,) = self.call(
            "POST", "/element", {"using": "css selector", "value": selector}
        ).values()
        self.call("POST", f"/element/{element}/value", {"text": keys})


@pytest.fixture
def browser():
    if not (
        shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))
    ):
        pytest.skip(
            "no chromium and chromedriver on this machine: the page was not tried in a browser"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                browser = Browser(port)
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("chromedriver did not answer")
        yield browser
        browser.call("DELETE", "")
    finally:
        driver.kill()


def test_page_filters_and_compares_pictures(results, browser):
    browser.call("POST", "/url", {"url": (results / "report.html").as_uri()})
    assert browser.do("return document.querySelectorAll('.card').length") == 16
    assert browser.do("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    place = (
        "return getComputedStyle(document.querySelector('.slider')).getPropertyValue('--at').trim()"
    )
    browser.type(".slider input", "\ue014" * 7)  # the right arrow key
    assert browser.do(place) == "57%"
    browser.do(
        "const s = document.getElementById('method'); s.value = 'pulse'; s.dispatchEvent(new Event('change'))"
    )
    browser.do(
        "const s = document.getElementById('level'); s.value = 'XL'; s.dispatchEvent(new Event('change'))"
    )
    captions = browser.do(
        "return [...document.querySelectorAll('.card figcaption')].map(c => c.firstChild.data)"
    )
    assert captions == ["upsampling/XL · pulse · 000", "upsampling/XL · pulse · 001"]
    assert (
        browser.do("return document.getElementById('count').textContent") == "2 of 16 restorations"
    )
    before = browser.do("return document.querySelector('.before').src")
    browser.do("document.querySelector('.card button').click()")
    assert browser.do("return document.querySelector('.before').src") != before
    assert browser.do(
        "return document.documentElement.scrollWidth <= innerWidth"
    )  # on a phone's width
    assert browser.call("POST", "/se/log", {"type": "browser"}) == []
    assert (
        browser.do(
            "return performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length"
        )
        == 0
    )


def test_page_loads_nothing_from_elsewhere(results):
    page = (results / "report.html").read_text()
    assert (
        not re.search(r"(src|href)=['\"](?!data:)", page)
        and "@import" not in page
        and "fetch(" not in page
    )
    assert str(results) not in page and "<!-- " not in page


def test_report_draws_the_terms_of_each_loss():
    terms = {"lpips": [0.5, 0.4, 0.3], "l1<b>": [0.2, 0.1, 0.05], "bad": "no curve"}
    row = {"task": "UNAP", "method": "robust", "image": "a", "loss": [0.7, 0.5], "terms": terms}
    old = {"task": "UNAP", "method": "pulse", "image": "a", "loss": [0.7, 0.5]}
    (chart,) = report.term_charts([row, old])
    assert "UNAP, robust" in chart and chart.count("<polyline") == 2
    assert "lpips" in chart and "l1&lt;b&gt;" in chart and "0.05<" in chart
