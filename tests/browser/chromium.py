"""A headless Chromium of the system, driven through the DevTools protocol over two pipes."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    " ": (32, " "),
    "ArrowDown": (40, ""),
    "ArrowRight": (39, ""),
    "Home": (36, ""),
}


def find_browser() -> str | None:
    """The path of a Chromium or Chrome; OPENUNITE_BROWSER comes first."""
    names = [os.environ.get("OPENUNITE_BROWSER", ""), *NAMES]
    return next((path for name in names if name and (path := shutil.which(name))), None)


# The browser reads commands from descriptor 3 and answers on 4.
_EXEC = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for number, descriptor in zip(given, (3, 4)):
    os.dup2(number, descriptor)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One browser with one page."""

    def __init__(self, path: str, home: Path) -> None:
        here_in, there_out = os.pipe()
        there_in, here_out = os.pipe()
        flags = (
            "--headless=new --no-sandbox --disable-gpu --enable-unsafe-swiftshader "
            "--use-angle=swiftshader --no-first-run --disable-background-networking "
            f"--hide-scrollbars --force-color-profile=srgb --user-data-dir={home} "
            "--remote-debugging-pipe about:blank"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, str(there_in), str(there_out), path, *flags.split()],
            pass_fds=(there_in, there_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there_in)
        os.close(there_out)
        self._out, self._in = here_out, os.fdopen(here_in, "rb")
        self._numbers, self.events = itertools.count(1), list[dict[str, Any]]()
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol. AssertionError if the browser refuses it."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        parts = bytearray()
        while (byte := self._in.read(1)) != b"\0":
            assert byte, "the browser has ended"
            parts += byte
        return json.loads(parts)

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        os.close(self._out)
        self._in.close()

    # ---- a page -------------------------------------------------------------------------------

    def open(self, url: str, width: int = 1100, height: int = 900, dark: bool = False) -> None:
        """Open a page in a window of this size, and wait until it is loaded."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression. AssertionError if it throws."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """The value of an expression as soon as it is true. AssertionError if it never is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.run(expression):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{expression}; the page says: {self.run('document.body.innerText')}")

    def click(self, selector: str) -> None:
        """Click on the middle of an element, as a mouse does."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        place: Mapping[str, Any] = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    windowsVirtualKeyCode=code,
                    **({"text": text} if text and kind == "keyDown" else {}),
                )

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def picture(self, whole: bool = False) -> Image.Image:
        """A screenshot of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return Image.open(BytesIO(base64.b64decode(found["data"])))

    def complaints(self) -> list[str]:
        """What the browser logged as errors and warnings: scripts, and what a policy blocked."""
        self.run("0")
        found = []
        for event in self.events:
            values = event.get("params", {})
            if event.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
                found.append(values["entry"]["text"])
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(values["exceptionDetails"]))
        return found

    def requested(self) -> list[str]:
        """The addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]


@contextmanager
def browsing(home: Path) -> Iterator[Browser]:
    """A browser, ended at the end of the context."""
    path = find_browser()
    assert path is not None
    browser = Browser(path, home)
    try:
        yield browser
    finally:
        browser.close()
