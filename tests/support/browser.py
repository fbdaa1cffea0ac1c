"""Headless Chromium, driven over its DevTools protocol: open a page, evaluate JavaScript in it.

``DELI_COM_CHROMIUM`` names the program; with it set, a browser that is missing is an error. Without it and
without a browser in PATH, `program` skips the test.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helpers
import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
START_S = 30 * helpers.SLOW
ANSWER_S = 20 * helpers.SLOW
OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # a container's /dev/shm is small
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no traffic but this machine's
)


def program() -> str:
    """Path of the browser; skips the test that asks if there is none."""
    wanted = os.environ.get("DELI_COM_CHROMIUM")
    if wanted:
        assert shutil.which(wanted), f"DELI_COM_CHROMIUM={wanted}: no such program"
        return wanted
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium in PATH (looked for {', '.join(NAMES)})")
    return found


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
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def open(self, url: str) -> None:
        assert "errorText" not in self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise; an exception fails the test."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Evaluate until the value is true; gives it."""
        deadline = time.monotonic() + ANSWER_S
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{expression} is {value!r}; {self.evaluate(STATUS)}"
            time.sleep(0.02)
        return value


STATUS = "document.documentElement.innerText"


@contextmanager
def browser(directory: Path) -> Iterator[Tab]:
    """A browser with one empty tab; its profile goes into `directory`."""
    command = [program(), *OPTIONS, f"--user-data-dir={directory}"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.append("--no-sandbox")  # it refuses to run as root otherwise
    with subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            port = _port(process, directory / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_S) as answer:
                pages = [entry for entry in json.load(answer) if entry["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None, compression=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    """The port that the browser chose, which it writes into this file when it listens."""
    deadline = time.monotonic() + START_S
    while True:
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return int(lines[0])
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < deadline, "the browser does not listen"
        time.sleep(0.02)
