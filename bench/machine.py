"""The circumstances of a figure: date, machine, kernel, versions, commit."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

LIBRARIES = [
    "deli-com",
    "picows",
    "aiofastnet",
    "uvloop",
    "websockets",
    "aiohttp",
    "socketify",
    "pyzmq",
    "msgspec",
    "numpy",
    "Cython",
]


def _read(path: str, default: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default


def _cpu() -> str:
    for line in _read("/proc/cpuinfo", "").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def describe() -> dict[str, object]:
    """Everything that a reader needs to compare the figures with those of another run."""
    governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "governor": _read(governor, "not shown by this machine"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "compiler": _run([*shlex.split(os.environ.get("CC", "cc")), "--version"]).split("\n")[0],
        "commit": _run(["git", "rev-parse", "--short", "HEAD"])
        + (" with changes" if _run(["git", "status", "--porcelain", "--untracked-files=no"]) else ""),
        "load_before": os.getloadavg()[0],
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def write(path: Path | None, found: Any) -> None:
    """Write figures with their circumstances as JSON; without a path, nothing."""
    if path is not None:
        path.write_text(json.dumps({"meta": describe(), "found": found}, indent=1))
