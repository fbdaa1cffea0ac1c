"""Recorded servers on a disk that fails: each fault in turn, and what there is to see of it.

Run it with `disk_shim.c` preloaded. It prints a JSON object with an entry for each fault.
`tests/soak/disk.py` measures such servers on a disk that is slow.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers import until
from mcap.reader import make_reader

from deli_com import Codec, Recording, WsClient, WsServer, u32
from deli_com.errors import BacklogFull

MIB = 1 << 20


class Picture(Codec):
    number: u32
    data: bytes


shim: Any = ctypes.CDLL(None).disk
shim.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
shim.restype = None


def disk(
    *,
    write_s: float = 0.0,
    sync_s: float = 0.0,
    room: int = -1,
    write_error: int = 0,
    sync_error: int = 0,
    open_error: int = 0,
) -> None:
    """What the disk does from now on; without arguments it works."""
    shim(int(write_s * 1e6), int(sync_s * 1e6), room, write_error, sync_error, open_error)


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def fault(begin: Callable[[Path], object], **options: Any) -> dict[str, Any]:
    """One recorded server with one client, whose disk has a fault from message 10 on."""
    log = Log()
    logging.getLogger("deli_com").addHandler(log)
    folder = Path(tempfile.mkdtemp())
    path = folder / "run.mcap"
    try:
        async with WsServer[Picture, None].bind("127.0.0.1:0") as server:
            async with WsClient[Picture].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                recorder = server.record(path, **options)
                number = 0

                async def send(count: int) -> None:
                    nonlocal number
                    for _ in range(count):
                        server.send_nowait(Picture(number, bytes(50_000)))
                        assert (await client.recv()).number == number
                        number += 1

                await send(10)
                await until(lambda: path.exists() and path.stat().st_size > 500_000)
                begin(folder)

                async def fails() -> None:
                    while recorder.stats.error is None:
                        await send(1)
                        await asyncio.sleep(0.01)

                async with asyncio.timeout(30):
                    await fails()
                await send(20)  # the server goes on, and takes no memory for a recording that has ended
                await until(lambda: recorder.stats.waiting == 0)
                await recorder.aclose()
                stats = recorder.stats
        disk()
        read = None
        if path.exists():
            found = [value.number for _, value in Recording[Picture](path)]
            read = len(found) if found == [*range(len(found))] else found
        return {
            "error": (stats.error or "").replace(str(folder), ""),
            "log": [line.replace(str(folder), "") for line in log.lines],
            "sent": number,
            "counted": stats.messages,
            "left_out": stats.left_out,
            "read": read,
        }
    finally:
        disk()
        logging.getLogger("deli_com").removeHandler(log)
        shutil.rmtree(folder, ignore_errors=True)


async def full(on_full: str) -> dict[str, Any]:
    """A disk that takes nothing for a while, and more than 64 MiB sent meanwhile."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "run.mcap"
    data = bytes(MIB)
    try:
        async with WsServer[Picture, None].bind("127.0.0.1:0") as server:
            recorder = server.record(path, on_full=on_full)
            disk(write_s=0.3)
            raised, most = 0, 0
            for number in range(100):
                try:
                    server.send_nowait(Picture(number, data))
                except BacklogFull:
                    raised += 1
                most = max(most, recorder.stats.waiting)
            disk()
            await until(lambda: recorder.stats.waiting == 0)
            number = 100
            server.send_nowait(Picture(number, data))  # there is room again
            await recorder.aclose()
        with path.open("rb") as stream:
            gaps = [
                entry.metadata for entry in make_reader(stream).iter_metadata() if entry.name == "deli.gap"
            ]
        stats = recorder.stats
        return {
            "most": most / MIB,
            "counted": stats.messages,
            "left_out": stats.left_out,
            "raised": raised,
            "error": stats.error,
            "read": [value.number for _, value in Recording[Picture](path)],
            "gaps": [(gap["topic"], int(gap["messages"])) for gap in gaps],
        }
    finally:
        disk()
        shutil.rmtree(folder, ignore_errors=True)


FAULTS: dict[str, Callable[[Path], object]] = {
    "no space": lambda folder: disk(room=70_000, write_error=errno.ENOSPC),
    "write error": lambda folder: disk(room=0, write_error=errno.EIO),
    "sync error": lambda folder: disk(sync_error=errno.EIO),
    "file removed": lambda folder: os.unlink(folder / "run.mcap"),
    "folder removed": lambda folder: shutil.rmtree(folder),
}
SPLIT: dict[str, Callable[[Path], object]] = {
    "folder removed before a split": lambda folder: shutil.rmtree(folder),
    "no permission at a split": lambda folder: disk(open_error=errno.EACCES),
}


async def all_faults() -> dict[str, Any]:
    found = {name: await fault(begin) for name, begin in FAULTS.items()}
    for name, begin in SPLIT.items():
        found[name] = await fault(begin, split_bytes=600_000)
    for on_full in ("count", "raise"):
        found[f"full, {on_full}"] = await full(on_full)
    return found


if __name__ == "__main__":
    logging.lastResort = None
    print(json.dumps(asyncio.run(all_faults()), indent=1))
    sys.exit(0)
