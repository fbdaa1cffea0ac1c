"""Runs Python programs in a separate process, because a failure would crash it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers import SLOW

SUPPORT = Path(__file__).parent


def run_alone(
    program: str, *arguments: str, limit_s: float = 30.0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `program`, text of Python that may import tests/support; give what it printed and how it ended.

    A process that dies of a signal has a negative return code, and its stack on stderr.
    """
    path = os.pathsep.join(filter(None, [str(SUPPORT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=limit_s * SLOW,
        check=False,
    )
