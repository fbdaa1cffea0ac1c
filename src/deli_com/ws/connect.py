"""The client's side of the opening handshake (RFC 6455 section 4.1).

::

    transport = await open_websocket(
        target,                       # parse_target(...), or an argument for it
        make_listener=...,            # (HandshakeResponse, asyncio.Transport) -> picows.WSListener
        ssl=None, headers=None, subprotocols=(), origin=None, max_frame_size=...,
        open_timeout=10.0, read_buffer_bytes=16384,
    )  # -> picows.WSTransport

One deadline covers DNS, TCP, TLS and the handshake. Unless it succeeds, the connection is aborted: cancelled
and failed attempts leave no socket open. Redirects are not followed, and no extension is offered. A server
that chooses an extension or a subprotocol that was not offered is refused.

===============================  ==============================================
what happened                    raised
===============================  ==============================================
name, route, TLS                 `IoError`
refused                          `IoError` that is a `ConnectionRefusedError`
out of time                      `IoError` that is a `TimeoutError`
another HTTP status              `WebSocketError` with ``status``
not HTTP, or a bad handshake     `WebSocketError`
end of stream                    `ConnectionClosed`
===============================  ==============================================
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl as ssl_module
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from multidict import CIMultiDict
from picows import WSListener, WSTransport

from deli_com.errors import ConnectionClosed, IoError, WebSocketError
from deli_com.ground.waiter import Waiter
from deli_com.net.address import AddressLike, NotGiven, Target, parse_target
from deli_com.net.dial import address_of_peer, open_socket
from deli_com.net.http_proxy import HttpProxy
from deli_com.net.tls import CERTIFICATE_HINT, tls_hint
from deli_com.net.transports import Transports, attach_connected, connecting
from deli_com.net.unwatched import close_unwatched
from deli_com.schema.control import HEADER
from deli_com.ws.head import (
    MAX_HEAD_BYTES,
    HeadersLike,
    HeadReader,
    ResponseHead,
    accept_token,
    checked_headers,
    checked_subprotocols,
    client_feed,
    parse_response,
    tokens,
)
from deli_com.ws.picows_adapter import client_protocol, feed

__all__ = ["ClientListenerFactory", "HandshakeResponse", "check_tls", "open_websocket", "target_of"]

MAX_INTERIM = 16  # limit on interim (1xx) responses (RFC 9110 section 15.2)
BODY_BYTES = 1024  # most bytes of a refusal's body that are read for the error text
BODY_S = 0.5  # seconds to wait for them
BODY_CHARS = 200  # most characters of the body in the error text

_LITERAL_PREFIX = b"HTTP/1."


@dataclass(frozen=True, slots=True)
class HandshakeResponse:
    """The server's response, for `ClientListenerFactory`.

    Attributes
    ----------
    headers : CIMultiDict
        All headers of the 101 response.
    subprotocol : str or None
        The subprotocol that the server chose from those offered.
    """

    headers: CIMultiDict[str]
    subprotocol: str | None


ClientListenerFactory: TypeAlias = Callable[[HandshakeResponse, asyncio.Transport], WSListener]


async def open_websocket(
    target: Target | AddressLike,
    *,
    make_listener: ClientListenerFactory,
    max_frame_size: int,
    ssl: ssl_module.SSLContext | bool | None = None,
    headers: HeadersLike | None = None,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    schema: str | None = None,
    open_timeout: float | None = 10.0,
    sock: socket.socket | None = None,
    proxy: HttpProxy | Literal[True] | None = None,
    server_hostname: str | None = None,
    read_buffer_bytes: int = 16 * 1024,
    transports: Transports = "aiofastnet",
) -> WSTransport:
    """Connect. Returns when the handshake is complete.

    Parameters
    ----------
    target : Target, str or tuple
        A target, or an argument for `parse_target`.
    make_listener : callable
        ``(response, transport) -> WSListener``; called once, after the answer has been checked. picows calls
        ``on_ws_connected`` in the same turn. Frames that followed the answer are passed to ``on_ws_frame``
        before this function returns. An exception that it raises is raised here.
    max_frame_size : int
        Largest frame payload that picows accepts, in bytes.
    ssl : ssl.SSLContext or bool, optional
        TLS; a default context for ``wss://`` and for True.
    headers : mapping or pairs, optional
        More request headers. ``Host`` replaces the default one.
    subprotocols : sequence of str
        Subprotocols to offer, the preferred one first.
    origin : str, optional
        ``Origin`` header.
    schema : str, optional
        ``Deli-Schema`` header.
    open_timeout : float or None
        Seconds for all steps together.
    sock : socket.socket, optional
        A connected socket. This function owns it from the call on.
    proxy : HttpProxy or True, optional
        As for `open_socket`.
    server_hostname : str, optional
        Name that TLS checks the certificate for, if it is not the target's host.
    read_buffer_bytes : int
        First size of picows' read buffer.
    transports : {"aiofastnet", "loop"}
        The package that makes the transports and TLS; ``"loop"`` is the event loop.

    Raises
    ------
    ValueError
        An invalid address or header, or ``ssl`` for a ``ws://`` URL.
    IoError, WebSocketError, ConnectionClosed
        See the table at the top of this module.
    """
    if not isinstance(target, Target):
        target = parse_target(target, secure=bool(ssl))
    check_tls(target, ssl)
    extra = checked_headers(headers)
    if origin is not None:
        extra += checked_headers({"Origin": origin})
    if schema is not None:
        extra.append((HEADER, schema))
    asked = checked_subprotocols(subprotocols)
    if asked:
        extra.append(("Sec-WebSocket-Protocol", ", ".join(asked)))
    context = ssl if isinstance(ssl, ssl_module.SSLContext) else None
    if target.secure and context is None:
        context = ssl_module.create_default_context()

    loop = asyncio.get_running_loop()
    opening = _Opening(loop, target, make_listener, extra, asked, max_frame_size, read_buffer_bytes)
    try:
        async with connecting(target, open_timeout, stage=lambda: opening.stage, discard=opening.discard):
            sock = await open_socket(
                loop, target.address, sock=sock, proxy=proxy, secure=target.secure, on_stage=opening.on_stage
            )
            if context is not None:
                opening.stage = "in the TLS handshake"
            try:
                attaching = attach_connected(
                    loop,
                    sock,
                    opening,
                    address=target.address,
                    ssl=context,
                    server_hostname=server_hostname,
                    is_made=lambda: opening.transport is not None,
                    transports=transports,
                )
            except BaseException:  # no memory for the call; the socket has no owner yet
                close_unwatched(loop, sock)
                raise
            await attaching
            made: WSTransport = await opening.done
    except BaseException:
        if opening.transport is not None:
            opening.transport.abort()  # again, in case memory was short the first time
        raise
    opening.forget()
    return made


def target_of(
    addr: AddressLike | NotGiven, *, path: str | None, sock: socket.socket | None, secure: bool
) -> Target:
    """The target of a connection: an address, or the peer of a connected socket.

    Raises
    ------
    TypeError, ValueError
        As `parse_target` and `address_of_peer`.
    """
    address = address_of_peer(addr, sock)
    if address is None:
        return parse_target(cast(AddressLike, addr), path=path, secure=secure)
    resource = parse_target(("localhost", 80), path=path).resource
    return Target(address, secure, resource)


def check_tls(target: Target, ssl: ssl_module.SSLContext | bool | None) -> None:
    """Raise `ValueError` if ``ssl`` contradicts the target's scheme."""
    if ssl and not target.secure:
        raise ValueError(f"ssl is given but {target} is not secure")
    if target.secure and ssl is False:
        raise ValueError(f"ssl is False but {target} is secure")


class _Opening(asyncio.BufferedProtocol):
    """Reads and checks the server's answer, then hands the transport over to picows.

    picows' protocol exists from the start, because it writes the request and knows the key. But the transport
    delivers to this object until the answer has been checked.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        make_listener: ClientListenerFactory,
        extra: list[tuple[str, str]],
        subprotocols: tuple[str, ...],
        max_frame_size: int,
        read_buffer_bytes: int,
    ) -> None:
        self.done = Waiter(loop)  # its result is the WSTransport
        self.transport: asyncio.Transport | None = None
        self.stage = "before the connection was made"  # shown in the text of a timeout
        self._loop = loop
        self._target = target
        self._make_listener = make_listener
        self._extra = extra
        self._subprotocols = subprotocols
        self._max_frame_size = max_frame_size
        self._read_buffer_bytes = read_buffer_bytes
        self._scratch = bytearray(4096)
        self._reader = HeadReader()
        self._interim = 0  # number of interim responses so far
        self._interim_bytes = 0
        self._protocol: Any = None
        self._listener: WSListener | None = None
        self._refused: ResponseHead | None = None  # not a 101; its body is still arriving
        self._body_timer: asyncio.TimerHandle | None = None

    def on_stage(self, stage: str) -> None:
        self.stage = stage

    async def discard(self) -> None:
        """Abort the connection, and give the loop the turns in which transports close their sockets."""
        self.done.cancel()
        if self._body_timer is not None:
            self._body_timer.cancel()
        if self.transport is not None:
            self.transport.abort()
        for _ in range(2):
            await asyncio.sleep(0)
        self.done = Waiter(self._loop)  # drops the one with the error, whose traceback refers to this object
        self.done.cancel()
        self.forget()

    def forget(self) -> None:
        """Break the reference cycles through picows' protocol and the listener."""
        self._protocol = self._listener = None
        del self._make_listener

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.done.done():  # cancelled before; see net/transports
            self._loop.call_soon(self.transport.abort)
            return
        self.stage = "waiting for the server's answer"
        try:
            self._protocol = client_protocol(
                self._target.host_header,
                self._target.resource,
                lambda: self._listener,
                max_frame_size=self._max_frame_size,
                extra_headers=self._extra,
                read_buffer_bytes=self._read_buffer_bytes,
            )
            self._protocol.connection_made(transport)  # writes the request
        except Exception as error:  # the peer has disconnected; on some systems socket options then fail
            self._fail(
                IoError.of(error, f"connect to {self._target.address}")
                if isinstance(error, OSError)
                else error
            )

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self.done.done():
            return
        try:
            piece: memoryview | None = memoryview(self._scratch)[:nbytes]
            while piece is not None:
                piece = self._on_piece(piece)
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        self._on_end(
            "the server closed the connection during the handshake: it may not speak HTTP, or need TLS"
        )
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._target.secure:  # with TLS 1.3 the client learns of a refusal only now
            self._on_end(f"the connection ended during the handshake (the server may {CERTIFICATE_HINT})")
        elif exc is None:
            self._on_end("the connection ended during the handshake")
        else:
            hint = tls_hint(exc)
            self._on_end(f"the connection ended during the handshake: {exc}{hint and f' ({hint})'}")

    # --- private ---

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.fail(error)

    def _on_end(self, why: str) -> None:
        if self._refused is not None:
            self._on_body(self._refused, ended=True)
        else:
            self._fail(ConnectionClosed(None, why))

    def _on_piece(self, piece: memoryview) -> memoryview | None:
        """Process received bytes. Returns those after an interim response."""
        complete = self._reader.feed(piece)
        data = self._reader.data
        if self._refused is not None:
            self._on_body(self._refused, ended=False)
        elif not data.startswith(_LITERAL_PREFIX[: len(data)]):
            raise WebSocketError(f"not an HTTP answer: {_words(bytes(data[:80]))!r}{_who(data)}")
        elif complete:
            return self._on_head(self._reader.head)
        elif self._reader.too_long:
            raise WebSocketError(f"the head of the answer is over {MAX_HEAD_BYTES} bytes")
        return None

    def _on_head(self, raw: bytes) -> memoryview | None:
        try:
            head = parse_response(raw)
        except ValueError as error:
            raise WebSocketError(f"a malformed HTTP answer: {error}") from None
        if head.status < 200 and head.status != 101:
            self._interim += 1
            self._interim_bytes += len(raw) + 4
            if self._interim > MAX_INTERIM:
                raise WebSocketError(f"the server answers {head.status} too many times")
            rest, self._reader = self._reader.rest, HeadReader(MAX_HEAD_BYTES - self._interim_bytes)
            return memoryview(rest) if rest else None
        if head.status != 101:
            self._refused = head
            self._body_timer = self._loop.call_later(BODY_S, self._on_body, head, True)
            self._on_body(head, ended=False)
            return None
        response = self._check(head)
        transport = self.transport
        assert transport is not None
        self._listener = self._make_listener(response, transport)
        rest, token = self._reader.rest, head.headers["Sec-WebSocket-Accept"]
        transport.set_protocol(self._protocol)
        feed(self._protocol, transport, client_feed(token))
        feed(transport.get_protocol(), transport, rest)  # the listener may have changed the protocol
        if not self.done.done():
            self.done.succeed(self._protocol.transport)
        return None

    def _check(self, head: ResponseHead) -> HandshakeResponse:
        headers = head.headers
        if head.minor != 1:
            raise WebSocketError("the server switches protocols in HTTP/1.0")
        if "websocket" not in tokens(headers, "Upgrade"):
            raise WebSocketError(
                f"the server switches to {headers.get('Upgrade', 'nothing')[:80]!r}, not to websocket"
            )
        if "upgrade" not in tokens(headers, "Connection"):
            raise WebSocketError("the server's Connection header does not contain Upgrade")
        key = self._protocol.transport.request.headers["Sec-WebSocket-Key"]
        if headers.getall("Sec-WebSocket-Accept", []) != [accept_token(key)]:
            raise WebSocketError("the server's Sec-WebSocket-Accept does not match the key")
        extensions = tokens(headers, "Sec-WebSocket-Extensions")
        if extensions:
            raise WebSocketError(f"the server uses an extension that was not offered: {extensions[0][:80]!r}")
        chosen = headers.getall("Sec-WebSocket-Protocol", [])
        if len(chosen) > 1 or (chosen and chosen[0] not in self._subprotocols):
            raise WebSocketError(
                f"the server chose a subprotocol that was not asked for: {', '.join(chosen)[:80]!r}"
            )
        return HandshakeResponse(headers, chosen[0] if chosen else None)

    def _on_body(self, head: ResponseHead, ended: bool) -> None:
        """Raise the error for the status, once enough of the body has arrived or the connection has ended."""
        body = self._reader.rest
        length = head.headers.get("Content-Length", "")
        enough = min(int(length), BODY_BYTES) if length.isdecimal() and len(length) < 10 else BODY_BYTES
        if not ended and len(body) < enough:
            return
        text = f"the server answered {head.status} {head.phrase}".rstrip()
        if 300 <= head.status < 400:
            text += f" to {head.headers.get('Location', '')[:BODY_CHARS]!r} (redirects are not followed)"
        if _is_html(head.headers.get("Content-Type", ""), body):
            text += _title(body)
        elif words := _words(body[:BODY_BYTES]):
            text += f": {words}"
        self._fail(WebSocketError(text, head.status))


def _who(data: bytearray) -> str:
    # A hint at what kind of server answers so.
    if data[0] in (0x15, 0x16) and bytes(data[1:2]) in (b"", b"\x03"):
        return ": the server speaks TLS at this port (wss://, or ssl=)"
    if len(data) >= 4 and int.from_bytes(data[:4], "little") <= 64 << 20:
        return ": it may be a TCP Server (connect to that with Client)"
    return ""


def _is_html(content_type: str, body: bytes) -> bool:
    """Whether a body is an HTML page, as from proxies, and not a text to show."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml") or body.lstrip()[:1] == b"<"


def _title(page: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]*)", page[:BODY_BYTES], re.IGNORECASE)
    title = _words(found[1]) if found else ""
    return f" (an HTML page, {title!r})" if title else " (an HTML page)"


def _words(raw: bytes) -> str:
    """The beginning of a text, on one line, without control characters of terminals."""
    text = " ".join(raw.decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:BODY_CHARS]
