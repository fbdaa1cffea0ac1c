"""`WsServer`: sends typed values to all WebSocket clients, and receives from them."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from picows import WSListener

from deli_com.asgi.application import AsgiApplication, NoPort
from deli_com.fanout.construction import bare
from deli_com.link.events import OnConnect, OnDisconnect
from deli_com.link.peer import Peer
from deli_com.link.request import Answer, Request
from deli_com.link.ws_intake import WsLinkListener
from deli_com.link.ws_link import WsLink
from deli_com.net.address import NOT_GIVEN, AddressLike, NotGiven
from deli_com.net.listener import check_listening, open_listener
from deli_com.net.options import checking_options, one_checked
from deli_com.net.proxy_protocol import Trust
from deli_com.opening import Opening, running_loop
from deli_com.recordable import RecordTo
from deli_com.schema.control import HEADER, MAX_BYTES, QUERY, parse_query
from deli_com.schema.terms import Terms, Use
from deli_com.server_base import ServerBase
from deli_com.typed import Down, Up
from deli_com.types.delivery import Policy
from deli_com.ws.forwarded import ForwardedHeader, Forwarding
from deli_com.ws.head import HeadersLike, Refusal, checked_headers, checked_subprotocols
from deli_com.ws.origins import Origins, check_hosts, check_origins
from deli_com.ws.port import Port, check_path
from deli_com.ws.service import Authorize, Service
from deli_com.ws.site import Handler, Http, handler_of
from deli_com.ws.viewer import PageUse, with_page

if TYPE_CHECKING:
    from deli_com.backplane.protocol import Backplane
    from deli_com.link.endpoint import Pairs
else:  # `typing.get_type_hints` still finds the name
    Backplane = Any

__all__ = ["WsServer"]

FORWARDED_HEADER: ForwardedHeader = "x-forwarded-for"

# The options of `open_port` with their defaults. A server that shares a port cannot set them to other values.
OF_THE_PORT: Mapping[str, object] = {
    "sock": None,
    "mode": None,
    "reuse_port": False,
    "ssl": None,
    "open_timeout": NOT_GIVEN,
    "max_head_bytes": NOT_GIVEN,
    "proxy_protocol": None,
    "forwarded_from": None,
    "forwarded_header": NOT_GIVEN,
    "forwarded_host": False,
    "http": None,
    "http_authorize": None,
    "page": False,
    "hosts": None,
}


def _check_shared(addr: object, given: Mapping[str, Any]) -> None:
    if addr is None:
        for name, value in given.items():
            if value is not OF_THE_PORT.get(name, None if name == "path" else value):
                raise ValueError(f"{name} belongs to a port, and bind(None) has none")
        return
    if not isinstance(addr, ServerBase):
        return
    if not isinstance(addr, WsServer):
        raise TypeError(f"only a WsServer's port has paths to share, {addr!r} is none")
    for name, value in given.items():
        if value is not OF_THE_PORT.get(name, value):
            raise ValueError(f"{name} belongs to the port: give it to the bind of {addr!r}")


class WsServer(ServerBase[Down, Up]):
    """A WebSocket server that broadcasts values of one type and receives values of another.

    ``WsServer[T]`` sends and receives `T`; ``WsServer[Down, Up]`` sends `Down` and receives
    `Up`; ``WsServer[Down, None]`` only sends. Open one with `bind`.
    """

    _port: Port | None = None
    _service: Service | None = None
    _desk: Any = None  # Desk of its Foxglove viewers, or None

    if TYPE_CHECKING:  # types for clients that have a request

        @property
        def clients(self) -> frozenset[Peer]:
            """The set of clients connected now; making it takes time proportional to their number."""
            ...

        async def recv_from(self) -> tuple[Peer[Down], Up]:
            """Wait for one value; gives ``(peer, value)``."""
            ...

        def with_peer(self) -> Pairs[Up, Down, Request]:
            """Iterate over ``(peer, value)``: ``async for peer, value in server.with_peer()``."""
            ...

    @classmethod
    @checking_options({"ssl": "server_ssl"}, also=_check_shared)
    def bind(
        cls,
        addr: AddressLike | WsServer[Any, Any] | NotGiven | None = NOT_GIVEN,
        *,
        path: str | None = None,
        sock: socket.socket | None = None,
        mode: int | None = None,
        reuse_port: bool = False,
        ssl: ssl_module.SSLContext | None = None,
        proxy_protocol: Collection[str] | bool | None = None,
        forwarded_from: Collection[str] | bool | None = None,
        forwarded_header: ForwardedHeader = FORWARDED_HEADER,
        forwarded_host: bool = False,
        max_head_bytes: int = 16 * 1024,
        slow_client: Policy = "disconnect",
        max_backlog: int = 16 << 20,
        max_keys: int = 1 << 16,
        max_message_size: int = 64 << 20,
        max_inbound: int | None = None,
        max_clients: int | None = None,
        schema: Use | None = "check",
        open_timeout: float | None = 10.0,
        progress_timeout: float | None = 10.0,
        close_timeout: float = 2.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        max_transit: float | None = 0.5,
        origins: Origins | None = None,
        authorize: Authorize | None = None,
        subprotocols: Sequence[str] = (),
        response_headers: HeadersLike = (),
        record: RecordTo | None = None,
        foxglove: bool | Literal["publish"] = False,
        backplane: Backplane | None = None,
        http: Http | None = None,
        http_authorize: Authorize | None = None,
        page: PageUse = False,
        hosts: Collection[str] | None = None,
        on_connect: OnConnect | None = None,
        on_disconnect: OnDisconnect | None = None,
    ) -> Opening[Self]:
        """Listen at `addr`; await the result, or use it in ``async with``.

        Several servers may share one port, each at a path of its own::

            async with (
                WsServer[Video].bind("0.0.0.0:8765", path="/video") as video,
                WsServer[State, Command].bind(video, path="/state") as state,
            ):

        The port belongs to the server that was bound to an address. When that server closes (or is
        garbage-collected), no client can connect to any of them. Each keeps its own clients. When one of the
        other servers closes, its path is free again.

        Parameters
        ----------
        addr : str, tuple or WsServer
            ``"host:port"``, ``"[v6]:port"``, ``"unix:/path"``, ``(host, port)`` or what ``local_addr()``
            returned; port 0 lets the system choose. A name stands for all its addresses, with one port. An
            open server shares its port. None: no port, for a server that only `asgi` leads to.
        path : str, optional
            Serve only this path, percent-encoded as on the wire. None: serve every path that no other server
            on this port serves; one server of a port may do so. Other paths are answered 404.
        sock : socket.socket, optional
            A bound socket, in place of `addr`; it may listen already. The server takes ownership of it.
        mode : int, optional
            Permissions of the path of a Unix socket; 0o600 if None.
        reuse_port : bool
            Let other processes listen on the same port, if they set ``SO_REUSEPORT`` too.
        ssl : ssl.SSLContext, optional
            Use TLS. This option belongs to the port, as do `sock`, `mode`, `reuse_port`, `proxy_protocol`,
            `forwarded_from`, `forwarded_header`, `forwarded_host`, `max_head_bytes`, `open_timeout`, `http`,
            `http_authorize`, `page` and `hosts`: they cannot be given if `addr` is a server.
        proxy_protocol : list of str, or True, optional
            Networks of load balancers that send the client's address by the PROXY protocol, version 1 or 2.
            True means loopback and Unix sockets. Connections from these networks must begin with the header;
            from any other address the header is refused.
        forwarded_from : list of str, or True, optional
            Networks of HTTP proxies that send the client's address in a header. True means loopback and Unix
            sockets. `remote_addr` is then the right-most address of the header that is not in these networks,
            and `via` is the proxy's. The headers of all other peers are ignored.
        forwarded_header : {"x-forwarded-for", "forwarded"}
            The header that these proxies set. The other one is ignored, because proxies pass on what the
            client wrote there.
        forwarded_host : bool
            Take host and scheme from these proxies, too, from ``X-Forwarded-Host`` and ``X-Forwarded-Proto``,
            or from ``Forwarded``. They are used for `request.host`, `request.secure` and the rule for web
            pages. Set this only for proxies that set these headers.
        max_head_bytes : int
            Limit in bytes for the head of a request; a longer one is answered 431.
        slow_client : {"disconnect", "wait", "skip", "latest"}
            Policy of types that declare none, for clients that are behind. ``disconnect``: the client gets
            every message, or is closed. ``wait``: the same, and an awaited send also waits for the slowest
            client. ``skip``: the client gets the last `max_backlog` bytes. ``latest``: the client gets the
            newest message of each type.
        max_backlog : int
            Bytes of queued messages at which a client that is behind is closed (1013). A single message never
            exceeds the limit by itself.
        max_keys : int
            Limit on keys of ``latest`` messages, over all types and groups; a further key raises
            `BacklogFull`.
        max_message_size : int
            Limit in bytes for one encoded message, sent or received.
        max_inbound : int, optional
            Limit on received bytes waiting for ``recv``, all clients together, incomplete messages
            included. Past it, the client holding most is closed (1009) and its values are dropped.
            256 MiB if None, or four times ``max_message_size`` where that is more.
        max_clients : int, optional
            Further clients are answered 503.
        schema : {"check", "require"} or None
            ``check``: clients that announce their schemas get the server's, and their values are read by
            their schema or refused. Clients that announce none are served without a check. ``require``:
            clients that announce none are answered 428. None: schemas are not exchanged.
        open_timeout : float or None
            Seconds from accept to the end of the handshake. It belongs to the port, as `ssl` does.
        progress_timeout : float or None
            Seconds after which a client that is behind and accepts no byte is closed (1013). None: never.
        close_timeout : float
            Seconds to wait for a client's answer when its connection is closed.
        ping_interval, ping_timeout : float or None
            Seconds without received data after which a PING is sent, and seconds to wait then for any data
            before the connection is closed (1011). None: never.
        max_transit : float or None
            Seconds that messages of policy ``latest`` and ``skip`` may wait on their way to a client, in
            buffers of proxies and systems. It is measured by PINGs. The rest waits here, where newer messages
            replace older ones. Reliable messages have a quarter of `ping_timeout`. None: no bound, and only
            the PINGs of `ping_interval`.
        origins : collection of str, or callable, optional
            Web pages that may connect, besides those of this host: ``"https://dash.example"``,
            ``"https://*.dash.example"`` for all names below one, ``"*"``. Programs send no Origin.
        authorize : callable, optional
            ``(request)``, may be async. It returns None or True to accept, False to answer 403, or ``(status,
            text)``.
        subprotocols : sequence of str
            The server chooses the first one that the client offers.
        response_headers : mapping or pairs
            Headers for the 101 response.
        record : path or mapping, optional
            Record to this file from the first message on, as the method `record` does. A mapping gives the
            arguments of `record` by name.
        foxglove : bool or "publish"
            Serve viewers as well: Foxglove, Lichtblick, and others that offer the subprotocol
            ``foxglove.sdk.v1`` or ``foxglove.websocket.v1``. They are clients, to whom `authorize`, `origins`
            and `max_clients` apply, but not ``schema="require"``. Name the page of a hosted viewer in
            `origins`.
            ``"publish"``: they may send values, too.
        backplane : Backplane, optional
            What other servers of the same room send reaches the clients of this one, and the other way round:
            `deli_com.backplane.Nats`. Messages to one client stay here, as do groups whose name is no str.
        http : callable or mapping, optional
            Serve plain HTTP on this port as well, to a GET or HEAD that asks for no WebSocket. A function
            ``(request)``, may be async, returns a `Response`, or None for 404. A mapping gives bytes, a file,
            a folder or such a function for each path. It belongs to the port, as `ssl` does. **Such requests
            do not pass** `authorize` **nor** `origins`; see `http_authorize`.
        http_authorize : callable, optional
            As `authorize`, for what `http` and `page` serve.
        page : bool or "send"
            Serve a page at ``/`` that shows the values of this server: the newest of each class and key,
            plots, pictures and tables. It passes its own query string on to the stream. ``"send"``: with a
            form that sends values to the server; requests are then taken as `hosts` says.
        hosts : collection of str, optional
            Names that requests may be addressed to (``Host``), besides IP addresses and localhost; others
            are answered 403. None: any; with ``page="send"``: no name, against DNS rebinding.
        on_connect : callable, optional
            ``(peer)``, called when a client is counted, before anything is received from it. Messages sent in
            this call come before all later messages.
        on_disconnect : callable, optional
            ``(peer, why)`` with a `Departure`, called once for each client that ``on_connect`` was called
            for, after the client has disconnected for any reason. Messages from it may still wait for
            ``recv``.

            Both may be coroutine functions, which run as tasks of the server. Their errors are logged.

        Raises
        ------
        IoError
            The address is in use, may not be bound, or does not resolve (when awaited).
        TypeError, ValueError
            A type that cannot be encoded; an invalid address, or both an address and a socket; an invalid
            path, or one that is in use; an option of the port, or a TCP `Server`, if a port is shared.
        RuntimeError
            The server to share with is closed, or belongs to another event loop.
        """
        down, up = cls._codecs("bind(addr)")
        checked_subprotocols(subprotocols)
        viewers = _viewer_protocols(subprotocols, foxglove, up) if foxglove else ()
        checked_headers(response_headers, "response_headers")
        check_origins(origins)
        check_path(path)
        forwarding = _forwarding(proxies=forwarded_from, header=forwarded_header, has_host=forwarded_host)
        if page and schema is None:
            raise ValueError("page needs to be told what it shows, which schema=None does not")
        handler = _handler(http, http_authorize, page, path)
        named = () if hosts is None and page == "send" else hosts
        check_hosts(named or ())
        given: Any = addr  # by a relay also a Port, which outlives its servers
        if addr is not None and not isinstance(given, (ServerBase, Port)):
            check_listening(addr, sock, mode=mode, reuse_port=reuse_port)

        async def bind() -> Self:
            running_loop(f"{cls.__name__}.bind()")
            owner: Port | None = None
            port: Port | None = None
            if isinstance(addr, WsServer):
                port = _port_of(addr)
            elif isinstance(given, Port):
                port = given
            elif addr is not None:
                owner = port = Port(
                    await open_listener(addr, sock=sock, mode=mode, reuse_port=reuse_port),
                    ssl=ssl,
                    open_timeout=open_timeout,
                    max_head_bytes=max_head_bytes,
                    proxy_protocol=cast(Trust, proxy_protocol),
                    forwarding=forwarding,
                    http=handler,
                    http_authorize=http_authorize,
                    hosts=named,
                    has_page=bool(page),
                )
            try:
                if port is not None:
                    port.check(path)
                self: Self = bare(cls)
                self._start(
                    () if port is None else port.addresses,
                    "ws-server",
                    down,
                    up,
                    slow_client=slow_client,
                    max_backlog=max_backlog,
                    max_keys=max_keys,
                    max_message_size=max_message_size,
                    max_inbound=max_inbound,
                    schema=schema,
                    progress_timeout=progress_timeout,
                    close_timeout=close_timeout,
                    ping_interval=ping_interval,
                    ping_timeout=ping_timeout,
                    max_transit=max_transit,
                    on_connect=on_connect,
                    on_disconnect=on_disconnect,
                )
                self._record_from_start(record)
                if foxglove:
                    from deli_com.foxglove.desk import Desk

                    self._desk = Desk(self, foxglove == "publish")
                if backplane is not None:
                    from deli_com.backplane.node import Node

                    self._node = Node(self, backplane)
                self._service = service = Service(
                    make_listener=_listeners(self),
                    max_frame_size=max_message_size,
                    client_count=_count(self),
                    max_clients=max_clients,
                    origins=origins,
                    authorize=authorize,
                    subprotocols=subprotocols,
                    viewer_protocols=viewers,
                    response_headers=response_headers,
                )
                at_path = NoPort() if port is None else port.add(path, service)
            except BaseException:
                if owner is not None:
                    owner.close()
                raise
            self._port, self._path = port, path or ""
            self._acceptor = owner or at_path
            return self

        bind.__qualname__ = f"{cls.__name__}.bind"  # shown in Python's warning if it is never awaited
        return Opening(bind(), f"{cls.__name__}.bind({sock if addr is NOT_GIVEN else addr!r})", cls)

    def asgi(self) -> AsgiApplication:
        """Return an ASGI application that makes each WebSocket a client of this server.

        It is for Starlette, FastAPI, Quart and others, under uvicorn, hypercorn or another server, at any
        path (``app.mount("/live", server.asgi())``). Origins, `authorize`, policies, limits, groups and
        schemas hold as on a port of the server's own; ``request.scope`` is the ASGI scope. TLS, pings to
        clients, and the limit of one message are the ASGI server's business too. It must run in the event
        loop that the server was opened in. ``bind(None)`` opens a server without a port.
        """
        found = weakref.ref(self)

        def find() -> tuple[Service, asyncio.AbstractEventLoop] | None:
            server = found()
            if server is None or server._is_ended() or server._service is None:
                return None
            server._check_process("an ASGI application")
            return server._service, server.loop

        return AsgiApplication(find)

    def _turned_away(self) -> dict[int, int]:
        return {} if self._port is None else self._port.turned_away()


async def open_port(
    addr: AddressLike,
    *,
    sock: socket.socket | None = None,
    mode: int | None = None,
    reuse_port: bool = False,
    ssl: ssl_module.SSLContext | None = None,
    open_timeout: float | None = 10.0,
    max_head_bytes: int = 16 * 1024,
    proxy_protocol: Collection[str] | bool | None = None,
    forwarded_from: Collection[str] | bool | None = None,
    forwarded_header: ForwardedHeader = FORWARDED_HEADER,
    forwarded_host: bool = False,
    http: Http | None = None,
    http_authorize: Authorize | None = None,
    page: PageUse = False,
    hosts: Collection[str] | None = None,
) -> Port:
    """Open a port with nothing on it yet. Its options are those of `WsServer.bind` in `OF_THE_PORT`."""
    return Port(
        await open_listener(addr, sock=sock, mode=mode, reuse_port=reuse_port),
        ssl=ssl,
        open_timeout=open_timeout,
        max_head_bytes=max_head_bytes,
        proxy_protocol=one_checked("proxy_protocol", proxy_protocol),
        forwarding=_forwarding(
            proxies=one_checked("forwarded_from", forwarded_from),
            header=forwarded_header,
            has_host=forwarded_host,
        ),
        http=_handler(http, http_authorize, page, None),
        http_authorize=http_authorize,
        hosts=() if hosts is None and page == "send" else hosts,
        has_page=bool(page),
    )


def _handler(
    http: Http | None, http_authorize: Authorize | None, page: PageUse, path: str | None
) -> Handler | None:
    if page:
        return with_page(http, page, path)
    if http is None and http_authorize is not None:
        raise ValueError("http_authorize is given without http=")
    return None if http is None else handler_of(http)


def _forwarding(*, proxies: Any, header: ForwardedHeader, has_host: bool) -> Forwarding:
    if proxies is None and (header != FORWARDED_HEADER or has_host):
        name = "forwarded_host" if has_host else "forwarded_header"
        raise ValueError(f"{name} is given without forwarded_from=")
    return Forwarding(proxies, header, has_host)


def _viewer_protocols(others: Sequence[str], foxglove: bool | str, up: Any) -> tuple[str, ...]:
    from deli_com.foxglove.protocol import SUBPROTOCOLS

    for name in SUBPROTOCOLS:
        if name in others:
            raise ValueError(f"subprotocols has {name!r}, which foxglove={foxglove!r} speaks already")
    if foxglove == "publish" and up is None:
        raise ValueError('foxglove="publish" lets viewers send values, but this server receives none')
    return SUBPROTOCOLS


def _port_of(server: WsServer[Any, Any]) -> Port:
    server._check_home("bind")
    port = server._port
    if port is None and server._service is not None and not server._is_ended():
        raise RuntimeError(f"{server!r} has no port that could be shared")
    if port is None or port.is_closed or server._is_ended():
        raise RuntimeError(f"{server!r} is closed, its port cannot be shared")
    if port.loop is not asyncio.get_running_loop():
        raise RuntimeError(f"{server!r} belongs to another event loop, its port cannot be shared")
    return port


# The event loop holds the acceptor, which must not keep an unreferenced server alive.


def _listeners(server: WsServer[Any, Any]) -> Any:
    found = weakref.ref(server)

    def make_listener(request: Request, transport: asyncio.Transport) -> WSListener | Refusal:
        server = found()
        if server is None or server._is_ended():
            return Refusal(503, "the server is closing")
        if server._desk is not None and request.subprotocol in server._desk.subprotocols:
            return WsLinkListener(server._desk.viewer(server, request))
        peer = WsLink(server, request.remote, request)
        if server.terms is not None:
            refusal = _greet(server.terms, request, peer)
            if refusal is not None:
                return refusal
        return WsLinkListener(peer)

    return make_listener


def _greet(terms: Terms, request: Request, peer: WsLink) -> Refusal | None:
    """Process what the request says about schemas, and tell both ends."""
    lines = request.headers.getall(HEADER, [])
    try:
        if len(lines) > 1:
            raise ValueError(f"more than one {HEADER} header")
        if lines:
            announcement = terms.read_header(lines[0])
        else:
            announcement = parse_query(request.query) if request.query else None
    except ValueError as error:
        return Refusal(400, f"{HEADER}: {error}")
    if announcement is None:
        return None if terms.use == "check" else Refusal(428, _REQUIRED)
    peer.announce(announcement, not lines)
    headers = ((HEADER, terms.header),) if lines else ()
    request._answer = Answer(headers, MAX_BYTES)
    return None


_REQUIRED = f"announce your schema: a {HEADER} header, or ?{QUERY}=1.<down>.<up> (docs/wire.md section 10)"


def _count(server: WsServer[Any, Any]) -> Any:
    found = weakref.ref(server)

    def client_count() -> int:
        server = found()
        return 0 if server is None else server.client_count()

    return client_count
