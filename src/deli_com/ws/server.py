"""`WsServer`: typed values to every WebSocket client, and from any."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import weakref
from collections.abc import Sequence
from typing import Any, Self

from picows import WSListener

from deli_com._peer import Peer
from deli_com.address import AddressLike, open_listener
from deli_com.opening import Opening
from deli_com.server_base import ServerBase
from deli_com.typed import Down, Up
from deli_com.ws.handshake import Acceptor, Refusal
from deli_com.ws.head import HeadersLike
from deli_com.ws.origins import Origins
from deli_com.ws.service import Authorize, Request, Service, at_path

__all__ = ["WsServer"]


class WsServer(ServerBase[Down, Up]):
    """A WebSocket server that broadcasts values of one type and receives values of another.

    ``WsServer[T]`` sends and receives `T`; ``WsServer[Down, Up]`` sends `Down` and receives
    `Up`; ``WsServer[Down, None]`` only sends. Open one with `bind`.
    """

    @classmethod
    def bind(
        cls,
        addr: AddressLike,
        *,
        path: str | None = None,
        ssl: ssl_module.SSLContext | None = None,
        max_backlog: int = 16 << 20,
        max_message_size: int = 64 << 20,
        max_inbound: int | None = None,
        max_clients: int | None = None,
        open_timeout: float | None = 10.0,
        progress_timeout: float = 10.0,
        close_timeout: float = 2.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        origins: Origins | None = None,
        authorize: Authorize | None = None,
        subprotocols: Sequence[str] = (),
        response_headers: HeadersLike = (),
    ) -> Opening[Self]:
        """Listen at `addr`; await the result, or use it in ``async with``.

        Parameters
        ----------
        addr : str or tuple
            ``"host:port"``, ``"[v6]:port"``, ``(host, port)`` or what ``local_addr()``
            returned; port 0 lets the system choose.
        path : str, optional
            Serve at this path only (404 elsewhere); any path if None.
        ssl : ssl.SSLContext, optional
            Speak TLS.
        max_backlog : int
            Bytes of queued messages at which a client that lags is closed (1013). One message
            alone never is too much.
        max_message_size : int
            Bytes of one encoded message, both ways.
        max_inbound : int, optional
            Bytes that all clients together may have sent and nobody has received yet: incomplete
            messages, and values that wait for ``recv``. Beyond it the clients with most of them are
            closed (1009), and those values dropped. 256 MiB if None, or four times
            ``max_message_size`` where that is more.
        max_clients : int, optional
            Further clients are answered 503.
        open_timeout : float or None
            Seconds from accept to the end of the handshake.
        progress_timeout : float
            Seconds in which a client that lags must take a byte, else it is closed (1013).
        close_timeout : float
            Seconds that a closed connection is given to answer.
        ping_interval, ping_timeout : float or None
            Seconds of silence after which the peer is sent a PING, and that it then has for any
            sign of life before the connection is closed (1011). None: never.
        origins : collection of str, or callable, optional
            Web pages that may connect, besides those of this host. Programs send no Origin.
        authorize : callable, optional
            ``(request)``, may be async: None or True accept, False is 403, ``(status, text)``.
        subprotocols : sequence of str
            The first that the client offers too is chosen.
        response_headers : mapping or pairs
            Go into the answer.

        Raises
        ------
        IoError
            The address is in use, may not be bound, or does not resolve (when awaited).
        TypeError, ValueError
            A type without a wire form, or no address.
        """
        down, up = cls._codecs("bind(addr)")

        async def bind() -> Self:
            sock = await open_listener(addr)
            try:
                self = cls.__new__(cls)
                self._start(
                    sock,
                    "ws-server",
                    down,
                    up,
                    max_backlog=max_backlog,
                    max_message_size=max_message_size,
                    max_inbound=max_inbound,
                    progress_timeout=progress_timeout,
                    close_timeout=close_timeout,
                    ping_interval=ping_interval,
                    ping_timeout=ping_timeout,
                )
                service = Service(
                    make_listener=_listeners(self),
                    max_frame_size=max_message_size,
                    max_clients=max_clients,
                    client_count=_count(self),
                    origins=origins,
                    authorize=authorize,
                    subprotocols=subprotocols,
                    response_headers=response_headers,
                )
                self._acceptor = Acceptor(sock, at_path(path, service), ssl=ssl, open_timeout=open_timeout)
            except BaseException:
                sock.close()
                raise
            return self

        bind.__qualname__ = f"{cls.__name__}.bind"  # for Python's own warning if it is never awaited
        return Opening(bind(), f"{cls.__name__}.bind({addr!r})")


# The acceptor lives in the event loop and must not keep a forgotten server alive.


def _listeners(server: WsServer[Any, Any]) -> Any:
    found = weakref.ref(server)

    def make_listener(request: Request, transport: asyncio.Transport) -> WSListener | Refusal:
        server = found()
        if server is None or server._is_ended():
            return Refusal(503, "the server is closing")
        return Peer(server, request.remote, request).listener()

    return make_listener


def _count(server: WsServer[Any, Any]) -> Any:
    found = weakref.ref(server)

    def client_count() -> int:
        server = found()
        return 0 if server is None else server.client_count()

    return client_count
