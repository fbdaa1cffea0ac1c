"""Out of memory at any allocation of a call, a callback or a step: nothing crashes, and nothing hangs.

Each sweep runs in its own process, because a failing one crashes it. tests/support/no_memory_links.py has the
checks.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from alone import run_alone

if importlib.util.find_spec("_testcapi") is None:
    pytest.skip("this CPython comes without _testcapi, which makes allocations fail", allow_module_level=True)

PROGRAM = Path(__file__).parents[1] / "support" / "no_memory_links.py"


@pytest.mark.parametrize("kind", ["ws", "tcp"])
@pytest.mark.parametrize("part", ["calls", "work"])
def test_every_allocation_may_fail(kind: str, part: str) -> None:
    """send, recv, connect, accept, group, forget, stats, stream, and what arrives, at both ends."""
    done = run_alone(PROGRAM.read_text(encoding="utf-8"), kind, part, limit_s=200)
    assert done.returncode == 0, done.stderr[-3000:]
    calls, failures, closed, stuck = map(int, done.stdout.split())
    print(f"{calls} calls, {failures} of them without memory, {closed} connections closed")
    assert failures > 300
    assert stuck == 0, done.stderr[-3000:]
