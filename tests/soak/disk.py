"""How long the loop of a recorded server stands still while the disk is slow.

    python tests/soak/disk.py --seconds 10

A server sends values at each turn of its loop: small ones, then large ones. The time between turns is
measured: not recorded, recorded, and recorded while each `write` and each `fdatasync` takes as long as named.
The calls are made slow by `tests/support/disk_shim.c`, which this script compiles and preloads. If the loop
waited for the disk, its longest gap would be as long as a call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent.parent / "support"
sys.path.insert(0, str(SUPPORT))

RATE = {64: 20, 100_000: 2}  # values a turn, by size
PAUSE_S = 0.001


async def gaps(seconds: float, size: int, record: bool, **slow: float) -> dict[str, float]:
    """The longest time between two turns of the loop, and how many were longer than 10 ms."""
    from disk_faults import Picture, disk

    from deli_com import WsServer

    value = Picture(0, bytes(size - 8))
    times = []
    with tempfile.TemporaryDirectory() as folder:
        async with WsServer[Picture, None].bind("127.0.0.1:0") as server:
            recorder = server.record(Path(folder) / "run.mcap") if record else None
            disk(**slow)
            end = time.perf_counter() + seconds
            last = time.perf_counter()
            while last < end:
                for _ in range(RATE[size]):
                    server.send_nowait(value)
                await asyncio.sleep(PAUSE_S)
                now = time.perf_counter()
                times.append(now - last)
                last = now
            disk()
            stats = recorder.stats if recorder is not None else None
            if recorder is not None:
                await recorder.aclose()
    return {
        "turns": len(times),
        "longest ms": round(max(times) * 1e3, 2),
        "longer than 10 ms": sum(gap > 0.01 for gap in times),
        **({"waiting MiB": round(stats.waiting / 2**20, 1), "left out": stats.left_out} if stats else {}),
    }


async def measure(seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for size in RATE:
        found[f"{size} B"] = {
            "not recorded": await gaps(seconds, size, record=False),
            "recorded": await gaps(seconds, size, record=True),
            "write 200 ms": await gaps(seconds, size, record=True, write_s=0.2),
            "fdatasync 1 s": await gaps(seconds, size, record=True, sync_s=1.0),
            "write 1 s, fdatasync 2 s": await gaps(seconds, size, record=True, write_s=1.0, sync_s=2.0),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each line")
    given = parser.parse_args()
    if "DELI_COM_SHIM" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            shim = Path(folder) / "disk_shim.so"
            source = SUPPORT / "disk_shim.c"
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
            made = {**os.environ, "LD_PRELOAD": str(shim), "DELI_COM_SHIM": "1"}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=made).returncode)
    print(json.dumps(asyncio.run(measure(given.seconds)), indent=1))


if __name__ == "__main__":
    main()
