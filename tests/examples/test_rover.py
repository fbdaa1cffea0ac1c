"""examples/rover: the generated files are up to date, and operators in each language drive the rover.

The workflow dart.yml runs Dart, because there is no SDK here.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from pages import ROOT
from programs import LIMIT_S, line_of, running
from toolchains import npm, tool

ROVER = ROOT / "examples" / "rover"
CXX = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti"]


@contextmanager
def served() -> Iterator[tuple[Any, str, str]]:
    """The rover, and its ports for WebSocket and TCP."""
    with running("rover/serve.py", "--port", "0", "--tcp-port", "0") as process:
        ws, tcp = line_of(process).split(" ")
        yield process, ws, tcp


def said(*command: str, cwd: Path) -> list[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[:1000]
    return done.stdout.splitlines()


def test_the_generated_files_are_fresh() -> None:
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", str(ROVER / "generate.sh"), "--check"], env=environment, capture_output=True, text=True
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_from_node(tmp_path: Path) -> None:
    modules = npm("ws")
    for name in ("operator.mjs", "wire.mjs"):
        shutil.copy(ROVER / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    with served() as (rover, ws, _):
        assert said(tool("node"), "operator.mjs", f"ws://127.0.0.1:{ws}/", cwd=tmp_path) == [
            "rover drives, trail of 2"
        ]
        assert line_of(rover) == "DRIVE at 1.5 m/s"


@pytest.mark.timeout(600)
def test_from_rust(tmp_path: Path) -> None:
    for name in ("operator.rs", "wire.rs"):
        shutil.copy(ROVER / name, tmp_path)
    said(tool("rustc"), "--edition", "2021", "-D", "warnings", "operator.rs", cwd=tmp_path)
    with served() as (rover, _, tcp):
        assert said(str(tmp_path / "operator"), f"127.0.0.1:{tcp}", cwd=tmp_path)[-1] == (
            "rover drives, trail of 2"
        )
        assert line_of(rover) == "DRIVE at 2.5 m/s"


@pytest.mark.timeout(600)
def test_from_cpp(tmp_path: Path) -> None:
    for name in ("operator.cpp", "wire.hpp"):
        shutil.copy(ROVER / name, tmp_path)
    said(tool("g++"), *CXX, "-o", "operator", "operator.cpp", cwd=tmp_path)
    with served() as (rover, _, tcp):
        assert said(str(tmp_path / "operator"), "127.0.0.1", tcp, cwd=tmp_path)[-1] == (
            "rover drives, trail of 2"
        )
        assert line_of(rover) == "DRIVE at 3.5 m/s"


class Files(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".mjs": "text/javascript", ".html": "text/html"}  # noqa: RUF012

    def log_message(self, *args: Any) -> None:
        pass


def test_in_a_browser(tmp_path: Path) -> None:
    handler = functools.partial(Files, directory=str(ROVER))
    with (
        served() as (rover, ws, _),
        browser(tmp_path) as tab,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files,
    ):
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        try:
            site = f"http://127.0.0.1:{files.server_address[1]}"
            tab.open(f"{site}/page.html?server=ws://127.0.0.1:{ws}/")
            tab.until("(document.getElementById('pose') ?? {}).innerText?.startsWith('IDLE at')")
            tab.evaluate("document.getElementById('drive').click()")
            tab.until("document.getElementById('pose').innerText.startsWith('DRIVE at')")
            assert line_of(rover) == "DRIVE at 0.5 m/s"
        finally:
            files.shutdown()
            thread.join()
