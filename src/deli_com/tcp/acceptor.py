"""Accepts TCP connections. Only a PROXY header and TLS may come before the first frame."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl as ssl_module
from collections.abc import Callable

from deli_com.link.tcp_link import TcpLink
from deli_com.net.accept_loop import AcceptLoop
from deli_com.net.listener import Listener
from deli_com.net.log_budget import LogBudget
from deli_com.net.proxy_protocol import (
    HeaderMissing,
    Trust,
    is_header_start,
    read_header,
    tell_unasked,
    trusts,
)
from deli_com.net.transports import attach_accepted, attach_plain, peer_of
from deli_com.net.unwatched import close_unwatched

__all__ = ["TcpAcceptor"]

TLS_HANDSHAKE_S = 10.0  # limit on a TLS handshake and PROXY header
MAX_HANDSHAKES = 1024  # limit on TLS handshakes and PROXY headers in progress; further connections are closed

_log = logging.getLogger("deli_com.server")


class TcpAcceptor:
    """Accepts connections on the sockets of a listener and makes links of them.

    1. It owns the listener. It must be made, used and closed in the thread of its running loop.
    2. It owns each link until that is open. Then the endpoint owns it.

    Parameters
    ----------
    listener : Listener
        The result of `open_listener`.
    make_link : callable
        ``(on_opened, opening) -> TcpLink``; ``opening`` is the number of links that are accepted but not open
        yet. It returns None to close the connection.
    ssl : ssl.SSLContext, optional
        Use TLS.
    proxy_protocol : bool or tuple of networks, optional
        Load balancers that must send a PROXY header; see `deli_com.net.proxy_protocol`.
    """

    def __init__(
        self,
        listener: Listener,
        make_link: Callable[[Callable[[TcpLink], None], int], TcpLink | None],
        *,
        ssl: ssl_module.SSLContext | None = None,
        proxy_protocol: Trust = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make_link = make_link
        self._ssl = ssl
        self._proxy_protocol = proxy_protocol
        self._opening: set[TcpLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # TLS handshakes, PROXY headers
        self._budget = LogBudget(_log)
        self._listener = listener
        self._accept_loops = [AcceptLoop(self._loop, sock, self._on_socket) for sock in listener.sockets]

    def close(self) -> None:
        """Stop accepting, and drop the connections that are not open yet. May be called again."""
        for accept_loop in self._accept_loops:
            accept_loop.close()
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        for stream in self._opening:
            stream.discard()

    async def wait_closed(self) -> None:
        """Wait until all connections that `close` has dropped are gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        for _ in range(4):  # turns for connection_made, abort and the transport's close, and one more
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
        says_whose = bool(self._proxy_protocol) and trusts(self._proxy_protocol, peer_of(sock))
        if self._ssl is None and not says_whose:
            self._attach(sock, stream)
        else:
            task = self._loop.create_task(self._handshake(sock, stream, says_whose))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._task_done, stream, sock))

    def _attach(self, sock: socket.socket, stream: TcpLink) -> None:
        try:
            attach_plain(self._loop, sock, stream)
        except BaseException:
            self._opening.discard(stream)
            raise

    async def _handshake(self, sock: socket.socket, stream: TcpLink, says_whose: bool) -> None:
        try:
            async with asyncio.timeout(TLS_HANDSHAKE_S):
                if says_whose:
                    await self._read_header(sock, stream)
                if self._ssl is not None:
                    await attach_accepted(
                        self._loop,
                        sock,
                        stream,
                        ssl=self._ssl,
                        is_made=lambda: stream not in self._opening,
                        look=None if self._proxy_protocol else self._look,
                    )
        except (OSError, EOFError) as error:  # TLS failed, the peer disconnected, or a timeout
            _log.debug("connection failed before it was open: %r", error)
            self._opening.discard(stream)
            return
        except HeaderMissing as error:
            self._budget.log(logging.WARNING, "closed a connection: %s (proxy_protocol)", error)
            self._opening.discard(stream)
            return
        except BaseException:
            self._opening.discard(stream)
            raise
        if self._ssl is None:
            self._attach(sock, stream)
        else:
            self._opening.discard(stream)

    def _look(self, sock: socket.socket, first: bytes) -> None:
        if is_header_start(first):  # before TLS, so no handshake is possible
            tell_unasked(self._budget, peer_of(sock))

    async def _read_header(self, sock: socket.socket, stream: TcpLink) -> None:
        try:
            remote = await read_header(self._loop, sock)
        except BaseException:
            close_unwatched(self._loop, sock)
            raise
        if remote is not None:
            stream.comes_from(remote)

    def _task_done(self, stream: TcpLink, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() and stream in self._opening:
            # The task may have been cancelled before its first step; then nothing of it has run. This runs
            # after the transport's own close, if there is one.
            self._loop.call_soon(close_unwatched, self._loop, sock)
            self._opening.discard(stream)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._budget.log(logging.ERROR, "a connection failed before it was open", exc_info=error)
