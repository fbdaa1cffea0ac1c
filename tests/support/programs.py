"""Runs the programs of examples/ as a user does."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import helpers
from pages import ROOT

LIMIT_S = 60 * helpers.SLOW


@contextmanager
def running(path: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program of examples/, its output as text; killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(ROOT / "examples" / path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=LIMIT_S)
        raise AssertionError(f"the program ended: {errors}")
    return line.rstrip("\n")


def ended(process: subprocess.Popen[str]) -> str:
    """What a program prints until it ends; it must end well and without a word of complaint."""
    printed, errors = process.communicate(timeout=LIMIT_S)
    assert (errors, process.returncode) == ("", 0)
    return printed


def module(path: str) -> ModuleType:
    """A module of examples/, imported from its file."""
    spec = importlib.util.spec_from_file_location(
        "example_" + path.replace("/", "_").removesuffix(".py"), ROOT / "examples" / path
    )
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # annotations are resolved there
    spec.loader.exec_module(found)
    return found
