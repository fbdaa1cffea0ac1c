"""From an accepted socket to a WebSocket: the server's side of the opening handshake.

::

    acceptor = Acceptor(sock, route, ssl=None, open_timeout=10.0, max_handshakes=1024)
    acceptor.handshakes          connections accepted, neither handed over nor refused yet
    acceptor.lingering           refused connections whose answer is still on its way
    acceptor.close()             stops accepting, refuses what is in progress; established ones live on
    await acceptor.wait_closed()

    route(request: Request) -> Service | Refusal        at_path("/", service) makes the common one
    Service(make_listener=..., max_frame_size=..., max_clients=..., client_count=..., origins=...,
             authorize=..., subprotocols=..., response_headers=..., read_buffer_bytes=...)
    make_listener(request: Request, transport: asyncio.Transport) -> picows.WSListener | Refusal

The life of a connection::

    accept ── TLS ── head read ── route, Origin, room, authorize ── make_listener ── picows takes over
      └────────┴─────────┴──────────────────┴── refused: HTTP answer, linger, closed

No connection has a task, save while TLS or an asynchronous `authorize` runs; none waits for another. One
deadline runs from accept to the hand-over. All of it is bounded: the head (16 KiB, 128 headers), handshakes
in progress, refused connections that linger (256; 64 KiB and 1 s each).
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

from picows import WSAutoPingStrategy, WSListener, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from deli_com.link.request import Request
from deli_com.net.accept_loop import AcceptLoop
from deli_com.net.log_budget import LogBudget
from deli_com.net.transports import Transports, attach_accepted, attach_plain, remote_address
from deli_com.ws.deadlines import Deadlines
from deli_com.ws.head import HeadReader, Refusal, checked_headers, parse_request, server_feed
from deli_com.ws.origins import origin_allowed
from deli_com.ws.picows_log import picows_log
from deli_com.ws.service import Authorize, ListenerFactory, Route, Service, Verdict, at_path

__all__ = ["Acceptor", "Authorize", "ListenerFactory", "Refusal", "Request", "Route", "Service", "at_path"]

MAX_LINGERING = 256  # refused connections that may wait for their peer to read why; then the oldest goes
LINGER_S = 1.0
LINGER_BYTES = 64 * 1024  # input drained meanwhile, so that closing sends no RST over the answer
STALE_S = 1.0  # a handshake older than this makes room for a new one when max_handshakes is reached
_READ_BYTES = 16 * 1024

_log = logging.getLogger("deli_com.server")


class _State(enum.Enum):
    CONNECTING = enum.auto()  # no transport yet: TLS, or the first turn of the loop
    READING = enum.auto()  # the head is incomplete
    DECIDING = enum.auto()  # authorize runs; reading is paused
    LINGERING = enum.auto()  # answered; input is drained and thrown away
    DONE = enum.auto()  # picows' or closed


class Acceptor:
    """Accepts connections on one listening socket and makes WebSockets of them.

    1. It owns the listening socket. It must be made, used and closed on the loop's thread, the loop running.
    2. It owns each connection until picows' protocol has taken it over, or it is closed.
    3. A callback of the user that raises costs its own connection a 500 and nothing else.

    Parameters
    ----------
    sock : socket.socket
        Listening, non-blocking (see `address.open_listener`).
    route : callable
        ``(request) -> Service or Refusal``.
    ssl : ssl.SSLContext, optional
        Speak TLS.
    open_timeout : float or None
        Seconds from accept to the end of the handshake, TLS and ``authorize`` included.
    max_handshakes : int
        Handshakes in progress. One more makes the oldest give way if it is over 1 s old and still reading its
        request, else it is refused itself (503).
    transports : {"aiofastnet", "loop"}
        Whose transports and TLS to use; ``"loop"`` means the event loop's own.
    """

    def __init__(
        self,
        sock: socket.socket,
        route: Route,
        *,
        ssl: ssl_module.SSLContext | None = None,
        open_timeout: float | None = 10.0,
        max_handshakes: int = 1024,
        transports: Transports = "aiofastnet",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._route = route
        self._ssl = ssl
        self._open_timeout = open_timeout
        self._max_handshakes = max_handshakes
        self._transports: Transports = transports
        self._budget = LogBudget(_log)
        # Every read of every handshake goes here first: get_buffer, the read and buffer_updated are one step
        # in all transports.
        self._scratch = bytearray(_READ_BYTES)
        self._pending = Deadlines(loop, open_timeout, _Handshake.expire)
        self._lingering = Deadlines(loop, LINGER_S, _Handshake.abort)
        self._tasks: set[asyncio.Task[None]] = set()
        self.turned_away: dict[int, int] = {}  # HTTP status to handshakes refused with it
        self._closed: asyncio.Future[None] | None = None
        self._accept_loop = AcceptLoop(loop, sock, self._on_socket)

    @property
    def handshakes(self) -> int:
        """Connections that are accepted and neither handed over nor refused."""
        return len(self._pending)

    @property
    def lingering(self) -> int:
        """Refused connections that are not closed yet."""
        return len(self._lingering)

    def close(self) -> None:
        """Stop accepting and refuse the handshakes in progress (503 where an answer can still be sent).

        Established connections are left alone. May be called again.
        """
        if self._closed is not None:
            return
        self._closed = self._loop.create_future()
        self._accept_loop.close()
        for handshake in [*self._pending, *self._lingering]:
            handshake.shut(Refusal(503, "the server is closing"))
        self._settle()

    def drop(self, service: Service) -> None:
        """Refuse the handshakes that wait for the ``authorize`` of this service, which is no more."""
        for handshake in [*self._pending]:
            if handshake.service is service:
                handshake.refuse(Refusal(503, "the server is closing"))

    async def wait_closed(self) -> None:
        """Wait until nothing of this acceptor is left: no connection, task or timer."""
        if self._closed is None:
            raise RuntimeError("wait_closed() before close()")
        await asyncio.shield(self._closed)
        for _ in range(3):  # turns that a transport aborted just before takes to close its socket
            await asyncio.sleep(0)

    # --- private ---

    def _settle(self) -> None:
        if self._closed is not None and not (self._pending or self._lingering or self._tasks):
            self._pending.stop()
            self._lingering.stop()
            if not self._closed.done():
                self._closed.set_result(None)

    def _on_socket(self, sock: socket.socket) -> None:
        handshake = _Handshake(self)
        if len(self._pending) >= self._max_handshakes and not self._make_room():
            if self._ssl is not None:
                sock.close()  # an answer would cost a TLS handshake
                return
            handshake.turned_away = Refusal(503, "too many handshakes in progress")
            self._linger(handshake)
        else:
            self._pending.add(handshake)
        if self._ssl is None and self._transports == "aiofastnet":
            try:
                attach_plain(self._loop, sock, handshake)
            except BaseException:
                self._forget(handshake)
                raise
        else:
            self._spawn(self._connect(sock, handshake), handshake)

    def _spawn(self, work: Coroutine[Any, Any, None], handshake: _Handshake) -> None:
        task = self._loop.create_task(work)
        handshake.task = task
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._budget.log(logging.ERROR, "handshake failed", exc_info=error)
        self._settle()

    async def _connect(self, sock: socket.socket, handshake: _Handshake) -> None:
        try:
            await attach_accepted(
                self._loop,
                sock,
                handshake,
                ssl=self._ssl,
                is_made=lambda: handshake.transport is not None,
                transports=self._transports,
            )
        except BaseException as error:
            if handshake.transport is None:
                self._forget(handshake)
            if not isinstance(error, OSError):  # an OSError is TLS that failed, or a peer that left
                raise
            _log.debug("connection failed before the handshake: %r", error)

    def _make_room(self) -> bool:
        oldest = self._pending.first()
        if oldest is None or oldest.state not in (_State.CONNECTING, _State.READING):
            return False
        if self._pending.age(oldest) < STALE_S:
            return False
        oldest.refuse(Refusal(503, "too many handshakes in progress, this one took too long"))
        return True

    def _linger(self, handshake: _Handshake) -> None:
        self._pending.discard(handshake)
        self._lingering.discard(handshake)
        if len(self._lingering) >= MAX_LINGERING and (oldest := self._lingering.first()) is not None:
            oldest.abort()
            self._lingering.discard(oldest)
        self._lingering.add(handshake)

    def _forget(self, handshake: _Handshake) -> None:
        self._pending.discard(handshake)
        self._lingering.discard(handshake)
        if self._closed is not None:
            self._settle()


class _Handshake(asyncio.BufferedProtocol):
    """One connection from accept to the hand-over or its end.

    1. In exactly one state. It is in the acceptor's ``_pending`` up to DECIDING, in ``_lingering`` while
       LINGERING.
    2. The transport is never closed in the turn that made it: a plain one of aiofastnet registers its
       reader one callback after ``connection_made``, closed or not, and the descriptor's next owner would
       inherit that.
    """

    __slots__ = (
        "acceptor",
        "drained_bytes",
        "reader",
        "request",
        "service",
        "state",
        "task",
        "transport",
        "turned_away",
    )

    def __init__(self, acceptor: Acceptor) -> None:
        self.acceptor = acceptor
        self.transport: asyncio.Transport | None = None
        self.state = _State.CONNECTING
        self.task: asyncio.Task[None] | None = None  # TLS, or authorize
        self.reader: HeadReader | None = None  # from the first byte on: idle connections cost little
        self.request: Request | None = None
        self.service: Service | None = None  # whose authorize runs
        self.turned_away: Refusal | None = None  # said as soon as there is a transport
        self.drained_bytes = 0

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.task = None  # that of the TLS handshake ends by itself now
        if self.state is _State.DONE:
            self.acceptor._loop.call_soon(self.transport.abort)
            return
        self.state = _State.READING
        if self.turned_away is not None:
            self.refuse(self.turned_away)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.acceptor._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self.state is _State.LINGERING:
            self.drained_bytes += nbytes
            if self.drained_bytes > LINGER_BYTES:
                self.abort()
            return
        if self.state is _State.DONE:
            return
        if self.reader is None:
            self.reader = HeadReader()
        complete = self.reader.feed(memoryview(self.acceptor._scratch)[:nbytes])
        if self.state is _State.DECIDING:
            # Some transports deliver what they have already decrypted after pause_reading.
            if len(self.reader.data) > 8 * _READ_BYTES:
                self.abort()
        elif complete:
            self._on_head(self.reader.head)
        elif not _looks_like_http(self.reader.data):
            self.refuse(_not_http(self.reader.data))
        elif self.reader.too_long:
            self.refuse(Refusal(431, f"the request head is over {_READ_BYTES} bytes"))

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = _State.DONE
        if self.task is not None:
            self.task.cancel()
        self.acceptor._forget(self)

    # --- called by the acceptor ---

    def expire(self) -> None:
        """The deadline has passed."""
        if self.state is _State.DECIDING:
            self.refuse(Refusal(503, "the server did not decide in time"))
        elif self.reader is not None:
            self.refuse(Refusal(408, f"no complete request within {self.acceptor._open_timeout:g} s"))
        else:
            self.abort()  # nobody asked anything: browsers open such connections in advance

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self.state = _State.DONE
        if self.task is not None:
            self.task.cancel()
        if self.transport is not None:
            self.transport.abort()

    def shut(self, refusal: Refusal) -> None:
        """Answer if the kernel takes it at once, and close: the acceptor is going."""
        if self.transport is not None and self.state in (_State.READING, _State.DECIDING):
            self.transport.write(refusal.to_bytes())
        self.abort()

    def refuse(self, refusal: Refusal) -> None:
        """Answer, then linger: closing with unread input would send a RST, which destroys the answer."""
        if self.state is _State.CONNECTING:
            self.abort()  # no answer without TLS
        if self.state in (_State.LINGERING, _State.DONE):
            return
        assert self.transport is not None
        if self.task is not None:
            self.task.cancel()
            self.task = None
        paused = self.state is _State.DECIDING
        self.state = _State.LINGERING
        counts = self.acceptor.turned_away
        counts[refusal.status] = counts.get(refusal.status, 0) + 1
        self.acceptor._linger(self)
        if self.transport.is_closing():
            return
        _log.debug("refused %s: %d %s", remote_address(self.transport), refusal.status, refusal.text)
        self.transport.write(refusal.to_bytes())
        if paused:
            self.transport.resume_reading()
        if not self.transport.can_write_eof():
            self.transport.close()  # TLS: flushes, reads on and waits for the peer's close_notify
            return
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()  # the peer has reset meanwhile

    # --- private ---

    def _on_head(self, raw: bytes) -> None:
        assert self.transport is not None
        head = parse_request(raw)
        if isinstance(head, Refusal):
            self.refuse(head)
            return
        request = Request(
            raw,
            head.headers,
            head.path,
            head.query,
            remote_address(self.transport),
            self.acceptor._ssl is not None,
        )
        try:
            service = self.acceptor._route(request)
            refusal = service if isinstance(service, Refusal) else self._judge(request, service)
            if refusal is not None or isinstance(service, Refusal):
                self.refuse(refusal or service)  # type: ignore[arg-type]
                return
            verdict = service.authorize(request) if service.authorize is not None else None
        except Exception as error:
            self._fail(error)
            return
        self.request = request
        if inspect.isawaitable(verdict):
            self.state = _State.DECIDING
            self.service = service
            self.transport.pause_reading()
            self.acceptor._spawn(self._authorize(request, service, verdict), self)
        else:
            self._on_verdict(request, service, verdict)

    def _judge(self, request: Request, service: Service) -> Refusal | None:
        headers = request.headers
        origins = headers.getall("Origin", [])
        host = headers["Host"]
        if len(origins) > 1:
            return Refusal(400, "more than one Origin header")
        if origins and not origin_allowed(origins[0], host, service.origins):
            shown = origins[0][:200]
            self.acceptor._budget.log(
                logging.WARNING,
                "refused a page of origin %r from %s at %r: origins=[%r] would allow it",
                shown,
                request.remote,
                host[:200],
                shown,
            )
            return Refusal(403, f"pages of origin {shown!r} may not connect here")
        offered = [
            m.strip(" \t") for line in headers.getall("Sec-WebSocket-Protocol", []) for m in line.split(",")
        ]
        request.subprotocol = next((name for name in service.subprotocols if name in offered), None)
        if request.subprotocol is None and service.subprotocols and any(offered):
            spoken = ", ".join(service.subprotocols)
            return Refusal(400, f"none of the subprotocols offered is spoken here; these are: {spoken}")
        return _full() if service.full() else None

    async def _authorize(self, request: Request, service: Service, verdict: Awaitable[Verdict]) -> None:
        try:
            answer = await verdict
        except Exception as error:
            if self.state is _State.DECIDING:
                self.task = None
                self._fail(error)
            return
        if self.state is _State.DECIDING:
            self.task = None
            self._on_verdict(request, service, answer)

    def _on_verdict(self, request: Request, service: Service, verdict: Any) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            return  # connection_lost follows
        try:
            refusal = _refusal_of(verdict) or (_full() if service.full() else None)
            made = refusal if refusal is not None else service.make_listener(request, self.transport)
        except Exception as error:
            self._fail(error)
            return
        if isinstance(made, Refusal):
            self.refuse(made)
        else:
            self._hand_over(request, service, made)

    def _hand_over(self, request: Request, service: Service, listener: WSListener) -> None:
        assert self.transport is not None
        assert self.reader is not None
        transport, paused = self.transport, self.state is _State.DECIDING
        extra = checked_headers(service.response_headers)
        if request.subprotocol is not None:
            extra.append(("Sec-WebSocket-Protocol", request.subprotocol))
        max_frame_size = service.max_frame_size
        if request._answer is not None:
            extra += request._answer.headers
            max_frame_size = max(max_frame_size, request._answer.least_frame_size)
        response = WSUpgradeResponse.create_101_response(extra)
        answer = WSUpgradeResponseWithListener(response, listener)
        rest, key = self.reader.rest, request.headers["Sec-WebSocket-Key"]
        try:
            protocol = WSProtocol(
                None,  # host and port: for clients
                None,  # path: for clients
                False,  # server side
                lambda _: answer,
                picows_log,
                True,  # a listener that raises ends its connection
                None,  # handshake timeout: it is over
                False,  # auto ping: the peers' own sweep does that
                0,
                0,
                WSAutoPingStrategy.PING_WHEN_IDLE,
                False,  # auto pong: unbounded
                max_frame_size,
                None,  # extra headers: for clients
                service.read_buffer_bytes,
            )
            # Before the transport knows it: its connection_lost, without this, ends the process.
            protocol.connection_made(transport)
        except OSError as error:  # the peer has reset: some systems then know no options of the socket
            _log.debug("%s has left during the handshake: %r", request.remote, error)
            self.abort()
            return
        except Exception as error:
            self._fail(error)
            return
        request._settle()
        self.state = _State.DONE
        self.acceptor._forget(self)
        try:
            transport.set_protocol(protocol)
            if paused:
                transport.resume_reading()  # before the listener runs, who may want to pause it again
            feed(protocol, transport, server_feed(key))
            feed(transport.get_protocol(), transport, rest)  # which the listener may have changed
        except BaseException as error:
            transport.abort()
            if not isinstance(error, Exception):
                raise
            self.acceptor._budget.log(logging.ERROR, "a connection failed as it was opened", exc_info=error)

    def _fail(self, error: Exception) -> None:
        self.acceptor._budget.log(logging.ERROR, "a callback raised during a handshake", exc_info=error)
        self.refuse(Refusal(500, "the server failed to handle the request"))


def feed(protocol: Any, transport: asyncio.BaseTransport, data: bytes) -> None:
    """Give a buffered protocol bytes as a transport would, until it closes the transport."""
    view = memoryview(data)
    while view and not transport.is_closing():
        with memoryview(protocol.get_buffer(len(view))) as buffer:
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


def _looks_like_http(data: bytearray) -> bool:
    return 0x41 <= data[0] <= 0x5A  # every method is in capital letters; a TLS record begins with 0x16


def _not_http(data: bytearray) -> Refusal:
    if data[0] == 0x16:
        return Refusal(400, "this port speaks ws://, without TLS; the client began a TLS handshake")
    return Refusal(400, "this is a WebSocket server, it speaks HTTP/1.1")


def _full() -> Refusal:
    return Refusal(503, "the server has as many clients as it takes")


def _refusal_of(verdict: Any) -> Refusal | None:
    """Read what `authorize` returned; anything but the documented forms is a `TypeError`."""
    if verdict is None or verdict is True:
        return None
    if verdict is False:
        return Refusal(403, "not authorized")
    if isinstance(verdict, Refusal):
        return verdict
    if isinstance(verdict, tuple) and len(verdict) == 2:
        return Refusal(*verdict)
    raise TypeError(f"authorize returns None, a bool, (status, text) or a Refusal, not {verdict!r}")
