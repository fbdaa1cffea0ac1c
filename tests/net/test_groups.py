"""Messages to some clients: membership, one order for each client, and limits of a busy group."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import tracemalloc
from typing import Any

import pytest
from helpers import until
from laggards import WIRES, laggard, server_of
from peers import raw_client

from deli_com import (
    Client,
    Codec,
    ConnectionClosed,
    EncodeError,
    Group,
    Server,
    WsClient,
    WsServer,
    u8,
    u16,
    u32,
)

MB = 1_000_000
PAIRS = pytest.mark.parametrize(
    ("server_type", "client_type"), [(WsServer, WsClient), (Server, Client)], ids=["websocket", "tcp"]
)


class Note(Codec, frozen=True):
    """`to` says whom it was for."""

    thread: u8
    number: u32
    to: str
    data: bytes = b""


async def members(
    server: Any, count: int, client_type: Any = WsClient, down: Any = Note
) -> list[tuple[Any, Any]]:
    """So many clients, each with its peer."""
    found: list[tuple[Any, Any]] = []
    for _ in range(count):
        before = server.clients
        client = await client_type[down, None].connect(server.local_addr())
        await server.wait_clients(len(before) + 1)
        (peer,) = server.clients - before
        found.append((client, peer))
    return found


async def close_all(pairs: list[tuple[Any, Any]]) -> None:
    await asyncio.gather(*(client.close() for client, _ in pairs))


async def receive_until(client: Any, last: Any) -> list[Any]:
    found = [await client.recv()]
    while found[-1] != last:
        found.append(await client.recv())
    return found


class TestMembership:
    @PAIRS
    async def test_members_get_it_and_nobody_else(self, server_type: Any, client_type: Any) -> None:
        async with server_type[u32, None].bind("127.0.0.1:0") as server:
            (a, one), (b, two), (c, _) = pairs = await members(server, 3, client_type, u32)
            group = server.group("some")
            assert group.add(one) is group.add(two) is group.add(two) is True
            group.send_nowait(1)
            await group.send(2)
            group.discard(two)
            group.discard(two)
            group.send_nowait(3)
            server.send_nowait(9)
            assert await receive_until(a, 9) == [1, 2, 3, 9]
            assert await receive_until(b, 9) == [1, 2, 9]
            assert await receive_until(c, 9) == [9]
            await close_all(pairs)

    async def test_what_a_group_says_of_itself(self) -> None:
        """Members, their number, names, and equality: two objects for one group are equal."""
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            (_, one), (_, two) = pairs = await members(server, 2, WsClient, u32)
            group = server.group(("camera", 1))
            assert isinstance(group, Group)
            assert (group.name, len(group), group.members) == (("camera", 1), 0, frozenset())
            group.add(one)
            assert (one in group, two in group, len(group)) == (True, False, 1)
            same, other = server.group(("camera", 1)), server.group("other")
            assert group == same
            assert hash(group) == hash(same)
            assert group != other
            assert group != "x"
            assert same.members == frozenset({one})
            assert repr(group) == "<Group ('camera', 1), 1 members>"
            with pytest.raises(TypeError, match=r"server\.group"):
                Group()
            with pytest.raises(TypeError):
                server.group([])  # type: ignore[arg-type]
            await close_all(pairs)

    async def test_a_peer_of_another_server_is_refused(self) -> None:
        async with WsServer[u32].bind("127.0.0.1:0") as one, WsServer[u32].bind("127.0.0.1:0") as two:
            async with WsClient[u32].connect(two.local_addr()):
                (peer,) = two.clients
                with pytest.raises(ValueError, match="is no client of the server that the group 'g' is of"):
                    one.group("g").add(peer)
                with pytest.raises(TypeError):
                    one.group("g").add("peer")  # type: ignore[arg-type]

    async def test_a_client_that_leaves_leaves_its_groups(self) -> None:
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            ((client, peer),) = await members(server, 1, WsClient, u32)
            groups = [server.group(n) for n in range(3)]
            for group in groups:
                group.add(peer)
            await client.close()
            await until(lambda: server.client_count() == 0)
            assert [len(group) for group in groups] == [0, 0, 0]
            assert peer not in groups[0]
            assert groups[0].add(peer) is False
            assert len(groups[0]) == 0
            groups[0].discard(peer)
            groups[0].send_nowait(1)  # to nobody
            assert server.stats().queued_bytes == 0

    async def test_errors_come_from_the_call(self) -> None:
        server = await WsServer[u32, None].bind("127.0.0.1:0")
        group = server.group("g")
        with pytest.raises(EncodeError):
            group.send_nowait("x")
        await server.close()
        with pytest.raises(ConnectionClosed):
            group.send_nowait(1)
        with pytest.raises(ConnectionClosed):
            group.send(1)

    async def test_everything_but_sending_belongs_to_the_loops_thread(self) -> None:
        """`send_nowait` may be called from any; the rest says RuntimeError and changes nothing."""
        async with WsServer[u32, None].bind("127.0.0.1:0") as server:
            ((client, peer),) = pairs = await members(server, 1, WsClient, u32)
            group = server.group("g")
            group.add(peer)
            calls = [
                lambda: server.group("h"),
                lambda: group.add(peer),
                lambda: group.discard(peer),
                lambda: group.send(1),
                lambda: group.members,
                lambda: group.forget(1),
            ]
            for call in calls:
                with pytest.raises(RuntimeError, match="was called from thread"):
                    await asyncio.to_thread(call)
            await asyncio.to_thread(group.send_nowait, 7)
            assert await client.recv() == 7
            assert group.members == {peer}
            await close_all(pairs)


class TestOrder:
    @pytest.mark.parametrize("wire", WIRES)
    @pytest.mark.parametrize("size", [10, 40_000], ids=["in slabs", "by reference"])
    @pytest.mark.limit(30)
    async def test_one_order_of_all_that_is_for_a_client(self, wire: str, size: int) -> None:
        """Broadcasts, groups, private messages, all but one, at random; members come and go between them.

        Each of four clients, two of which read slowly, gets what was for it, in the order of the calls.
        """
        rng = random.Random(size)
        async with server_of(wire, Note, max_backlog=64 * MB) as server:
            slow = [laggard(server, wire) for _ in range(2)]
            fast = [laggard(server, wire, small=False) for _ in range(2)]
            clients = []
            peers: list[Any] = []
            for one in (*slow, *fast):
                before = server.clients
                clients.append(await one.__aenter__())
                peers += server.clients - before
            groups = [server.group(n) for n in range(3)]
            wanted: list[list[Note]] = [[] for _ in peers]

            def send(number: int) -> None:
                data = bytes(rng.randrange(size))
                kind = rng.choice(["all", "group", "group", "private", "except", "member"])
                group = rng.choice(groups)
                peer = rng.choice(peers)
                note = Note(0, number, kind, data)
                if kind == "member":
                    (group.discard if peer in group else group.add)(peer)
                    return
                if kind == "all":
                    server.send_nowait(note)
                    to = set(peers)
                elif kind == "group":
                    to = set(group.members)
                    group.send_nowait(note)
                elif kind == "private":
                    peer.send_nowait(note)
                    to = {peer}
                else:
                    of = rng.choice([server, group])
                    to = (set(peers) if of is server else set(group.members)) - {peer}
                    of.send_nowait(note, except_=peer)
                for i, one in enumerate(peers):
                    if one in to:
                        wanted[i].append(note)

            async def read(i: int) -> list[Note]:
                found = []
                while not found or found[-1].number != 1000:
                    found.append(Note.from_bytes(await clients[i].payload()))
                    if i < 2 and rng.random() < 0.1:
                        await asyncio.sleep(0.001)
                return found

            tasks = [asyncio.create_task(read(i)) for i in range(4)]
            for number in range(1000):
                send(number)
                if rng.random() < 0.2:
                    await asyncio.sleep(0)
                if number % 20 == 0:  # so that nothing private is refused
                    await until(lambda: server.stats().queued_bytes < MB // 4)
            last = Note(0, 1000, "last")
            server.send_nowait(last)
            for i, task in enumerate(tasks):
                assert await task == [*wanted[i], last]
            for one in (*slow, *fast):
                await one.__aexit__(None, None, None)

    @pytest.mark.limit(30)
    async def test_of_several_threads(self) -> None:
        """Each thread's messages are in its order for every client, over everything that it sent to."""
        async with WsServer[Note, None].bind("127.0.0.1:0") as server:
            pairs = await members(server, 3)
            group = server.group("g")
            for _, peer in pairs[:2]:
                group.add(peer)
            first = pairs[0][1]
            each = 600

            def work(thread: int) -> None:
                for number in range(each):
                    (server, group, first)[number % 3].send_nowait(
                        Note(thread, number, ("all", "group", "first")[number % 3])
                    )

            threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            kinds = [{"all", "group", "first"}, {"all", "group"}, {"all"}]
            for (client, _), kind in zip(pairs, kinds, strict=True):
                last = [-1] * 4
                for _ in range(4 * each * len(kind) // 3):
                    note = await client.recv()
                    assert note.to in kind
                    assert note.number > last[note.thread]
                    last[note.thread] = note.number
            for thread in threads:
                thread.join()
            server.send_nowait(Note(9, 0, "last"))
            for client, _ in pairs:
                assert (await client.recv()).thread == 9
            await close_all(pairs)

    async def test_a_member_that_is_behind_gets_what_was_sent_while_it_was_one(self) -> None:
        """Added and taken out while it reads nothing: both ends of its membership are where they were."""
        async with server_of("ws", Note) as server, laggard(server, "ws") as slow:
            (peer,) = server.clients
            group = server.group("g")
            while server._is_drained():
                server.send_nowait(Note(0, 0, "fill", bytes(100_000)))
                await asyncio.sleep(0)
            for number in range(1, 6):
                group.send_nowait(Note(0, number, "before"))
                group.add(peer)
                group.send_nowait(Note(0, number, "member"))
                server.send_nowait(Note(0, number, "all"))
                group.discard(peer)
                group.send_nowait(Note(0, number, "after"))
                await asyncio.sleep(0)
            server.send_nowait(Note(0, 99, "last"))
            found: list[Note] = []
            while not found or found[-1].number != 99:
                found.append(Note.from_bytes(await slow.payload()))
            rest = [(note.number, note.to) for note in found if note.to != "fill"]
            assert rest == [*((n, to) for n in range(1, 6) for to in ("member", "all")), (99, "last")]


class TestWhoPays:
    async def test_who_is_no_member_is_neither_charged_nor_held_up(self) -> None:
        """A stalled member makes its group's log grow; the others lag by nothing."""
        async with WsServer[bytes, None].bind("127.0.0.1:0", max_backlog=2 * MB) as server:
            ((client, other),) = pairs = await members(server, 1, WsClient, bytes)
            async with raw_client(server.local_addr(), small=True):
                await server.wait_clients(2)
                (stalled,) = server.clients - {other}
                group = server.group("busy")
                group.add(stalled)
                most = 0
                while server.client_count() == 2:
                    group.send_nowait(bytes(200_000))
                    await asyncio.sleep(0)
                    most = max(most, server.stats().queued_bytes)
                    assert other.stats().queued_bytes == 0
                    assert other.stats().behind_s == 0
                    assert server.stats().laggards <= 1
                assert not stalled.is_open
                assert MB < most < 3 * MB
                assert server.stats().queued_bytes == 0  # nobody is left that any of it was for
                assert other.stats().bytes_out == 0
                server.send_nowait(b"x")
                assert await client.recv() == b"x"
            await close_all(pairs)

    async def test_a_send_to_all_does_not_wait_for_a_member_of_a_busy_group_only(self) -> None:
        """Awaiting a group waits for its members, awaiting another group does not."""
        async with WsServer[bytes, None].bind("127.0.0.1:0") as server:
            ((client, other),) = pairs = await members(server, 1, WsClient, bytes)
            async with raw_client(server.local_addr(), small=True):
                await server.wait_clients(2)
                (stalled,) = server.clients - {other}
                busy, quiet = server.group("busy"), server.group("quiet")
                busy.add(stalled)
                quiet.add(other)
                while stalled.stats().queued_bytes < 2 * MB:
                    busy.send_nowait(bytes(200_000))
                    await asyncio.sleep(0)
                waiting = asyncio.ensure_future(busy.send(b"x"))
                for number in range(20):
                    await quiet.send(b"%d" % number)
                    assert await client.recv() == b"%d" % number
                    await asyncio.sleep(0)
                assert not waiting.done()
                stalled.close()
                await waiting
            await close_all(pairs)


class TestLifetime:
    async def test_one_that_nobody_needs_is_gone(self) -> None:
        """It lasts while the program holds it, it has a member, or it retains a message."""

        class Kept(Codec, policy="latest", retain=True):
            number: u32

        async with WsServer[Kept, None].bind("127.0.0.1:0") as server:
            ((client, peer),) = await members(server, 1, WsClient, Kept)
            server.group("member").add(peer)
            server.group("retains").send_nowait(Kept(1))
            held = server.group("held")
            server.group("nothing")
            gc.collect()
            assert peer in server.group("member")
            assert server.group("retains").forget() is True
            assert server.group("held") == held
            assert len(server.group("retains")) == 0
            await client.close()

    @pytest.mark.limit(30)
    async def test_10_000_names_leave_nothing(self) -> None:
        """Each made, joined, sent to, left: no growth but the first round's."""
        async with WsServer[u16, None].bind("127.0.0.1:0") as server:
            ((client, peer),) = pairs = await members(server, 1, WsClient, u16)

            async def turn(start: int) -> None:
                for number in range(start, start + 1000):
                    group = server.group(f"name {number}")
                    group.add(peer)
                    group.send_nowait(number)
                    group.discard(peer)
                    if number % 10 == 9:
                        assert [await client.recv() for _ in range(10)] == list(range(number - 9, number + 1))

            await turn(0)
            gc.collect()
            tracemalloc.start()
            await turn(1000)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            slabs = server.stats().slabs
            for start in range(2000, 10_000, 1000):
                await turn(start)
            gc.collect()
            growth = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            assert growth < 100_000, "12 bytes a name"
            assert server.stats().slabs <= slabs
            assert server.stats().queued_bytes == 0
            await close_all(pairs)
