"""A browser for tests: Chromium, driven by chromedriver's own protocol (W3C WebDriver)."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id in the protocol
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
PATIENCE = 180  # seconds to wait for a change of the page
CONTROL, BACKSPACE, TAB, ENTER, LEFT = "\ue009", "\ue003", "\ue004", "\ue007", "\ue012"


class Refused(Exception):
    """The browser cannot do this, for the reason that it gives."""


class Browser:
    """One window. `css` selects elements as style sheets do."""

    def __init__(self, driver, profile):
        self.driver = driver
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.path = f"/session/{session['sessionId']}"

    def _ask(self, verb, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.driver + path, data, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise Refused(json.load(error)["value"]["message"]) from error

    def post(self, path, **body):
        return self._ask("POST", self.path + path, body)

    def open(self, address):
        self.post("/url", url=address)

    def run(self, script, *arguments):
        return self.post("/execute/sync", script=script, args=arguments)

    def elements(self, css):
        found = self.post("/elements", using="css selector", value=css)
        return [element[ELEMENT] for element in found]

    def count(self, css):
        return len(self.elements(css))

    def text(self, css):
        return self._ask("GET", f"{self.path}/element/{self.elements(css)[0]}/text")

    def value(self, css):
        return self.run("return document.querySelector(arguments[0]).value", css)

    def click(self, css):
        element = self.elements(css)[0]
        self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: element})
        self.post(f"/element/{element}/click")

    def type(self, css, text):
        """Type into an element; `text` may be the path of a file to upload."""
        self.post(f"/element/{self.elements(css)[0]}/value", text=text)

    def press(self, css, keys):
        """Focus an element, and press keys one after another."""
        script = "const e = document.querySelector(arguments[0]); e.focus(); "
        script += "return e === document.activeElement"
        assert self.run(script, css)
        strokes = []
        for key in keys:
            strokes += [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        self.post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": strokes}])

    def replace(self, css, text):
        """Type over what a field holds, and leave it."""
        self.type(css, f"{CONTROL}a{CONTROL}{BACKSPACE}{text}")

    def wait(self, condition):
        """Wait until a function gives something true, and return that."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                result = condition()
            except (IndexError, Refused):  # drawn anew just now
                result = None
            if result:
                return result
            time.sleep(0.2)
        raise AssertionError(f"the page never changed; it shows: {self.text('body')}")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self.path}/screenshot")))

    def log(self, kind):
        return self.post("/se/log", type=kind)

    def requests(self):
        """The addresses that the page has asked for since the last call."""
        addresses = set()
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                addresses.add(message["params"]["request"]["url"])
        return addresses

    def quit(self):
        self._ask("DELETE", self.path)


@contextmanager
def browser(folder):
    """A browser that keeps its profile in a folder."""
    log = folder / "chromedriver.log"
    command = [DRIVER, "--port=0", f"--log-path={log}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = None
        for line in process.stdout:
            if "successfully on port" in line:
                port = line.rstrip(".\n").rpartition(" ")[2]
                break
        window = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        yield window
        window.quit()
    finally:
        process.terminate()
        process.wait()
