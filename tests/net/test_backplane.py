"""Backplanes: two servers are one to their clients. Messages between them are lost, doubled and malformed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import struct
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import traffic
from backplane_rig import Blob, Ledger, Message, Pose, Tick, hurry, plane, settled, within
from helpers import until
from swallowing import swallowing_relay

from deli_com import Client, Codec, Server, WsClient, WsServer, u32
from deli_com.backplane import Backplane, Memory, Nats, Unreachable, frames, node
from deli_com.backplane.nats import servers_of


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTBEAT_S", "DEAD_S", "ASK_S", "TICK_S"):
        monkeypatch.setattr(node, name, getattr(node, name))
    hurry(20.0)


@contextlib.asynccontextmanager
async def pair(
    room: str, type: Any = Message, **options: Any
) -> AsyncIterator[tuple[WsServer[Any, Any], WsServer[Any, Any], Memory, Memory]]:
    given = {name: options.pop(name) for name in ("orphans", "max_payload") if name in options}
    planes = [Memory(room, **given) for _ in range(2)]
    async with (
        WsServer[type, None].bind("127.0.0.1:0", backplane=planes[0], **options) as one,
        WsServer[type, None].bind("127.0.0.1:0", backplane=planes[1], **options) as two,
    ):
        await within(lambda: plane(one).nodes == plane(two).nodes == 1, "they do not meet")
        yield one, two, planes[0], planes[1]


async def test_what_one_sends_reaches_the_clients_of_all(request: pytest.FixtureRequest) -> None:
    async with pair(request.node.name[:20]) as (one, two, *_):
        ledgers = [await Ledger.of(each) for each in (one, two)]
        for n in range(100):
            one.send_nowait(Tick(1, n))
            two.send_nowait(Tick(2, n))
        await settled([one, two], 0)
        await within(lambda: all(dict(ledger.ticks) == {1: 100, 2: 100} for ledger in ledgers), "missing")
        assert plane(one).batches == 1  # those of one turn are one message
        for ledger in ledgers:
            assert ledger.errors == []
            await ledger.close()


async def test_one_turn_is_one_batch_until_max_payload() -> None:
    async with pair("parts", max_payload=1024) as (one, two, *_):
        ledger = await Ledger.of(two)
        for n in range(100):
            one.send_nowait(Blob(n, bytes([n]) * 5000))
            one.send_nowait(Tick(1, n))
        await settled([one, two], 0)
        await within(lambda: len(ledger.blobs) == 100 and ledger.ticks[1] == 100, "missing")
        assert plane(one).batches > 500
        await ledger.close()


async def test_groups_and_single_clients() -> None:
    """A group is one over all servers, where its name is a str; what one client gets stays at its server."""
    async with pair("groups") as (one, two, *_):
        client = await WsClient[Message, None].connect(f"ws://{two.local_addr()}")
        await two.wait_clients(1)
        (peer,) = two.clients
        for name in ("left", 7, None):
            two.group(name).add(peer)
        one.group("left").send_nowait(Tick(1, 1))
        one.group("right").send_nowait(Tick(1, 2))
        one.group(7).send_nowait(Tick(1, 3))
        one.group(None).send_nowait(Tick(1, 4))
        one.group("left").send_nowait(Pose("in a group", 1))
        one.group("later").send_nowait(Pose("for who comes", 1))
        one.send_nowait(Tick(1, 5))
        got = [await client.recv() for _ in range(3)]
        assert got == [Tick(1, 1), Pose("in a group", 1), Tick(1, 5)]
        two.group("later").add(peer)
        assert await client.recv() == Pose("for who comes", 1)
        await settled([one, two], 0)
        assert plane(one).sent == 5
        peer.send_nowait(Tick(9, 9))
        assert await client.recv() == Tick(9, 9)
        assert plane(two).sent == 0
        assert one.group("later").forget("for who comes")
        await settled([one, two], 0)
        assert two.stats().retained_keys == 1
        await client.close()


async def test_a_node_that_joins_gets_what_is_retained_in_groups_too() -> None:
    async with WsServer[Message, None].bind("127.0.0.1:0", backplane=Memory("late", max_payload=1024)) as one:
        for n in range(200):
            one.send_nowait(Pose(f"robot {n}" + "x" * 20 * n, n))
        one.group("left").send_nowait(Pose("in a group", 1))
        one.send_nowait(Tick(1, 1))
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=Memory("late")) as two:
            await within(lambda: plane(two).nodes == 1, "it does not join")
            assert two.stats().retained_keys == 201
            ledger = await Ledger.of(two)
            one.send_nowait(Tick(1, 2))
            await within(lambda: ledger.ticks[1] == 1 and len(ledger.poses) == 200, "missing")
            assert plane(two).gaps == plane(two).duplicates == 0
            await ledger.close()


async def test_lost_messages_are_counted_and_what_is_retained_is_asked_for() -> None:
    async with pair("lossy") as (one, two, plane_one, _):
        ledger = await Ledger.of(two)
        lost = 0

        def loses(subject: str, message: bytes) -> bool:
            nonlocal lost
            lost += subject.endswith(".b")
            return subject.endswith(".b") and lost % 3 == 1

        plane_one.loses = loses
        for n in range(30):
            one.send_nowait(Tick(1, n))
            one.send_nowait(Pose(f"robot {n % 7}", n))
            await asyncio.sleep(0.002)
        one.forget("robot 3")
        await asyncio.sleep(0.01)
        plane_one.loses = None
        await settled([one, two], 0)
        assert 0 < plane(two).gaps < plane(one).sent and plane(two).duplicates == 0
        await within(lambda: two.stats().retained_keys == 6, "a forgotten key is kept")
        want = {f"robot {n % 7}": n for n in range(30) if n % 7 != 3}
        await within(
            lambda: {key: n for key, n in ledger.poses.items() if key != "robot 3"} == want, str(ledger.poses)
        )
        assert ledger.errors == [] and ledger.ticks[1] + ledger.holes[1] >= 28
        await ledger.close()


async def test_a_lost_part_is_a_gap_of_one_message() -> None:
    async with pair("lost-part", max_payload=1024) as (one, two, plane_one, _):
        ledger = await Ledger.of(two)
        for part in range(7):  # the last is the tick behind it
            seen = 0

            def loses(subject: str, message: bytes, part: int = part) -> bool:
                nonlocal seen
                seen += subject.endswith(".b") and len(message) > 44
                return seen == part + 1 and subject.endswith(".b") and len(message) > 44

            plane_one.loses = loses
            one.send_nowait(Blob(part, bytes(5000)))
            one.send_nowait(Tick(1, part))
            await within(lambda part=part: plane(one).batches >= 7 * (part + 1), "not sent")  # type: ignore[misc]
            plane_one.loses = None
            await settled([one, two], 0)
        found = plane(two)
        assert (found.received + found.gaps, found.gaps) == (14, 7), found
        assert ledger.errors == []
        await ledger.close()


async def test_a_batch_that_comes_again_is_dropped_and_counted() -> None:
    async with pair("again") as (one, two, *_):
        ledger = await Ledger.of(two)
        heard: list[tuple[str, bytes]] = []
        theirs: Any = two._node
        receive = theirs._receive
        one.send_nowait(Tick(1, 0))
        await settled([one, two], 0)

        def twice(subject: str, message: bytes) -> None:
            heard.append((subject, message))
            receive(subject, message)
            receive(subject, message)

        theirs._backplane._receive = twice
        for n in range(1, 11):
            one.send_nowait(Tick(1, n))
        await settled([one, two], 0)
        await within(lambda: ledger.ticks[1] == 11, "missing")
        assert plane(two).duplicates == 10 and plane(two).received == 11 and ledger.errors == []
        await ledger.close()


async def test_malformed_messages_are_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async with pair("malformed") as (one, two, plane_one, _):
        head = frames.head(frames.Head(bytes(16), 0, "ab" * 16))
        known = frames.head(frames.Head(one._node.id, plane(one).sent, one._node.schema))  # type: ignore[union-attr]
        h = "ab" * 16
        two_id = two._node.id.hex()  # type: ignore[union-attr]
        for where in (f"{h}.b", f"{h}.s", f"{h}.t", f"{two_id}.r", f"{h}.x"):
            for message in (
                b"",
                b"dlb1",
                b"dlb2" + head[4:],
                head[:43],
                *(known + bytes(n) for n in range(1, 8)),
                known + struct.pack("<BBH", 0, 0, 60000),
                known + struct.pack("<BBHI", 0, 0, 0, 0xFFFFFFFF),
                known + struct.pack("<BBHI", 1, 2, 0, 2) + b"ab",
                known + struct.pack("<BBHI", 3, 2, 0, 2) + b"ab",
                known + struct.pack("<BBHI", 3, 16, 0, 4) + b"abcd",
                known + struct.pack("<BBHI", 77, 255, 0, 0),
                b"dlt1" + b"\xff",
                b"dlt1" + b"deli 1\nroot u8",
            ):
                await plane_one.publish(f"deli.malformed.{where}", message)
        await asyncio.sleep(0.05)
        ledger = await Ledger.of(two)
        for n in range(3):
            one.send_nowait(Tick(1, n))
        # One of those was a message of its sequence, so the first tick came too late.
        await within(lambda: ledger.last == {1: 2}, str(plane(two)))
        assert "malformed" in caplog.text
        await ledger.close()


async def test_a_schema_that_cannot_be_read_is_counted_as_gaps(caplog: pytest.LogCaptureFixture) -> None:
    class Message(Codec, sealed=True):
        pass

    class Tick(Message):
        node: str
        n: u32

    async with (
        WsServer[Message, None].bind("127.0.0.1:0", backplane=Memory("mismatch")) as one,
        WsServer[Other, None].bind("127.0.0.1:0", backplane=Memory("mismatch")) as two,
    ):
        await within(lambda: plane(one).nodes == plane(two).nodes == 1, "they do not meet")
        for n in range(10):
            one.send_nowait(Tick("a", n))
        await within(lambda: plane(two).gaps == 10, str(plane(two)))
        assert plane(two).received == 0
        assert "cannot be read, and are counted as gaps" in caplog.text


class Other(Codec):
    n: u32


async def test_while_it_is_away_policies_hold() -> None:
    """Newer values of a key supersede, old ones of policy skip go; reliable ones past the limit are a gap."""

    class Message(Codec, sealed=True):
        pass

    class Plain(Message):
        n: u32
        data: bytes

    class Skip(Message, policy="skip"):
        n: u32
        data: bytes

    class Newest(Message, policy="latest"):
        n: u32

    async with pair("away", Message, max_backlog=10_000) as (one, two, plane_one, _):
        client = await WsClient[Message, None].connect(f"ws://{two.local_addr()}")
        await two.wait_clients(1)
        plane_one.is_away = True
        for n in range(5):
            one.send_nowait(Plain(n, bytes(1000)))
        for n in range(50):
            one.send_nowait(Skip(n, bytes(1000)))
            one.send_nowait(Newest(n))
        found = plane(one)
        assert found.superseded == 49 and found.lost == 0 and 35 < found.skipped < 45, found
        assert found.waiting_bytes < 20_000
        plane_one.is_away = False
        got = [await client.recv() for _ in range(5 + 50 - found.skipped + 1)]
        assert [value.n for value in got if isinstance(value, Plain)] == [*range(5)]
        assert [value.n for value in got if isinstance(value, Newest)] == [49]
        assert [value.n for value in got if isinstance(value, Skip)] == [*range(found.skipped, 50)]
        await settled([one, two], 0)
        assert plane(two).gaps == 0
        plane_one.is_away = True
        for n in range(100):
            one.send_nowait(Plain(n, bytes(1000)))
        lost = plane(one).lost
        assert 80 < lost < 100
        plane_one.is_away = False
        await settled([one, two], 0)
        assert plane(two).gaps == lost
        assert (await client.recv()).n == lost
        await client.close()


@pytest.mark.parametrize("orphans", ["keep", "forget"])
@pytest.mark.parametrize("says", [True, False])
async def test_values_of_a_node_that_is_gone(orphans: Any, says: bool) -> None:
    name = f"orphans-{orphans}-{says}"
    async with pair(name, orphans=orphans) as (one, two, *_):
        third = Memory(name)
        server = await WsServer[Message, None].bind("127.0.0.1:0", backplane=third)
        server.send_nowait(Pose("orphan", 1))
        one.send_nowait(Pose("own", 1))
        await within(lambda: one.stats().retained_keys == two.stats().retained_keys == 2, "missing")
        third.loses = None if says else lambda *_: True
        await server.close()
        if says:
            await asyncio.sleep(0.05)
            assert plane(one).nodes == 1
        await within(lambda: plane(one).nodes == plane(two).nodes == 1, "it is not missed")
        kept = 2 if orphans == "keep" else 1
        assert one.stats().retained_keys == two.stats().retained_keys == kept
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=Memory(name)) as late:
            await within(lambda: plane(late).nodes == 2, "it does not join")
            assert late.stats().retained_keys == kept


@pytest.mark.parametrize("server_class", [WsServer, Server])
async def test_a_server_that_is_dropped_is_not_kept_and_says_that_it_closes(server_class: Any) -> None:
    """As one without a backplane: nothing else keeps it, a warning says so, and its port is free."""
    name = f"dropped-{server_class.__name__}"
    async with server_class[Message, None].bind("127.0.0.1:0", backplane=Memory(name)) as stays:
        mine = Memory(name)
        held = [await server_class[Message, None].bind("127.0.0.1:0", backplane=mine)]
        await within(lambda: plane(stays).nodes == plane(held[0]).nodes == 1, "they do not meet")
        held[0].send_nowait(Pose("orphan", 1))
        await within(lambda: stays.stats().retained_keys == 1, "missing")
        gone = weakref.ref(held[0])
        address = held[0].local_addr()
        with pytest.warns(ResourceWarning, match=f"unclosed server .*{address}"):  # noqa: PT031
            held.clear()
            gc.collect()
        assert gone() is None
        await within(lambda: plane(stays).nodes == 0, "nobody is told")
        await within(lambda: not mine.is_connected, "the backplane is open")
        stays.send_nowait(Tick(1, 1))
        assert stays.stats().retained_keys == 1
        again = await server_class[Message, None].bind(str(address))
        await again.close()


async def test_tcp_servers_take_part() -> None:
    async with (
        Server[Message, None].bind("127.0.0.1:0", backplane=Memory("tcp")) as one,
        WsServer[Message, None].bind("127.0.0.1:0", backplane=Memory("tcp")) as two,
    ):
        await within(lambda: plane(two).nodes == 1, "they do not meet")
        ledger = await Ledger.of(two)
        one.send_nowait(Tick(1, 1))
        await within(lambda: ledger.ticks[1] == 1, "missing")
        await ledger.close()


@pytest.mark.limit(40)
@pytest.mark.loops("asyncio")
async def test_a_slow_client_of_another_node_is_bounded_by_marks() -> None:
    """What the other node sends waits in the log of its own, where newer values replace it."""
    async with (
        Server[traffic.Pose, None].bind("127.0.0.1:0", backplane=Memory("marks")) as one,
        Server[traffic.Pose, None].bind("127.0.0.1:0", backplane=Memory("marks")) as two,
        swallowing_relay(two.local_addr()) as relay,
    ):
        await within(lambda: plane(one).nodes == plane(two).nodes == 1, "they do not meet")
        relay.rate = 2e6
        async with Client[traffic.Pose, None].connect(relay.address, schema="check") as client:
            await two.wait_clients(1)
            (peer,) = two.clients
            got: list[int] = []
            task = asyncio.create_task(traffic.reading(client, got))
            async with traffic.sending(one, lambda turn: traffic.Pose(turn, bytes(40_000)), 0.004):
                await until(lambda: peer.stats().superseded > 50 and relay.waiting < 1 << 20)
                relay.most_waiting = 0
                superseded = peer.stats().superseded
                await until(lambda: peer.stats().superseded > superseded + 100)
                assert relay.most_waiting < 5 << 19  # of 4 MiB
            one.send_nowait(traffic.Pose(1_000_000))
            await until(lambda: got[-1] == 1_000_000)
            assert got == sorted(got)
            task.cancel()
            await asyncio.wait([task])


async def test_a_type_without_policies() -> None:
    async with pair("plain", Other) as (one, two, *_):
        client = await WsClient[Other, None].connect(f"ws://{two.local_addr()}")
        await two.wait_clients(1)
        one.send_nowait(Other(5))
        assert await client.recv() == Other(5)
        await client.close()


async def test_a_recording_has_what_came_from_others(tmp_path: Any) -> None:
    from deli_com import Recording

    async with pair("recorded") as (one, two, *_):
        with two.record(tmp_path / "two.mcap"):
            one.send_nowait(Tick(1, 1))
            two.send_nowait(Tick(2, 2))
            await settled([one, two], 0)
        assert sorted(value.n for _, value in Recording[Message](tmp_path / "two.mcap")) == [1, 2]
        assert plane(two).sent == 1  # what came from another node is not sent again


class TestOptions:
    def test_of_nats(self) -> None:
        for room in ("", "a.b", "a*", "a b", "ä"):
            with pytest.raises(ValueError, match="room is"):
                Nats("nats://127.0.0.1", room=room)
        with pytest.raises(TypeError, match="room is"):
            Memory(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="orphans is 'drop'"):
            Nats("nats://127.0.0.1", room="r", orphans="drop")  # type: ignore[arg-type]
        huge = 10**5000  # its repr() is a ValueError
        for made in (
            lambda: Memory(huge),  # type: ignore[arg-type]
            lambda: Nats(huge, room="r"),  # type: ignore[arg-type]
            lambda: Nats("nats://127.0.0.1", room="r", orphans=huge),  # type: ignore[arg-type]
            lambda: Memory("a b" * 10_000),
            lambda: Nats("x" * 10_000 + "://", room="r"),
        ):
            with pytest.raises((TypeError, ValueError), match="expected") as caught:
                made()
            assert len(str(caught.value)) < 200
        with pytest.raises(TypeError, match="did you mean 'password'"):
            Nats("nats://127.0.0.1", room="r", passworld="x")
        for url in ("", "nats://", "http://a", "nats://a,,b", []):
            with pytest.raises(ValueError):
                Nats(url, room="r")
        assert servers_of("nats://a:1,b:2") == ["nats://a:1", "nats://b:2"]
        assert servers_of(["tls://a", "b:4"]) == ["tls://a", "nats://b:4"]

    async def test_of_bind(self) -> None:
        with pytest.raises(TypeError, match="backplane is 'nats://a', expected a backplane"):
            WsServer[Message].bind("127.0.0.1:0", backplane="nats://a")

    def test_both_are_backplanes(self) -> None:
        assert isinstance(Memory("r"), Backplane)
        assert isinstance(Nats("nats://127.0.0.1", room="r"), Backplane)

    async def test_one_backplane_is_of_one_server(self, caplog: pytest.LogCaptureFixture) -> None:
        shared = Memory("shared")
        async with (
            WsServer[Message].bind("127.0.0.1:0", backplane=shared),
            WsServer[Message].bind("127.0.0.1:0", backplane=shared),
        ):
            await within(lambda: "make another Memory" in caplog.text, "nobody is told")
        with pytest.raises(Unreachable):
            await Memory("r").publish("deli.r.x.b", b"")


async def test_a_backplane_that_cannot_be_opened_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Memory):
        tried = 0

        async def open(self, *arguments: Any) -> None:
            self.tried += 1
            if self.tried < 3:
                raise OSError("no such network")
            await super().open(*arguments)

    fails = Fails("fails")
    with caplog.at_level(logging.WARNING):
        async with WsServer[Message, None].bind("127.0.0.1:0", backplane=fails) as server:
            await within(lambda: plane(server).connected, "it is not tried again")
    assert "no such network; next attempt in" in caplog.text
