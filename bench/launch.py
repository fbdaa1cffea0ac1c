"""Starts one measured process and one load process, each on its own core, and returns what both report."""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from control import Control
from drive import Job
from foreign import command

HERE = Path(__file__).resolve().parent
BUILD = HERE / "_build"
TIMEOUT_S = 100.0
LOAD_KEYS = ("clients", "stalled", "size", "messages", "burst", "check")


class RunFailed(Exception):
    """A program of a bench failed or did not end; the text holds what it wrote to stderr."""


def cores() -> tuple[int, int]:
    """Return the core of the measured process and that of the load."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def compiled(name: str) -> Path:
    """Return the binary of a C source in this folder; compile it if it is missing or older."""
    source, binary = HERE / f"{name}.c", BUILD / name
    newest = max(source.stat().st_mtime, (HERE / "net.h").stat().st_mtime)
    if not binary.exists() or binary.stat().st_mtime < newest:
        BUILD.mkdir(exist_ok=True)
        compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or "gcc")
        fresh = BUILD / f"{name}.{os.getpid()}"
        subprocess.run([*compiler, "-O2", "-Wall", "-Wextra", "-o", fresh, source], check=True)
        fresh.rename(binary)
    return binary


def _given(job: Job) -> dict[str, Any]:
    return {key: value for key, value in asdict(job).items() if value != ""}


def options(values: dict[str, Any]) -> list[str]:
    """`{"size": 64}` as `["--size", "64"]`."""
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def program(name: str) -> list[str]:
    """The command of a program: a peer of another language, C where a .c of that name exists, or Python."""
    if name.startswith("peers/"):
        return command(name.removeprefix("peers/"))
    if (HERE / f"{name}.c").exists():
        return [str(compiled(name))]
    return [sys.executable, str(HERE / f"{name}.py")]


class Child:
    """A program whose stdout is JSON lines."""

    def __init__(self, command: list[str], errors: Path) -> None:
        path = [str(HERE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        self.name = Path(command[1] if command[0] == sys.executable else command[0]).stem
        self._errors = errors
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")  # the end

    def line(self, other: Child | None = None) -> dict[str, Any]:
        """Return the next report, or raise `RunFailed` with the stderr of the program that failed."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if other is not None and other.process.poll():
                raise RunFailed(f"{other.name} failed: {other.words()}")
            try:
                text = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if not text:
                raise RunFailed(f"{self.name} ended without a report: {self.words()}")
            loaded: dict[str, Any] = json.loads(text)
            return loaded
        raise RunFailed(f"{self.name} was out of time: {self.words()}")

    def words(self) -> str:
        """What it wrote to stderr."""
        return self._errors.read_text().strip()

    def end(self) -> None:
        """Kill it and release its resources."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


def run_server(name: str, job: Job, *, load_program: str = "load_client", **load: Any) -> dict[str, Any]:
    """Measure a server program under a load generator; the load's report is under `load`."""
    core, load_core = cores()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        page, fifo = Control.create(folder)
        common = {"control": page, "fifo": fifo}
        server = Child(program(name) + options(_given(job) | common | {"core": core}), folder / "server")
        try:
            hello = server.line()
            given: dict[str, Any] = {key: getattr(job, key) for key in LOAD_KEYS}
            given |= common | {"port": hello["port"], "core": load_core, "prefix": hello.get("prefix", 0)}
            given |= load
            if "stamp" in load:
                given["stamp"] = load["stamp"] + given["prefix"]
            client = Child(program(load_program) + options(given), folder / "load")
            try:
                return server.line(client) | {"load": client.line()}
            finally:
                client.end()
        finally:
            server.end()


def run_client(name: str, job: Job) -> dict[str, Any]:
    """Measure a receiving program that the C source feeds."""
    core, source_core = cores()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        page, fifo = Control.create(folder)
        common = {"control": page, "fifo": fifo}
        feed = replace(job, mode="source", messages=int(job.mode == "footprint"), core=source_core)
        source = Child(program("floor_server") + options(_given(feed) | common), folder / "source")
        try:
            given = _given(job) | common | {"port": source.line()["port"], "core": core}
            client = Child(program(name) + options(given), folder / "client")
            try:
                return client.line()
            finally:
                client.end()
        finally:
            source.end()
