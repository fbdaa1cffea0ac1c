"""`on_connect` and `on_disconnect` are called once each, in order, with the reason, whatever they do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import SLOW, RawPeer, certificates, until
from peers import BINARY, CLOSE, CONTINUATION, build, close_payload, raw_client
from proxy import fault_proxy

from deli_com import Client, ConnectionClosed, Departure, Peer, Server, WsClient, WsServer, u32

MB = 1_000_000
QUICK = {"ping_interval": 0.15 * SLOW, "ping_timeout": 0.15 * SLOW}


class Diary:
    """Callbacks that write down what they are told; every peer's entries must be "up", then "down"."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Peer]] = []
        self.why: list[Departure] = []

    def up(self, peer: Peer) -> None:
        assert peer.is_open
        self.entries.append(("up", peer))

    def down(self, peer: Peer, why: Departure) -> None:
        assert not peer.is_open
        self.entries.append(("down", peer))
        self.why.append(why)

    @property
    def callbacks(self) -> dict[str, Any]:
        return {"on_connect": self.up, "on_disconnect": self.down}

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.entries]

    async def end(self) -> Departure:
        """The one departure there is to be."""
        await until(lambda: self.why)
        assert self.words == ["up", "down"]
        assert self.entries[0][1] is self.entries[1][1]
        return self.why[0]


class Ends:
    """One wire protocol, plain or with TLS."""

    def __init__(self, websocket: bool, tls: bool) -> None:
        self.is_websocket = websocket
        self.server: Any = WsServer if websocket else Server
        self.client: Any = WsClient if websocket else Client
        self.server_tls, self.client_tls = certificates() if tls else (None, None)

    def bind(self, types: Any, **options: Any) -> Any:
        return self.server[types].bind("127.0.0.1:0", ssl=self.server_tls, **options)

    def connect(self, server: Any, types: Any) -> Any:
        host = "localhost" if self.client_tls else "127.0.0.1"
        return self.client[types].connect((host, server.local_addr().port), ssl=self.client_tls)

    @contextlib.asynccontextmanager
    async def raw(self, server: Any, *, small: bool = False) -> AsyncIterator[Any]:
        """A peer that reads only when it is told to; without TLS."""
        if self.is_websocket:
            async with raw_client(server.local_addr(), small=small) as peer:
                yield peer
        else:
            peer = await RawPeer.open(server.local_addr())
            await server.wait_clients(1)
            try:
                yield peer
            finally:
                peer.close()

    def wire(self, payload: bytes) -> bytes:
        """A value of type `bytes`, as a client sends it."""
        value = struct.pack("<I", len(payload)) + payload
        if self.is_websocket:
            return build(value, mask=b"\0\0\0\0")
        return struct.pack("<I", len(value)) + value


KINDS = {
    "websocket": (True, False),
    "websocket-tls": (True, True),
    "tcp": (False, False),
    "tcp-tls": (False, True),
}


@pytest.fixture(params=list(KINDS))
def ends(request: pytest.FixtureRequest) -> Ends:
    return Ends(*KINDS[request.param])


@pytest.fixture(params=["websocket", "tcp"])
def plain(request: pytest.FixtureRequest) -> Ends:
    return Ends(*KINDS[request.param])


class TestOrder:
    async def test_each_client_once(self, ends: Ends) -> None:
        """In the order of what happens; the peer is the one that its messages come with."""
        diary = Diary()
        async with ends.bind(u32, **diary.callbacks) as server:
            for number in range(3):
                async with ends.connect(server, u32) as client:
                    await client.send(number)
                    peer, _ = await server.recv_from()
                    assert diary.entries[-1] == ("up", peer)
                    assert server.clients == {peer}
                await until(lambda number=number: len(diary.why) == number + 1)
                assert diary.entries[-1] == ("down", peer)
            assert diary.words == ["up", "down"] * 3
        assert diary.words == ["up", "down"] * 3

    async def test_a_message_never_comes_before_its_peer(self, ends: Ends) -> None:
        """Receivers that take values in every turn of the loop know the peer of each already."""
        known: set[Peer] = set()
        strangers = 0
        async with ends.bind(u32, on_connect=known.add) as server:

            async def receive() -> None:
                nonlocal strangers
                for _ in range(40):
                    peer, _ = await server.recv_from()
                    strangers += peer not in known

            async def spin() -> (
                None
            ):  # there is a task in every turn, ahead of what the turn's reads schedule
                while not receiving.done():  # noqa: ASYNC110 - a task in every turn
                    await asyncio.sleep(0)

            async def talk() -> None:
                async with ends.connect(server, u32) as client:
                    client.send_nowait(1)

            receiving = asyncio.create_task(receive())
            spinning = asyncio.create_task(spin())
            for _ in range(10):
                await asyncio.gather(*(talk() for _ in range(4)))
            await asyncio.gather(receiving, spinning)
            assert strangers == 0

    @pytest.mark.loops("uvloop")
    async def test_bytes_that_are_there_before_the_turn_of_on_connect(self) -> None:
        """A plain TCP connection is opened a turn after it is made, or by its first bytes."""
        told: list[str] = []

        async def receive(server: Any) -> None:
            async for _ in server.with_peer():
                told.append("message")

        async with Server[bytes].bind("127.0.0.1:0", on_connect=lambda peer: told.append("up")) as server:
            receiving = asyncio.create_task(receive(server))
            for _ in range(50):
                peer = await RawPeer.open(server.local_addr())
                await peer.send(struct.pack("<II", 5, 1) + b"x")
                await until(lambda: len(told) >= 2)
                assert told == ["up", "message"]
                told.clear()
                peer.close()
            await server.close()
            await receiving

    async def test_what_is_sent_from_on_connect_comes_first(self, ends: Ends) -> None:
        """Before every later broadcast, and the client misses none after it."""
        sent = 0

        def greet(peer: Peer) -> None:
            server.send_nowait(1000)

        async with ends.bind(u32, on_connect=greet) as server:

            async def produce() -> None:
                nonlocal sent
                while True:
                    server.send_nowait(sent)
                    sent += 1
                    await asyncio.sleep(0)

            producing = asyncio.create_task(produce())
            async with ends.connect(server, u32) as client:
                assert await client.recv() == 1000
                first = await client.recv()
                assert [await client.recv() for _ in range(5)] == list(range(first + 1, first + 6))
            producing.cancel()

    async def test_messages_come_before_the_departure(self, plain: Ends) -> None:
        """Those that arrived together with the end as well."""
        arrived: list[int] = []

        def down(peer: Peer, why: Departure) -> None:
            arrived.append(server.messages_in)

        async with plain.bind(bytes, on_disconnect=down) as server, plain.raw(server) as peer:
            data = 3 * plain.wire(b"last words")
            if plain.is_websocket:
                data += build(close_payload(1000), CLOSE, mask=b"\0\0\0\0")
            assert peer.sock.send(data) == len(data)
            peer.sock.shutdown(socket.SHUT_WR)
            await until(lambda: arrived)
            assert arrived == [3]
            assert await server.recv_many(10) == [b"last words"] * 3


class TestReasons:
    async def test_a_client_that_closes(self, ends: Ends) -> None:
        diary = Diary()
        async with ends.bind(u32, **diary.callbacks) as server:
            async with ends.connect(server, u32):
                await server.wait_clients(1)
            if ends.is_websocket:
                assert await diary.end() == Departure("left", 1000, "", 0)
            else:
                assert await diary.end() == Departure("left", None, "the peer has closed the connection", 0)

    async def test_a_close_frame_with_code_and_reason(self) -> None:
        """And one without: 1005 is what RFC 6455 section 7.1.5 calls that."""
        for payload, expected in (
            (close_payload(4001, b"going home"), Departure("left", 4001, "going home", 0)),
            (b"", Departure("left", 1005, "", 0)),
        ):
            diary = Diary()
            async with (
                WsServer[bytes, None].bind("127.0.0.1:0", **diary.callbacks) as server,
                raw_client(server.local_addr()) as peer,
            ):
                await peer.send(payload, CLOSE)
                assert await diary.end() == expected

    async def test_a_reset_is_told_to_a_server_that_only_sends(self, plain: Ends) -> None:
        """It need not send anything for that."""
        diary = Diary()
        async with plain.bind((bytes, None), **diary.callbacks) as server, plain.raw(server) as peer:
            peer.reset()
            why = await diary.end()
            assert (why.cause, why.code, why.queued_bytes) == ("lost", None, 0)
            assert why.reason

    async def test_an_end_without_a_close_frame(self) -> None:
        diary = Diary()
        async with (
            WsServer[bytes, None].bind("127.0.0.1:0", **diary.callbacks) as server,
            raw_client(server.local_addr()) as peer,
        ):
            peer.close()
            assert await diary.end() == Departure("lost", None, "the connection ended without notice", 0)

    async def test_a_reset_that_a_send_finds(self, plain: Ends) -> None:
        """From inside a flush; the others get what was sent."""
        diary = Diary()
        async with (
            plain.bind((bytes, None), **diary.callbacks) as server,
            plain.raw(server) as leaves,
            plain.raw(server),
        ):
            await server.wait_clients(2)
            leaves.reset()
            for _ in range(3):  # no turn of the loop in between
                server.send_nowait(bytes(100_000))
                server.flush()
            assert diary.words == ["up", "up"]  # never from inside a send
            await until(lambda: diary.why)
            assert diary.words == ["up", "up", "down"]
            assert diary.why[0].cause == "lost"

    async def test_a_link_that_swallows_all(self) -> None:
        """A blackholed peer of a push-only server: keepalive finds it and says how long."""
        diary = Diary()
        async with (
            WsServer[bytes, None].bind(
                "127.0.0.1:0", close_timeout=0.2, **QUICK, **diary.callbacks
            ) as server,
            fault_proxy(server.local_addr()) as proxy,
            WsClient[bytes, None].connect(proxy.address, ping_interval=None),
        ):
            proxy.links[0].down.drop()
            proxy.links[0].up.drop()
            why = await diary.end()
            assert (why.cause, why.code) == ("keepalive", 1011)
            assert why.reason.startswith("keepalive: no sign of life for ")

    async def test_too_slow(self, plain: Ends) -> None:
        """With what was queued when it was cut off."""
        diary = Diary()
        async with (
            plain.bind(bytes, max_backlog=2 * MB, close_timeout=0.1, **diary.callbacks) as server,
            plain.raw(server, small=True),
        ):
            while not diary.why:
                server.send_nowait(bytes(MB))
                await asyncio.sleep(0)
            why = await diary.end()
            assert (why.cause, why.code) == ("too slow", 1013 if plain.is_websocket else None)
            assert why.reason.startswith("too slow: ")
            queued = int(why.reason.split()[2])
            assert 2 * MB < queued <= why.queued_bytes <= queued + 2 * MB

    async def test_no_progress(self, plain: Ends) -> None:
        diary = Diary()
        async with (
            plain.bind(bytes, progress_timeout=0.3 * SLOW, close_timeout=0.1, **diary.callbacks) as server,
            plain.raw(server, small=True),
        ):
            for _ in range(12):
                server.send_nowait(bytes(MB))
            why = await diary.end()
            assert (why.cause, why.code) == ("no progress", 1013 if plain.is_websocket else None)
            assert why.reason.startswith("no progress for ")
            assert why.queued_bytes > MB

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (build(b"x", CONTINUATION, mask=b"\0\0\0\0"), 1002),  # found by us
            (build(b"x", BINARY, rsv=4, mask=b"\0\0\0\0"), 1002),
            (build(b"x" * 200, 0x9, mask=b"\0\0\0\0"), 1002),  # found by picows: a control frame so long
            (build(bytes(2000), BINARY, mask=b"\0\0\0\0"), 1009),
        ],
    )
    async def test_a_broken_protocol(self, bad: bytes, code: int) -> None:
        diary = Diary()
        async with (
            WsServer[bytes].bind("127.0.0.1:0", max_message_size=1000, **diary.callbacks) as server,
            raw_client(server.local_addr()) as peer,
        ):
            await peer.send_raw(bad)
            why = await diary.end()
            assert (why.cause, why.code) == ("protocol error", code)
            assert why.reason
            assert (await peer.read_to_close())[1] == code

    async def test_a_broken_protocol_over_tcp(self) -> None:
        diary = Diary()
        async with Server[bytes].bind("127.0.0.1:0", max_message_size=1000, **diary.callbacks) as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
            why = await diary.end()
            assert (why.cause, why.code) == ("protocol error", None)
            assert "HTTP client" in why.reason
            peer.close()

    async def test_a_stream_that_ends_inside_a_message(self) -> None:
        diary = Diary()
        async with Server[bytes].bind("127.0.0.1:0", **diary.callbacks) as server:
            peer = await RawPeer.open(server.local_addr())
            await peer.send(struct.pack("<I", 10) + b"abc")
            peer.close()
            reason = "the stream ended inside a message: 3 of 10 bytes"
            assert await diary.end() == Departure("left", None, reason, 0)

    async def test_the_server_closes(self, ends: Ends) -> None:
        """Everybody has been told of when `close` returns."""
        diary = Diary()
        server = await ends.bind(u32, **diary.callbacks)
        clients = [await ends.connect(server, u32) for _ in range(3)]
        await server.wait_clients(3)
        await server.close()
        assert diary.words == ["up"] * 3 + ["down"] * 3
        code = 1001 if ends.is_websocket else None
        assert set(diary.why) == {Departure("server closed", code, "the server is closing", 0)}
        for client in clients:
            await client.close()

    async def test_the_server_closes_and_one_never_reads(self, plain: Ends) -> None:
        diary = Diary()
        server = await plain.bind(bytes, close_timeout=0.1, **diary.callbacks)
        async with plain.raw(server, small=True):
            for _ in range(10):
                server.send_nowait(bytes(MB))
            await server.close(drain=0.1)
            assert diary.words == ["up", "down"]
            assert diary.why[0].cause == "server closed"
            assert diary.why[0].queued_bytes > MB

    async def test_a_peer_that_is_closed(self, ends: Ends) -> None:
        """What happens later, while it lingers, is not told again."""
        diary = Diary()
        async with ends.bind(u32, **diary.callbacks) as server, ends.connect(server, u32) as client:
            await server.wait_clients(1)
            (peer,) = server.clients
            peer.close(4002, "enough")
            assert diary.words == ["up"]
            with pytest.raises(ConnectionClosed):
                await client.recv()
            code = 4002 if ends.is_websocket else None
            assert await diary.end() == Departure("closed", code, "enough", 0)
            await until(lambda: not server._connections())
        assert diary.words == ["up", "down"]


class TestWhatTheyDo:
    @pytest.mark.parametrize("kind", ["plain", "coroutine"])
    async def test_what_they_raise_is_logged(
        self, ends: Ends, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It costs neither that client nor any other."""

        def fail(*_: Any) -> None:
            raise KeyError("mine")

        async def fail_later(*_: Any) -> None:
            await asyncio.sleep(0)
            raise KeyError("mine")

        broken = fail if kind == "plain" else fail_later
        with caplog.at_level(logging.ERROR):
            async with ends.bind(u32, on_connect=broken, on_disconnect=broken) as server:
                async with ends.connect(server, u32) as client:
                    await server.wait_clients(1)
                    await client.send(1)
                    assert await server.recv() == 1
                    await server.send(2)
                    assert await client.recv() == 2
                await until(lambda: server.client_count() == 0)
        messages = [record.getMessage() for record in caplog.records if record.name == "deli_com.server"]
        assert [message.split()[0] for message in messages] == ["on_connect", "on_disconnect"]
        assert all("raised for 127.0.0.1:" in message for message in messages)
        assert all(record.exc_info[0] is KeyError for record in caplog.records if record.exc_info)

    async def test_on_connect_may_end_the_connection(self, ends: Ends) -> None:
        """At once; the client gets what was sent before, and is told."""
        diary = Diary()

        def turn_away(peer: Peer) -> None:
            diary.up(peer)
            server.send_nowait(7)
            peer.close(4003, "not you")

        async with ends.bind(u32, on_connect=turn_away, on_disconnect=diary.down) as server:
            for _ in range(5):
                async with ends.connect(server, u32) as client:
                    assert await client.recv() == 7
                    with pytest.raises(ConnectionClosed) as caught:
                        await client.recv()
                    if ends.is_websocket:
                        assert (caught.value.code, caught.value.reason) == (4003, "not you")
            await until(lambda: not server._connections())
            assert diary.words == ["up", "down"] * 5
            assert {why.cause for why in diary.why} == {"closed"}

    async def test_on_connect_may_drop_a_large_message_and_close(self, plain: Ends) -> None:
        """More than the socket takes, then a close: a connection made a moment ago is aborted."""
        diary = Diary()

        def flood(peer: Peer) -> None:
            server.send_nowait(bytes(9 * MB))
            peer.close()

        async with plain.bind(bytes, close_timeout=0.1, on_connect=flood, on_disconnect=diary.down) as server:
            for _ in range(5):
                if plain.is_websocket:
                    async with raw_client(server.local_addr(), small=True):
                        await until(lambda: not server._connections())
                else:
                    peer = await RawPeer.open(server.local_addr())
                    await until(lambda: diary.why and not server._connections())
                    peer.close()
            await until(lambda: len(diary.why) == 5)
            assert {why.cause for why in diary.why} == {"closed"}

    async def test_on_disconnect_may_send_and_close_others(self, ends: Ends) -> None:
        """One leaves, and takes the rest with it, one by one."""
        diary = Diary()

        def down(peer: Peer, why: Departure) -> None:
            diary.down(peer, why)
            server.send_nowait(len(diary.why))
            server.flush()
            for other in server.clients:
                other.close(1000, "you too")
                break

        async with ends.bind(u32, on_connect=diary.up, on_disconnect=down) as server:
            clients = [await ends.connect(server, u32) for _ in range(5)]
            await server.wait_clients(5)
            await clients[0].close()
            await until(lambda: len(diary.why) == 5)
            assert [why.cause for why in diary.why] == ["left"] + ["closed"] * 4
            for client in clients:
                await client.close()

    async def test_on_disconnect_may_close_the_server(self, ends: Ends) -> None:
        """As a task, or awaited in a coroutine function, which then is not waited for."""
        ended: list[str] = []
        for kind in ("task", "await"):
            closing: list[asyncio.Task[None]] = []

            def down(*_: Any) -> None:
                closing.append(asyncio.create_task(server.close()))  # noqa: B023

            async def down_and_wait(*_: Any) -> None:
                await server.close()  # noqa: B023
                ended.append("closed")

            server = await ends.bind(
                u32, on_disconnect=down if kind == "task" else down_and_wait, close_timeout=60
            )
            clients = [await ends.connect(server, u32) for _ in range(3)]
            await server.wait_clients(3)
            await clients[0].close()
            for client in clients[1:]:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
            await server.close()
            assert server.client_count() == 0
            await asyncio.gather(*closing)
            if kind == "await":
                await until(lambda: len(ended) == 3)
            for client in clients:
                await client.close()

    async def test_a_coroutine_function_runs_as_a_task(self, ends: Ends) -> None:
        """Nobody else need keep it; `close` waits for those of `on_disconnect`."""
        told: list[str] = []

        async def up(peer: Peer) -> None:
            await asyncio.sleep(0)
            told.append("up")

        async def down(peer: Peer, why: Departure) -> None:
            await asyncio.sleep(0.05)
            told.append(why.cause)

        server = await ends.bind(u32, on_connect=up, on_disconnect=down)
        async with ends.connect(server, u32):
            await until(lambda: told == ["up"])
            await server.close()
            assert told == ["up", "server closed"]

    async def test_handlers_that_do_not_end_are_cancelled(self, ends: Ends) -> None:
        """Those of `on_connect` as the server closes, those of `on_disconnect` when its time is over."""
        cancelled: list[str] = []

        async def forever(name: str) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        server = await ends.bind(
            u32,
            close_timeout=0.1,
            on_connect=lambda peer: forever("connect"),
            on_disconnect=lambda peer, why: forever("disconnect"),
        )
        async with ends.connect(server, u32):
            await server.wait_clients(1)
            await asyncio.sleep(0)
            await server.close(drain=0)
            assert sorted(cancelled) == ["connect", "disconnect"]

    async def test_only_one_of_them(self, ends: Ends) -> None:
        """Each works without the other."""
        for name in ("on_connect", "on_disconnect"):
            told: list[Any] = []
            async with ends.bind(u32, **{name: lambda *args: told.append(args)}) as server:  # noqa: B023
                async with ends.connect(server, u32):
                    await server.wait_clients(1)
                await until(lambda: server.client_count() == 0)
            assert [len(args) for args in told] == [1 if name == "on_connect" else 2]

    async def test_what_is_no_function_is_refused(self, plain: Ends) -> None:
        for name in ("on_connect", "on_disconnect"):
            with pytest.raises(TypeError, match=f"{name} is 'print', expected a function"):
                await plain.bind(u32, **{name: "print"})

    async def test_a_cancelled_close_tells_all_the_same(self, plain: Ends) -> None:
        diary = Diary()
        server = await plain.bind(bytes, close_timeout=30, **diary.callbacks)
        async with plain.raw(server, small=True):
            for _ in range(8):
                server.send_nowait(bytes(MB))
            closing = asyncio.create_task(server.close(drain=30))
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            assert (await diary.end()).cause == "server closed"


class TestMany:
    @pytest.mark.limit(60)
    async def test_a_crowd_that_comes_and_goes(self, plain: Ends) -> None:
        """Every way to leave, at random, under broadcasts: up and down once each, and nobody is left."""
        diary = Diary()

        async def visit(number: int) -> None:
            if number % 4 == 0:
                async with plain.raw(server) as peer:
                    peer.reset()
                return
            async with plain.connect(server, bytes) as client:
                await client.recv()
                if number % 4 == 1:
                    await client.send(b"bye")
                elif number % 4 == 2:
                    for connection in client._connections():
                        connection._abort()
                elif others := server.clients:
                    next(iter(others)).close()

        async with plain.bind(bytes, **diary.callbacks) as server:

            async def produce() -> None:
                while True:
                    server.send_nowait(bytes(5000))
                    await asyncio.sleep(0)

            producing = asyncio.create_task(produce())
            for _ in range(5):
                await asyncio.gather(*(visit(number) for number in range(24)), return_exceptions=True)
            producing.cancel()
        peers = {peer for _, peer in diary.entries}
        assert len(peers) >= 100
        for peer in peers:
            assert [word for word, other in diary.entries if other is peer] == ["up", "down"]
