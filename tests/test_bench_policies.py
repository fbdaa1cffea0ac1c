"""The benches of policies, keys and threads run, and their checks hold. Figures are not checked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import SLOW

BENCH = Path(__file__).resolve().parent.parent / "bench"

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")


def found(tmp_path: Path, name: str, *arguments: str) -> Any:
    out = tmp_path / "found.json"
    command = [sys.executable, str(BENCH / name), *arguments, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())["found"]


def test_laggard(tmp_path: Path) -> None:
    """Frames forward, events complete (its own check); the slow client missed most frames, and stayed."""
    result = found(tmp_path, "laggard.py", "--seconds", "4")
    assert result["frames"] == 400
    assert result["clients"] == 2
    assert result["fast"] == {"frames": 400, "events": 40}
    assert result["received"] < 100 < result["superseded"]
    assert result["events"] > 20
    assert result["queued_bytes"] < 1_000_000


def test_keys(tmp_path: Path) -> None:
    """Every key is retained; slabs are bounded by what lives in them."""
    result = found(tmp_path, "keys.py", "--rounds", "1")
    assert set(result["append_ns"]) == {
        "plain",
        "latest, 10 keys",
        "latest, 1,000 keys",
        "latest, 100,000 keys",
    }
    for sizes in (*result["memory"].values(), result["sparse"]):
        assert sizes["slab_bytes_at_most"] <= 4 * sizes["live_bytes"] + (2 << 20)


def test_threads(tmp_path: Path) -> None:
    """All of it arrives, in each thread's order (the client's own check); nothing is refused."""
    result = found(tmp_path, "threads.py", "--threads", "4", "--each", "5000", "--rounds", "1")
    for rounds in result.values():
        assert rounds[0]["refused"] == 0
        assert rounds[0]["growth_bytes"] < 64 << 20
