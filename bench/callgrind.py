"""Counting instructions: a process under callgrind that says itself where counting begins and ends."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "callgrind_marks.c"
LIBRARY = HERE / "_build" / "callgrind_marks.so"
HEADER = "valgrind/callgrind.h"  # Debian and Ubuntu have it in the package valgrind, Fedora in valgrind-devel
# What an allocation costs depends on all that were made before, by the imports too: up to 5 % of some counts.
# Where glibc keeps every small block that is freed for the next one of its size, it always costs the same.
STEADY = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=65535"}
PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONMALLOC", "GLIBC_TUNABLES")


def why_impossible() -> str | None:
    """What is missing here; None if instructions can be counted."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    command = [*_compiler(), "-E", "-xc", "-"]
    if shutil.which(command[0]) is None:
        return "there is no C compiler"
    done = subprocess.run(command, input=f"#include <{HEADER}>", text=True, capture_output=True)
    return f"{HEADER} is not installed" if done.returncode else None


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or shutil.which("cc") or "gcc")


def prepare(*modules: str) -> None:
    """Compile the two marks, and the modules of this folder that a counted program imports, with theirs.

    Else the first process would compile the modules, and its memory would have another history.
    """
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        LIBRARY.parent.mkdir(exist_ok=True)
        fresh = LIBRARY.with_suffix(f".{os.getpid()}")
        subprocess.run([*_compiler(), "-O2", "-Wall", "-shared", "-fPIC", "-o", fresh, SOURCE], check=True)
        fresh.rename(LIBRARY)
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    subprocess.run(command, check=True, env=_environment(False), cwd=HERE)


def _environment(steady: bool) -> dict[str, str]:
    """Of this process' environment little, so that a count does not depend on who asks."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"PYTHONHASHSEED": "0"}
    return env | STEADY if steady else env


@functools.cache
def _marks() -> tuple[Callable[[], int], Callable[[], int]]:
    library = ctypes.CDLL(str(LIBRARY))
    return library.counting_begins, library.counting_ends


def counting_begins() -> None:
    """What runs from here on is counted. The garbage of what ran before is not."""
    begin, _ = _marks()
    gc.collect()
    begin()


def counting_ends() -> None:
    _marks()[1]()


def counted(program: Path, *arguments: str, steady: bool = False) -> int:
    """Instructions of a Python program between its two marks, in a process of its own."""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={os.devnull}"]
    done = subprocess.run(
        [*command, sys.executable, str(program), *arguments],
        capture_output=True,
        text=True,
        env=_environment(steady),
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found or not int(found[1]):
        raise SystemExit(f"{' '.join(arguments)}: nothing was counted\n{done.stderr}")
    return int(found[1])
