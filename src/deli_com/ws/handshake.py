"""One connection from accept to its WebSocket: the server's side of the opening handshake.

::

    accept ── PROXY ── TLS ── head read ── route, Origin, room, authorize ── make_listener ── picows
      └─────────┴────────┴─────────┴──────────────────┴── refused: HTTP answer, linger, closed

`ws.acceptor` owns handshakes, their deadlines and their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import logging
import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from picows import WSListener, WSUpgradeResponse, WSUpgradeResponseWithListener

from deli_com.ground.home import forks
from deli_com.link.request import Request
from deli_com.net.address import Address
from deli_com.net.proxy_protocol import is_header_start
from deli_com.net.transports import remote_address
from deli_com.ws.head import HeadReader, Refusal, checked_headers, parse_request, server_feed
from deli_com.ws.origins import origin_allowed
from deli_com.ws.picows_adapter import feed, server_protocol
from deli_com.ws.service import Service, Verdict

if TYPE_CHECKING:
    from deli_com.ws.acceptor import WsAcceptor

__all__ = ["READ_BYTES", "Handshake", "State"]

LINGER_BYTES = 64 * 1024  # input drained after a refusal, so that closing sends no RST over the answer
READ_BYTES = 16 * 1024

_log = logging.getLogger("deli_com.server")


class State(enum.Enum):
    """Where a handshake is."""

    CONNECTING = enum.auto()  # no transport yet: TLS, or the first turn of the loop
    READING = enum.auto()  # the head is incomplete
    DECIDING = enum.auto()  # authorize runs; reading is paused
    LINGERING = enum.auto()  # answered; input is drained and thrown away
    DONE = enum.auto()  # picows' or closed


class Handshake(asyncio.BufferedProtocol):
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
        "forks",
        "reader",
        "remote",
        "request",
        "service",
        "state",
        "task",
        "transport",
        "turned_away",
    )

    def __init__(self, acceptor: WsAcceptor) -> None:
        self.acceptor = acceptor
        self.transport: asyncio.Transport | None = None
        self.state = State.CONNECTING
        self.task: asyncio.Task[None] | None = None  # TLS, or authorize
        self.reader: HeadReader | None = None  # from the first byte on: idle connections cost little
        self.remote: Address | None = None  # what a balancer says; else the transport is asked
        self.request: Request | None = None
        self.service: Service | None = None  # whose authorize runs
        self.turned_away: Refusal | None = None  # said as soon as there is a transport
        self.drained_bytes = 0
        self.forks = forks()

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.task = None  # that of the TLS handshake ends by itself now
        if self.state is State.DONE:
            self.acceptor._loop.call_soon(self.transport.abort)
            return
        self.state = State.READING
        if self.turned_away is not None:
            self.refuse(self.turned_away)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.acceptor._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self.state is State.LINGERING:
            self.drained_bytes += nbytes
            if self.drained_bytes > LINGER_BYTES:
                self.abort()
            return
        if self.state is State.DONE:
            return
        if self.reader is None:
            self.reader = HeadReader(self.acceptor.max_head_bytes, skips_empty=True)
        complete = self.reader.feed(memoryview(self.acceptor._scratch)[:nbytes])
        if self.state is State.DECIDING:
            # Some transports deliver what they have already decrypted after pause_reading.
            if len(self.reader.data) > 8 * READ_BYTES + self.acceptor.max_head_bytes:
                self.abort()
        elif is_header_start(self.reader.data):
            self.refuse(self.acceptor.unasked_header(self.remote_addr()))
        elif complete:
            self._on_head(self.reader.head)
        elif not _looks_like_http(self.reader.data):
            self.refuse(_not_http(self.reader.data))
        elif self.reader.too_long:
            limit = self.acceptor.max_head_bytes
            self.refuse(Refusal(431, f"the request head is over {limit} bytes (max_head_bytes)"))

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = State.DONE
        if self.task is not None:
            self.task.cancel()
        self.acceptor._forget(self)

    # --- called by the acceptor ---

    def expire(self) -> None:
        """The deadline has passed."""
        if self.state is State.DECIDING:
            self.refuse(Refusal(503, "the server did not decide in time"))
        elif self.reader is not None:
            self.refuse(Refusal(408, f"no complete request within {self.acceptor._open_timeout:g} s"))
        else:
            self.abort()  # nobody asked anything: browsers open such connections in advance

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        self.state = State.DONE
        if self.task is not None:
            self.task.cancel()
        if self.transport is not None:
            if forks() != self.forks and not self.transport.is_closing():  # a child has the descriptor
                with contextlib.suppress(OSError):
                    self.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self.transport.abort()

    def shut(self, refusal: Refusal) -> None:
        """Answer if the kernel takes it at once, and close: the acceptor is going."""
        if self.transport is not None and self.state in (State.READING, State.DECIDING):
            self.transport.write(self._answer(refusal))
        self.abort()

    def refuse(self, refusal: Refusal) -> None:
        """Answer, then linger: closing with unread input would send a RST, which destroys the answer."""
        if self.state is State.CONNECTING:
            self.abort()  # no answer without TLS
        if self.state in (State.LINGERING, State.DONE):
            return
        assert self.transport is not None
        if self.task is not None:
            self.task.cancel()
            self.task = None
        paused = self.state is State.DECIDING
        self.state = State.LINGERING
        counts = self.acceptor.turned_away
        counts[refusal.status] = counts.get(refusal.status, 0) + 1
        self.acceptor._linger(self)
        if self.transport.is_closing():
            return
        _log.debug("refused %s: %d %s", self.remote_addr(), refusal.status, refusal.text)
        self.transport.write(self._answer(refusal))
        if paused:
            self.transport.resume_reading()
        if not self.transport.can_write_eof():
            self.transport.close()  # TLS: flushes, reads on and waits for the peer's close_notify
            return
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()  # the peer has reset meanwhile

    def remote_addr(self) -> Address | None:
        """Return whose connection it is, as far as it is known."""
        if self.remote is not None or self.transport is None:
            return self.remote
        return remote_address(self.transport)

    # --- private ---

    def _answer(self, refusal: Refusal) -> bytes:
        return refusal.to_bytes(bare=self.reader is not None and self.reader.data.startswith(b"HEAD "))

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
            self.remote_addr(),
            self.acceptor._ssl is not None,
            self.transport.get_extra_info("peercert"),
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
            self.state = State.DECIDING
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
            if self.state is State.DECIDING:
                self.task = None
                self._fail(error)
            return
        if self.state is State.DECIDING:
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
        transport, paused = self.transport, self.state is State.DECIDING
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
            protocol = server_protocol(
                answer, max_frame_size=max_frame_size, read_buffer_bytes=service.read_buffer_bytes
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
        self.state = State.DONE
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


def _looks_like_http(data: bytearray) -> bool:
    # Every method is in capital letters; a TLS record begins with 0x16. Empty lines leave nothing, or half.
    return not data or data == b"\r" or 0x41 <= data[0] <= 0x5A


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
