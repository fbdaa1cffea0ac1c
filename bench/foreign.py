"""Peers in other languages: built from pinned versions into bench/_build, where their toolchain is installed.

``DELI_COM_BENCH_PEERS=go,node`` builds those only.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "peers"
BUILD = HERE / "_build"
TOOLS = {"rust": "cargo", "go": "go", "node": "npm"}


class NotBuilt(Exception):
    """A peer cannot be built on this machine; the text says why."""


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise NotBuilt(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")


def _rust() -> list[str]:
    target = BUILD / "rust"
    _run(["cargo", "build", "--quiet", "--release", "--target-dir", str(target)], SOURCES / "rust")
    return [str(target / "release" / "bench-peers")]


def _go() -> list[str]:
    binary = BUILD / "go-peers"
    _run(["go", "build", "-o", str(binary), "."], SOURCES / "go")
    return [str(binary)]


def _node() -> list[str]:
    folder = BUILD / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for source in ("package.json", "server.mjs"):
        shutil.copyfile(SOURCES / "node" / source, folder / source)
    if not (folder / "node_modules" / "ws").is_dir():
        _run(["npm", "install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"], folder)
    return ["node", str(folder / "server.mjs")]


BUILDERS: dict[str, Callable[[], list[str]]] = {"rust": _rust, "go": _go, "node": _node}


@functools.cache
def command(language: str) -> list[str]:
    """The command of the peers of one language, built now.

    Raises
    ------
    NotBuilt
        Its toolchain is missing, or has failed.
    """
    tool = TOOLS[language]
    if shutil.which(tool) is None:
        raise NotBuilt(f"{tool} is not installed")
    if language not in os.environ.get("DELI_COM_BENCH_PEERS", "rust,go,node").split(","):
        raise NotBuilt("DELI_COM_BENCH_PEERS does not name it")
    BUILD.mkdir(exist_ok=True)
    return BUILDERS[language]()
