"""`WsClient`: sends and receives typed values over a WebSocket."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Self, TypeAlias, TypedDict, Union

from picows import WSListener
from typing_extensions import Unpack

from deli_com.client_base import ClientBase
from deli_com.errors import SchemaMismatch, WebSocketError
from deli_com.fanout.construction import bare
from deli_com.ground.callback import answer_of, called
from deli_com.link.hearing import OnGap
from deli_com.link.ws_intake import WsLinkListener
from deli_com.link.ws_link import WsLink
from deli_com.net.address import NOT_GIVEN, AddressLike, NotGiven
from deli_com.net.dial import check_way
from deli_com.net.options import checking_options, one_checked
from deli_com.opening import Opening, running_loop
from deli_com.recordable import RecordEach, RecordTo
from deli_com.schema.control import ASK, HEADER, MAX_BYTES
from deli_com.schema.terms import Terms, Use
from deli_com.stream import OnDisconnected, OnLinked, OnReconnect, Stream
from deli_com.stream_options import check_options
from deli_com.typed import Down, Up
from deli_com.ws.connect import HandshakeResponse, check_tls, open_websocket, target_of
from deli_com.ws.head import HeadersLike, checked_headers, checked_subprotocols

__all__ = ["ConnectOptions", "WsClient"]

# Gives the headers of one attempt of a stream; called for each attempt.
HeadersFactory: TypeAlias = Callable[[], Union[Awaitable[Union[HeadersLike, None]], HeadersLike, None]]


class ConnectOptions(TypedDict, total=False):
    """The keyword arguments of `WsClient.connect`, and of `WsClient.stream`, without ``headers``."""

    path: str | None
    proxy: str | bool | None
    ssl: ssl_module.SSLContext | bool | None
    server_hostname: str | None
    subprotocols: Sequence[str]
    origin: str | None
    max_message_size: int
    max_inbox: int
    conflate: bool
    schema: Use | None
    record: RecordTo | RecordEach | None
    open_timeout: float | None
    close_timeout: float
    ping_interval: float | None
    ping_timeout: float | None
    max_transit: float | None


class WsClient(ClientBase[Down, Up]):
    """A WebSocket client of a `WsServer`, or of any server that sends such messages.

    The types are in the same order as on the server: ``WsClient[Down, Up]`` receives `Down` and sends
    `Up`; ``WsClient[T]`` receives and sends `T`. Open one with `connect`.
    """

    @classmethod
    @checking_options({"ssl": "client_ssl", "record": "client_record"})
    def connect(
        cls,
        addr: AddressLike | NotGiven = NOT_GIVEN,
        *,
        path: str | None = None,
        sock: socket.socket | None = None,
        proxy: str | bool | None = True,
        ssl: ssl_module.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        headers: HeadersLike | None = None,
        subprotocols: Sequence[str] = (),
        origin: str | None = None,
        max_message_size: int = 64 << 20,
        max_inbox: int = 16 << 20,
        conflate: bool = True,
        schema: Use | None = "check",
        record: RecordTo | RecordEach | None = None,
        open_timeout: float | None = 10.0,
        close_timeout: float = 2.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        max_transit: float | None = 0.5,
    ) -> Opening[Self]:
        """Connect to a server; await the result, or use it in ``async with``.

        When it returns, the server has counted this client, and every later ``send`` of the server reaches
        it.

        Parameters
        ----------
        addr : str or tuple
            ``"host:port"``, ``"[v6]:port"``, ``"unix:/path"``, ``(host, port)``, an `Address`, or a ``ws://``
            or ``wss://`` URL. The addresses of a name are tried in turn; the next attempt starts when one
            fails or does not answer within 0.2 s.
        path : str, optional
            Path and query, for an `addr` that is not a URL.
        sock : socket.socket, optional
            A connected socket; the client takes ownership of it. `addr` may be omitted then.
        proxy : str or bool, optional
            ``"http://host:port"`` or ``"http://user:password@host:port"``: an HTTP proxy that is asked for
            a tunnel (CONNECT). True: the proxy that the environment names (``HTTPS_PROXY`` for TLS, else
            ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``), but never for loopback addresses. None: connect
            directly.
        ssl : ssl.SSLContext or bool, optional
            TLS.
        server_hostname : str, optional
            Name that the certificate must be for, if it is not that of `addr`.
        headers : mapping or pairs, optional
            More request headers.
        subprotocols : sequence of str
            Subprotocols to offer, the preferred one first.
        origin : str, optional
            ``Origin`` header.
        max_message_size : int
            Limit in bytes for one encoded message, sent or received.
        max_inbox : int
            Bytes of received values that wait for the program, past which reading pauses.
        conflate : bool
            Values that wait for the program follow the policies of their classes: of policy ``latest`` the
            newest of each key, of ``skip`` the last that fit half of `max_inbox`. False: all wait.
        schema : {"check", "require"} or None
            ``check``: announce the schemas of `Down` and `Up`. If the server's schemas differ, values are
            read by the server's schema, or `SchemaMismatch` is raised. A server that does not exchange
            schemas is accepted without a check. ``require``: such a server is refused. None: schemas are not
            exchanged.
        record : path, mapping or callable, optional
            Record to this file from the first message on, as the method `record` does. A mapping gives the
            arguments of `record` by name; a callable returns one of them, for each connection of a stream.
        open_timeout : float or None
            Seconds for resolving, connecting and the handshake together.
        close_timeout : float
            Seconds to wait for the server's answer when the connection is closed.
        ping_interval, ping_timeout, max_transit : float or None
            As for `WsServer.bind`; `max_transit` is for what this client sends.

        Raises
        ------
        IoError
            The connection was refused (also `ConnectionRefusedError`) or timed out (also `TimeoutError`), or
            TLS or DNS failed.
        WebSocketError
            An HTTP status other than 101 (``status``), or no WebSocket server at all.
        ConnectionClosed
            The server hung up during the handshake.
        SchemaMismatch
            `Down` cannot be read from what the server sends; or the server announces no schema, and
            ``schema`` is ``"require"``.
        TypeError, ValueError
            A type that cannot be encoded, or an invalid address.
        """
        down, up = cls._codecs("connect(addr)")
        checked_subprotocols(subprotocols)
        checked_headers(headers)
        if origin is not None:
            checked_headers({"Origin": origin}, "origin")
        target = target_of(addr, path=path, sock=sock, secure=bool(ssl))
        check_tls(target, ssl)
        way = check_way(
            target.address, sock=sock, proxy=proxy, server_hostname=server_hostname, secure=target.secure
        )

        async def connect() -> Self:
            loop = running_loop(f"{cls.__name__}.connect()")
            deadline = None if open_timeout is None else loop.time() + open_timeout
            self: Self = bare(cls)
            self._start(
                "ws-client",
                down,
                up,
                max_message_size=max_message_size,
                max_inbox=max_inbox,
                conflate=conflate,
                schema=schema,
                close_timeout=close_timeout,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                max_transit=max_transit,
            )
            terms = self.terms
            early = self._record_early(record)

            def make_listener(response: HandshakeResponse, transport: asyncio.Transport) -> WSListener:
                peer = WsLink(self, target.address)
                if terms is not None:
                    _meet(terms, response, peer)
                return WsLinkListener(peer)

            await open_websocket(
                target,
                make_listener=make_listener,
                max_frame_size=max(max_message_size, 0 if terms is None else MAX_BYTES),
                schema=None if terms is None else terms.header,
                ssl=ssl,
                headers=headers,
                subprotocols=subprotocols,
                origin=origin,
                open_timeout=open_timeout,
                sock=sock,
                proxy=way,
                server_hostname=server_hostname,
            )
            if terms is not None and not self.is_settled:
                await self._agree(target.address, deadline)
            await self._record_connection(record, early)
            self._opened = True
            return self

        connect.__qualname__ = f"{cls.__name__}.connect"  # shown in Python's warning if it is never awaited
        return Opening(connect(), f"{cls.__name__}.connect({sock if addr is NOT_GIVEN else addr!r})", cls)

    @classmethod
    def stream(
        cls,
        addr: AddressLike,
        *,
        headers: HeadersLike | HeadersFactory | None = None,
        on_connect: OnLinked | None = None,
        on_disconnect: OnDisconnected | None = None,
        on_gap: OnGap | None = None,
        on_reconnect: OnReconnect | None = None,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
        terminal: Collection[int] | None = None,
        **options: Unpack[ConnectOptions],
    ) -> Stream[Down, Up]:
        """Receive from a server and send to it, and reconnect when the connection is lost.

        ::

            async with WsClient[Status, Command].stream("ws://robot:8080") as link:
                async for status in link:
                    link.send_nowait(Command(0.5))

        Parameters
        ----------
        addr : str or tuple
            As for `connect`.
        headers : mapping, pairs or callable, optional
            More request headers; or ``()``, may be async, that returns them: called at each attempt, to get
            new tokens. If it raises, the iteration step raises that, and the next step tries again.
        on_connect : callable, optional
            ``()``, may be async: called for each connection, before its first value is given out.
        on_disconnect : callable, optional
            ``(cause)``, may be async: called as soon as a connection has ended, with the error that ended it.
        on_gap : callable, optional
            ``(gap)``, may be async: called where values are missing; after each reconnect, too, with
            ``gap.reason == "link"`` and ``gap.seconds``.
        on_reconnect : callable, optional
            ``(seconds_away)``, may be async: called when the client has reconnected.
        first_delay, max_delay : float
            Seconds between attempts; the delay doubles from `first_delay` to `max_delay`, with jitter.
        terminal : collection of int, optional
            Close codes that end the stream with `ConnectionClosed`. None: 1008, 4400, 4403, and 4401
            unless `headers` is a callable. ``()``: reconnect after every close code.
        **options
            As for `connect`.

        Returns
        -------
        Stream
            An asynchronous iterator; see there for what ends it.

        Raises
        ------
        TypeError, ValueError
            The errors of `connect` for its arguments, raised at once.
        """
        _, up = cls._codecs("stream(addr)")
        check_options(f"{cls.__name__}.stream()", options, ConnectOptions.__annotations__, ("headers",))
        fresh = headers if callable(headers) else None
        # An iterator is read once here, because it serves all connections.
        same: HeadersLike | None = None if callable(headers) else one_checked("headers", headers)
        if "subprotocols" in options:
            options["subprotocols"] = one_checked("subprotocols", options["subprotocols"])
        cls.connect(addr, headers=same, **options).close()  # checks the arguments; nothing is started

        async def connect() -> WsClient[Down, Up]:
            given = same
            if fresh is not None:
                made = called(fresh)
                given = await answer_of(made) if inspect.isawaitable(made) else made
            return await cls.connect(addr, headers=given, **options)

        return Stream(
            connect,
            on_connect=on_connect,
            on_disconnect=on_disconnect,
            on_gap=on_gap,
            on_reconnect=on_reconnect,
            first_delay=first_delay,
            max_delay=max_delay,
            terminal=terminal,
            renews=fresh is not None,
            has_up=up is not None,
            call="WsClient.stream()",
        )


def _meet(terms: Terms, response: HandshakeResponse, peer: WsLink) -> None:
    """Process what the server's answer says about schemas."""
    lines = response.headers.getall(HEADER, [])
    try:
        answer = terms.read_header(lines[0]) if len(lines) == 1 else None
        asks = answer is not None and ASK in (answer.down, answer.up)
        if len(lines) > 1 or (asks and terms.is_client):  # a server that reads `down` may ask its writer
            raise ValueError(f"not an answer: {', '.join(lines)[:80]!r}")
    except ValueError as error:
        raise WebSocketError(f"the server's {HEADER} header: {error}") from None
    if answer is not None:
        peer.announce(answer, False)
    elif terms.use == "require":
        name = "value" if terms.reads is None else terms.reads.schema.name
        title = "the server announces no schemas, and they are required"
        raise SchemaMismatch(name, (), title)
    else:
        peer.endpoint.is_settled = True
