"""One connection from accept to its WebSocket: the server's side of the opening handshake.

::

    accept ── PROXY ── TLS ── head read ── route, Origin, room, authorize ── make_listener ── picows
      └─────────┴────────┴─────────┴──────────────────┴── refused: HTTP answer, linger, closed

If the port also serves plain HTTP, a head without ``Upgrade`` begins an `Exchange`. After it, the connection
reads the next head.

`ws.acceptor` owns the handshakes and their deadlines, and limits their number.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import logging
import socket
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from picows import WSListener

from deli_com.ground.callback import answer_of, called
from deli_com.ground.home import forks
from deli_com.ground.waiter import Waiter
from deli_com.link.request import Request
from deli_com.net.address import Address
from deli_com.net.proxy_protocol import is_header_start
from deli_com.net.transports import remote_address
from deli_com.ws.exchange import Exchange
from deli_com.ws.forwarded import Asker
from deli_com.ws.head import (
    HeadReader,
    PlainHead,
    Refusal,
    parse_plain,
    parse_request,
    server_feed,
)
from deli_com.ws.origins import host_allowed, is_own
from deli_com.ws.picows_adapter import answer_with, feed, server_protocol
from deli_com.ws.service import Service, Verdict, choose_subprotocol, judge_page, refusal_of

if TYPE_CHECKING:
    from deli_com.ws.acceptor import WsAcceptor

__all__ = ["READ_BYTES", "Handshake", "State"]

LINGER_BYTES = 64 * 1024  # of input are drained after a refusal, so that no RST destroys the answer
READ_BYTES = 16 * 1024

_log = logging.getLogger("deli_com.server")


class State(enum.Enum):
    """The stage of a handshake."""

    CONNECTING = enum.auto()  # there is no transport yet: TLS, or the first turn of the loop
    READING = enum.auto()  # the head is incomplete
    DECIDING = enum.auto()  # authorize runs; reading is paused
    ANSWERING = enum.auto()  # a plain request is answered; reading is paused if that takes a task
    LINGERING = enum.auto()  # answered; input is drained and discarded
    DONE = enum.auto()  # handed over to picows, or closed


# Each look into an enum takes as long as a call, and a handshake has twenty.
CONNECTING, READING, DECIDING, ANSWERING, LINGERING, DONE = State


class Handshake(asyncio.BufferedProtocol):
    """One connection from accept to the hand-over or to its end.

    1. It is in exactly one state. It is in the acceptor's ``_pending`` up to ANSWERING, and in ``_lingering``
       while LINGERING.
    2. The transport is never closed in the turn that made it. A plain transport of aiofastnet registers its
       reader one callback after ``connection_made``, even if it is closed. The descriptor's next owner would
       inherit that reader.
    """

    __slots__ = (
        "acceptor",
        "drained_bytes",
        "exchange",
        "forks",
        "is_kept",
        "reader",
        "remote",
        "request",
        "service",
        "state",
        "task",
        "transport",
        "turned_away",
        "writable",
    )

    def __init__(self, acceptor: WsAcceptor) -> None:
        self.acceptor = acceptor
        self.transport: asyncio.Transport | None = None
        self.state = CONNECTING
        self.task: asyncio.Task[None] | None = None  # runs TLS, or authorize
        self.reader: HeadReader | None = None  # made on the first byte, to save memory
        self.remote: Address | None = None  # from a PROXY header; None: ask the transport
        self.request: Request | None = None
        self.service: Service | None = None  # the service whose authorize runs
        self.turned_away: Refusal | None = None  # to be sent as soon as there is a transport
        self.drained_bytes = 0
        self.forks = forks()
        self.exchange: Exchange | None = None  # the plain request that is being answered
        self.is_kept = False  # kept alive after an answer, for another request
        self.writable: Waiter | None = None  # set while writing is paused

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.task = None  # the task of the TLS handshake ends by itself now
        if self.state is DONE:
            self.acceptor._loop.call_soon(self.transport.abort)
            return
        self.state = READING
        if self.turned_away is not None:
            self.refuse(self.turned_away)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.acceptor._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self.state is LINGERING:
            self.drained_bytes += nbytes
            if self.drained_bytes > LINGER_BYTES:
                self.abort()
            return
        if self.state is not DONE:
            self._feed(memoryview(self.acceptor._scratch)[:nbytes])

    def _feed(self, data: memoryview) -> None:
        if self.reader is None:
            self.reader = HeadReader(self.acceptor.max_head_bytes, skips_empty=True)
        complete = self.reader.feed(data)
        if self.state in (DECIDING, ANSWERING):
            # Some transports deliver what they have already decrypted after pause_reading.
            if len(self.reader.data) > 8 * READ_BYTES + self.acceptor.max_head_bytes:
                self.abort()
        elif is_header_start(self.reader.data):
            self.refuse(self.acceptor.unasked_header(self.remote_addr()))
        elif complete:
            try:
                self._on_head(self.reader.head)
            except BaseException:  # a callback ends the loop, which may run again
                self.ended()
                raise
        elif not _looks_like_http(self.reader.data):
            self.refuse(_not_http(self.reader.data))
        elif self.reader.too_long:
            limit = self.acceptor.max_head_bytes
            self.refuse(Refusal(431, f"the request head is over {limit} bytes (max_head_bytes)"))

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def pause_writing(self) -> None:
        self.writable = Waiter(self.acceptor._loop)

    def resume_writing(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None:
            writable.succeed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = DONE
        if self.task is not None:
            self.task.cancel()
        self.resume_writing()
        self.acceptor._forget(self)

    # --- called by the acceptor ---

    def ended(self) -> None:
        """Do not let the peer wait for what was ended by an exception."""
        if self.exchange is not None and self.exchange.is_begun:
            self.abort()
        elif self.transport is not None and self.state in _UNANSWERED:
            self.refuse(Refusal(500, "the server failed to handle the request"))

    def expire(self) -> None:
        """Called when the deadline has passed."""
        if self.state is DECIDING:
            self.refuse(Refusal(503, "the server did not decide in time"))
        elif self.exchange is not None:
            if self.exchange.is_begun:
                self.abort()  # the peer reads too slowly
            else:
                self.refuse(Refusal(503, "the server did not answer in time"))
        elif self.reader is not None:
            self.refuse(Refusal(408, f"no complete request within {self.acceptor._open_timeout:g} s"))
        else:
            self.abort()  # no request was begun: browsers open such connections in advance

    def abort(self) -> None:
        """Close at once, and discard unsent data."""
        self.state = DONE
        if self.task is not None:
            self.task.cancel()
        if self.transport is not None:
            if forks() != self.forks and not self.transport.is_closing():  # a child has the descriptor, too
                with contextlib.suppress(OSError):
                    self.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            self.transport.abort()

    def shut(self, refusal: Refusal) -> None:
        """Answer if the kernel takes it at once, and close. Called when the acceptor closes."""
        is_asking = self.exchange is None or not self.exchange.is_begun
        if self.transport is not None and self.state in _UNANSWERED and is_asking and not self.is_idle:
            self.transport.write(self._answer(refusal))
        self.abort()

    def refuse(self, refusal: Refusal) -> None:
        """Answer, then linger. Closing with unread input would send a RST, which destroys the answer."""
        if self.state is CONNECTING:
            self.abort()  # no answer is possible before TLS
        if self.state in (LINGERING, DONE):
            return
        assert self.transport is not None
        if self.task is not None:
            self.task.cancel()
            self.task = None
        if self.is_idle:
            self.state = LINGERING
            self.acceptor._linger(self)
            self.transport.close()
            return
        counts = self.acceptor.turned_away
        counts[refusal.status] = counts.get(refusal.status, 0) + 1
        if not self.transport.is_closing():
            self.acceptor.log_refusal(self._who_asked(), refusal)
            self.transport.write(self._answer(refusal))
        self._linger()

    def _linger(self) -> None:
        """Give the peer time to read the answer, and close."""
        assert self.transport is not None
        paused = self.state in (DECIDING, ANSWERING)
        self.state = LINGERING
        self.exchange = None
        self.acceptor._linger(self)
        if self.transport.is_closing():
            return
        if paused:
            self.transport.resume_reading()
        if not self.transport.can_write_eof():
            self.transport.close()  # TLS: flushes, reads on and waits for the peer's close_notify
            return
        try:
            self.transport.write_eof()
        except OSError:
            self.transport.abort()  # the peer has reset the connection meanwhile

    def remote_addr(self) -> Address | None:
        """The address of the peer or of the balancer's client, as far as it is known."""
        if self.remote is not None or self.transport is None:
            return self.remote
        return remote_address(self.transport)

    def _who_asked(self) -> Address | None:
        """The address of the client: from the proxies' headers, once the head is read."""
        return self.remote_addr() if self.request is None else self.request.remote

    # --- called by an exchange ---

    @property
    def is_answering(self) -> bool:
        """Whether the exchange may still write."""
        return self.state is ANSWERING

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that answers; reading waits for it."""
        assert self.transport is not None
        self.transport.pause_reading()
        self.acceptor._spawn(work, self)

    async def drained(self) -> None:
        """Wait until the kernel has taken the written data; then the deadline restarts."""
        while self.writable is not None:
            await asyncio.shield(self.writable)
        if self.state is ANSWERING:
            self.acceptor._pending.add(self)

    def answered(self, keeps_alive: bool) -> None:
        """Read the next request, or close. Called when the answer is written."""
        if self.state is not ANSWERING:
            return
        assert self.transport is not None
        assert self.reader is not None
        paused, self.task = self.task is not None, None
        if not keeps_alive:
            self._linger()
            return
        rest = self.reader.rest
        self.exchange = self.reader = self.request = None
        self.state, self.is_kept = READING, True
        self.acceptor._pending.add(self)
        if rest:  # one request of a connection in each turn, to be fair to others
            self.transport.pause_reading()
            self.acceptor._loop.call_soon(self._go_on, rest)
        elif paused:
            self.transport.resume_reading()

    # --- private ---

    def _go_on(self, rest: bytes) -> None:
        if self.state is READING and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()  # no data arrives before this callback has ended
            self._feed(memoryview(rest))

    @property
    def is_idle(self) -> bool:
        """Kept alive without a request. An answer would be taken for that to the next request."""
        return self.is_kept and self.state is READING and self.reader is None

    def _answer(self, refusal: Refusal) -> bytes:
        return refusal.to_bytes(bare=self.reader is not None and self.reader.data.startswith(b"HEAD "))

    def _on_head(self, raw: bytes) -> None:
        assert self.transport is not None
        plain = parse_plain(raw) if self.acceptor.http is not None else None
        head = plain if plain is not None else parse_request(raw)
        if isinstance(head, Refusal):
            self.refuse(head)
            return
        seen = self.acceptor.forwarding.read(head.headers, self.remote_addr(), self.acceptor._ssl is not None)
        if isinstance(seen, Refusal):
            self.refuse(seen)
            return
        request = self.request = Request(
            raw,
            head.headers,
            head.path,
            head.query,
            seen.remote,
            seen.secure,
            self.transport.get_extra_info("peercert"),
            head.method if isinstance(head, PlainHead) else "GET",
            via=seen.via,
            host=seen.host,
        )
        if (refusal := self._misaddressed(request)) is not None:
            self.refuse(refusal)
            return
        if isinstance(head, PlainHead):
            self.state = ANSWERING
            self.transport.set_write_buffer_limits(high=1, low=0)
            self.exchange = Exchange(self, request, keeps_alive=head.keeps_alive)
            self.exchange.begin()
            return
        try:
            service = self.acceptor._route(request)
            refusal = service if isinstance(service, Refusal) else self._judge(request, service, seen)
            if refusal is not None or isinstance(service, Refusal):
                self.refuse(refusal or service)  # type: ignore[arg-type]
                return
            verdict = None if service.authorize is None else called(service.authorize, request)
        except Exception as error:
            self._fail(error)
            return
        if inspect.isawaitable(verdict):
            self.state = DECIDING
            self.service = service
            self.transport.pause_reading()
            self.acceptor._spawn(self._authorize(request, service, verdict), self)
        else:
            self._on_verdict(request, service, verdict)

    def _misaddressed(self, request: Request) -> Refusal | None:
        hosts, host = self.acceptor.hosts, request.host
        if hosts is None or host_allowed(host, hosts):
            return None
        self.acceptor._budget.log(
            logging.WARNING,
            "refused a request from %s that is addressed to %r, which is not among hosts=",
            request.remote,
            host[:200],
        )
        return Refusal(403, f"requests may not be addressed to {host[:200]!r} here")

    def _judge(self, request: Request, service: Service, seen: Asker) -> Refusal | None:
        headers = request.headers
        own = False
        if self.acceptor.has_page:
            is_proxys = seen.via is not None and seen.host_is_proxys
            own = not is_proxys and is_own(headers.get("Origin", ""), seen.host)
        refusal = judge_page(
            request, service, self.acceptor._budget, is_own=own, host_is_proxys=seen.host_is_proxys
        )
        if refusal is not None:
            return refusal
        if service.subprotocols or service.viewer_protocols:
            offered = [
                m.strip(" \t")
                for line in headers.getall("Sec-WebSocket-Protocol", [])
                for m in line.split(",")
            ]
            refusal = choose_subprotocol(request, service, offered, service.viewer_protocols)
            if refusal is not None:
                return refusal
        return _full() if service.full() else None

    async def _authorize(self, request: Request, service: Service, verdict: Awaitable[Verdict]) -> None:
        try:
            answer = await answer_of(verdict)
        except Exception as error:
            if self.state is DECIDING:
                self.task = None
                self._fail(error)
            return
        if self.state is DECIDING:
            self.task = None
            self._on_verdict(request, service, answer)

    def _on_verdict(self, request: Request, service: Service, verdict: Any) -> None:
        assert self.transport is not None
        if self.transport.is_closing():
            return  # connection_lost follows
        try:
            refusal = refusal_of(verdict) or (_full() if service.full() else None)
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
        transport, paused = self.transport, self.state is DECIDING
        extra = cast("tuple[tuple[str, str], ...]", service.response_headers)  # as the service keeps them
        if request.subprotocol is not None:
            extra = (*extra, ("Sec-WebSocket-Protocol", request.subprotocol))
        max_frame_size = service.max_frame_size
        if request._answer is not None:
            extra = (*extra, *request._answer.headers)
            max_frame_size = max(max_frame_size, request._answer.least_frame_size)
        answer = answer_with(listener, extra)
        rest, key = self.reader.rest, request.headers["Sec-WebSocket-Key"]
        try:
            protocol = server_protocol(
                answer, max_frame_size=max_frame_size, read_buffer_bytes=service.read_buffer_bytes
            )
            # The protocol must know the transport first: its connection_lost, without this, crashes the
            # process.
            protocol.connection_made(transport)
        except OSError as error:  # the peer has reset the connection: socket options may fail
            _log.debug("%s has left during the handshake: %r", request.remote, error)
            self.abort()
            return
        except Exception as error:
            self._fail(error)
            return
        request._forget_head()
        self.state = DONE
        self.acceptor._forget(self)
        if self.is_kept:
            transport.set_write_buffer_limits()
        try:
            transport.set_protocol(protocol)
            if paused:
                transport.resume_reading()  # before the listener runs, which may pause it again
            feed(protocol, transport, server_feed(key))
            if rest:
                feed(transport.get_protocol(), transport, rest)  # the listener may have changed the protocol
        except BaseException as error:
            transport.abort()
            if not isinstance(error, Exception):
                raise
            self.acceptor.log_failure("a connection failed as it was opened", error)

    def _fail(self, error: Exception) -> None:
        self.acceptor.log_failure("a callback raised during a handshake", error)
        self.refuse(Refusal(500, "the server failed to handle the request"))


_UNANSWERED = (READING, DECIDING, ANSWERING)


def _looks_like_http(data: bytearray) -> bool:
    # Methods are in capital letters; a TLS record begins with 0x16. Of empty lines, nothing or "\r" may
    # remain.
    return not data or data == b"\r" or 0x41 <= data[0] <= 0x5A


def _not_http(data: bytearray) -> Refusal:
    if data[0] == 0x16:
        return Refusal(400, "this port speaks ws://, without TLS; the client began a TLS handshake")
    return Refusal(400, "this is a WebSocket server, it speaks HTTP/1.1")


def _full() -> Refusal:
    return Refusal(503, "the server has as many clients as it accepts")
