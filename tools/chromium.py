"""One tab of a headless Chromium, over its DevTools protocol: for tests, benchmarks and pictures."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is small
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no traffic but this machine's
)
ANSWER_S = 120.0
STATUS = "document.documentElement.innerText"


def program() -> str | None:
    """Path of the browser; None if there is none."""
    wanted = os.environ.get("DELI_COM_CHROMIUM")
    return wanted or next(filter(None, map(shutil.which, NAMES)), None)


class Tab:
    """One page of a browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol; its result. Events in between are dropped."""
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=ANSWER_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url: str) -> None:
        found = self.call("Page.navigate", url=url)
        if "errorText" in found:
            raise RuntimeError(f"{url}: {found['errorText']}")
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, expression: str, limit_s: float = 60) -> Any:
        """Evaluate until the value is true; return it."""
        deadline = time.monotonic() + limit_s
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} is {value!r}; {self.evaluate(STATUS)}")
            time.sleep(0.02)
        return value

    def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def scheme(self, name: str) -> None:
        """Prefer "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def tab(profile: Path | None = None) -> Iterator[tuple[Tab, subprocess.Popen[bytes]]]:
    """A browser with one empty tab, and its process. Without `profile`, the profile is removed afterwards."""
    name = program()
    if name is None:
        raise SystemExit(f"no Chromium in PATH (looked for {', '.join(NAMES)})")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) if profile is None else profile
        command = [name, *OPTIONS, f"--user-data-dir={folder}"]
        if hasattr(os, "getuid") and os.getuid() == 0:
            command.append("--no-sandbox")  # it refuses to run as root otherwise
        with subprocess.Popen(
            [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                port = _port(process, folder / "DevToolsActivePort")
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_S) as answer:
                    pages = [entry for entry in json.load(answer) if entry["type"] == "page"]
                url = pages[0]["webSocketDebuggerUrl"]
                with connect(url, max_size=None, compression=None) as connection:
                    yield Tab(connection), process
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    """The port that the browser chose, which it writes into this file when it listens."""
    deadline = time.monotonic() + 60
    while True:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0])
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser does not listen (status {process.returncode})")
        time.sleep(0.02)
