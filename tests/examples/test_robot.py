"""examples/robot: the monitor gets every sample of the arm, and stops it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from programs import ended, line_of, module, running

LIMIT = -0.5


def test_monitor_gets_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the monitor prints is what the arm measured, up to the batch in which it was stopped."""
    monkeypatch.syspath_prepend(str(module("robot/telemetry.py").__file__).rpartition("/")[0])
    robot = module("robot/robot.py")
    with running("robot/robot.py", "--port", "0") as arm:
        address = line_of(arm).removeprefix("arm-1 at ")
        with running("robot/monitor.py", address, "--limit", str(LIMIT)) as monitor:
            said = ended(monitor).splitlines()
        assert ended(arm) == f"stopped: a joint is below {LIMIT} rad\n"

    assert said[0] == "connection closed (1001): the server is closing"
    found = re.fullmatch(r"(\d+) samples, (\d+) gaps, (\d+) with contact", said[1])
    assert found
    count = int(found[1])
    measured = np.concatenate([robot.measure(first) for first in range(0, count, robot.ROWS)])
    assert len(measured) == count
    assert (int(found[2]), int(found[3])) == (0, np.count_nonzero(measured["contact"]))
    crossed = int(np.argmax((measured["position"] < LIMIT).any(axis=1)))
    assert crossed > 0
    assert crossed < count, "the arm moved until a joint was below the limit"
    assert said[2:] == [
        f"joint {joint}: {position.min():6.3f} to {position.max():5.3f} rad, {torque.max():.1f} Nm"
        for joint in range(robot.JOINTS)
        for position, torque in [(measured["position"][:, joint], measured["torque"][:, joint])]
    ]
