# SPDX-License-Identifier: Apache-2.0
"""A real browser without a screen: Chromium, driven through its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=BackForwardCache",  # a page that was left would keep its connections
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
)
PATIENCE_S = 60.0
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


def find_chromium() -> str | None:
    """The program, None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def kept_picture(name: str) -> Path:
    """Where a test leaves a screenshot for people; git ignores the folder."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / name


class Page:
    """One tab."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._last = socket, 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    @property
    def text(self) -> str:
        """All text on the page."""
        return str(self.evaluate("document.body?.innerText ?? ''"))

    def press(self, label: str) -> None:
        """Click the last button with this label: that of a dialogue comes after those below it."""
        buttons = f"[...document.querySelectorAll('button')].filter(b => b.innerText.trim() === {json.dumps(label)})"
        pressed = self.evaluate(f"(() => {{ const found = {buttons}.at(-1); found?.click(); return found !== undefined; }})()")
        assert pressed, f"There is no button '{label}' in: {self.text}"

    def tick(self, number: int) -> None:
        """Click the check box of this number, of those that are to be seen."""
        boxes = "[...document.querySelectorAll('input[type=checkbox]')].filter(b => b.offsetParent !== null)"
        self.evaluate(f"{boxes}[{number}].click()")

    def wait_for(self, condition: Any, what: str) -> None:
        """Wait until condition() is true."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"Waited {PATIENCE_S:.0f} s in vain for {what}. The page says: {self.text}"
            time.sleep(0.1)

    def wait_for_text(self, *words: str) -> None:
        """Wait until the page says all of this."""
        self.wait_for(lambda: all(word in self.text for word in words), f"the words {words}")

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """What the page looks like, (H, W, 3) uint8 RGB; written to a file, too, when one is named."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def canvas(self, path: Path | None = None) -> np.ndarray:
        """The part of the screenshot that shows nothing but the scene: left of the panel, below the notice of slow rendering."""
        picture = self.screenshot(path)
        height, width = picture.shape[:2]
        return picture[int(0.3 * height) :, : int(0.6 * width)]

    def frames_per_second(self, seconds: float) -> float:
        """How often the page is drawn while the scene is turned with the mouse."""
        count = "const count = () => { window.drawn++; requestAnimationFrame(count); }; count();"
        self.evaluate(f"if (window.drawn === undefined) {{ window.drawn = 0; {count} }}")
        self._mouse("mousePressed", 300, 300)
        begin, before = time.monotonic(), self.evaluate("window.drawn")
        step = 0
        while time.monotonic() - begin < seconds:
            step += 1
            self._mouse("mouseMoved", 300 + 5 * (step % 40), 300)
        drawn = self.evaluate("window.drawn") - before
        elapsed = time.monotonic() - begin
        self._mouse("mouseReleased", 300, 300)
        return drawn / elapsed

    def _mouse(self, kind: str, x: int, y: int) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@contextmanager
def open_page(url: str, folder: Path, size: tuple[int, int] = (1200, 800), options: tuple[str, ...] = ()) -> Iterator[Page]:
    """The page in a Chromium of its own, whose profile is in `folder`. options: further ones of the command line."""
    from websockets.sync.client import connect

    program = find_chromium()
    assert program is not None
    profile = folder / "chromium_profile"
    arguments = [program, *OPTIONS, *options, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}", "about:blank"]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        target = _first_tab(_debugging_port(profile, process))
        with connect(target, max_size=None, open_timeout=PATIENCE_S) as socket:
            page = Page(socket)
            page.call("Page.enable")
            page.call("Page.navigate", url=url)
            page.wait_for(lambda: page.evaluate("document.querySelector('canvas') !== null"), "the canvas")
            yield page
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _debugging_port(profile: Path, process: subprocess.Popen) -> int:
    file, end = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_S
    while not (file.is_file() and file.read_text().strip()):
        assert process.poll() is None, "Chromium ended: " + (profile.parent / "chromium.log").read_text()[-2000:]
        assert time.monotonic() < end, "Chromium does not open its DevTools port."
        time.sleep(0.1)
    return int(file.read_text().split()[0])


def _first_tab(port: int) -> str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S) as answer:
            pages = [entry for entry in json.load(answer) if entry["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError("Chromium has no page.")


def drawn_share(canvas: np.ndarray) -> float:
    """Share of the pixels that clearly differ from the background, the most frequent colour."""
    colors, counts = np.unique(canvas.reshape(-1, 3), axis=0, return_counts=True)
    background = colors[counts.argmax()].astype(int)
    return float((np.abs(canvas.astype(int) - background).max(axis=-1) > 24).mean())


def distinct_colors(canvas: np.ndarray) -> int:
    """How many colours there are, in steps of 16 grey levels."""
    return len(np.unique((canvas // 16).reshape(-1, 3), axis=0))
