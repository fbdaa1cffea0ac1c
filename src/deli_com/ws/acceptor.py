"""Accepts connections on the sockets of a listener and upgrades them to WebSockets.

::

    acceptor = WsAcceptor(listener, route, ssl=None, open_timeout=10.0, max_handshakes=1024)
    acceptor.handshakes          connections that are neither handed over nor refused yet
    acceptor.lingering           refused connections whose answer is not delivered yet
    acceptor.close()             stops accepting and refuses pending handshakes; open connections stay
    await acceptor.wait_closed()

    route(request: Request) -> Service | Refusal
    Service(make_listener=..., max_frame_size=..., max_clients=..., client_count=..., origins=...,
             authorize=..., subprotocols=..., response_headers=..., read_buffer_bytes=...)
    make_listener(request: Request, transport: asyncio.Transport) -> picows.WSListener | Refusal

The life of a connection::

    accept ── PROXY ── TLS ── head read ── route, Origin, room, authorize ── make_listener ── picows
      └─────────┴────────┴─────────┴──────────────────┴── refused: HTTP answer, linger, closed

A connection has a task only while TLS or an asynchronous `authorize` runs. No connection waits for another.
One deadline covers the time from accept to the hand-over. There are limits on the size of a head
(`max_head_bytes`, 128 headers), on handshakes in progress, and on refused connections that linger (256; 64
KiB and 1 s each).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl as ssl_module
from collections.abc import Collection, Coroutine
from typing import Any

from deli_com.ground.waiter import Waiter
from deli_com.link.request import Request
from deli_com.net.accept_loop import AcceptLoop
from deli_com.net.address import Address
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
from deli_com.net.transports import Transports, attach_accepted, attach_plain, peer_of
from deli_com.net.unwatched import close_unwatched
from deli_com.ws.deadlines import Deadlines
from deli_com.ws.forwarded import NOBODY, Forwarding
from deli_com.ws.handshake import READ_BYTES, Handshake, State
from deli_com.ws.head import Refusal, not_upgrade
from deli_com.ws.service import Authorize, Route, Service
from deli_com.ws.site import Handler

__all__ = ["WsAcceptor"]

MAX_LINGERING = 256  # limit on refused connections that linger; past it, the oldest is closed
LINGER_S = 1.0
STALE_S = 1.0  # when max_handshakes is reached, a handshake older than this is replaced by a new one
STUCK_S = 0.5  # for cancelled callbacks to end, once the acceptor is closed

_log = logging.getLogger("deli_com.server")


class WsAcceptor:
    """Accepts connections on the sockets of a listener and upgrades them to WebSockets.

    1. It owns the listener. It must be made, used and closed in the thread of its running loop.
    2. It owns each connection until picows' protocol takes it over, or until it is closed.
    3. If a callback of the user raises, only its own connection fails, with a 500.

    Parameters
    ----------
    listener : Listener
        The result of `open_listener`.
    route : callable
        ``(request) -> Service or Refusal``.
    ssl : ssl.SSLContext, optional
        Use TLS.
    open_timeout : float or None
        Seconds from accept to the end of the handshake, including TLS and ``authorize``.
    max_handshakes : int
        Limit on handshakes in progress. Past it, the oldest one is refused if it is older than 1 s and still
        reading its request; otherwise the new one is refused (503).
    max_head_bytes : int
        Limit on the head of a request, including its empty line. Past it, the answer is 431.
    proxy_protocol : bool or tuple of networks, optional
        Load balancers that must send a PROXY header; see `deli_com.net.proxy_protocol`.
    forwarding : Forwarding
        HTTP proxies whose forwarding headers are trusted.
    transports : {"aiofastnet", "loop"}
        The package that makes the transports and TLS; ``"loop"`` is the event loop.
    http : callable, optional
        ``(request)``, may be async: answers a GET or HEAD that is not an upgrade. None: those get 426.
    http_authorize : callable, optional
        Asked before `http`, as a service's ``authorize`` is for WebSockets.
    hosts : collection of str, optional
        Names that requests may be addressed to, besides IP addresses and localhost; others get 403. None:
        any.
    has_page : bool
        `http` serves a page whose WebSockets are always taken, as far as ``origins`` has a say.
    """

    def __init__(
        self,
        listener: Listener,
        route: Route,
        *,
        ssl: ssl_module.SSLContext | None = None,
        open_timeout: float | None = 10.0,
        max_handshakes: int = 1024,
        max_head_bytes: int = 16 << 10,
        proxy_protocol: Trust = None,
        forwarding: Forwarding = NOBODY,
        transports: Transports = "aiofastnet",
        http: Handler | None = None,
        http_authorize: Authorize | None = None,
        hosts: Collection[str] | None = None,
        has_page: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._route = route
        self._ssl = ssl
        self._open_timeout = open_timeout
        self._max_handshakes = max_handshakes
        self.max_head_bytes = max_head_bytes
        self._proxy_protocol = proxy_protocol
        self.forwarding = forwarding
        self._transports: Transports = transports
        self.http = http
        self.http_authorize = http_authorize
        self.hosts = hosts
        self.has_page = has_page
        self._budget = LogBudget(_log)
        self._refusals = LogBudget(_log)  # separate, so that refusals do not use up the budget for errors
        # All handshakes read into this buffer first. That is safe, because get_buffer, the read and
        # buffer_updated are one step in all transports.
        self._scratch = bytearray(READ_BYTES)
        self._pending = Deadlines(loop, open_timeout, Handshake.expire)
        self._lingering = Deadlines(loop, LINGER_S, Handshake.abort)
        self._tasks: set[asyncio.Task[None]] = set()
        self.turned_away: dict[int, int] = {}  # number of refused handshakes by HTTP status
        self._closed: Waiter | None = None
        self._listener = listener
        self._accept_loops = [AcceptLoop(loop, sock, self._on_socket) for sock in listener.sockets]

    @property
    def handshakes(self) -> int:
        """Connections that are accepted, but neither handed over nor refused."""
        return len(self._pending)

    @property
    def lingering(self) -> int:
        """Refused connections that are not closed yet."""
        return len(self._lingering)

    def close(self) -> None:
        """Stop accepting, and refuse the handshakes in progress (503 if an answer can still be sent).

        Established connections stay open. May be called again.
        """
        if self._closed is not None:
            return
        self._closed = Waiter(self._loop)
        for accept_loop in self._accept_loops:
            accept_loop.close()
        self._listener.close()
        for handshake in [*self._pending, *self._lingering]:
            handshake.shut(Refusal(503, "the server is closing"))
        self._close_if_idle()

    def drop(self, service: Service) -> None:
        """Refuse the handshakes that wait for the ``authorize`` of this service, which is closed."""
        for handshake in [*self._pending]:
            if handshake.service is service:
                handshake.refuse(Refusal(503, "the server is closing"))

    async def wait_closed(self) -> None:
        """Wait until this acceptor has no connection, task or timer.

        A callback that goes on after it was cancelled is waited for `STUCK_S`, and left alone.
        """
        if self._closed is None:
            raise RuntimeError("wait_closed() before close()")
        try:
            async with asyncio.timeout(STUCK_S):
                await asyncio.shield(self._closed)
        except TimeoutError:
            _log.warning(
                "%d callbacks of handshakes or plain requests go on, although they were cancelled",
                len(self._tasks),
            )
        for _ in range(3):  # turns that an aborted transport takes to close its socket
            await asyncio.sleep(0)

    # --- private ---

    def _close_if_idle(self) -> None:
        if self._closed is not None and not (self._pending or self._lingering or self._tasks):
            self._pending.stop()
            self._lingering.stop()
            if not self._closed.done():
                self._closed.succeed()

    def _on_socket(self, sock: socket.socket) -> None:
        handshake = Handshake(self)
        if len(self._pending) >= self._max_handshakes and not self._make_room():
            if self._ssl is not None:
                sock.close()  # an answer would need a TLS handshake
                return
            handshake.turned_away = Refusal(503, "too many handshakes in progress")
            self._linger(handshake)
        else:
            self._pending.add(handshake)
        if self._proxy_protocol and trusts(self._proxy_protocol, peer_of(sock)):
            self._spawn(self._connect_for(sock, handshake), handshake, sock)
        elif self._ssl is None and self._transports == "aiofastnet":
            self._attach(sock, handshake)
        else:
            self._spawn(self._connect(sock, handshake), handshake, sock)

    def _attach(self, sock: socket.socket, handshake: Handshake) -> None:
        try:
            attach_plain(self._loop, sock, handshake)
        except BaseException:
            self._forget(handshake)
            raise

    async def _connect_for(self, sock: socket.socket, handshake: Handshake) -> None:
        """Read the PROXY header of a trusted balancer, then continue as for other connections."""
        try:
            handshake.remote = await read_header(self._loop, sock)
        except HeaderMissing as error:
            self._budget.log(logging.WARNING, "refused %s: %s (proxy_protocol)", peer_of(sock), error)
            if self._ssl is not None:
                close_unwatched(self._loop, sock)
                self._forget(handshake)
                return
            handshake.turned_away = handshake.turned_away or Refusal(400, str(error))
        except BaseException as error:
            close_unwatched(self._loop, sock)
            self._forget(handshake)
            if not isinstance(error, (OSError, EOFError)):
                raise
            return
        if self._ssl is None and self._transports == "aiofastnet":
            self._attach(sock, handshake)
        else:
            await self._connect(sock, handshake)

    def nothing_at(self, request: Request) -> Refusal:
        """The answer to a plain request for which the handler has nothing."""
        found = self._route(request)
        return found if isinstance(found, Refusal) else not_upgrade(request.headers)

    def log_failure(self, what: str, error: Exception) -> None:
        """Log the exception of a callback. All connections share the budget of the log."""
        self._budget.log(logging.ERROR, what, exc_info=error)

    def log_refusal(self, remote: Address | None, refusal: Refusal) -> None:
        """Log one refused handshake."""
        self._refusals.log(logging.INFO, "refused %s: %d %s", remote, refusal.status, refusal.text)

    def unasked_header(self, remote: Address | None) -> Refusal:
        """The answer to an untrusted peer that sends a PROXY header."""
        if self._proxy_protocol is None:
            tell_unasked(self._budget, remote)
        return Refusal(400, "PROXY protocol headers are not accepted from this address")

    def _spawn(
        self, work: Coroutine[Any, Any, None], handshake: Handshake, sock: socket.socket | None = None
    ) -> None:
        task = self._loop.create_task(work)
        handshake.task = task
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._task_done, handshake, sock))

    def _task_done(self, handshake: Handshake, sock: socket.socket | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if sock is not None and task.cancelled() and handshake.transport is None:
            # The task may have been cancelled before its first step; then nothing of it has run. This runs
            # after the transport's own close, if there is one.
            self._loop.call_soon(close_unwatched, self._loop, sock)
            self._forget(handshake)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._budget.log(logging.ERROR, "handshake failed", exc_info=error)
            if handshake.state in (State.DECIDING, State.ANSWERING):
                handshake.ended()
        self._close_if_idle()

    async def _connect(self, sock: socket.socket, handshake: Handshake) -> None:
        try:
            await attach_accepted(
                self._loop,
                sock,
                handshake,
                ssl=self._ssl,
                is_made=lambda: handshake.transport is not None,
                transports=self._transports,
                look=None if self._proxy_protocol else self._look,
            )
        except BaseException as error:
            if handshake.transport is None:
                self._forget(handshake)
            if not isinstance(error, OSError):  # an OSError means that TLS failed or the peer disconnected
                raise
            _log.debug("connection failed before the handshake: %r", error)

    def _look(self, sock: socket.socket, first: bytes) -> None:
        if is_header_start(first):  # before TLS, so neither a handshake nor an answer is possible
            self.unasked_header(peer_of(sock))

    def _make_room(self) -> bool:
        oldest = self._pending.first()
        if oldest is None or oldest.state not in (State.CONNECTING, State.READING):
            return False
        if not oldest.is_idle and self._pending.age(oldest) < STALE_S:
            return False
        oldest.refuse(Refusal(503, "too many handshakes in progress, this one took too long"))
        return True

    def _linger(self, handshake: Handshake) -> None:
        self._pending.discard(handshake)
        self._lingering.discard(handshake)
        if len(self._lingering) >= MAX_LINGERING and (oldest := self._lingering.first()) is not None:
            oldest.abort()
            self._lingering.discard(oldest)
        self._lingering.add(handshake)

    def _forget(self, handshake: Handshake) -> None:
        self._pending.discard(handshake)
        self._lingering.discard(handshake)
        if self._closed is not None:
            self._close_if_idle()
