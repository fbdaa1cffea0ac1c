"""A system call fails, anywhere: there is an error or a clean close, nothing leaks, and later calls work.

Each sweep runs in its own process, with a preloaded library that makes the calls fail.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
from toolchains import tool

if sys.platform != "linux":
    pytest.skip("calls are made to fail by LD_PRELOAD and counted by /proc", allow_module_level=True)

SUPPORT = Path(helpers.__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "failing_calls_shim.so"
    source = SUPPORT / "failing_calls_shim.c"
    subprocess.run(
        [tool("cc"), "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True, timeout=60
    )
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["ws", "tcp"])
@pytest.mark.parametrize("secure", ["plain", "tls", "callbacks"])
def test_each_call_may_fail(kind: str, secure: str, shim: Path) -> None:
    sweep(kind, secure, "asyncio", shim)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["ws", "tcp"])
def test_each_call_may_fail_under_uvloop(kind: str, shim: Path) -> None:
    sweep(kind, "plain", "uvloop", shim)


def sweep(kind: str, secure: str, loop: str, shim: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SUPPORT / "failing_calls.py"), kind, secure, loop],
        # Behind what is preloaded already: a sanitizer comes first, and passes on to the next library.
        env={
            **os.environ,
            "LD_PRELOAD": " ".join([*os.environ.get("LD_PRELOAD", "").split(), str(shim)]),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=590,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = ast.literal_eval(done.stdout)
    for call in ("socket", "bind", "listen", "accept", "connect", "setsockopt", "send", "recv", "epoll_ctl"):
        assert counts[call][0], counts
