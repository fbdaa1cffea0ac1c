"""`Relay`: passes on what one server sends to any number of clients, without the server's classes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import logging
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

from deli_com.coding.registry import codec
from deli_com.errors import ConnectionClosed
from deli_com.ground.home import Home
from deli_com.ground.waiter import Waiter
from deli_com.link.passing import Passing, send_as, tell, tell_missed
from deli_com.link.payload import forget_all
from deli_com.link.peer import Peer
from deli_com.link.request import Request
from deli_com.link.stats import ServerStats
from deli_com.net.address import Address, AddressLike
from deli_com.net.options import checked
from deli_com.opening import running_loop
from deli_com.relay.ends import reader_of, served_as
from deli_com.relay.given import checked_dial, checked_token, client_of, indices, is_here, texts, types_of
from deli_com.relay.keeping import keep_connected
from deli_com.relay.stats import NOTHING, RelayStats
from deli_com.relay.writing import GONE, LIVE, Writing
from deli_com.schema.control import Gap, Live, render
from deli_com.schema.question import Schemas
from deli_com.ws.port import Port
from deli_com.ws.response import Response
from deli_com.ws.server import OF_THE_PORT, WsServer, open_port
from deli_com.ws.service import Service

__all__ = ["Relay", "RelayStats"]

RESTART = 1012  # close code of RFC 6455's registry: the service restarts
DRAIN_S = 1.0  # for clients to take what is queued before they are told
MAX_UP_QUEUED = 8 << 20  # bytes of clients' messages that may wait for a slow upstream; more is lost

_log = logging.getLogger("deli_com.relay")


class Relay:
    """Serves what another server sends, as that server does; it needs none of its classes.

    ::

        async with Relay("ws://robot:8765", bind="0.0.0.0:9000") as relay:
            await relay.wait_closed()

    The schema, and with it the policies of the classes, come from upstream. Values pass as bytes; only the
    fields of a key are read. A client is served as by that server: it gets the retained values when it
    connects, and policies and limits apply to it. What clients send goes upstream. While upstream is away or
    too slow, it is dropped and counted (``stats().up_lost``).

    The relay listens once it knows the schema. It retries the first connection, and reconnects after each
    loss. Clients stay connected meanwhile, and get the text ``deli 1 gap``. Retained keys that upstream does
    not send again when it is back are forgotten. If its schema has changed, clients are closed (1012), and
    the new schema is served.

    Entering it (or awaiting it) waits until it listens. It belongs to the event loop that runs then.

    Parameters
    ----------
    url : str or None
        URL of the server: ``ws://``, ``wss://``, ``tcp://`` or ``tcps://``. None with `accept_dial`.
    bind : str or tuple
        Address for clients, as for `WsServer.bind`.
    connect : mapping, optional
        Options of `WsClient.connect`, or of `Client.connect` for TCP, by name: ``{"headers": …, "ssl": …}``.
    only : collection of str
        Names of classes; values of others are not passed on. Empty: all are.
    dial : str, optional
        URL of another relay, the hub. This relay connects to the hub and sends it the values: for a robot
        that nobody can connect to. ``ws://`` only to this machine.
    dial_options : mapping, optional
        Options of `WsClient.connect` for that.
    accept_dial : str, optional
        Path at which one such relay may connect, to be upstream. This relay then listens from the start, and
        answers 503 to clients until it knows a schema.
    token : str, optional
        Secret that the dialling relay sends and the hub compares. Required by `dial` and `accept_dial`.
    health : str or None
        Path of the health check: a GET is answered 200 while upstream is connected, else 503. Not available
        if `http` is a function.
    first_delay, max_delay : float
        Seconds between attempts to connect; the delay doubles from the first to the second, with jitter.
    **options
        Of `WsServer.bind`.

    Raises
    ------
    TypeError, ValueError
        An option is malformed, or does not go with the others.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        bind: AddressLike,
        connect: Mapping[str, Any] | None = None,
        only: Collection[str] = (),
        dial: str | None = None,
        dial_options: Mapping[str, Any] | None = None,
        accept_dial: str | None = None,
        token: str | None = None,
        health: str | None = "/healthz",
        first_delay: float = 0.1,
        max_delay: float = 5.0,
        **options: Any,
    ) -> None:
        checked(first_delay=first_delay, max_delay=max_delay)
        if (url is None) == (accept_dial is None):
            raise ValueError("give a URL or accept_dial: a relay has one upstream")
        if (token is None) == (dial is not None or accept_dial is not None):
            raise ValueError("dial and accept_dial need a token, and a token needs one of them")
        if isinstance(only, str):
            raise TypeError(f"only is a collection of names, not {only!r}")
        self.url = url
        self._bind = bind
        self._only = frozenset(only)
        self._delays = (first_delay, max_delay)
        self._token = None if token is None else checked_token(token)
        self._accept_dial = accept_dial
        self._writing: Writing | None = None
        if dial is not None and self._token is not None:
            self._writing = Writing(checked_dial(dial), self._token, dial_options or {}, self._delays, self)
        self._on_connect: Callable[[Peer], object] | None = options.pop("on_connect", None)
        self._connect = dict(connect or {})
        defaults = inspect.signature(WsServer.bind).parameters
        self._max_message_size = options.get("max_message_size", defaults["max_message_size"].default)
        http = options.get("http")
        if health is not None and (http is None or isinstance(http, Mapping)):
            options["http"] = {health: self._answer_health, **(http or {})}
        WsServer[bytes].bind(bind, on_connect=self._on_connect, **options).close()  # for its errors
        self._port_options = {name: options.pop(name) for name in OF_THE_PORT.keys() & options.keys()}
        self._options = options
        self._client_class: Any = None
        self._addr = ""
        if url is not None:
            self._client_class, self._addr = client_of(url, self._connect)
        # Upstream -> clients, and clients -> upstream.
        self._down = Passing(holds=True, told=self._heard)
        self._up = Passing(from_anyone=True, max_queued=MAX_UP_QUEUED)
        self._former_ups: list[Passing] = []  # of clients of former schemas, which are being closed
        self._before = [0, 0, 0]  # passed, lost, undecodable of those that were closed
        self._schemas: Schemas | None = None  # served now, or next
        self._types: tuple[Any, Any] = (None, None)  # made from the schemas
        self._is_served = False
        self._upstream: tuple[Any, Any] | None = None  # endpoint and link, while connected
        self._away_since: float | None = None  # on the loop's clock
        self._far_away = False  # upstream is a relay that has lost its own server
        self._is_resending = False  # upstream is sending its retained values again, until `deli 1 live`
        self._connects = self._generations = 0
        self._port: Port | None = None
        self._door: Any = None  # the server that upstream dials in to
        self._waiting_room: Any = None  # answers clients before there is a server
        self._server: WsServer[Any, Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._home: Home | None = None  # of that loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listening: Waiter | None = None
        self.changed = asyncio.Event()  # there is another server
        self._closed: Waiter | None = None
        self._ending: asyncio.Task[None] | None = None

    # --- for the program --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the relay, and return at once. Entering or awaiting the relay starts it, too."""
        self._check_home("relay.start()")
        if self._loop is not None:
            return
        self._loop = running_loop("Relay.start()")
        self._home = Home(self._loop)
        self._listening, self._closed = Waiter(self._loop), Waiter(self._loop)
        self._spawn(self._accept() if self.url is None else self._follow())
        if self._writing is not None:
            self._spawn(self._writing.run())

    async def wait_listening(self) -> None:
        """Wait until clients can connect.

        Raises
        ------
        IoError
            The address is in use, or may not be bound.
        ConnectionClosed
            The relay was closed before that.
        RuntimeError
            Called in another thread, event loop or process than that in which it was started.
        """
        self._check_home("relay.wait_listening()")
        self.start()
        assert self._listening is not None
        await asyncio.shield(self._listening)

    async def wait_closed(self) -> None:
        """Wait until the relay is closed. If an error has closed it, raise that error."""
        self._check_home("relay.wait_closed()")
        self.start()
        assert self._closed is not None
        await asyncio.shield(self._closed)

    @property
    def server(self) -> WsServer[Any, Any]:
        """The server that serves the clients now. After a change of the schema it is a new one.

        Raises
        ------
        RuntimeError
            No schema is known yet.
        """
        if self._server is None:
            raise RuntimeError("the relay does not know the schema yet: wait_listening()")
        return self._server

    @property
    def is_connected(self) -> bool:
        """Whether upstream is connected."""
        return self._upstream is not None

    def local_addr(self) -> Address:
        """Return the address that clients connect to.

        Raises
        ------
        RuntimeError
            The relay does not listen yet.
        """
        if self._port is None:
            raise RuntimeError("the relay does not listen yet: wait_listening()")
        return self._port.address

    def client_count(self) -> int:
        """Return the number of connected clients. Legal from any thread."""
        self._check_process("relay.client_count()")
        return 0 if self._server is None else self._server.client_count()

    def stats(self) -> RelayStats:
        """Return the counters of the server and of the relay. Legal from any thread."""
        self._check_process("relay.stats()")
        served = NOTHING if self._server is None else self._server.stats()
        away = 0.0
        if self._away_since is not None and self._loop is not None:
            away = self._loop.time() - self._away_since
        up_passed, up_lost, undecodable = self._up_counts([self._up, *self._former_ups])
        return RelayStats(
            **{field.name: getattr(served, field.name) for field in fields(ServerStats)},
            connected=self._upstream is not None,
            away_s=away,
            connects=self._connects,
            passed=self._down.passed,
            lost=self._down.lost,
            up_passed=up_passed,
            up_lost=up_lost,
            undecodable=self._down.undecodable + undecodable,
            schemas=self._generations,
        )

    async def close(self) -> None:
        """Stop: clients get the queued messages, then 1001. May be called again."""
        self._check_home("relay.close()")
        if self._loop is None:
            return
        if self._ending is None:
            self._ending = self._loop.create_task(self._close(None))
        await asyncio.shield(self._ending)

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        try:
            await self.wait_listening()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = "not listening" if self._port is None else f"at {self._port.address}"
        return f"<Relay of {self.url or f'the relay at {self._accept_dial}'}, {where}>"

    def current(self) -> tuple[WsServer[Any, Any] | None, Passing, Passing, bool]:
        """For `Writing`: the server, the two `Passing`, and whether upstream is away."""
        return self._server, self._down, self._up, self._is_away

    def _check_home(self, what: str) -> None:
        if self._home is not None:
            self._home.refuse_others(what)

    def _check_process(self, what: str) -> None:
        if self._home is not None:
            self._home.refuse_child(what)

    @property
    def _is_away(self) -> bool:
        return self._away_since is not None or self._far_away

    # --- tasks ------------------------------------------------------------------------------------------

    def _spawn(self, work: Any) -> None:
        assert self._loop is not None
        task: asyncio.Task[Any] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        assert self._loop is not None and self._listening is not None
        if not self._listening.done():
            self._listening.fail(error)
        if self._ending is None:
            self._ending = self._loop.create_task(self._close(error))

    async def _close(self, error: BaseException | None) -> None:
        assert self._listening is not None and self._closed is not None
        if not self._listening.done():
            self._listening.fail(ConnectionClosed(1001, "the relay is closed"))
        with contextlib.suppress(BaseException):
            self._listening.result()  # otherwise asyncio logs an exception that was never retrieved
        port, server, door = self._port, self._server, self._door
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            if port is not None:
                port.close()
            for each in (server, door):
                if each is not None:
                    await each.close()
            if port is not None:
                await port.wait_closed()
        finally:
            self._lose()
            self._down.drop()
            self._up.drop()
            if error is None:
                self._closed.succeed()
            else:
                self._closed.fail(error)
                with contextlib.suppress(BaseException):
                    self._closed.result()

    # --- upstream ---------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Connect to the server, and reconnect after each loss."""
        assert self._client_class is not None
        cls = reader_of(self._client_class, self._down, self._told)
        options = {"max_message_size": self._max_message_size, **self._connect, "schema": "require"}

        def begin(client: Any) -> None:
            _log.info("%s is upstream", self.url)

        await keep_connected(
            f"upstream {self.url}",
            lambda: cls.connect(self._addr, **options),
            begin,
            self._lose,
            self._delays,
        )

    async def _accept(self) -> None:
        """Listen for the relay that dials in, and for clients."""
        assert self._loop is not None and self._listening is not None
        self._port = await open_port(self._bind, **self._port_options)
        cls = reader_of(WsServer, self._down, self._told)
        given: Any = self._port
        self._door = await cls.bind(
            given,
            path=self._accept_dial,
            authorize=self._may_dial,
            max_message_size=self._max_message_size,
            progress_timeout=None,  # a slow upstream only loses clients' messages; PINGs detect a dead one
            on_connect=lambda peer: None,
            on_disconnect=self._dialled_gone,
        )
        self._wait_for_schema()
        self._listening.succeed()
        await Waiter(self._loop)  # until it is cancelled: the port accepts

    def _may_dial(self, request: Request) -> tuple[int, str] | None:
        shown = request.headers.getall("Authorization", [])
        wanted = f"Bearer {self._token}".encode()
        if len(shown) != 1 or not hmac.compare_digest(shown[0].encode("utf-8", "replace"), wanted):
            return 401, "the token is missing or wrong"
        if not request.secure and not is_here(request.remote):
            return 403, "from another machine, dial in by wss://"
        if self._door is None or self._door.client_count():
            return 409, "another relay is upstream already"
        return None

    def _dialled_gone(self, peer: Any, why: Any) -> None:
        if self._upstream is not None and self._upstream[1] is peer:
            _log.warning("upstream %s is gone: %s", peer.remote_addr, why.reason)
            self._lose()

    def _told(self, endpoint: Any, schemas: Schemas) -> None:
        """Upstream has sent its schemas, and values follow. Raises ValueError if they cannot be served."""
        assert self._loop is not None
        if self._upstream is not None:  # its end was not reported yet
            self._lose()
        if self._schemas is None or texts(schemas) != texts(self._schemas):
            self._types = types_of(schemas, self._only)
            self._schemas, self._is_served = schemas, False
            self._down.drop_held()
            self._down.close()
            self._replace_up()
            self._spawn(self._serve())
        self._upstream = (endpoint, endpoint._connections()[0])
        self._connects += 1
        if schemas.up is not None:
            send_as(endpoint, codec(self._types[1]))
            self._up.open(endpoint)
        away, self._away_since = self._away_since, None
        if self._is_served:
            self._far_away = False
            self._begin_resend(0.0 if away is None else self._loop.time() - away)

    def _replace_up(self) -> None:
        # Clients of the former schema may still send; their messages must not reach a reader of the new one.
        self._up.close()
        self._former_ups.append(self._up)
        self._up = Passing(from_anyone=True, max_queued=MAX_UP_QUEUED)

    def _up_counts(self, passages: list[Passing]) -> list[int]:
        own = [(each.passed, each.lost, each.undecodable) for each in passages]
        return [before + sum(counts) for before, *counts in zip(self._before, *own, strict=True)]

    def _lose(self) -> None:
        """Upstream has disconnected."""
        if self._upstream is None:
            return
        assert self._loop is not None
        (endpoint, link), self._upstream = self._upstream, None
        self._up.count_unsent(link)
        self._up.close()
        forget_all(endpoint)  # messages of clients must not reach the next upstream
        if self._away_since is None:
            self._away_since = self._loop.time()
        if self._ending is None:
            self._tell(GONE)

    def _begin_resend(self, seconds: float) -> None:
        self._is_resending = True
        self._down.begin_resend()
        self._tell(render(Gap("*", reason="upstream", seconds=seconds)))

    def _heard(self, told: Live | Gap) -> None:
        """Upstream reports a gap, or that all retained values were sent."""
        if isinstance(told, Live):
            if self._is_resending:
                self._is_resending = False
                self._down.end_resend()
                self._tell(LIVE)  # a relay behind this one forgets the same keys
        elif told.reason == "upstream" and told.seconds is None:
            self._far_away = True
            self._tell(GONE)
        elif told.reason == "upstream" and told.seconds is not None:
            self._far_away = False
            self._begin_resend(told.seconds)
        elif told.reason:
            self._tell(render(told))
        elif not self._only or told.name in self._only:
            count = told.skipped + told.superseded
            for endpoint in self._endpoints():
                tell_missed(endpoint, told.name, count, render(told))

    def _tell(self, text: bytes) -> None:
        for endpoint in self._endpoints():
            tell(endpoint, text)

    def _endpoints(self) -> list[Any]:
        return [each for each in (self._server, self._down.also) if each is not None and not each._is_ended()]

    # --- clients ----------------------------------------------------------------------------------------

    def _wait_for_schema(self) -> None:
        assert self._port is not None

        def no_listener(request: Request, transport: asyncio.Transport) -> Any:
            raise AssertionError("every request is refused before this")

        def refuse(request: Request) -> tuple[int, str]:
            return 503, "the schema is not known yet"

        service = Service(make_listener=no_listener, max_frame_size=1, authorize=refuse)
        self._waiting_room = self._port.add(None, service)

    async def _serve(self) -> None:
        """Serve the newest schema in place of the former one."""
        assert self._listening is not None
        if self._port is None:
            self._port = await open_port(self._bind, **self._port_options)
        if self._is_served:
            return  # a newer schema came meanwhile, and its task has served it
        self._is_served = True
        down, up = self._types
        given: Any = self._port
        old, self._server = self._server, None
        if self._waiting_room is not None:
            self._waiting_room.close()
            self._waiting_room = None
        if old is not None and old._acceptor is not None:
            old._acceptor.close()  # its path is free
        # No other task runs until the new server is bound, so the path always has a server.
        server = await served_as(down, up, self._up).bind(given, on_connect=self._joined, **self._options)
        self._server = server
        self._generations += 1
        self._is_resending = self._far_away = False
        if old is not None:
            _log.warning("upstream has another schema: its %d clients are closed", old.client_count())
            self._spawn(self._retire(old))
        if up is not None:
            self._spawn(self._pass_resolved(server, self._up))
        self._down.open(server, indices(down, self._only))
        if not self._listening.done():
            self._listening.succeed()
        self.changed.set()
        if self._writing is not None:
            self._writing.renew()

    async def _retire(self, old: WsServer[Any, Any]) -> None:
        """Close the clients of a former schema. They reconnect, and get the new schema."""
        gone = [*self._former_ups]
        try:
            old._lift_bounds()
            old.flush()
            await old.watchers.until_at_most(old._is_drained, DRAIN_S)
            for connection in old._connections():
                connection._finish(RESTART, "upstream has another schema")
        finally:
            await old.close(drain=0.0)
        self._before = self._up_counts(gone)
        self._former_ups = [each for each in self._former_ups if each not in gone]

    def _joined(self, peer: Peer) -> object:
        if self._is_away and self._server is not None:
            tell(self._server, GONE, peer)
        return None if self._on_connect is None else self._on_connect(peer)

    async def _pass_resolved(self, server: WsServer[Any, Any], up: Passing) -> None:
        # Values of clients with another schema are decoded by that schema, and encoded by upstream's.
        assert server.up is not None
        async for value in server:
            up.put(server.up.to_bytes(value))

    def _answer_health(self, request: Request) -> Response:
        if self._upstream is not None and not self._far_away:
            return Response(body=b"upstream is connected\n", headers={"Content-Type": "text/plain"})
        return Response(503, {"Content-Type": "text/plain"}, b"upstream is away\n")
