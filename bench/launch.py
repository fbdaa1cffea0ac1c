"""Starts one measured process and one load process, each on its own core, and returns what both report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from control import Control
from drive import Job

HERE = Path(__file__).resolve().parent
BUILD = HERE / "_build"
TIMEOUT_S = 120.0


class RunFailed(Exception):
    """A program of a bench ended badly or not at all; the text holds what it wrote to stderr."""


def cores() -> tuple[int, int]:
    """Return the core of the measured process and that of the load."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def compiled(name: str) -> Path:
    """Return the binary of a C source in this folder, compiling it where it is missing or older."""
    source, binary = HERE / f"{name}.c", BUILD / name
    newest = max(source.stat().st_mtime, (HERE / "net.h").stat().st_mtime)
    if not binary.exists() or binary.stat().st_mtime < newest:
        BUILD.mkdir(exist_ok=True)
        compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
        fresh = BUILD / f"{name}.{os.getpid()}"
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", fresh, source], check=True)
        fresh.rename(binary)
    return binary


def options(values: dict[str, Any]) -> list[str]:
    """`{"size": 64}` as `["--size", "64"]`."""
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def program(name: str) -> list[str]:
    """The command of a server or client program: C where a .c of that name exists."""
    if (HERE / f"{name}.c").exists():
        return [str(compiled(name))]
    return [sys.executable, str(HERE / f"{name}.py")]


def _spawn(command: list[str], errors: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(
        os.pathsep
    )
    env = os.environ | {"PYTHONPATH": path}
    with errors.open("w") as stderr:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    watchdog = threading.Timer(TIMEOUT_S, process.kill)  # the read below then ends with no text
    watchdog.start()
    try:
        text = process.stdout.readline()
    finally:
        watchdog.cancel()
    if not text:
        raise RunFailed("no report: the program ended or was out of time")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _pair(
    first: list[str], second: list[str], job: Job, extra: dict[str, Any], measured_first: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    # The program that listens comes first and says its port; the other one is given it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page, fifo = Control.create(folder)
        core, load_core = cores() if measured_first else cores()[::-1]
        common = {"control": page, "fifo": fifo}
        values = {key: value for key, value in asdict(job).items() if key != "style" or value}
        listening = _spawn(first + options(values | common | {"core": core}), folder / "first")
        try:
            hello = _line(listening)
            given = {"port": hello["port"], "core": load_core} | common
            if measured_first:
                given |= {
                    key: values[key] for key in ("clients", "stalled", "size", "messages", "burst", "check")
                }
                given |= {"prefix": hello.get("prefix", 0)} | extra
                if extra.get("stamp", -1) >= 0:
                    given["stamp"] = given["prefix"]
            else:
                given = values | given | extra
            calling = _spawn(second + options(given), folder / "second")
            try:
                report = _line(listening if measured_first else calling)
                other: dict[str, Any] = {}
                if measured_first:
                    other = _line(calling)
                calling.wait(TIMEOUT_S)
            finally:
                calling.kill()
                calling.wait()
        except (RunFailed, ValueError, subprocess.TimeoutExpired) as exc:
            listening.kill()
            listening.wait()
            wrote = "".join(
                (folder / part).read_text() for part in ("first", "second") if (folder / part).exists()
            )
            raise RunFailed(f"{' '.join(first)} with {job}: {exc}\n{wrote}") from None
        finally:
            listening.kill()
            listening.wait()
        return report, other


def run_server(name: str, job: Job, **load: Any) -> dict[str, Any]:
    """Measure a server program under the load generator; the load's report is under `load`."""
    report, other = _pair(program(name), [str(compiled("load_client"))], job, load, measured_first=True)
    return report | {"load": other}


def run_client(name: str, job: Job) -> dict[str, Any]:
    """Measure a receiving program that the C source feeds."""
    source = [str(compiled("floor_server"))]
    feed = Job(**(asdict(job) | {"mode": "source", "messages": int(job.mode == "footprint")}))
    report, _ = _pair(
        source, program(name), feed, {"messages": job.messages, "mode": job.mode}, measured_first=False
    )
    return report
