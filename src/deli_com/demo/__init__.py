"""The demo: one server process, several client processes, typed telemetry between them, and a page.

::

    broadcast.py    the server: 100 samples a second; starts the clients and checks their final reports
    client.py       one client process: receives, checks order and completeness, reports back
    robots.py       two robots, which the page shows that the server serves
    telemetry.py    the two types on the wire, and where the numbers come from
    view.py         what the reports say, as a live table or as plain lines

Only the demo imports psutil and rich, so that the library does not need them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["run"]


def run(seconds: float, clients: int, record: Path | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    seconds : float
        How long to broadcast; 0 means until Ctrl-C.
    clients : int
        Number of client processes.
    record : Path, optional
        Record the telemetry to this file.

    Returns
    -------
    int
        0 if every client received every message in order, 1 if not, 2 if psutil or rich is missing.
    """
    missing: list[str] = []
    for name in ("psutil", "rich"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        print(
            f"the demo needs {' and '.join(missing)}: pip install deli-com[demo]",
            file=sys.stderr,
        )
        return 2

    from deli_com.demo.broadcast import main

    return main(seconds, clients, record)
