"""Clients that join late get the newest retained value of each key, then what is sent from then on."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import pytest
from helpers import until
from laggards import WIRES, Kept, Keyed, Message, Sure, laggard, server_of, stall

from deli_com import BacklogFull, Client, Codec, Server, WsClient, WsServer, u8, u32

MB = 1_000_000
ALL_WIRES = pytest.mark.parametrize("wire", WIRES)
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)


class Pose(Codec, policy="latest", key="id", retain=True, frozen=True):
    id: u32
    version: u32
    data: bytes = b""


class Mood(enum.Enum):
    CALM = 1
    BUSY = 2


async def take(client: Any, count: int) -> list[Any]:
    return [await client.recv() for _ in range(count)]


class TestJoining:
    @PAIRS
    async def test_the_newest_of_each_key_before_live_data(self, server_type: Any, client_type: Any) -> None:
        """In the order in which they were sent, though nobody was there when they were."""
        async with server_type[Message, None].bind("127.0.0.1:0") as server:
            for number in range(30):
                server.send_nowait(Kept(number, number % 3))
            server.send_nowait(Sure(30))  # of no such class: those who come later do not get it
            server.send_nowait(Keyed(31, 0))
            assert server.stats().retained_keys == 3
            async with client_type[Message, None].connect(server.local_addr()) as client:
                await server.wait_clients(1)
                server.send_nowait(Sure(32))
                server.send_nowait(Kept(33, 1))
                assert [message.number for message in await take(client, 5)] == [27, 28, 29, 32, 33]
            async with client_type[Message, None].connect(server.local_addr()) as client:
                assert [message.number for message in await take(client, 3)] == [27, 29, 33]

    @pytest.mark.parametrize("size", [10, 50_000], ids=["in slabs", "by reference"])
    @ALL_WIRES
    async def test_neither_gap_nor_duplicate_at_the_seam(self, wire: str, size: int) -> None:
        """While a producer sends all the time: from the newest at the join on, every version of every key.

        The producer waits for the clients, so nobody is passed over: what a client has seen of a key is
        a run of versions without a gap, whose first is the newest there was when it joined.
        """
        data = bytes(size)
        async with server_of(wire, Pose) as server:
            versions = [0] * 8
            ended = False

            async def produce() -> None:
                turn = 0
                while not ended:
                    for key in range(8):
                        if (turn + key) % 3:
                            versions[key] += 1
                            server.send_nowait(Pose(key, versions[key], data))
                    turn += 1
                    await asyncio.sleep(0)
                    await until(lambda: server._is_drained() or ended)

            async def join() -> None:
                before = versions.copy()
                async with laggard(server, wire, small=False) as client:
                    after = versions.copy()
                    seen: dict[int, int] = {}
                    for _ in range(60):
                        message = Pose.from_bytes(await client.payload())
                        if message.id in seen:
                            assert message.version == seen[message.id] + 1, "a gap, or a duplicate"
                        else:
                            assert before[message.id] <= message.version <= after[message.id] + 1
                        seen[message.id] = message.version
                    assert len(seen) == 8

            producing = asyncio.create_task(produce())
            await until(lambda: min(versions) > 3)
            for _ in range(4):
                await asyncio.gather(*(join() for _ in range(3)))
            ended = True
            await producing

    @ALL_WIRES
    async def test_what_was_queued_before_is_not_for_one_that_joins(self, wire: str) -> None:
        """Nor what the flush of that very turn still sends to others: the first message is the next one."""
        async with server_of(wire) as server, laggard(server, wire, small=False) as other:
            firsts: dict[Any, int] = {}  # of each peer, in the order of joining
            ended = False

            async def produce() -> None:
                number = 0
                while not ended:
                    for peer in server.clients - firsts.keys():
                        firsts[peer] = number
                    for _ in range(2):  # the first may leave at once, the second waits for the turn's end
                        server.send_nowait(Sure(number))
                        number += 1
                    await asyncio.sleep(0)

            async def read() -> None:  # somebody must be there, or nothing is queued
                while await other.message():
                    pass

            producing, reading = asyncio.create_task(produce()), asyncio.create_task(read())
            for _ in range(12):
                async with laggard(server, wire, small=False) as client:
                    first = await client.message()
                    assert first.number == list(firsts.values())[-1]
                await until(lambda: server.client_count() == 1)
            ended = True
            await producing
            reading.cancel()
            await asyncio.wait([reading])

    async def test_a_client_that_is_behind_meets_one_that_joins(self) -> None:
        """One laggard and a late joiner on one log: each gets the newest once."""
        async with server_of("ws") as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Kept(n, n % 4, bytes(100_000)))
            while len(sent) < 9:
                sent.append(Kept(len(sent), len(sent) % 4, bytes(100_000)))
                server.send_nowait(sent[-1])
            server.send_nowait(Kept(len(sent), 9))
            async with WsClient[Message, None].connect(server.local_addr()) as late:
                newest = [message.number for message in sent[-4:]]
                assert [message.number for message in await take(late, 5)] == [*newest, len(sent)]
            got = [message.number for message in await slow.messages_until(len(sent))]
            assert got == sorted(set(got))
            assert got[-5:] == [*newest, len(sent)]

    async def test_without_retain_nothing_is_kept(self) -> None:
        async with WsServer[Message, None].bind("127.0.0.1:0") as server:
            server.send_nowait(Keyed(0, 0, bytes(MB)))
            assert server.stats().retained_bytes == 0
            async with WsClient[Message, None].connect(server.local_addr()) as client:
                server.send_nowait(Sure(1))
                assert (await client.recv()).number == 1

    async def test_retained_messages_are_freed_when_newer_ones_come(self) -> None:
        """With no client at all: what is held is one message a key."""
        async with WsServer[Pose, None].bind("127.0.0.1:0") as server:
            for version in range(300):
                server.send_nowait(Pose(version % 3, version, bytes(200_000)))
                assert server.stats().retained_bytes < 4 * 200_100
                assert server.stats().queued_bytes == 0
            assert server.stats().retained_keys == 3


class TestForget:
    async def test_who_joins_does_not_get_it(self) -> None:
        async with WsServer[Pose, None].bind("127.0.0.1:0") as server:
            for key in range(3):
                server.send_nowait(Pose(key, 1))
            assert server.forget(1) is True
            assert server.forget(1) is False
            assert server.forget(77) is False
            assert server.stats().retained_keys == 2
            async with WsClient[Pose, None].connect(server.local_addr()) as client:
                assert [pose.id for pose in await take(client, 2)] == [0, 2]
                server.send_nowait(Pose(1, 2))
                assert await client.recv() == Pose(1, 2)
            assert server.stats().retained_keys == 3

    async def test_who_is_behind_does_not_get_it_either(self) -> None:
        async with server_of("ws") as server, laggard(server, "ws") as slow:
            sent = await stall(server, lambda n: Kept(n, 0, bytes(100_000)))
            at = len(sent)
            for message in (Kept(at, 1), Kept(at + 1, 2), Sure(at + 2)):
                server.send_nowait(message)
            await asyncio.sleep(0)
            assert server.forget(1)
            got = [message.number for message in await slow.messages_until(at + 2)]
            assert at not in got
            assert got[-2:] == [at + 1, at + 2]

    async def test_a_frame_that_was_not_flushed_yet_goes_out_to_those_who_keep_up(self) -> None:
        """Forgotten within the turn: whoever was connected gets it, nobody gets it twice, it is freed."""
        async with (
            WsServer[Pose, None].bind("127.0.0.1:0") as server,
            WsClient[Pose, None].connect(server.local_addr()) as client,
        ):
            server.send_nowait(Pose(1, 1))
            server.send_nowait(Pose(2, 1))
            assert server.forget(2)
            server.send_nowait(Pose(2, 2))
            assert [(pose.id, pose.version) for pose in await take(client, 3)] == [(1, 1), (2, 1), (2, 2)]
            assert server.forget(1)
            assert server.forget(2)
            assert server.stats().retained_bytes == 0

    async def test_of_the_class_that_is_named(self) -> None:
        """Two classes may have the same key."""
        async with WsServer[Message, None].bind("127.0.0.1:0") as server:
            server.send_nowait(Kept(0, 5))
            server.send_nowait(Keyed(1, 5))
            assert server.forget(5, type=Keyed) is False  # nobody is behind: it is gone already
            assert server.stats().retained_keys == 1
            assert server.forget(5, type=Kept) is True
            with pytest.raises(TypeError, match="of what is sent has policy 'latest'"):
                server.forget(5, type=Sure)

    async def test_where_nothing_is_latest(self) -> None:
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            with pytest.raises(TypeError, match="forget: no type of what is sent has policy 'latest'"):
                server.forget(1)


class TestMaxKeys:
    async def test_one_key_too_many_is_refused(self) -> None:
        """Nothing is written then; keys that are there go on; a forgotten one makes room."""
        async with WsServer[Pose, None].bind("127.0.0.1:0", max_keys=3) as server:
            for key in range(3):
                server.send_nowait(Pose(key, 1))
            with pytest.raises(BacklogFull) as error:
                server.send_nowait(Pose(3, 1))
            assert str(error.value) == "backlog full: 3 keys are held, limit 3"
            assert server.stats().refused["backlog full"] == 1
            server.send_nowait(Pose(0, 2))
            assert server.stats().retained_keys == 3
            assert server.forget(1)
            server.send_nowait(Pose(3, 1))
            async with WsClient[Pose, None].connect(server.local_addr()) as client:
                assert [(pose.id, pose.version) for pose in await take(client, 3)] == [(2, 1), (0, 2), (3, 1)]

    async def test_keys_that_hold_nothing_make_room_by_themselves(self) -> None:
        """Without retain a key is over once everybody has its message."""
        async with (
            WsServer[Message, None].bind("127.0.0.1:0", max_keys=4) as server,
            WsClient[Message, None].connect(server.local_addr()) as client,
        ):
            for number in range(200):
                server.send_nowait(Keyed(number, number))
                assert (await client.recv()).number == number

    async def test_groups_share_the_bound(self) -> None:
        async with (
            WsServer[Pose, None].bind("127.0.0.1:0", max_keys=3) as server,
            WsClient[Pose, None].connect(server.local_addr()),
        ):
            group = server.group("g")
            for peer in server.clients:
                group.add(peer)
            server.send_nowait(Pose(0, 1))
            group.send_nowait(Pose(0, 1))
            group.send_nowait(Pose(1, 1))
            with pytest.raises(BacklogFull):
                group.send_nowait(Pose(2, 1))
            assert server.stats().retained_keys == 3


class TestFormsOfKeys:
    @pytest.mark.parametrize(
        ("annotations", "keys", "same"),
        [
            ({"a": u32, "b": str}, [(1, "x"), (2, "x"), (1, "y")], (1, "x")),
            ({"a": str}, ["", "é", "x" * 1000], "é"),
            ({"a": bytes}, [b"", b"\0", b"\0\0"], b"\0"),
            ({"a": Mood}, [Mood.CALM, Mood.BUSY], Mood.CALM),
            ({"a": tuple[u8, str]}, [(1, "x"), (2, "x")], (1, "x")),
            ({"a": u32 | None}, [None, 0, 1], None),
            (
                {"a": bool, "b": Mood, "c": bytes},
                [(True, Mood.CALM, b""), (False, Mood.CALM, b"")],
                (True, Mood.CALM, b""),
            ),
        ],
        ids=["two fields", "str", "bytes", "enum", "tuple", "optional", "three fields"],
    )
    async def test_each_is_a_slot_of_its_own(
        self, annotations: dict[str, Any], keys: list[Any], same: Any
    ) -> None:
        """Retained by it, replaced by it, forgotten by it."""
        names = tuple(annotations)
        made: Any = type(Codec)(
            "Made",
            (Codec,),
            {"__annotations__": {**annotations, "version": u32}, "__module__": __name__},
            policy="latest",
            key=names if len(names) > 1 else names[0],
            retain=True,
        )

        def message(key: Any, version: int) -> Any:
            return made(*(key if len(names) > 1 else (key,)), version)

        async with WsServer[made, None].bind("127.0.0.1:0") as server:
            for key in keys:
                server.send_nowait(message(key, 1))
            server.send_nowait(message(same, 2))
            assert server.stats().retained_keys == len(keys)
            rest = [key for key in keys if key != same]
            async with WsClient[made, None].connect(server.local_addr()) as client:
                got = await take(client, len(keys))
                assert got == [*(message(key, 1) for key in rest), message(same, 2)]
            assert server.forget(same)
            async with WsClient[made, None].connect(server.local_addr()) as client:
                assert await take(client, len(rest)) == [message(key, 1) for key in rest]
            for key in rest:
                assert server.forget(key)
            assert server.stats().retained_bytes == 0


class TestGroups:
    async def test_who_is_added_gets_what_the_group_retains(self) -> None:
        """Its own keys, apart from those of all; the newest once, then what is sent to the group."""
        async with (
            WsServer[Pose, None].bind("127.0.0.1:0") as server,
            WsClient[Pose, None].connect(server.local_addr()) as client,
        ):
            group = server.group("g")
            for version in range(5):
                group.send_nowait(Pose(version % 2, version))
            server.send_nowait(Pose(0, 100))
            assert await client.recv() == Pose(0, 100)
            (peer,) = server.clients
            group.add(peer)
            group.send_nowait(Pose(1, 5))  # before the other of its key went out to the new member
            assert [pose.version for pose in await take(client, 2)] == [4, 5]
            assert group.forget(1) is True
            group.discard(peer)
            group.add(peer)
            assert (await client.recv()).version == 4
            server.send_nowait(Pose(9, 9))
            assert (await client.recv()).version == 9


class TestManyKeys:
    @pytest.mark.limit(60)
    async def test_100_000_of_them(self) -> None:
        """All reach one that joins, in order of sending, and go when they are forgotten; slabs with them."""
        count = 100_000
        async with Server[Pose, None].bind("127.0.0.1:0", max_keys=count) as server:
            for version in (1, 2):
                for key in range(count):
                    server.send_nowait(Pose(key, version))
                await asyncio.sleep(0)
            stats = server.stats()
            assert stats.retained_keys == count
            assert stats.slabs * (256 << 10) <= 4 * stats.retained_bytes + (1 << 20)
            async with Client[Pose, None].connect(server.local_addr()) as client:
                got: list[Any] = []
                while len(got) < count:
                    got += await client.recv_many(10_000)
            assert [(pose.id, pose.version) for pose in got] == [(key, 2) for key in range(count)]
            for key in range(count):
                assert server.forget(key)
            await asyncio.sleep(0)
            stats = server.stats()
            assert (stats.retained_keys, stats.retained_bytes) == (0, 0)
            assert stats.slabs < 16

    async def test_one_small_message_does_not_hold_a_slab_for_ever(self) -> None:
        """One in a hundred is retained, the rest goes: what is retained is moved together."""
        async with (
            Server[Pose, None].bind("127.0.0.1:0") as server,
            Client[Pose, None].connect(server.local_addr()) as client,
        ):
            most = 0
            for number in range(50_000):
                server.send_nowait(Pose(number if number % 100 == 0 else 1, number, bytes(200)))
                if number % 100 == 0:
                    await client.recv_many(1000)
                    most = max(most, server.stats().slabs)
            stats = server.stats()
            assert stats.retained_keys == 501
            assert most * (256 << 10) <= 4 * stats.retained_bytes + (2 << 20)
