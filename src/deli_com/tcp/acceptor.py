"""From an accepted socket to a stream: but for TLS, nothing is spoken before the first frame."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as ssl_module
from collections.abc import Callable

from deli_com.link.tcp_link import TcpLink
from deli_com.net.accept_loop import AcceptLoop
from deli_com.net.log_budget import LogBudget
from deli_com.net.transports import attach_accepted, attach_plain

__all__ = ["TcpAcceptor"]

TLS_HANDSHAKE_S = 10.0
MAX_HANDSHAKES = 1024  # TLS handshakes in progress; further connections are closed

_log = logging.getLogger("deli_com.server")


class TcpAcceptor:
    """Accepts connections on one listening socket and makes streams of them.

    1. It owns the listening socket. It must be made, used and closed on the loop's thread, the loop running.
    2. It owns each stream until that is open; then the endpoint does.

    Parameters
    ----------
    sock : socket.socket
        Listening, non-blocking (see `address.open_listener`).
    make_link : callable
        ``(on_opened, opening) -> TcpLink`` with ``opening`` the number of links that are accepted and not
        open yet; or None, which turns the connection away.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_link: Callable[[Callable[[TcpLink], None], int], TcpLink | None],
        *,
        ssl: ssl_module.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_link = make_link
        self._ssl = ssl
        self._opening: set[TcpLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # TLS handshakes
        self._budget = LogBudget(_log)
        self._accept_loop = AcceptLoop(self._loop, sock, self._on_socket)

    def close(self) -> None:
        """Stop accepting, and drop the connections that are not open yet. May be called again."""
        self._accept_loop.close()
        for task in self._tasks:
            task.cancel()
        for stream in self._opening:
            stream.discard()

    async def wait_closed(self) -> None:
        """Wait until nothing is left of what `close` has dropped."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(4):  # connection_made, abort, the transport's close; one to spare
            await asyncio.sleep(0)

    # --- private ---

    def _on_socket(self, sock: socket.socket) -> None:
        stream = None
        if len(self._tasks) < MAX_HANDSHAKES:
            stream = self._make_link(self._opening.discard, len(self._opening))
        if stream is None:
            sock.close()
            return
        self._opening.add(stream)
        if self._ssl is None:
            try:
                attach_plain(self._loop, sock, stream)
            except BaseException:
                self._opening.discard(stream)
                raise
        else:
            task = self._loop.create_task(self._handshake(sock, stream))
            self._tasks.add(task)
            task.add_done_callback(self._task_done)

    async def _handshake(self, sock: socket.socket, stream: TcpLink) -> None:
        try:
            async with asyncio.timeout(TLS_HANDSHAKE_S):
                await attach_accepted(
                    self._loop, sock, stream, ssl=self._ssl, is_made=lambda: stream not in self._opening
                )
        except OSError as error:  # TLS that failed, a peer that left, out of time
            _log.debug("connection failed before it was open: %r", error)
        finally:
            self._opening.discard(stream)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._budget.log(logging.ERROR, "TLS handshake failed", exc_info=error)
