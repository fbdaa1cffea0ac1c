"""`Client`: sends and receives typed values over TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from typing import Self, TypedDict

from typing_extensions import Unpack

from deli_com.client_base import ClientBase
from deli_com.errors import IoError
from deli_com.fanout.construction import bare
from deli_com.ground.waiter import Waiter
from deli_com.link.hearing import OnGap
from deli_com.link.tcp_link import TcpLink
from deli_com.link.tcp_read_buffer import ReadBuffer
from deli_com.net.address import NOT_GIVEN, AddressLike, NotGiven, parse_address, unix_path
from deli_com.net.dial import address_of_peer, check_way, open_socket
from deli_com.net.options import checking_options
from deli_com.net.transports import attach_connected, connecting
from deli_com.net.unwatched import close_unwatched
from deli_com.opening import Opening, running_loop
from deli_com.recordable import RecordEach, RecordTo
from deli_com.schema.control import MARKER
from deli_com.schema.terms import Use
from deli_com.stream import OnDisconnected, OnLinked, OnReconnect, Stream
from deli_com.stream_options import check_options
from deli_com.typed import Down, Up

__all__ = ["Client", "TcpConnectOptions"]


class TcpConnectOptions(TypedDict, total=False):
    """What `Client.connect` takes by name, and `Client.stream` as well."""

    proxy: str | None
    ssl: ssl_module.SSLContext | bool | None
    server_hostname: str | None
    max_message_size: int
    max_inbox: int
    conflate: bool
    schema: Use | None
    record: RecordTo | RecordEach | None
    open_timeout: float | None
    close_timeout: float
    keepalive_interval: float | None
    keepalive_timeout: float | None
    max_transit: float | None


class Client(ClientBase[Down, Up]):
    """A TCP client of a `Server`, or of any program that sends such messages.

    The types are in the same order as on the server: ``Client[Down, Up]`` receives `Down` and sends
    `Up`; ``Client[T]`` receives and sends `T`. Open one with `connect`.
    """

    @classmethod
    @checking_options(
        {
            "ssl": "client_ssl",
            "record": "client_record",
            "proxy": "explicit_proxy",
            "max_message_size": "max_frame_bytes",
        }
    )
    def connect(
        cls,
        addr: AddressLike | NotGiven = NOT_GIVEN,
        *,
        sock: socket.socket | None = None,
        proxy: str | None = None,
        ssl: ssl_module.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        max_message_size: int = 64 << 20,
        max_inbox: int = 16 << 20,
        conflate: bool = True,
        schema: Use | None = None,
        record: RecordTo | RecordEach | None = None,
        open_timeout: float | None = 10.0,
        close_timeout: float = 2.0,
        keepalive_interval: float | None = 20.0,
        keepalive_timeout: float | None = 20.0,
        max_transit: float | None = 0.5,
    ) -> Opening[Self]:
        """Connect to a server; await the result, or use it in ``async with``.

        The server may accept the connection after this returns. Until then the server does not count this
        client, and does not send to it: see ``Server.wait_clients``.

        Parameters
        ----------
        addr : str or tuple
            As for `WsClient.connect`, but without URLs.
        sock, server_hostname, max_inbox, conflate, record
            As for `WsClient.connect`.
        proxy : str, optional
            ``"http://host:port"`` or ``"http://user:password@host:port"``: an HTTP proxy that is asked for a
            tunnel (CONNECT). The environment's proxies are not used.
        ssl : ssl.SSLContext or bool, optional
            TLS; True makes a default context.
        max_message_size : int
            Limit in bytes for one encoded message, sent or received, at most 2**32 - 1. If the server
            announces a larger one, ``recv`` raises `MessageTooLarge` and the connection is closed.
        schema : {"check", "require"} or None
            None: schemas are not exchanged. An older server, or another program, closes the connection of a
            client that announces schemas. ``check`` and ``require`` mean the same here: announce the schemas
            of `Down` and `Up`. If the server's schemas differ, values are read by the server's schema, or
            `SchemaMismatch` is raised.
        open_timeout : float or None
            Seconds for resolving, connecting and TLS together.
        close_timeout : float
            Seconds to wait for the server to close its end of a closed connection.
        keepalive_interval, keepalive_timeout : float or None
            TCP keepalive: seconds without received data after which the operating system probes the server,
            and seconds to wait for an answer. Whole seconds, as TCP counts them. None: never. A server with
            which schemas are exchanged is asked by a control text as well, and answers itself.
        max_transit : float or None
            As for `Server.bind`, for what this client sends. Only with ``schema="check"``.

        Raises
        ------
        SchemaMismatch
            `Down` cannot be read from what the server sends.
        ConnectionClosed
            The client announced schemas, and the server does not exchange schemas.
        IoError
            The connection was refused (also `ConnectionRefusedError`) or timed out (also `TimeoutError`), or
            TLS or DNS failed.
        TypeError, ValueError
            A type that cannot be encoded, or an invalid address.
        """
        down, up = cls._codecs("connect(addr)")
        address = address_of_peer(addr, sock) or parse_address(addr)  # type: ignore[arg-type]
        if address.port == 0 and unix_path(address) is None:
            raise ValueError(f"cannot connect to port 0: {addr!r}")
        way = check_way(address, sock=sock, proxy=proxy, server_hostname=server_hostname, secure=bool(ssl))

        async def connect() -> Self:
            loop = running_loop(f"{cls.__name__}.connect()")
            deadline = None if open_timeout is None else loop.time() + open_timeout
            context = ssl_module.create_default_context() if ssl is True else ssl or None
            self: Self = bare(cls)
            self._start(
                "tcp",
                down,
                up,
                # The largest length announces schemas, where they are exchanged.
                max_message_size=max_message_size if schema is None else min(max_message_size, MARKER - 1),
                max_inbox=max_inbox,
                conflate=conflate,
                schema=schema,
                close_timeout=close_timeout,
                ping_interval=keepalive_interval,
                ping_timeout=keepalive_timeout,
                max_transit=max_transit,
            )
            early = self._record_early(record)
            made: socket.socket | None = None
            waiting = "before the connection was made"
            opened = Waiter(loop)

            def on_opened(stream: TcpLink) -> None:
                if opened.done():
                    return
                if stream.failure is None:
                    opened.succeed()
                elif isinstance(stream.failure, OSError):
                    opened.fail(IoError.of(stream.failure, f"connect to {address}"))
                else:
                    opened.fail(stream.failure)

            async def discard() -> None:
                stream.discard()
                for _ in range(4):  # turns for connection_made, abort and the transport's close, and one more
                    await asyncio.sleep(0)

            def stage() -> str:
                return waiting if made is None else "in the TLS handshake"

            def on_stage(name: str) -> None:
                nonlocal waiting
                waiting = name

            stream = TcpLink(self, ReadBuffer(loop), on_opened)
            try:
                async with connecting(address, open_timeout, stage=stage, discard=discard):
                    made = await open_socket(
                        loop, address, sock=sock, proxy=way, secure=context is not None, on_stage=on_stage
                    )
                    try:
                        attaching = attach_connected(
                            loop,
                            made,
                            stream,
                            address=address,
                            ssl=context,
                            server_hostname=server_hostname,
                            is_made=opened.done,
                        )
                    except BaseException:  # no memory for the call; the socket has no owner yet
                        close_unwatched(loop, made)
                        raise
                    await attaching
                    await opened
            except BaseException:
                stream.discard()  # again, in case memory was short the first time
                raise
            if self.terms is not None:
                await self._agree(address, deadline)
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
        on_connect: OnLinked | None = None,
        on_disconnect: OnDisconnected | None = None,
        on_gap: OnGap | None = None,
        on_reconnect: OnReconnect | None = None,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
        **options: Unpack[TcpConnectOptions],
    ) -> Stream[Down, Up]:
        """Receive from a server and send to it, and reconnect when the connection is lost.

        ::

            async with Client[Status, Command].stream("robot:8081") as link:
                async for status in link:
                    link.send_nowait(Command(0.5))

        Parameters
        ----------
        addr : str or tuple
            As for `connect`.
        on_connect, on_disconnect, on_gap, on_reconnect, first_delay, max_delay
            As for `WsClient.stream`. TCP has no close codes: the stream reconnects after every end. Only with
            ``schema="check"`` the server tells of gaps.
        **options
            As for `connect`.

        Returns
        -------
        Stream
            An asynchronous iterator; see there for what ends it.

        Raises
        ------
        TypeError, ValueError
            As `connect` does, and at once.
        """
        _, up = cls._codecs("stream(addr)")
        check_options(f"{cls.__name__}.stream()", options, TcpConnectOptions.__annotations__)
        cls.connect(addr, **options).close()  # for its errors; nothing has begun
        return Stream(
            lambda: cls.connect(addr, **options),
            on_connect=on_connect,
            on_disconnect=on_disconnect,
            on_gap=on_gap,
            on_reconnect=on_reconnect,
            first_delay=first_delay,
            max_delay=max_delay,
            terminal=(),
            has_up=up is not None,
            call="Client.stream()",
        )
