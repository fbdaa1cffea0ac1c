"""examples/short: each program as it is, on a free port, with a client that has the classes of its source."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
import types
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import SLOW
from pages import ROOT, free_ports

from deli_com import WsClient, connect_blocking

SHORT = ROOT / "examples/short"
LIMIT_S = 30 * SLOW


@pytest.fixture
def port() -> str:
    return free_ports()["8765"]


@contextlib.contextmanager
def running(name: str, port: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """The program, with 8765 replaced, as soon as it listens."""
    (folder / name).write_text((SHORT / name).read_text(encoding="utf-8").replace("8765", port))
    with subprocess.Popen(
        [sys.executable, "-W", "error", *(command or (name,))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + LIMIT_S
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", int(port))).close()
                    break
                time.sleep(0.02)
            assert process.poll() is None, process.communicate()[1]
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def reading(name: str, port: str, path: str = "") -> Iterator[tuple[Any, dict[str, Any]]]:
    """A client of the classes in the program's source, which a reader of the program would copy."""
    lines = (SHORT / name).read_text(encoding="utf-8").splitlines()
    served = next(n for n, line in enumerate(lines) if line.startswith(("async def", "with ", "@")))
    module = types.ModuleType(f"short_{name}")
    sys.modules[module.__name__] = module  # annotations are resolved there
    exec("\n".join(lines[:served]), vars(module))
    names = vars(module)
    down = next(names[name] for name in ("Pose", "Event", "Frame", "Step", "Quote") if name in names)
    up = next((names[name] for name in ("Drive", "Stop") if name in names), None)
    with connect_blocking(WsClient[down, up], f"ws://127.0.0.1:{port}/{path}") as client:
        assert client.schema.down.how == "same"
        yield client, names


def test_robot(port: str, tmp_path: Path) -> None:
    with running("robot.py", port, tmp_path), reading("robot.py", port) as (client, names):
        assert client.recv(timeout=LIMIT_S).x == 0
        client.send(names["Drive"](1.0, 0.0))
        while (pose := client.recv(timeout=LIMIT_S)).x < 0.1:
            assert pose.robot == "r1"
        # Without another command it stops.
        deadline, last = time.monotonic() + LIMIT_S, pose.x
        while (pose := [client.recv(timeout=LIMIT_S) for _ in range(50)][-1]).x != last:
            last = pose.x
            assert time.monotonic() < deadline


def test_market(port: str, tmp_path: Path) -> None:
    with running("market.py", port, tmp_path), reading("market.py", port) as (client, names):
        got = [client.recv(timeout=LIMIT_S) for _ in range(2000)]
        assert len({quote.symbol for quote in got if isinstance(quote, names["Quote"])}) == 50
        assert any(isinstance(event, names["Trade"]) for event in got)


def test_camera(port: str, tmp_path: Path) -> None:
    with running("camera.py", port, tmp_path), reading("camera.py", port) as (client, _):
        frames = [client.recv(timeout=LIMIT_S) for _ in range(3)]
        assert [frame.pixels.shape for frame in frames] == [(240, 320, 3)] * 3
        assert (frames[0].pixels != frames[2].pixels).any()


def test_training(port: str, tmp_path: Path) -> None:
    with running("training.py", port, tmp_path) as process:
        with reading("training.py", port) as (client, names):
            first = client.recv(timeout=LIMIT_S)
            while (later := client.recv(timeout=LIMIT_S)).number == first.number:
                pass
            assert later.loss < first.loss
            client.send(names["Stop"]())
            printed, errors = process.communicate(timeout=LIMIT_S)
    assert printed.startswith("stopped after ") and errors == ""


def test_beside(port: str, tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="not installed: pip install --group test")

    def put(symbol: str, value: float) -> None:
        url = f"http://127.0.0.1:{port}/price/{symbol}?value={value}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()

    command = ("-m", "uvicorn", "beside:app", "--port", port, "--log-level", "error")
    with (
        running("beside.py", port, tmp_path, *command),
        reading("beside.py", port, "quotes/") as (client, names),
    ):
        put("XAU", 2650.5)
        assert client.recv(timeout=LIMIT_S) == names["Quote"]("XAU", 2650.5)


def test_the_readme_counts_their_lines() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(short/\1\.py\) \| (\d+) \|",
        (ROOT / "examples/README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) == len(list(SHORT.glob("*.py")))
    for name, said in rows:
        lines = (SHORT / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert len([line for line in lines[1:] if line.strip() and line.strip()[0] != "#"]) == int(said), name
