"""Headless Chromium in tests: tools/chromium.py, skipped where there is no browser.

``DELI_COM_CHROMIUM`` names the program; with it set, a browser that is missing is an error. Without it and
without a browser in PATH, `program` skips the test.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import helpers
import pytest

sys.path.append(str(Path(__file__).parents[2] / "tools"))

import chromium
from chromium import Tab

__all__ = ["Tab", "browser", "program"]

chromium.ANSWER_S = 20 * helpers.SLOW


def program() -> str:
    """Path of the browser; skips the test that asks if there is none."""
    wanted = os.environ.get("DELI_COM_CHROMIUM")
    found = chromium.program()
    if wanted:
        assert shutil.which(wanted), f"DELI_COM_CHROMIUM={wanted}: no such program"
    if found is None:
        pytest.skip(f"no Chromium in PATH (looked for {', '.join(chromium.NAMES)})")
    return found


@contextmanager
def browser(directory: Path) -> Iterator[Tab]:
    """A browser with one empty tab; its profile goes into `directory`."""
    program()
    with chromium.tab(directory) as (tab, _):
        yield tab
