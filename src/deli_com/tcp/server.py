"""`Server`: sends typed values to all TCP clients, and receives from them."""

from __future__ import annotations

import logging
import socket
import ssl as ssl_module
import weakref
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Self, cast

from deli_com.fanout.construction import bare
from deli_com.link.events import OnConnect, OnDisconnect
from deli_com.link.tcp_link import TcpLink
from deli_com.link.tcp_read_buffer import ReadBuffer
from deli_com.net.address import NOT_GIVEN, AddressLike, NotGiven
from deli_com.net.listener import check_listening, open_listener
from deli_com.net.log_budget import LogBudget
from deli_com.net.options import checking_options
from deli_com.net.proxy_protocol import Trust
from deli_com.opening import Opening, running_loop
from deli_com.recordable import RecordTo
from deli_com.schema.control import MARKER
from deli_com.schema.terms import Use
from deli_com.server_base import ServerBase
from deli_com.tcp.acceptor import TcpAcceptor
from deli_com.typed import Down, Up
from deli_com.types.delivery import Policy

if TYPE_CHECKING:
    from deli_com.backplane.protocol import Backplane
    from deli_com.link.endpoint import Pairs
    from deli_com.link.peer import Peer
else:  # `typing.get_type_hints` still finds the name
    Backplane = Any

__all__ = ["Server"]


class Server(ServerBase[Down, Up]):
    """A TCP server that broadcasts values of one type and receives values of another.

    ``Server[T]`` sends and receives `T`; ``Server[Down, Up]`` sends `Down` and receives `Up`;
    ``Server[Down, None]`` only sends. Open one with `bind`.
    """

    if TYPE_CHECKING:  # types for clients without a request

        @property
        def clients(self) -> frozenset[Peer[Any, None]]:
            """The set of clients connected now; making it takes time proportional to their number."""
            ...

        async def recv_from(self) -> tuple[Peer[Down, None], Up]:
            """Wait for one value; gives ``(peer, value)``."""
            ...

        def with_peer(self) -> Pairs[Up, Down, None]:
            """Iterate over ``(peer, value)``: ``async for peer, value in server.with_peer()``."""
            ...

    @classmethod
    @checking_options({"ssl": "server_ssl", "max_message_size": "max_frame_bytes"})
    def bind(
        cls,
        addr: AddressLike | NotGiven = NOT_GIVEN,
        *,
        sock: socket.socket | None = None,
        mode: int | None = None,
        reuse_port: bool = False,
        ssl: ssl_module.SSLContext | None = None,
        proxy_protocol: Collection[str] | bool | None = None,
        slow_client: Policy = "disconnect",
        max_backlog: int = 16 << 20,
        max_keys: int = 1 << 16,
        max_message_size: int = 64 << 20,
        max_inbound: int | None = None,
        max_clients: int | None = None,
        schema: Use | None = "check",
        progress_timeout: float | None = 10.0,
        close_timeout: float = 2.0,
        record: RecordTo | None = None,
        backplane: Backplane | None = None,
        on_connect: OnConnect | None = None,
        on_disconnect: OnDisconnect | None = None,
        keepalive_interval: float | None = 20.0,
        keepalive_timeout: float | None = 20.0,
        max_transit: float | None = 0.5,
    ) -> Opening[Self]:
        """Listen at `addr`; await the result, or use it in ``async with``.

        Parameters
        ----------
        addr : str or tuple
            ``"host:port"``, ``"[v6]:port"``, ``"unix:/path"``, ``(host, port)`` or what ``local_addr()``
            returned; port 0 lets the system choose. A name stands for all its addresses, with one port.
        sock, mode, reuse_port, proxy_protocol, slow_client, max_keys, record, backplane
            As for `WsServer.bind`.
        on_connect, on_disconnect
            As for `WsServer.bind`.
        ssl : ssl.SSLContext, optional
            Use TLS.
        max_backlog : int
            Bytes of queued messages at which a client that is behind is reset. A single message never exceeds
            the limit by itself.
        max_message_size : int
            Limit in bytes for one encoded message, sent or received, at most 2**32 - 1. A client that
            announces a larger one is closed.
        max_inbound : int, optional
            As for `WsServer.bind`. Past it, the client holding most is closed and its values are dropped.
        max_clients : int, optional
            Further clients are closed at once.
        schema : {"check", "require"} or None
            As for `WsServer.bind`. ``require``: clients that announce no schema are closed.
        progress_timeout : float or None
            Seconds after which a client that is behind and accepts no byte is reset. None: never.
        close_timeout : float
            Seconds to wait for a client to close its end of a closed connection.
        keepalive_interval, keepalive_timeout : float or None
            TCP keepalive: seconds without received data after which the operating system probes the client,
            and seconds to wait for an answer. Whole seconds, as TCP counts them. None: never. A client that
            exchanges schemas is asked by a control text as well, and answers itself, also behind a proxy.
        max_transit : float or None
            As for `WsServer.bind`, for clients that exchange schemas. It is measured by control texts of 36
            bytes, which they answer. To other clients none is sent, and nothing is measured.

        Raises
        ------
        IoError
            The address is in use, may not be bound, or does not resolve (when awaited).
        TypeError, ValueError
            A type that cannot be encoded, an invalid address, or both an address and a socket.
        """
        down, up = cls._codecs("bind(addr)")
        check_listening(addr, sock, mode=mode, reuse_port=reuse_port)

        async def bind() -> Self:
            running_loop(f"{cls.__name__}.bind()")
            listener = await open_listener(addr, sock=sock, mode=mode, reuse_port=reuse_port)
            # The largest length announces schemas, where they are exchanged.
            most = max_message_size if schema is None else min(max_message_size, MARKER - 1)
            try:
                self: Self = bare(cls)
                self._start(
                    listener.addresses,
                    "tcp",
                    down,
                    up,
                    slow_client=slow_client,
                    max_backlog=max_backlog,
                    max_keys=max_keys,
                    max_message_size=most,
                    max_inbound=max_inbound,
                    schema=schema,
                    progress_timeout=progress_timeout,
                    close_timeout=close_timeout,
                    ping_interval=keepalive_interval,
                    ping_timeout=keepalive_timeout,
                    max_transit=max_transit,
                    on_connect=on_connect,
                    on_disconnect=on_disconnect,
                )
                self._record_from_start(record)
                if backplane is not None:
                    from deli_com.backplane.node import Node

                    self._node = Node(self, backplane)
                self._acceptor = TcpAcceptor(
                    listener, _streams(self, max_clients), ssl=ssl, proxy_protocol=cast(Trust, proxy_protocol)
                )
            except BaseException:
                listener.close()
                raise
            return self

        bind.__qualname__ = f"{cls.__name__}.bind"  # shown in Python's warning if it is never awaited
        return Opening(bind(), f"{cls.__name__}.bind({sock if addr is NOT_GIVEN else addr!r})", cls)


def _streams(
    server: Server[Any, Any], max_clients: int | None
) -> Callable[[Callable[[TcpLink], None], int], TcpLink | None]:
    """Make the factory of the server's links. The event loop holds it; it must not keep the server alive."""
    found = weakref.ref(server)
    buffer = ReadBuffer(server.loop)
    log = LogBudget(server.logger)

    def make_link(on_opened: Callable[[TcpLink], None], opening: int) -> TcpLink | None:
        server = found()
        if server is None or server._is_ended():
            return None
        if max_clients is not None and server.client_count() + opening >= max_clients:
            log.log(logging.WARNING, "refused a client: the limit of %d clients is reached", max_clients)
            return None
        return TcpLink(server, buffer, on_opened, log)

    return make_link
