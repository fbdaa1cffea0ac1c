"""The control page and fifo by which server, load generator and runner keep step; layout as in net.h."""

from __future__ import annotations

import asyncio
import mmap
import os
import select
from pathlib import Path

READY = 0  # index of a u64; each has a cache line of 8 to itself
TURNS = 8
WANT = 16
STOP = 24


class Control:
    """One mapped page. Each cell has one writer: the load for READY and TURNS, the measured process else."""

    def __init__(self, page: Path, fifo: Path) -> None:
        self._file = page.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 4096)
        self.cells = memoryview(self._map).cast("Q")
        self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self._waiter: asyncio.Future[None] | None = None

    @staticmethod
    def create(folder: Path) -> tuple[Path, Path]:
        """Make an empty page and fifo in `folder`; return their paths."""
        page, fifo = folder / "page", folder / "fifo"
        page.write_bytes(bytes(4096))
        os.mkfifo(fifo)
        return page, fifo

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let `loop` wake `turn_read`."""
        loop.add_reader(self._fifo, self._on_fifo)

    def _on_fifo(self) -> None:
        os.read(self._fifo, 64)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def turn_read(self, turn: int) -> None:
        """Return once every live connection has read `turn` turns, sleeping in the loop until then."""
        while self.cells[TURNS] < turn:
            self._waiter = asyncio.get_running_loop().create_future()
            self.cells[WANT] = turn
            if self.cells[TURNS] < turn:
                await self._waiter
        self.cells[WANT] = 0

    def turn_read_blocking(self, turn: int, timeout_s: float) -> bool:
        """Sleep at most `timeout_s`; return whether every live connection has read `turn` turns."""
        self.cells[WANT] = turn
        if self.cells[TURNS] < turn and select.select([self._fifo], [], [], timeout_s)[0]:
            os.read(self._fifo, 64)
        return self.cells[TURNS] >= turn

    async def all_ready(self, count: int) -> None:
        """Return once the load has `count` connections; before anything is measured, so it may poll."""
        while self.cells[READY] < count:  # noqa: ASYNC110 (another process sets it)
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        """Tell the load that the run is over."""
        self.cells[STOP] = 1

    def close(self) -> None:
        """Release the page and the fifo. Short-lived programs need not do so."""
        self.cells.release()
        self._map.close()
        self._file.close()
        os.close(self._fifo)
