"""Processes that serve one port together, one for each core. A process that dies is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence

from deli_com.errors import IoError
from deli_com.net.address import Address, AddressLike, parse_address, resolve, unix_path
from deli_com.net.backoff import Backoff

__all__ = ["ReservedPort", "Workers"]

FAILED = 2  # exit status for invalid arguments: another process would fail as well
STOP_S = 10.0  # for a process to end by itself

_log = logging.getLogger("deli_com.relay")


class ReservedPort:
    """A port that several processes will share. This process reserves it, and does not listen.

    Use `open`, which replaces port number 0 by a free port, the same for all processes. Only processes that
    listen get connections.
    """

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self._sock = sock
        self.address = address

    @classmethod
    async def open(cls, addr: AddressLike) -> ReservedPort:
        """Reserve the port.

        Raises
        ------
        ValueError
            Processes cannot share the port: it is a path, or this system has no ``SO_REUSEPORT``.
        IoError
            Another program uses the port without sharing it, or the port may not be bound.
        """
        address = parse_address(addr)
        if unix_path(address) is not None or not hasattr(socket, "SO_REUSEPORT"):
            raise ValueError(f"several processes cannot listen at {address}: that needs SO_REUSEPORT")
        family, kind, proto, _, sockaddr = (await resolve(address, passive=True))[0]
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(sockaddr)
        except OSError as error:
            sock.close()
            raise IoError.of(error, f"bind {address}") from error
        return cls(sock, address._replace(port=sock.getsockname()[1]))

    def close(self) -> None:
        """Release the port. May be called again."""
        self._sock.close()


class Workers:
    """Runs one process for each command line, and replaces each process that ends.

    1. The processes end with this one, even if it is killed, because their standard input ends then.
    2. The delay before a replacement doubles while the processes last for less than a second.
    3. A process that ends with status 2 has invalid arguments. All processes are ended then.

    Parameters
    ----------
    commands : sequence of sequences of str
        Arguments of each, the program first.
    first_delay, max_delay : float
        Seconds before a process is replaced.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], *, first_delay: float = 0.1, max_delay: float = 5.0
    ) -> None:
        self._commands = commands
        self._delays = (first_delay, max_delay)
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stops = False
        self.replaced = 0  # processes
        self.on_started: Callable[[int, int], None] | None = None  # (index, process id)

    @property
    def process_ids(self) -> list[int]:
        """Ids of the running processes."""
        return [process.pid for process in self._running.values()]

    async def run(self, end: asyncio.Event) -> int:
        """Run the processes until `end` is set; return the exit status of the whole."""
        tasks = [asyncio.ensure_future(self._keep(index)) for index in range(len(self._commands))]
        ending = asyncio.ensure_future(end.wait())
        try:
            await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stops = True
            ending.cancel()
            await self._stop(tasks)
        return max(
            (task.result() for task in tasks if not task.cancelled() and not task.exception()), default=0
        )

    async def _keep(self, index: int) -> int:
        backoff = Backoff(*self._delays)
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            process = await asyncio.create_subprocess_exec(
                *self._commands[index], stdin=asyncio.subprocess.PIPE
            )
            self._running[index] = process
            if self.on_started is not None:
                self.on_started(index, process.pid)
            try:
                status = await process.wait()
            finally:
                self._running.pop(index, None)
            if self._stops:
                return 0
            if status == FAILED:
                return FAILED
            backoff.lasted(loop.time() - began)
            delay = backoff.next()
            self.replaced += 1
            _log.warning(
                "worker %d (process %d) has ended with status %s; it is replaced in %.1f s",
                index,
                process.pid,
                status,
                delay,
            )
            await asyncio.sleep(delay)

    async def _stop(self, tasks: Sequence[asyncio.Future[int]]) -> None:
        for process in [*self._running.values()]:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for index, task in enumerate(tasks):
            if index not in self._running and not task.done():
                task.cancel()  # it waits to start a replacement
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for process in [*self._running.values()]:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if late:
            await asyncio.wait(late)


def this_command(*arguments: str) -> list[str]:
    """Return a command line that runs this package in this interpreter."""
    return [sys.executable, "-m", "deli_com", *arguments]
