"""Drives Debian's Chromium by WebDriver (W3C), with Python's standard library alone."""
import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def missing():
    """What must be installed before a page can be driven; nothing where all is there."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


class Browser:
    def __init__(self, width=1200, height=900, dark=False):
        self.folder = tempfile.TemporaryDirectory()
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = None
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                port = int(line.rstrip().rstrip(".").split()[-1])
                break
        if port is None:
            raise RuntimeError("chromedriver did not start")
        self.base = f"http://127.0.0.1:{port}"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     f"--user-data-dir={self.folder.name}", f"--window-size={width},{height}"]
        if dark:
            arguments.append("--force-prefers-color-scheme-dark")  # and by CDP below, which works everywhere
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}})
        self.session = f"/session/{answer['sessionId']}"
        self.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        self.cdp("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._call("DELETE", self.session)
        except (urllib.error.URLError, OSError):
            pass
        self.driver.terminate()
        self.driver.wait()
        self.folder.cleanup()

    def _call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:600]}") from error

    def cdp(self, command, params):
        return self._call("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, url):
        self._call("POST", f"{self.session}/url", {"url": url})

    def run(self, script, *arguments):
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css):
        return self._call("POST", f"{self.session}/element", {"using": "css selector", "value": css})[ELEMENT]

    def click(self, css):
        self._call("POST", f"{self.session}/element/{self.find(css)}/click", {})

    def type(self, css, text):
        element = self.find(css)
        self._call("POST", f"{self.session}/element/{element}/clear", {})
        self._call("POST", f"{self.session}/element/{element}/value", {"text": text})

    def press(self, key):
        self._call("POST", f"{self.session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]})

    def select(self, css, value):
        self.run("const list = document.querySelector(arguments[0]); list.value = arguments[1];"
                 "list.dispatchEvent(new Event('change', {bubbles: true}))", css, value)

    def text(self, css):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent).join('\\n')", css)

    def wait(self, what, script, *arguments, seconds=60):
        """Until the script returns something true, which is returned."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.run(script, *arguments)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"the page did not come to: {what}. Its text:\n{self.run('return document.body.innerText')[:3000]}")

    def console(self):
        return [entry for entry in self._call("POST", f"{self.session}/se/log", {"type": "browser"}) if entry["level"] in ("SEVERE", "WARNING")]

    def picture(self, path, whole):
        """`whole`: all of the page; else as many of its sections as the window shows from end to end."""
        if whole:
            # The window becomes as high as the page before the picture is taken: charts are drawn anew where their size changes.
            width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
            self.cdp("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
            before = self.run("return document.getElementById('about').textContent")
            self.wait("the next look", "return document.getElementById('about').textContent !== arguments[0]", before)
        width, height = self.run("""
            const ends = [...document.querySelectorAll('section')].map((one) => one.getBoundingClientRect().bottom);
            return [innerWidth, Math.ceil(Math.max(...ends.filter((end) => end > 0 && end <= innerHeight)) + 12)];""")
        blank = self.run("""return [...document.querySelectorAll('canvas')].filter((one) => !one.getContext('2d')
            .getImageData(0, 0, one.width, one.height).data.some((byte) => byte !== 0)).map((one) => one.id)""")
        assert not blank, f"charts are empty: {blank}"
        shot = self.cdp("Page.captureScreenshot", {"format": "png", "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
