"""The faults of a backplane, each many times, against the real nats-server.

    python tests/soak/backplane.py [--times 20] [--only NAME] [--real]

Each fault is a function of tests/support/backplane_faults.py, which says what holds. A node that is stopped
stands still for 10 s. Heartbeats are five times as quick as they are, unless ``--real``.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from backplane_faults import FAULTS
from backplane_rig import hurry

LIMIT_S = 180.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", default="")
    parser.add_argument("--short", action="store_true", help="what stands still does so for 1.5 s")
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args()
    for name in ("deli_com", "nats"):  # a fault looks at what is said
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    if not given.real:
        hurry(5.0)
    failed = 0
    for fault in FAULTS:
        if given.only not in fault.__name__:
            continue
        good = 0
        counts = {}
        began = time.monotonic()
        for _ in range(given.times):
            try:
                counts = asyncio.run(asyncio.wait_for(fault(1.0 if given.short else 5.0), LIMIT_S))
                good += 1
            except Exception:
                traceback.print_exc()
                failed += 1
        took = (time.monotonic() - began) / given.times
        print(f"{fault.__name__:42} {good:3} of {given.times}  {took:6.1f} s each  {counts}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
