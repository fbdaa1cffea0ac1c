"""A recorded server whose disk fails: the recording ends with one line in the log, and the server goes on.

Also one on a disk that is too slow: memory is bounded, and what is left out is named. They run in a process
of their own, with a preloaded library that makes the calls fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import helpers
import pytest
from toolchains import tool

pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")
if sys.platform != "linux":
    pytest.skip("calls are made to fail by LD_PRELOAD", allow_module_level=True)

SUPPORT = Path(helpers.__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    shim = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    source = SUPPORT / "disk_shim.c"
    subprocess.run(
        [tool("cc"), "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True, timeout=60
    )
    done = subprocess.run(
        [sys.executable, SUPPORT / "disk_faults.py"],
        env={
            **os.environ,
            # Behind what is preloaded already: a sanitizer comes first, and passes on to the next library.
            "LD_PRELOAD": " ".join([*os.environ.get("LD_PRELOAD", "").split(), str(shim)]),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "error", "is_left"),
    [
        ("no space", "[Errno 28] No space left on device", True),
        ("write error", "[Errno 5] Input/output error", True),
        ("sync error", "[Errno 5] Input/output error", True),
        ("file removed", "[Errno 2] /run.mcap was removed", False),
        ("folder removed", "[Errno 2] /run.mcap was removed", False),
        ("folder removed before a split", "[Errno 2] No such file or directory: '/run_1.mcap'", False),
        ("no permission at a split", "[Errno 13] Permission denied: '/run_1.mcap'", True),
    ],
)
def test_the_server_goes_on(found: dict[str, Any], name: str, error: str, is_left: bool) -> None:
    """A client gets every value; the recording says once why it has ended, and counts what it has not."""
    seen = found[name]
    assert seen["error"] == error
    assert seen["log"] == [f"the recording /run.mcap ends: {error}"]
    assert seen["sent"] == seen["counted"] and seen["left_out"] >= 20
    if is_left:  # a file is left, and has in order what is not counted as left out
        assert seen["read"] == seen["counted"] - seen["left_out"] >= 10
    else:
        assert seen["read"] is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("on_full", ["count", "raise"])
def test_64_mib_wait_at_most(found: dict[str, Any], on_full: str) -> None:
    seen = found[f"full, {on_full}"]
    assert 60 < seen["most"] <= 64
    kept = seen["counted"]
    left_out, raised = (101 - kept, 0) if on_full == "count" else (0, 101 - kept)
    assert (seen["left_out"], seen["raised"], seen["error"]) == (left_out, raised, None)
    assert seen["read"] == [*range(kept - 1), 100], "there is room again after it"
    assert seen["gaps"] == ([["/Picture", left_out]] if left_out else [])
