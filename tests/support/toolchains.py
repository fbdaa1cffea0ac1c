"""Compilers and packages of other languages. A missing one skips its tests, with its name.

With ``DELI_COM_GEN_FULL=1`` (``make test-gen``) a missing one is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

FULL = os.environ.get("DELI_COM_GEN_FULL") == "1"  # 200 schemas, 100,000 inputs; else a share
BUILD = Path(__file__).resolve().parents[2] / "build"
NPM = {
    "typescript": "5.9.3",
    "prettier": "3.6.2",
    "esbuild": "0.25.11",
    "ws": "8.18.3",
    "playwright-core": "1.56.1",
    "@mcap/core": "2.2.2",
    "@foxglove/rosmsg": "5.0.5",
    "@foxglove/rosmsg-serialization": "2.0.4",
    "@foxglove/ws-protocol": "0.8.0",
}


def share(full: int, part: int) -> int:
    """How many of something: a share of it, unless ``DELI_COM_GEN_FULL=1``."""
    return full if FULL else part


def tool(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    found = shutil.which(name)
    if found is None:
        _absent(f"{name} is not installed")
    return found


def _absent(words: str) -> NoReturn:
    if FULL:
        pytest.fail(words)
    pytest.skip(words)


def npm(*names: str) -> Path:
    """The folder ``node_modules`` with these packages, installed below build/ once."""
    tool("node")
    program = tool("npm")
    folder = BUILD / "npm"
    missing = [name for name in names if not (folder / "node_modules" / name).is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        pinned = [f"{name}@{NPM[name]}" for name in missing]
        done = subprocess.run(
            [program, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), *pinned],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            _absent(f"npm cannot install {', '.join(pinned)}: {done.stderr.strip()[:200]}")
    return folder / "node_modules"
