"""A short soak; run soak.py by hand, or `make soak`, for the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # processes that are spawned find it there, too

from soak import faults
from soak import soak as module

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="figures are read from /proc")


@pytest.mark.parametrize(
    ("kind", "tls", "connects"), [("ws", False, 3000), ("tcp", False, 3000), ("ws", True, 1200)]
)
def test_nothing_grows(kind: str, tls: bool, connects: int) -> None:
    lines: list[Any] = []
    found = module.soak(connects, 20_000, kind, tls, say=lines.append)
    assert found["grown"] == {}, lines
    assert found["end"]["peers"] == module.STEADY
    assert found["end"]["received"] > connects / 4, "most visitors left a value"


@pytest.mark.parametrize(("kind", "tls"), [("ws", False), ("tcp", True)])
def test_faults_at_random_leave_nothing_and_cost_others_nothing(kind: str, tls: bool) -> None:
    """The short version of tests/soak/faults.py."""
    found = faults.soak(60, 2.0, kind, tls)
    assert found["grown"] == {}, found
    assert found["survivors"] == [found["sent"]] * faults.SURVIVORS, found
    assert set(found["faults"]) >= set(faults.FAULTS), found


def test_a_recording_that_is_killed_loses_half_a_second_at_most() -> None:
    """The short version of tests/soak/kills.py: what is older is in the file, as it is and mended."""
    pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")
    script = Path(__file__).parent / "kills.py"  # it forks, so it has a process of its own
    done = subprocess.run(
        [sys.executable, script, "--kills", "4"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done
    assert '"kills": 4' in done.stdout and '"torn": 4' in done.stdout, "none is whole: all were killed"
