"""Every public call, in each place where it may not be used: another event loop, another thread, a child.

`CALLS` has a line for each member of each public class that can be used wrongly; `FREE` has those that only
tell what is, or open something new. A class or a member that is new fails here until it has its line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import inspect
import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forks import driven, in_child
from helpers import SLOW

import deli_com
from deli_com import (
    Background,
    BlockingClient,
    Client,
    Codec,
    Group,
    Peer,
    Replay,
    Server,
    Stream,
    WsClient,
    WsServer,
    connect_blocking,
    serve_background,
    u32,
)
from deli_com.asgi.application import AsgiApplication
from deli_com.backplane import Memory, Nats
from deli_com.metrics import Collector
from deli_com.recording.live import Box, LiveRecorder
from deli_com.relay import Relay

if not hasattr(os, "fork"):
    pytest.skip("this system has no fork", allow_module_level=True)
pytest.importorskip("mcap", reason="the extra deli-com[record] is not installed")

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning", "ignore:unclosed:ResourceWarning"
)

ADDR = "127.0.0.1:0"
LIMIT_S = 20.0 * SLOW


class Reading(Codec):
    x: u32


VALUE = Reading(1)


class World:
    """One of each public object, all open in one event loop."""

    def __init__(self, folder: Path) -> None:
        self.names = (folder / f"{number}.mcap" for number in itertools.count())

    @property
    def path(self) -> Path:
        """The path of a new file."""
        return next(self.names)

    async def open(self) -> None:
        self.memory = Memory("room")
        self.server = await WsServer[Reading].bind(ADDR, backplane=self.memory)
        self.tcp_server = await Server[Reading].bind(ADDR)
        self.client = await WsClient[Reading].connect(self.server.local_addr())
        self.tcp_client = await Client[Reading].connect(self.tcp_server.local_addr())
        await self.server.wait_clients(1)
        (self.peer,) = self.server.clients
        self.group = self.server.group("g")
        self.group.add(self.peer)
        self.app = self.server.asgi()
        path = self.path
        async with self.server.record(path):
            for _ in range(2):
                self.server.send_nowait(VALUE)
                assert await self.client.recv() == VALUE
        self.recorder = self.server.record(self.path)
        self.box = self.server.record_last(60.0)
        self.link = WsClient[Reading].stream(self.server.local_addr())
        self.link.on_connect(lambda: None)  # it keeps its connection
        await self.link.send(VALUE, wait=True)
        await self.server.recv()
        self.relay = await Relay(f"ws://{self.server.local_addr()}", bind=ADDR)
        self.viewer = await WsClient[Reading].connect(self.relay.local_addr())
        self.replay = await Replay(path, speed=1e-9, loop=True).serve(ADDR)  # it plays for days
        self.collector = Collector(self.server)

    def open_threads(self) -> None:
        """What has a loop of its own."""
        self.background = serve_background(WsServer[Reading].bind(ADDR)).start()
        self.blocking = connect_blocking(WsClient[Reading], self.background.local_addr())
        self.background.wait_clients(1)

    def close_threads(self) -> None:
        self.blocking.close()
        self.background.close()

    async def works(self) -> None:
        """What was refused has changed nothing."""
        async with asyncio.timeout(LIMIT_S):
            assert self.server.clients >= {self.peer} == self.group.members
            for x in range(100, 110):
                await self.server.send(Reading(x))
                for taker in (self.client, self.viewer):
                    assert await taker.recv() == Reading(x)
                assert await anext(self.link) == Reading(x)
                await self.link.send(Reading(x))
                assert await self.server.recv() == Reading(x)
                await self.tcp_client.send(Reading(x))
                assert await self.tcp_server.recv() == Reading(x)
                await self.tcp_server.send(Reading(x))
                assert await self.tcp_client.recv() == Reading(x)
            self.replay.pause()
            self.replay.speed = 2.0
            assert self.relay.stats().connected and not self.memory.is_away
            assert self.server.recorders[-1] is self.recorder and not self.recorder.is_closed
            assert self.recorder.stats.messages >= 10

    async def close(self) -> None:
        self.box.close()
        for each in (self.viewer, self.relay, self.replay, self.client, self.tcp_client):
            await each.close()
        await self.link.aclose()
        await self.server.close()
        await self.tcp_server.close()


@contextlib.contextmanager
def world(folder: Path, *, ended: bool = False) -> Iterator[tuple[asyncio.Runner, World]]:
    """A loop that rests, and the world in it. `ended`: the loop is closed, and all is left open."""
    made = World(folder)
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(made.open())
        try:
            if ended:
                runner.close()
            yield runner, made
        finally:
            if not ended:
                runner.run(made.close())
            made.recorder.close()


# --- the places, and what is refused where -----------------------------------------------------------------

LOOP, ENDED, THREAD, CHILD = "another loop", "after its loop", "another thread", "a child"
AT_HOME = {LOOP, ENDED, THREAD, CHILD}  # in its own loop only
ANY_THREAD = {LOOP, ENDED, CHILD}  # from other threads too, as long as the loop lives
ANYWHERE = {CHILD}  # in other loops too

Call = Callable[[World], Any]
Calls = dict[str, tuple[set[str], Call]]
LEAVING = (None, None, None)
_numbers = itertools.count()


def of_endpoint(of: Callable[[World], Any]) -> Calls:
    return {
        "send": (AT_HOME, lambda w: of(w).send(VALUE)),
        "send_nowait": (ANY_THREAD, lambda w: of(w).send_nowait(VALUE)),
        "flush": (AT_HOME, lambda w: of(w).flush()),
        "forget": (AT_HOME, lambda w: of(w).forget()),
        "recv": (AT_HOME, lambda w: of(w).recv()),
        "recv_from": (AT_HOME, lambda w: of(w).recv_from()),
        "recv_many": (AT_HOME, lambda w: of(w).recv_many(3)),
        "__anext__": (AT_HOME, lambda w: of(w).__anext__()),
        "with_peer": (AT_HOME, lambda w: of(w).with_peer().__aiter__().__anext__()),
        "record": (AT_HOME, lambda w: of(w).record(w.path)),
        "record_last": (AT_HOME, lambda w: of(w).record_last(seconds=1.0)),
        "close": (AT_HOME, lambda w: of(w).close()),
        "__aexit__": (AT_HOME, lambda w: of(w).__aexit__(*LEAVING)),
        "stats": (ANYWHERE, lambda w: of(w).stats()),
        "client_count": (ANYWHERE, lambda w: of(w).client_count()),
    }


def of_server(of: Callable[[World], Any]) -> Calls:
    return of_endpoint(of) | {
        "clients": (AT_HOME, lambda w: of(w).clients),
        "group": (AT_HOME, lambda w: of(w).group(f"new {next(_numbers)}")),
        "wait_clients": (AT_HOME, lambda w: of(w).wait_clients(1)),
    }


def of_client(of: Callable[[World], Any]) -> Calls:
    return of_endpoint(of) | {
        "wait_live": (AT_HOME, lambda w: of(w).wait_live()),
        "on_gap": (AT_HOME, lambda w: of(w).on_gap(print)),
    }


async def ask(app: Any) -> None:
    """A WebSocket comes to an ASGI application."""

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise AssertionError(f"it was answered: {message}")

    await app({"type": "websocket", "headers": [], "path": "/"}, receive, send)


def set_(thing: Any, name: str, value: Any) -> None:
    setattr(thing, name, value)


CALLS: dict[type, Calls] = {
    WsServer: of_server(lambda w: w.server),
    Server: of_server(lambda w: w.tcp_server),
    WsClient: of_client(lambda w: w.client),
    Client: of_client(lambda w: w.tcp_client),
    Peer: {
        "send": (AT_HOME, lambda w: w.peer.send(VALUE)),
        "send_nowait": (ANY_THREAD, lambda w: w.peer.send_nowait(VALUE)),
        "close": (AT_HOME, lambda w: w.peer.close()),
        "stats": (ANYWHERE, lambda w: w.peer.stats()),
    },
    Group: {
        "send": (AT_HOME, lambda w: w.group.send(VALUE)),
        "send_nowait": (ANY_THREAD, lambda w: w.group.send_nowait(VALUE)),
        "add": (AT_HOME, lambda w: w.group.add(w.peer)),
        "discard": (AT_HOME, lambda w: w.group.discard(w.peer)),
        "members": (AT_HOME, lambda w: w.group.members),
        "forget": (AT_HOME, lambda w: w.group.forget()),
    },
    Stream: {
        "send": (AT_HOME, lambda w: w.link.send(VALUE)),
        "send_nowait": (AT_HOME, lambda w: w.link.send_nowait(VALUE)),
        "__anext__": (AT_HOME, lambda w: w.link.__anext__()),
        "wait_live": (AT_HOME, lambda w: w.link.wait_live()),
        "aclose": (AT_HOME, lambda w: w.link.aclose()),
        "__aenter__": (AT_HOME, lambda w: w.link.__aenter__()),
        "__aexit__": (AT_HOME, lambda w: w.link.__aexit__(*LEAVING)),
        "on_connect": (AT_HOME, lambda w: w.link.on_connect(print)),
        "on_disconnect": (AT_HOME, lambda w: w.link.on_disconnect(print)),
        "on_gap": (AT_HOME, lambda w: w.link.on_gap(print)),
        "stats": (ANYWHERE, lambda w: w.link.stats()),
    },
    Replay: {
        "play": (AT_HOME, lambda w: w.replay.play()),
        "pause": (AT_HOME, lambda w: w.replay.pause()),
        "seek": (AT_HOME, lambda w: w.replay.seek("+0s")),
        "speed": (AT_HOME, lambda w: set_(w.replay, "speed", 3.0)),
        "wait_end": (AT_HOME, lambda w: w.replay.wait_end()),
        "close": (AT_HOME, lambda w: w.replay.close()),
    },
    Relay: {
        "start": (AT_HOME, lambda w: w.relay.start()),
        "wait_listening": (AT_HOME, lambda w: w.relay.wait_listening()),
        "wait_closed": (AT_HOME, lambda w: w.relay.wait_closed()),
        "close": (AT_HOME, lambda w: w.relay.close()),
        "__await__": (AT_HOME, lambda w: w.relay),
        "__aenter__": (AT_HOME, lambda w: w.relay.__aenter__()),
        "__aexit__": (AT_HOME, lambda w: w.relay.__aexit__(*LEAVING)),
        "stats": (ANYWHERE, lambda w: w.relay.stats()),
        "client_count": (ANYWHERE, lambda w: w.relay.client_count()),
    },
    LiveRecorder: {
        "close": (ANYWHERE, lambda w: w.recorder.close()),
        "aclose": (ANYWHERE, lambda w: w.recorder.aclose()),
        "__exit__": (ANYWHERE, lambda w: w.recorder.__exit__(*LEAVING)),
        "__aexit__": (ANYWHERE, lambda w: w.recorder.__aexit__(*LEAVING)),
    },
    Box: {
        "dump": ({LOOP, THREAD, CHILD}, lambda w: w.box.dump(w.path)),  # it outlives the loop
        "close": (ANYWHERE, lambda w: w.box.close()),
        "__exit__": (ANYWHERE, lambda w: w.box.__exit__(*LEAVING)),
    },
    Memory: {"is_away": (AT_HOME, lambda w: set_(w.memory, "is_away", True))},
    AsgiApplication: {"__call__": (AT_HOME, lambda w: ask(w.app))},
    Collector: {"collect": (ANYWHERE, lambda w: list(w.collector.collect()))},
    Background: {
        "start": (ANYWHERE, lambda w: w.background.start()),
        "send": (ANYWHERE, lambda w: w.background.send(VALUE)),
        "send_nowait": (ANYWHERE, lambda w: w.background.send_nowait(VALUE)),
        "recv": (ANYWHERE, lambda w: w.background.recv(0)),
        "recv_from": (ANYWHERE, lambda w: w.background.recv_from(0)),
        "recv_many": (ANYWHERE, lambda w: w.background.recv_many(3, 0)),
        "__next__": (ANYWHERE, lambda w: next(w.background)),
        "server": (ANYWHERE, lambda w: w.background.server),
        "local_addr": (ANYWHERE, lambda w: w.background.local_addr()),
        "local_addrs": (ANYWHERE, lambda w: w.background.local_addrs()),
        "client_count": (ANYWHERE, lambda w: w.background.client_count()),
        "clients": (ANYWHERE, lambda w: w.background.clients),
        "stats": (ANYWHERE, lambda w: w.background.stats()),
        "group": (ANYWHERE, lambda w: w.background.group("g")),
        "forget": (ANYWHERE, lambda w: w.background.forget()),
        "flush": (ANYWHERE, lambda w: w.background.flush()),
        "record": (ANYWHERE, lambda w: w.background.record(w.path)),
        "record_last": (ANYWHERE, lambda w: w.background.record_last()),
        "wait_clients": (ANYWHERE, lambda w: w.background.wait_clients(1)),
        "run": (ANYWHERE, lambda w: w.background.run(int)),
    },
    BlockingClient: {
        "send": (ANYWHERE, lambda w: w.blocking.send(VALUE)),
        "send_nowait": (ANYWHERE, lambda w: w.blocking.send_nowait(VALUE)),
        "recv": (ANYWHERE, lambda w: w.blocking.recv(0)),
        "recv_many": (ANYWHERE, lambda w: w.blocking.recv_many(3, 0)),
        "latest": (ANYWHERE, lambda w: w.blocking.latest(timeout=0)),
        "__next__": (ANYWHERE, lambda w: next(w.blocking)),
        "on_gap": (ANYWHERE, lambda w: w.blocking.on_gap(print)),
        "wait_live": (ANYWHERE, lambda w: w.blocking.wait_live(0)),
        "record": (ANYWHERE, lambda w: w.blocking.record(w.path)),
        "schema": (ANYWHERE, lambda w: w.blocking.schema),
        "connected": (ANYWHERE, lambda w: w.blocking.connected),
        "stats": (ANYWHERE, lambda w: w.blocking.stats()),
        "close": (ANYWHERE, lambda w: w.blocking.close()),
        "__exit__": (ANYWHERE, lambda w: w.blocking.__exit__(*LEAVING)),
    },
}

# What only tells what is, gives the object itself, or opens something new. (Fields of compiled classes too.)
_OF_ENDPOINTS = (
    "__aenter__ __aiter__ turns max_backlog max_queued progress_timeout has_latest messages_out "
    "refused_sends recorders"
)
FREE: dict[type, str] = {
    WsServer: f"{_OF_ENDPOINTS} bind local_addr local_addrs asgi",
    Server: f"{_OF_ENDPOINTS} bind local_addr local_addrs",
    WsClient: f"{_OF_ENDPOINTS} connect stream schema",
    Client: f"{_OF_ENDPOINTS} connect stream schema",
    Peer: "via state is_open schema",
    Group: "name __len__ __contains__",
    Stream: "__aiter__ client connected schema",
    Replay: "serve server local_addr duration position is_playing is_ended time time_range",
    Relay: "server is_connected local_addr current",
    LiveRecorder: "__enter__ __aenter__ stats files is_closed intake channel add_channel add_early",
    Box: "__enter__ held_bytes",
    Memory: "is_connected open publish close",  # a server calls these
    Nats: "is_connected max_payload open publish close",
    AsgiApplication: "",
    Collector: "add remove",
    Background: "close __enter__ __exit__ __iter__",  # a child has nothing to close
    BlockingClient: "__enter__ __iter__",
}

# Exported, and nothing that belongs to a loop: values, types, functions that make an object, protocols.
PLAIN = {
    "Address", "Array", "Backplane", "BackplaneStats", "Codec", "Departure", "FixedArray", "Gap",
    "Nanoseconds", "PeerStats", "Recording", "Refusal", "RelayStats", "Request", "Response", "Schema",
    "ServerStats", "Shape", "StreamStats", "TypeCodec",
    "codec", "connect_blocking", "field", "serve_background",
    "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64",
}  # fmt: skip
MODULES = ("deli_com", "deli_com.relay", "deli_com.backplane", "deli_com.metrics")
# Of any object.
NOT_CALLS = re.compile(
    r"__(init|new|del|repr|str|eq|ne|lt|le|gt|ge|hash|class_getitem|reduce\w*|setstate\w*|getstate|pyx\w+|doc|"
    r"module|slots|dict|weakref|annotations\w*|orig_bases|parameters|init_subclass|getattr|getattribute|setattr|"
    r"delattr|class|dir|format|sizeof|subclasshook|static_attributes|firstlineno|type_params|match_args)__"
)


def fields() -> set[str]:
    """The fields of compiled classes that Python sees, by name: reading one calls nothing."""
    found: set[str] = set()
    for contract in Path(deli_com.__file__).parent.rglob("*.pxd"):
        found.update(
            re.findall(r"^    cdef (?:readonly|public) [\w ]*?(\w+)\s*(?:#|$)", contract.read_text(), re.M)
        )
    return found


def members(cls: type) -> set[str]:
    """Name of all that an object of a class has for the program."""
    found = set()
    for base in cls.__mro__:
        if base.__module__.startswith("deli_com"):
            found |= {
                name
                for name, member in vars(base).items()
                if (name.startswith("__") or not name.startswith("_"))
                and not NOT_CALLS.fullmatch(name)
                and (callable(member) or isinstance(member, classmethod) or inspect.isdatadescriptor(member))
            }
    return found


def test_every_public_class_has_its_lines() -> None:
    exported = {name: importlib.import_module(module) for module in MODULES for name in _all_of(module)}
    for name, module in exported.items():
        thing = getattr(module, name)
        is_error = isinstance(thing, type) and issubclass(thing, BaseException)
        assert is_error or name in PLAIN or thing in FREE, f"{name} has no line here"


def _all_of(module: str) -> list[str]:
    return list(importlib.import_module(module).__all__)


@pytest.mark.parametrize("cls", FREE, ids=lambda cls: cls.__name__)
def test_every_member_has_its_line(cls: type) -> None:
    listed = {*CALLS.get(cls, ())} | {*FREE[cls].split()}
    assert members(cls) - fields() - listed == set(), "neither in CALLS nor in FREE"
    assert listed - members(cls) == set(), "listed, and no member"


# --- the calls ---------------------------------------------------------------------------------------------


def refused_in(place: str) -> Iterator[tuple[str, Call]]:
    for cls, calls in CALLS.items():
        if place != CHILD and cls in (Background, BlockingClient):
            continue
        for name, (places, call) in calls.items():
            if place in places:
                yield f"{cls.__name__}.{name}", call


async def attempt(call: Call, it: World) -> str:
    """What a call gives or raises, awaited if it can be."""
    try:
        result = call(it)
        if hasattr(result, "__await__"):
            async with asyncio.timeout(LIMIT_S):
                result = await result
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return repr(result)


def begun(call: Call, it: World) -> Any:
    """The same for a child, where no loop runs: the first step of what could be awaited."""
    result = call(it)
    return driven(result) if hasattr(result, "__await__") else result


def wrong(said: dict[str, str], words: str) -> dict[str, str]:
    return {
        name: text for name, text in said.items() if not re.match(f"RuntimeError: .*({words})", text, re.S)
    }


def test_in_another_event_loop(tmp_path: Path) -> None:
    """While the own one rests. Back there, all works."""
    with world(tmp_path) as (runner, it):
        said = {name: asyncio.run(attempt(call, it)) for name, call in refused_in(LOOP)}
        assert wrong(said, "another event loop|that does not run here") == {}
        assert len(said) > 90
        runner.run(it.works())


def test_after_its_event_loop(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with world(tmp_path, ended=True) as (_, it):
            said = {name: asyncio.run(attempt(call, it)) for name, call in refused_in(ENDED)}
            assert wrong(said, "event loop") == {}
        del it
        gc.collect()


def test_in_another_thread(tmp_path: Path) -> None:
    """In one that has a loop of its own, beside the right one, which runs."""
    with world(tmp_path) as (runner, it):

        async def body() -> dict[str, str]:
            return {
                name: await asyncio.to_thread(lambda call=call: asyncio.run(attempt(call, it)))
                for name, call in refused_in(THREAD)
            }

        assert wrong(runner.run(body()), "from thread|another event loop") == {}
        runner.run(it.works())


def test_in_a_child(tmp_path: Path) -> None:
    """Each call is begun in a child of its own. Nothing of it reaches the parent's objects."""
    with world(tmp_path) as (runner, it):
        it.open_threads()
        try:
            said = {name: in_child(lambda call=call: begun(call, it)) for name, call in refused_in(CHILD)}
            assert wrong(said, rf"process {os.getpid()}|process, and a fork|can be started once") == {}
            assert len(said) > 130
            it.background.send(VALUE)
            assert it.blocking.recv(LIMIT_S) == VALUE
        finally:
            it.close_threads()
        runner.run(it.works())


# --- what is legal elsewhere works there -------------------------------------------------------------------


def test_a_recording_that_is_closed_in_another_loop_has_all(tmp_path: Path) -> None:
    """`aclose` in another thread's loop: what that thread has sent before is in the file."""

    async def body() -> None:
        async with WsServer[Reading].bind(ADDR) as server:
            recorder = server.record(path)

            async def elsewhere() -> None:
                for x in range(1000):
                    server.send_nowait(Reading(x))
                await recorder.aclose()

            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
            server.send_nowait(VALUE)  # not recorded any more

    path = tmp_path / "run.mcap"
    asyncio.run(body())
    assert [value.x for _, value in deli_com.Recording[Reading](path)] == [*range(1000)]


def test_a_box_may_be_closed_in_any_thread(tmp_path: Path) -> None:
    async def body() -> None:
        async with WsServer[bytes].bind(ADDR) as server:
            for _ in range(20):
                box = server.record_last(60.0, max_bytes=1 << 20)
                closing = asyncio.create_task(asyncio.to_thread(box.close))
                while not closing.done():
                    server.send_nowait(bytes(10_000))
                    await asyncio.sleep(0)
                await closing
                await asyncio.sleep(0)
                assert box.held_bytes == 0

    asyncio.run(body())


def test_where_a_replay_is_can_be_asked_in_any_thread(tmp_path: Path) -> None:
    with world(tmp_path) as (runner, it):

        async def body() -> None:
            assert "playing" in await asyncio.to_thread(repr, it.replay)
            assert await asyncio.to_thread(lambda: it.replay.position) <= it.replay.duration

        runner.run(body())
        assert "<Replay " in repr(it.replay)  # no loop runs here
