"""Relays: what a server sends, served again without its classes; the network between is as bad as it gets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import ssl as ssl_module
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import PLAIN_HEAD, RawPeer, certificates, until
from peers import TEXT, WsPeer, dial
from proxy import fault_proxy
from websockets.asyncio.client import connect as foreign
from websockets.exceptions import ConnectionClosed as ForeignClosed
from websockets.exceptions import InvalidStatus

from deli_com import (
    Codec,
    Server,
    WebSocketError,
    WsClient,
    WsServer,
    codec,
    f32,
    u8,
    u32,
)
from deli_com.metrics import Collector
from deli_com.net.backoff import Backoff
from deli_com.relay import Relay

FAST = {"first_delay": 0.01, "max_delay": 0.05}
TOKEN = "a-token-of-the-tests"


class Message(Codec, sealed=True):
    pass


class Tick(Message):
    n: u32


class Pose(Message, policy="latest", key=("robot", "part"), retain=True):
    part: u8  # the key's fields stand apart, and in another order than the key names them
    at: f32
    robot: str


class Frame(Message, policy="skip"):
    n: u32
    data: bytes


class Blob(Message):
    n: u32
    data: bytes


class Stop(Codec):
    reason: str


class Other(Codec):
    n: u32


class Flat(Codec, policy="latest", retain=True):
    n: u32


HASH = codec(Message).schema.hash
UP_HASH = codec(Stop).schema.hash
HEADER = {"Deli-Schema": f"1 down={HASH} up={UP_HASH}"}


@contextlib.asynccontextmanager
async def robot(down: Any = Message, up: Any = Stop, **options: Any) -> AsyncIterator[Any]:
    async with WsServer[down, up].bind(options.pop("addr", "127.0.0.1:0"), **options) as server:
        yield server


def relay_of(server: Any, **options: Any) -> Relay:
    return Relay(f"ws://{server.local_addr()}", bind="127.0.0.1:0", **{**FAST, **options})


def at(proxy: Any) -> str:
    host, port = proxy.address
    return f"ws://{host}:{port}"


def url(relay: Relay, path: str = "/") -> str:
    return f"ws://{relay.local_addr()}{path}"


async def heard(peer: Any, last: str) -> list[Any]:
    """What a foreign peer gets, up to a text that begins so."""
    found = [await peer.recv()]
    while not (isinstance(found[-1], str) and found[-1].startswith(last)):
        found.append(await peer.recv())
    return found


class Slow:
    """A client with small buffers that reads when it is told to."""

    def __init__(self, peer: WsPeer) -> None:
        self.peer = peer

    async def until(self, last: Any) -> list[Any]:
        """All up to this value."""
        found: list[Any] = []
        while not found or found[-1] != last:
            frame = await self.peer.frame()
            found.append(
                frame.payload.decode() if frame.opcode == TEXT else codec(Message).from_bytes(frame.payload)
            )
        return found


@contextlib.asynccontextmanager
async def slow_client(relay: Relay) -> AsyncIterator[Slow]:
    peer = await dial(relay.local_addr(), small=True)
    try:
        said = f"\r\nDeli-Schema: {HEADER['Deli-Schema']}\r\n\r\n".encode()
        await peer.send_raw(PLAIN_HEAD.replace(b"\r\n\r\n", said))
        await peer.read_until(b"\r\n\r\n")
        await until(lambda: relay.client_count() == 1)
        yield Slow(peer)
    finally:
        peer.close()


def missed(name: str, found: list[Any]) -> int:
    """How many messages of a class these texts tell of."""
    head = f"deli 1 gap {name} skipped=0 superseded="
    return sum(int(each[len(head) :]) for each in found if isinstance(each, str) and each.startswith(head))


async def close_code(peer: Any) -> int | None:
    """Read up to the end; the code of it, None where none was said."""
    try:
        while True:
            await peer.recv()
    except ForeignClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


def poses(found: list[Any]) -> dict[tuple[str, int], float]:
    return {(value.robot, value.part): value.at for value in found if isinstance(value, Pose)}


async def retained(relay: Relay) -> dict[tuple[str, int], float]:
    """What somebody gets who comes now."""
    async with foreign(url(relay), additional_headers=HEADER) as peer:
        found = (await heard(peer, "deli 1 live"))[:-1]
    return poses([codec(Message).from_bytes(each) for each in found])


class TestServing:
    async def test_clients_get_what_the_server_sends_and_it_gets_what_they_send(self):
        async with robot() as server, relay_of(server) as relay:
            async with WsClient[Message, Stop].connect(url(relay)) as client:
                assert client.schema.down.how == "same" and client.schema.up.how == "same"
                server.send_nowait(Tick(1))
                server.send_nowait(Frame(2, b"x" * 100_000))
                assert await client.recv() == Tick(1)
                assert await client.recv() == Frame(2, b"x" * 100_000)
                await client.send(Stop("now"))
                assert await server.recv() == Stop("now")
                stats = relay.stats()
                assert (stats.passed, stats.up_passed, stats.lost, stats.up_lost) == (2, 1, 0, 0)
                assert stats.connected and stats.connects == 1 and stats.schemas == 1 and stats.clients == 1

    async def test_a_foreign_client_that_announces_nothing_gets_the_same_bytes_and_no_text(self):
        async with robot() as server, relay_of(server) as relay:
            async with foreign(url(relay)) as peer:
                await until(lambda: relay.client_count() == 1)
                for n in range(100):
                    server.send_nowait(Tick(n))
                assert [await peer.recv() for _ in range(100)] == [Tick(n).to_bytes() for n in range(100)]
                await peer.send(Stop("by hand").to_bytes())
                assert await server.recv() == Stop("by hand")

    async def test_tcp_upstream(self):
        async with Server[Message, Stop].bind("127.0.0.1:0") as server:
            server.send_nowait(Pose(1, 0.5, "a"))
            relay = Relay(f"tcp://{server.local_addr()}", bind="127.0.0.1:0", **FAST)
            async with relay, WsClient[Message, Stop].connect(url(relay)) as client:
                assert await client.recv() == Pose(1, 0.5, "a")
                for n in range(1000):
                    server.send_nowait(Tick(n))
                assert [await client.recv() for _ in range(1000)] == [Tick(n) for n in range(1000)]
                await client.send(Stop("tcp"))
                assert await server.recv() == Stop("tcp")

    async def test_upstream_over_tls_is_verified(self):
        serves, trusts = certificates()
        async with robot(ssl=serves) as server:
            secure = f"wss://localhost:{server.local_addr().port}"
            async with Relay(secure, bind="127.0.0.1:0", connect={"ssl": trusts}, **FAST) as relay:
                async with WsClient[Message, Stop].connect(url(relay)) as client:
                    server.send_nowait(Tick(1))
                    assert await client.recv() == Tick(1)
            distrusts = Relay(
                secure, bind="127.0.0.1:0", connect={"ssl": ssl_module.create_default_context()}, **FAST
            )
            distrusts.start()
            await until(lambda: server.stats().closed or True)
            assert not distrusts.is_connected
            await distrusts.close()

    async def test_a_server_that_only_sends(self, caplog):
        async with robot(up=None) as server, relay_of(server) as relay:
            async with foreign(url(relay)) as peer:
                await until(lambda: relay.client_count() == 1)
                await peer.send(b"nobody wants this")
                server.send_nowait(Tick(1))
                assert await peer.recv() == Tick(1).to_bytes()
                await until(lambda: relay.stats().refused["unwanted"] == 1)
                assert relay.stats().up_passed == 0

    async def test_a_flat_type_and_bytes(self):
        async with robot(Flat, None) as server, relay_of(server) as relay:
            server.send_nowait(Flat(3))
            async with WsClient[Flat, None].connect(url(relay)) as client:
                assert await client.recv() == Flat(3)
        async with robot(bytes, bytes) as server, relay_of(server) as relay:
            async with WsClient[bytes].connect(url(relay)) as client:
                server.send_nowait(b"abc")
                assert await client.recv() == b"abc"
                await client.send(b"def")
                assert await server.recv() == b"def"

    async def test_who_comes_late_gets_the_newest_of_each_key(self):
        async with robot() as server:
            server.send_nowait(Pose(1, 0.1, "a"))
            async with relay_of(server) as relay:
                await until(lambda: relay.stats().passed == 1)
                for at in range(50):
                    server.send_nowait(Pose(1, float(at), "a"))
                    server.send_nowait(Pose(2, float(-at), "a"))
                    server.send_nowait(Pose(1, float(10 * at), "b"))
                await until(lambda: relay.stats().passed == 151)
                assert await retained(relay) == {("a", 1): 49.0, ("a", 2): -49.0, ("b", 1): 490.0}
                assert relay.stats().retained_keys == 3

    async def test_a_group_of_the_server_reaches_the_relays_clients(self):
        async with robot() as server, relay_of(server) as relay:
            async with WsClient[Message, Stop].connect(url(relay)) as client:
                for peer in server.clients:
                    server.group("all").add(peer)
                server.group("all").send_nowait(Tick(7))
                for peer in server.clients:
                    peer.send_nowait(Tick(8))
                assert [await client.recv(), await client.recv()] == [Tick(7), Tick(8)]

    async def test_only_some_classes_pass(self):
        async with robot() as server, relay_of(server, only=["Pose"]) as relay:
            async with WsClient[Message, Stop].connect(url(relay)) as client:
                server.send_nowait(Tick(1))
                server.send_nowait(Pose(1, 0.5, "a"))
                assert await client.recv() == Pose(1, 0.5, "a")
                assert relay.stats().passed == 1

    async def test_a_class_that_is_not_sent_is_said(self, caplog):
        async with robot() as server:
            relay = relay_of(server, only=["Nose"])
            relay.start()
            await until(lambda: "no Nose is sent there: Tick, Pose, Frame, Blob" in caplog.text)
            await relay.close()

    async def test_what_a_client_of_another_schema_sends_arrives_as_the_server_reads_it(self):
        class Newer(Codec):
            by: str
            reason: str

        Newer.__name__ = "Stop"
        async with robot() as server, relay_of(server) as relay:
            async with WsClient[Message, Newer].connect(url(relay)) as client:
                await client.send(Newer("me", "why not"))
                assert await server.recv() == Stop("why not")
                assert relay.stats().up_passed == 1

    async def test_bytes_that_are_no_value_cost_their_sender_only(self):
        async with robot() as server, relay_of(server) as relay:
            async with foreign(url(relay)) as bad, WsClient[Message, Stop].connect(url(relay)) as good:
                await bad.send(b"\xff\xff\xff\xff")
                await until(lambda: server.stats().refused["undecodable"] == 1)
                await good.send(Stop("well"))
                assert await server.recv() == Stop("well")
                server.send_nowait(Tick(1))
                assert await good.recv() == Tick(1)

    async def test_policies_hold_for_a_client_that_does_not_read(self):
        """It gets the newest of each key once it reads again, and is told of the others."""
        async with robot() as server, relay_of(server) as relay, slow_client(relay) as slow:
            async with WsClient[Message, Stop].connect(url(relay)) as fast:
                for n in range(60):
                    server.send_nowait(Pose(1, float(n), "r" * 50_000))
                    await fast.recv()
                server.send_nowait(Tick(1))
                assert await fast.recv() == Tick(1)
                assert relay.stats().laggards == 1
                found = await slow.until(Tick(1))
                at = [each.at for each in found if isinstance(each, Pose)]
                assert at == sorted(at) and at[-1] == 59.0
                assert missed("Pose", found) == 60 - len(at) > 0

    async def test_a_gap_of_the_server_is_told_to_the_relays_clients(self):
        async with robot() as server, fault_proxy(server.local_addr()) as proxy:
            relay = Relay(at(proxy), bind="127.0.0.1:0", **FAST)
            async with relay, foreign(url(relay), additional_headers=HEADER) as peer:
                await until(lambda: relay.client_count() == 1)
                proxy.links[0].down.stall()
                for n in range(400):
                    server.send_nowait(Pose(1, float(n), "r" * 50_000))
                    await asyncio.sleep(0)
                server.send_nowait(Tick(1))
                assert server.stats().laggards == 1
                proxy.links[0].down.go_on()
                found: list[Any] = [await peer.recv()]
                while found[-1] != Tick(1).to_bytes():
                    found.append(await peer.recv())
                got = sum(isinstance(each, bytes) for each in found) - 1
                assert missed("Pose", found) == 400 - got > 0

    async def test_limits_are_those_of_bind(self):
        async with robot() as server, relay_of(server, max_clients=1, max_backlog=1 << 16) as relay:
            async with WsClient[Message, Stop].connect(url(relay)) as client:
                with pytest.raises(WebSocketError) as refused:
                    await WsClient[Message, Stop].connect(url(relay))
                assert refused.value.status == 503
                server.send_nowait(Tick(1))
                assert await client.recv() == Tick(1)

    async def test_a_client_that_takes_nothing_is_closed_and_the_others_get_all(self):
        async with robot() as server, relay_of(server, max_backlog=1 << 20) as relay:
            async with slow_client(relay) as slow, WsClient[Message, Stop].connect(url(relay)) as fast:
                wanted = [Blob(n, b"." * 100_000) for n in range(40)]
                for blob in wanted:
                    server.send_nowait(blob)
                    assert await fast.recv() == blob
                await until(lambda: relay.client_count() == 1)
                found, code, _ = await slow.peer.read_to_close()
                assert code == 1013 and len(found) < 40

    @pytest.mark.limit(30)
    async def test_where_there_is_no_room_the_server_is_not_read_and_nothing_is_lost(self):
        """Three messages that together are more than a log holds; somebody who takes nothing holds them."""
        async with robot(bytes, None, max_backlog=128 << 20) as server, relay_of(server) as relay:
            async with fault_proxy(relay.local_addr()) as proxy:
                async with foreign(at(proxy), max_size=None):
                    async with WsClient[bytes, None].connect(url(relay)) as fast:
                        await until(lambda: relay.client_count() == 2)
                        proxy.links[0].down.stall()
                        for n in range(3):
                            server.send_nowait(bytes([n]) * (30 << 20))
                        for n in range(3):
                            value = await fast.recv()
                            assert len(value) == 30 << 20 and value[0] == n
                        assert relay.stats().lost == 0
                        await proxy.links[0].reset()


class TestBeginning:
    async def test_it_listens_once_it_knows_the_schema(self):
        async with robot() as server:
            addr = server.local_addr()
        relay = Relay(f"ws://{addr}", bind="127.0.0.1:0", **FAST)
        relay.start()
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="does not listen yet"):
            relay.local_addr()
        with pytest.raises(RuntimeError, match="does not know the schema"):
            relay.server  # noqa: B018
        async with robot(addr=addr) as server:
            await relay.wait_listening()
            async with WsClient[Message, Stop].connect(url(relay)) as client:
                server.send_nowait(Tick(1))
                assert await client.recv() == Tick(1)
        await relay.close()
        await relay.close()

    async def test_a_failure_is_logged_once_as_a_warning(self, caplog):
        caplog.set_level(logging.INFO, "deli_com.relay")
        relay = Relay("ws://127.0.0.1:9", bind="127.0.0.1:0", first_delay=0.001, max_delay=0.002)
        relay.start()
        await until(lambda: len(caplog.records) > 3)
        await relay.close()
        assert [record.levelname for record in caplog.records[:3]] == ["WARNING", "INFO", "INFO"]

    async def test_a_server_that_says_nothing_of_schemas_is_refused(self, caplog):
        async with robot(schema=None) as server:
            relay = relay_of(server)
            relay.start()
            await until(lambda: "announces no schemas" in caplog.text)
            assert not relay.is_connected
            await relay.close()

    async def test_an_address_in_use_ends_it(self):
        async with robot() as server:
            relay = Relay(f"ws://{server.local_addr()}", bind=server.local_addr(), **FAST)
            with pytest.raises(OSError, match="in use"):
                await relay.wait_listening()
            with pytest.raises(OSError, match="in use"):
                await relay.wait_closed()
            await relay.close()

    async def test_entering_can_be_cancelled(self):
        relay = Relay("ws://127.0.0.1:9", bind="127.0.0.1:0", **FAST)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), relay:
                raise AssertionError("it cannot listen")

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"url": None}, "one upstream"),
            ({"url": "ws://a", "accept_dial": "/up", "token": "x"}, "one upstream"),
            ({"url": "ws://a", "token": "x"}, "need a token"),
            ({"url": "ws://a", "dial": "wss://hub"}, "need a token"),
            ({"url": "ws://a", "dial": "ws://hub.example/up", "token": "x"}, "in clear"),
            ({"url": "ws://a", "dial": "tcp://127.0.0.1:1", "token": "x"}, "ws:// or wss://"),
            ({"url": None, "accept_dial": "/up", "token": ""}, "one or more"),
            ({"url": None, "accept_dial": "/up", "token": "two words"}, "without spaces"),
            ({"url": "http://a"}, "no URL of a server"),
            ({"url": "ws://a", "max_clients": -1}, "max_clients"),
            ({"url": "ws://a", "first_delay": -1}, "first_delay"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, Any], why: str):
        with pytest.raises(ValueError, match=why):
            Relay(options.pop("url"), bind="127.0.0.1:0", **options)
        with pytest.raises(TypeError, match="only is a collection"):
            Relay("ws://a", bind="127.0.0.1:0", only="Pose")

    def test_delays_double_up_to_the_longest_and_begin_again_after_a_long_connection(self):
        backoff = Backoff(0.1, 1.0)
        drawn = [backoff.next() for _ in range(6)]
        for delay, most in zip(drawn, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0], strict=True):
            assert most / 2 <= delay <= most
        backoff.lasted(0.9)
        assert backoff.next() >= 0.5
        backoff.lasted(1.5)
        assert backoff.next() <= 0.1


class TestLoss:
    async def test_clients_stay_and_are_told_of_loss_and_return(self):
        async with robot() as server:
            addr = server.local_addr()
            relay = relay_of(server)
            await relay
            peer = await foreign(url(relay), additional_headers=HEADER)
            silent = await foreign(url(relay))
            await heard(peer, "deli 1 live")
        assert await heard(peer, "deli 1 gap") == ["deli 1 gap * reason=upstream"]
        late = await foreign(url(relay), additional_headers=HEADER)
        assert await heard(late, "deli 1 gap") == ["deli 1 live", "deli 1 gap * reason=upstream"]
        assert relay.stats().away_s > 0 and not relay.stats().connected
        async with robot(addr=addr) as server:
            await server.wait_clients(1)
            server.send_nowait(Tick(1))
            for each in (peer, late):
                told = await each.recv()
                assert told.startswith("deli 1 gap * reason=upstream seconds=") and float(told[37:]) > 0
                assert set(await heard(each, "deli 1 live")) <= {"deli 1 live", Tick(1).to_bytes()}
            assert await silent.recv() == Tick(1).to_bytes()
            assert relay.stats().away_s == 0 and relay.stats().connects == 2
            for each in (peer, late, silent):
                await each.close()
            await relay.close()

    async def test_what_clients_send_meanwhile_is_counted_and_not_kept(self):
        async with robot() as server:
            addr = server.local_addr()
            relay = relay_of(server)
            await relay
            client = await WsClient[Message, Stop].connect(url(relay))
        await until(lambda: not relay.is_connected)
        for n in range(25):
            await client.send(Stop(str(n)))
        await until(lambda: relay.stats().up_lost == 25)
        async with robot(addr=addr) as server:
            await until(lambda: relay.is_connected)
            await client.send(Stop("after"))
            assert await server.recv() == Stop("after")
            assert server.stats().messages_in == 1
            await client.close()
            await relay.close()

    async def test_what_waits_for_a_server_that_takes_nothing_is_bounded_and_counted(self):
        async with robot() as server, fault_proxy(server.local_addr()) as proxy:
            relay = Relay(at(proxy), bind="127.0.0.1:0", **FAST)
            async with relay, WsClient[Message, Stop].connect(url(relay)) as client:
                proxy.links[0].up.stall()
                sent = 0
                while not relay.stats().up_lost:
                    for _ in range(16):
                        await client.send(Stop("." * 60_000))
                    sent += 16
                await client.send(Stop("last"))
                await until(lambda: relay.stats().up_passed + relay.stats().up_lost == sent + 1)
                queued = 60_000 * relay.stats().up_passed
                assert queued < 40 << 20  # 8 MiB here, the rest in two kernels' buffers
                passed, lost = relay.stats().up_passed, relay.stats().up_lost
                await proxy.links[0].reset()
                await until(lambda: relay.stats().connects == 2)
                # What waited here is lost with the connection, and counted.
                assert relay.stats().up_lost - lost > 100
                assert relay.stats().up_passed == passed
                await client.send(Stop("anew"))
                while (await server.recv()).reason != "anew":
                    pass

    async def test_keys_that_do_not_come_again_are_forgotten(self):
        async with robot() as server:
            addr = server.local_addr()
            for name in "abc":
                server.send_nowait(Pose(1, 1.0, name))
            relay = relay_of(server)
            await relay
            await until(lambda: relay.stats().passed == 3)
        await until(lambda: not relay.is_connected)
        assert set(await retained(relay)) == {("a", 1), ("b", 1), ("c", 1)}  # as long as nobody knows better
        async with robot(addr=addr) as server:
            server.send_nowait(Pose(1, 2.0, "b"))
            server.send_nowait(Pose(2, 3.0, "b"))
            await until(lambda: relay.stats().retained_keys == 2)
            assert await retained(relay) == {("b", 1): 2.0, ("b", 2): 3.0}
            await relay.close()

    async def test_another_schema_closes_clients_and_is_served(self, caplog):
        async with robot() as server:
            addr = server.local_addr()
            server.send_nowait(Pose(1, 1.0, "a"))
            relay = relay_of(server)
            await relay
            place = relay.local_addr()
            peer = await foreign(url(relay), additional_headers=HEADER)
            await heard(peer, "deli 1 live")
        async with robot(Other, None, addr=addr) as server:
            server.send_nowait(Other(5))
            await until(lambda: relay.stats().schemas == 2)
            assert await close_code(peer) == 1012
            assert relay.local_addr() == place
            assert relay.stats().retained_keys == 0
            async with WsClient[Other, None].connect(place) as client:
                assert client.schema.down.how == "same"
                server.send_nowait(Other(6))
                assert await client.recv() == Other(6)
            await relay.close()

    async def test_other_policies_are_another_schema_too(self):
        class Same(Codec):
            n: u32

        Same.__name__ = "Flat"
        assert codec(Same).schema.hash == codec(Flat).schema.hash
        async with robot(Same, None) as server:
            addr = server.local_addr()
            relay = relay_of(server)
            await relay
        async with robot(Flat, None, addr=addr) as server:
            await until(lambda: relay.stats().schemas == 2)
            server.send_nowait(Flat(1))
            await until(lambda: relay.stats().retained_keys == 1)
            await relay.close()

    async def test_a_stream_comes_again_after_another_schema(self):
        """A program that reads both goes on by itself."""

        class Both(Codec):
            n: u32
            more: u32 = 7

        Both.__name__ = "Other"
        async with robot(Other, None) as server:
            addr = server.local_addr()
            relay = relay_of(server)
            await relay
            stream = WsClient[Both, None].stream(url(relay), first_delay=0.01, max_delay=0.05)
            step = asyncio.ensure_future(anext(stream))
            await until(lambda: relay.client_count() == 1)
            server.send_nowait(Other(1))
            assert await step == Both(1, 7)
        async with robot(Both, None, addr=addr) as server:
            step = asyncio.ensure_future(anext(stream))
            await until(lambda: relay.stats().schemas == 2 and relay.client_count() == 1)
            server.send_nowait(Both(2, 9))
            assert await step == Both(2, 9)
            await stream.aclose()
            await relay.close()

    async def test_who_is_connected_when_it_closes_is_told(self):
        async with robot() as server:
            relay = relay_of(server)
            async with relay:
                peer = await foreign(url(relay))
                await until(lambda: relay.client_count() == 1)
                server.send_nowait(Tick(1))
                await until(lambda: relay.stats().passed == 1)
            assert await peer.recv() == Tick(1).to_bytes()
            assert await close_code(peer) == 1001
            await relay.wait_closed()
            with pytest.raises(OSError):
                await WsClient[Message, Stop].connect(relay.local_addr())


class TestRelayOfRelay:
    async def test_everything_passes_two_of_them(self):
        async with robot() as server:
            addr = server.local_addr()
            for name in "ab":
                server.send_nowait(Pose(1, 1.0, name))
            near = relay_of(server)
            await near
            far = Relay(url(near), bind="127.0.0.1:0", **FAST)
            await far
            await until(lambda: far.stats().passed == 2)
            assert far.server.down.schema.text == codec(Message).schema.text
            peer = await foreign(url(far), additional_headers=HEADER)
            await heard(peer, "deli 1 live")
            await peer.send(Stop("far").to_bytes())
            assert await server.recv() == Stop("far")
        assert await heard(peer, "deli 1 gap") == ["deli 1 gap * reason=upstream"]
        late = await foreign(url(far), additional_headers=HEADER)
        await heard(late, "deli 1 gap * reason=upstream")
        await late.close()
        async with robot(addr=addr) as server:
            server.send_nowait(Pose(1, 2.0, "b"))
            told = (await heard(peer, "deli 1 gap * reason=upstream seconds="))[-1]
            assert float(told[37:]) > 0
            await heard(peer, "deli 1 live")
            assert far.stats().connects == 1  # its own upstream was there all the time
            await until(lambda: far.stats().retained_keys == 1)
            assert await retained(far) == {("b", 1): 2.0}
            await peer.close()
            await far.close()
            await near.close()


def hub_of(**options: Any) -> Relay:
    return Relay(None, bind="127.0.0.1:0", accept_dial="/up", token=TOKEN, **FAST, **options)


class TestDialling:
    async def test_a_relay_beside_the_robot_writes_to_a_hub(self):
        async with robot() as server, hub_of() as hub:
            server.send_nowait(Pose(1, 0.5, "a"))
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Message, Stop].connect(url(hub))
            assert refused.value.status == 503  # it comes again, and finds it
            async with relay_of(server, dial=url(hub, "/up"), token=TOKEN) as beside:
                await until(lambda: hub.stats().schemas == 1)
                async with WsClient[Message, Stop].connect(url(hub)) as client:
                    assert client.schema.down.how == client.schema.up.how == "same"
                    assert await client.recv() == Pose(1, 0.5, "a")
                    for n in range(200):
                        server.send_nowait(Tick(n))
                    assert [await client.recv() for _ in range(200)] == [Tick(n) for n in range(200)]
                    await client.send(Stop("through the hub"))
                    assert await server.recv() == Stop("through the hub")
                    async with WsClient[Message, Stop].connect(url(beside)) as near:
                        await near.send(Stop("near"))
                        assert await server.recv() == Stop("near")
                assert hub.stats().connected and hub.stats().passed == 201

    async def test_the_hubs_clients_are_told_when_the_robot_goes_and_comes(self):
        async with hub_of() as hub:
            async with robot() as server:
                addr = server.local_addr()
                for name in "ab":
                    server.send_nowait(Pose(1, 1.0, name))
                beside = relay_of(server, dial=url(hub, "/up"), token=TOKEN)
                await beside
                await until(lambda: hub.stats().passed == 2)
                peer = await foreign(url(hub), additional_headers=HEADER)
                await heard(peer, "deli 1 live")
            await heard(peer, "deli 1 gap * reason=upstream")
            assert hub.stats().connected  # the relay beside it is
            async with robot(addr=addr) as server:
                server.send_nowait(Pose(1, 2.0, "b"))
                await heard(peer, "deli 1 gap * reason=upstream seconds=")
                await heard(peer, "deli 1 live")
                assert await retained(hub) == {("b", 1): 2.0}
                await beside.close()
                await heard(peer, "deli 1 gap * reason=upstream")
                assert not hub.is_connected
                beside = relay_of(server, dial=url(hub, "/up"), token=TOKEN)
                await beside
                await heard(peer, "deli 1 gap * reason=upstream seconds=")
                await peer.close()
                await beside.close()

    async def test_another_schema_of_the_robot_is_served_by_the_hub(self):
        async with hub_of() as hub:
            async with robot() as server:
                addr = server.local_addr()
                beside = relay_of(server, dial=url(hub, "/up"), token=TOKEN)
                await beside
                await until(lambda: hub.stats().schemas == 1)
                peer = await foreign(url(hub), additional_headers=HEADER)
            async with robot(Other, None, addr=addr) as server:
                assert await close_code(peer) == 1012
                async with WsClient[Other, None].connect(url(hub)) as client:
                    await until(lambda: hub.is_connected)
                    server.send_nowait(Other(3))
                    assert await client.recv() == Other(3)
                await beside.close()

    @pytest.mark.parametrize(
        "header",
        [{}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}, {"Authorization": "Bearer ü"}],
    )
    async def test_who_does_not_show_the_token_gets_401(self, header: dict[str, str]):
        async with hub_of() as hub:
            with pytest.raises(WebSocketError) as refused:
                await WsClient[Message, Stop].connect(
                    url(hub, "/up"), headers={k: v for k, v in header.items() if v.isascii()}
                )
            assert refused.value.status == 401

    async def test_one_at_a_time(self):
        async with robot() as server, hub_of() as hub:
            async with relay_of(server, dial=url(hub, "/up"), token=TOKEN):
                await until(lambda: hub.is_connected)
                with pytest.raises(InvalidStatus) as refused:
                    await foreign(
                        url(hub, "/up"), additional_headers={"Authorization": f"Bearer {TOKEN}", **HEADER}
                    )
                assert refused.value.response.status_code == 409
                assert hub.is_connected

    async def test_who_announces_no_schema_gets_428(self):
        async with hub_of() as hub:
            with pytest.raises(InvalidStatus) as refused:
                await foreign(url(hub, "/up"), additional_headers={"Authorization": f"Bearer {TOKEN}"})
            assert refused.value.response.status_code == 428

    async def test_from_another_machine_only_over_tls(self):
        """A balancer says that the connection is of another machine."""
        async with hub_of(proxy_protocol=True) as hub:
            peer = await RawPeer.open(hub.local_addr())
            head = (
                f"PROXY TCP4 192.0.2.1 127.0.0.1 5000 80\r\nGET /up HTTP/1.1\r\nHost: hub\r\n"
                f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Deli-Schema: 1 down={HASH} up={UP_HASH}\r\n\r\n"
            )
            await peer.send(head.encode())
            assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 403 ")
            peer.close()

    async def test_over_tls(self):
        serves, trusts = certificates()
        async with robot() as server, hub_of(ssl=serves) as hub:
            secure = f"wss://localhost:{hub.local_addr().port}"
            options = {"dial": f"{secure}/up", "token": TOKEN, "dial_options": {"ssl": trusts}}
            async with relay_of(server, **options):
                await until(lambda: hub.is_connected)
                async with WsClient[Message, Stop].connect(secure, ssl=trusts) as client:
                    server.send_nowait(Tick(1))
                    assert await client.recv() == Tick(1)

    async def test_a_server_that_is_no_hub_is_not_written_to(self, caplog):
        """It would take the values for what its clients send."""
        async with robot() as server, robot(Stop, Message) as another:
            async with relay_of(server, dial=f"ws://{another.local_addr()}/", token=TOKEN):
                await until(lambda: "no --accept-dial" in caplog.text)
                server.send_nowait(Tick(1))
                await asyncio.sleep(0.05)
                assert another.stats().messages_in == 0

    @pytest.mark.parametrize(
        "text",
        [
            f"deli 1 schema down {HASH}\nno schema",
            f"deli 1 schema down {'0' * 32}\n{codec(Message).schema.text}",
            "deli 1 refused\nno",
            "deli 1 hello down=? up=?",
        ],
    )
    async def test_a_writer_that_says_nonsense_is_closed_and_another_may_come(self, text: str):
        async with robot() as server, hub_of() as hub:
            shows = {"Authorization": f"Bearer {TOKEN}", **HEADER}
            async with foreign(url(hub, "/up"), additional_headers=shows) as peer:
                assert peer.response.headers["Deli-Schema"] == "1 down=? up=?"
                await peer.send(text)
                assert await close_code(peer) is not None
            assert hub.stats().schemas == 0
            async with relay_of(server, dial=url(hub, "/up"), token=TOKEN):
                await until(lambda: hub.stats().schemas == 1)

    async def test_a_value_before_the_schema_ends_the_connection(self):
        async with hub_of() as hub:
            shows = {"Authorization": f"Bearer {TOKEN}", **HEADER}
            async with foreign(url(hub, "/up"), additional_headers=shows) as peer:
                await peer.send(Tick(1).to_bytes())
                assert await close_code(peer) == 1002

    async def test_a_writer_by_hand(self):
        """The wire of dialling, as another program would speak it."""
        async with hub_of() as hub:
            shows = {"Authorization": f"Bearer {TOKEN}", **HEADER}
            async with foreign(url(hub, "/up"), additional_headers=shows) as peer:
                await peer.send(f"deli 1 schema down {HASH}\n{codec(Message).schema.text}")
                await peer.send(f"deli 1 schema up {UP_HASH}\n{codec(Stop).schema.text}")
                await peer.send(Pose(1, 0.5, "a").to_bytes())  # before there is a server
                await until(lambda: hub.stats().schemas == 1)
                async with WsClient[Message, Stop].connect(url(hub)) as client:
                    assert await client.recv() == Pose(1, 0.5, "a")
                    await client.send(Stop("hand"))
                    got = await peer.recv()
                    while isinstance(got, str):
                        got = await peer.recv()
                    assert got == Stop("hand").to_bytes()


class TestAround:
    async def test_health_and_metrics(self):
        async with robot() as server:
            addr = server.local_addr()
            relay = relay_of(server, http={"/hello": b"hello"})
            await relay
            assert b" 200 " in await plain(relay, "/healthz")
            assert (await plain(relay, "/hello")).endswith(b"hello")
            found = {
                sample.name: sample.value
                for family in Collector(relay).collect()
                for sample in family.samples
                if not set(sample.labels) - {"server"}
            }
            assert found["deli_upstream_connected"] == 1 and found["deli_upstream_connects_total"] == 1
        await until(lambda: not relay.is_connected)
        assert b" 503 " in await plain(relay, "/healthz")
        async with robot(addr=addr):
            await until(lambda: relay.is_connected)
            assert b" 200 " in await plain(relay, "/healthz")
            await relay.close()

    async def test_on_connect_is_the_users(self):
        came = []
        async with robot() as server, relay_of(server, on_connect=came.append) as relay:
            async with WsClient[Message, Stop].connect(url(relay)):
                await until(lambda: came)

    @pytest.mark.loops("asyncio")
    @pytest.mark.limit(60)
    async def test_memory_with_many_clients_and_a_server_that_takes_nothing(self):
        """What clients send is bounded by one queue, not by one each."""
        async with robot() as server, fault_proxy(server.local_addr()) as proxy:
            relay = Relay(at(proxy), bind="127.0.0.1:0", **FAST)
            async with relay:
                clients = [await WsClient[Message, Stop].connect(url(relay)) for _ in range(200)]
                await until(lambda: relay.client_count() == 200)
                proxy.links[0].up.stall()
                gc.collect()
                before = resident()
                text = "." * 20_000
                for _ in range(25):  # 100 MB in all
                    for client in clients:
                        client.send_nowait(Stop(text))
                    await asyncio.sleep(0)
                await until(lambda: relay.stats().up_passed + relay.stats().up_lost == 5000)
                assert relay.stats().up_lost > 2000
                assert resident() - before < 64 << 20
                await proxy.links[0].reset()
                for client in clients:
                    await client.close()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def plain(relay: Relay, path: str) -> bytes:
    peer = await RawPeer.open(relay.local_addr())
    await peer.send(f"GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n".encode())
    try:
        return await peer.read_all()
    finally:
        peer.close()
