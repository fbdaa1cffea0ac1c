"""The faults of a backplane, each a function: it brings a fault about, and raises where a promise is broken.

Each returns what it has counted. tests/net/test_backplane_nats.py runs them briefly, and
tests/soak/backplane.py runs each many times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from typing import Any

from backplane_rig import Blob, Ledger, Message, NodeProgram, Pose, Tick, blob, plane, settled, within
from nats_servers import NatsCluster, NatsServer

from deli_com import Codec, WsServer, u8, u32
from deli_com.backplane import Nats

FAULTS: list[Any] = []


def fault(function: Any) -> Any:
    FAULTS.append(function)
    return function


@contextlib.asynccontextmanager
async def nodes(url: str, count: int, room: str, **options: Any) -> AsyncIterator[list[WsServer[Any, Any]]]:
    """So many servers in one room, which know each other."""
    orphans = options.pop("orphans", "keep")
    async with contextlib.AsyncExitStack() as stack:
        made: list[WsServer[Any, Any]] = []
        for _ in range(count):
            nats = Nats(url, room=room, orphans=orphans, reconnect_time_wait=0.05)
            made.append(
                await stack.enter_async_context(
                    WsServer[Message, None].bind("127.0.0.1:0", backplane=nats, **options)
                )
            )
        await within(lambda: all(plane(each).nodes == count - 1 for each in made), "the nodes do not meet")
        yield made


async def send(server: WsServer[Any, Any], number: int, first: int, count: int, burst: int = 50) -> None:
    for n in range(first, first + count):
        server.send_nowait(Tick(number, n))
        if n % burst == 0:
            await asyncio.sleep(0)


def judged(ledgers: list[Ledger]) -> None:
    for ledger in ledgers:
        assert ledger.errors == [], ledger.errors


@fault
async def joins_while_others_send(scale: float) -> dict[str, Any]:
    """A node that comes while two others send gets what is retained, and all from there on, once."""
    stop = False

    async def keep_sending(server: WsServer[Any, Any], number: int) -> int:
        n = 0
        while not stop:
            server.send_nowait(Tick(number, n))
            server.send_nowait(Pose(f"robot {number}", n))
            n += 1
            if n % 20 == 0:
                await asyncio.sleep(0.001)
        return n

    async with NatsServer() as nats, nodes(nats.url, 2, "r") as (one, two):
        tasks = [asyncio.create_task(keep_sending(each, number)) for number, each in enumerate((one, two))]
        await asyncio.sleep(0.1)
        third = await WsServer[Message, None].bind("127.0.0.1:0", backplane=Nats(nats.url, room="r"))
        async with third:
            ledger = await Ledger.of(third)
            await within(lambda: plane(third).nodes == 2, "it does not join")
            await asyncio.sleep(0.2 * scale)
            stop = True
            sent = [await task for task in tasks]
            await within(lambda: ledger.last == {0: sent[0] - 1, 1: sent[1] - 1}, f"{ledger.last} {sent}")
            await within(
                lambda: ledger.poses == {f"robot {i}": sent[i] - 1 for i in range(2)}, str(ledger.poses)
            )
            assert dict(ledger.holes) in ({0: 0, 1: 0},), ledger.holes
            assert plane(third).gaps == plane(third).duplicates == 0
            judged([ledger])
            await ledger.close()
        await settled([one, two], 0)
        return {"sent": sum(sent), "from": ledger.first}


@fault
async def a_node_is_killed(scale: float) -> dict[str, Any]:
    """What had left a process that was killed reaches all others; it is missed, and its value stays."""
    async with NatsServer() as nats, nodes(nats.url, 2, "r") as (one, two):
        ledgers = [await Ledger.of(each) for each in (one, two)]
        program = await NodeProgram.start(nats.url, "r", 7)
        try:
            await within(lambda: plane(one).nodes == plane(two).nodes == 2, "the program does not join")
            await program.say("rate 20000")
            await send(one, 1, 0, 2000)
            await asyncio.sleep(0.2 * scale)
            program.signal(signal.SIGKILL)
        finally:
            await program.end()
        await send(two, 2, 0, 2000)
        await within(lambda: plane(one).nodes == plane(two).nodes == 1, "a dead node is not missed")
        await within(lambda: ledgers[1].ticks[1] == 2000 and ledgers[0].ticks[2] == 2000, "ticks are missing")
        # What had left the process is the same for both, as NATS had it or had it not.
        await within(lambda: ledgers[0].last.get(7) == ledgers[1].last.get(7), "the survivors differ")
        assert all(sum(ledger.holes.values()) == 0 for ledger in ledgers)
        assert plane(one).gaps == plane(two).gaps == plane(one).duplicates == plane(two).duplicates == 0
        await within(lambda: ledgers[0].poses == {"robot 7": 0}, "the value of the dead node is kept")
        judged(ledgers)
        for ledger in ledgers:
            await ledger.close()
        return {"of the dead": ledgers[0].ticks[7]}


@fault
async def a_node_is_paused(scale: float) -> dict[str, Any]:
    """A process that is stopped and continued counts what it has missed, and is there again."""
    async with NatsServer() as nats, nodes(nats.url, 1, "r") as (one,):
        ledger = await Ledger.of(one)
        program = await NodeProgram.start(nats.url, "r", 7)
        try:
            await within(lambda: plane(one).nodes == 1, "the program does not join")
            await program.say("send 1000")
            program.signal(signal.SIGSTOP)
            paused = 1.5 if scale < 5 else 10.0
            end = asyncio.get_running_loop().time() + paused
            n = 0
            padding = bytes(1000)
            while asyncio.get_running_loop().time() < end:
                for _ in range(20):
                    one.send_nowait(Tick(1, n))
                    n += 1
                one.send_nowait(Blob(n, padding))
                one.send_nowait(Pose("robot 1", n))
                await asyncio.sleep(0.002)
            await within(lambda: plane(one).nodes == 0, "a node that stands still is not missed")
            program.signal(signal.SIGCONT)
            await within(lambda: plane(one).nodes == 1, "it is not there again")
            one.send_nowait(Tick(1, n))
            found = await program.say("stats")
            loop_end = asyncio.get_running_loop().time() + 20
            while (
                found["received"] + found["gaps"] != plane(one).sent or found["poses"].get("robot 1") is None
            ):
                assert asyncio.get_running_loop().time() < loop_end, (found, plane(one).sent)
                await asyncio.sleep(0.02)
                found = await program.say("stats")
            assert found["errors"] == [] and found["duplicates"] == 0
            assert found["gaps"] >= found["holes"].get("1", 0)
            await program.say("send 1000")
            await within(lambda: ledger.ticks[7] == 2000, str(plane(one)))
            assert plane(one).gaps == plane(one).duplicates == 0
            judged([ledger])
            await ledger.close()
            return {"sent": plane(one).sent, "its gaps": found["gaps"]}
        finally:
            await program.end()


@fault
async def nats_is_killed_and_back(scale: float) -> dict[str, Any]:
    """Own clients notice nothing; what was on its way is a gap; retained values are the same at last."""
    async with NatsServer() as nats, nodes(nats.url, 2, "r") as servers:
        ledgers = [await Ledger.of(each) for each in servers]
        for number, server in enumerate(servers):
            await send(server, number, 0, 1000)
        await settled(servers, 0)
        nats.kill()
        await within(lambda: not any(plane(each).connected for each in servers), "it is not noticed")
        for number, server in enumerate(servers):
            await send(server, number, 1000, 1000)
            for n in range(100):
                server.send_nowait(Pose(f"robot {number}", n))
        await within(
            lambda: ledgers[0].ticks[0] == ledgers[1].ticks[1] == 2000, "own clients wait for the backplane"
        )
        await nats.start()
        await within(lambda: all(plane(each).connected for each in servers), "they do not come back")
        await settled(servers, 0)
        await within(lambda: all(len(ledger.poses) == 2 for ledger in ledgers), "retained values differ")
        assert ledgers[0].poses == ledgers[1].poses == {"robot 0": 99, "robot 1": 99}
        assert all(plane(each).superseded >= 90 and plane(each).duplicates == 0 for each in servers)
        judged(ledgers)
        for ledger in ledgers:
            await ledger.close()
        return {"gaps": [plane(each).gaps for each in servers]}


@fault
async def nats_is_slow(scale: float) -> dict[str, Any]:
    """NATS takes nothing for a while: own clients notice nothing, what is past the limit is a gap."""
    limit = 1 << 20
    async with NatsServer() as nats, nodes(nats.url, 2, "r", max_backlog=limit) as servers:
        one, two = servers
        ledgers = [await Ledger.of(each) for each in servers]
        one.send_nowait(Pose("before", 1))
        await settled(servers, 0)
        nats.pause()
        size = 50_000
        for n in range(600):  # 30 MB: sockets, nats-py, batches and the limit
            one.send_nowait(Blob(n, blob(n, size)))
            one.send_nowait(Pose("robot", n))
            one.send_nowait(Tick(1, n))
            await asyncio.sleep(0)
        await within(lambda: len(ledgers[0].blobs) == 600 and ledgers[0].ticks[1] == 600, "own clients wait")
        assert plane(one).lost > 0
        nats.resume()
        await settled(servers, 0)
        await within(lambda: ledgers[1].poses == {"robot": 599, "before": 1}, str(ledgers[1].poses))
        assert plane(two).gaps >= plane(one).lost and plane(two).duplicates == 0
        assert all(good == size for _, good in ledgers[1].blobs), "a value was changed"
        judged(ledgers)
        for ledger in ledgers:
            await ledger.close()
        return {"sent": plane(one).sent, "gaps": plane(two).gaps}


@fault
async def one_of_a_cluster_is_killed(scale: float) -> dict[str, Any]:
    """Nodes of a nats-server that is killed go to another one of the cluster."""
    async with NatsCluster() as cluster, contextlib.AsyncExitStack() as stack:
        servers = []
        for server in cluster.servers:  # each begins at another one
            others = [server.url, *(other.url for other in cluster.servers if other is not server)]
            nats = Nats(others, room="r", dont_randomize=True, reconnect_time_wait=0.05)
            servers.append(
                await stack.enter_async_context(WsServer[Message, None].bind("127.0.0.1:0", backplane=nats))
            )
        await within(lambda: all(plane(each).nodes == 2 for each in servers), "the nodes do not meet")
        ledgers = [await Ledger.of(each) for each in servers]
        for number, each in enumerate(servers):
            await send(each, number, 0, 1000)
        cluster.servers[0].kill()
        for number, each in enumerate(servers):
            await send(each, number, 1000, 1000)
            each.send_nowait(Pose(f"robot {number}", number))
        await within(lambda: all(plane(each).connected for each in servers), "it stays away")
        await settled(servers, 0)
        assert all(plane(each).duplicates == 0 for each in servers)
        await within(lambda: all(len(ledger.poses) == 3 for ledger in ledgers), "retained values differ")
        # Those of the other two were never apart.
        assert ledgers[1].ticks[2] == ledgers[2].ticks[1] == 2000
        judged(ledgers)
        for ledger in ledgers:
            await ledger.close()
        return {"gaps": [plane(each).gaps for each in servers]}


@fault
async def values_are_larger_than_max_payload(scale: float) -> dict[str, Any]:
    """Values of 5 MB pass a NATS of 1 MB messages, in parts, among others."""
    size = 5_000_000
    async with NatsServer() as nats, nodes(nats.url, 2, "r") as servers:
        one, two = servers
        ledgers = [await Ledger.of(each) for each in servers]
        for n in range(3):
            one.send_nowait(Tick(1, 2 * n))
            one.send_nowait(Blob(n, blob(n, size)))
            one.send_nowait(Tick(1, 2 * n + 1))
            two.send_nowait(Blob(n, blob(n, size + n)))
        await settled(servers, 0)
        await within(lambda: all(len(ledger.blobs) == 6 for ledger in ledgers), "a value is missing")
        for ledger in ledgers:  # those of each node in their order
            assert sorted(ledger.blobs) == sorted(
                [*((n, size) for n in range(3)), *((n, size + n) for n in range(3))]
            )
        assert plane(one).gaps == plane(two).gaps == 0
        await within(lambda: ledgers[1].ticks[1] == 6, "ticks are missing")
        judged(ledgers)
        for ledger in ledgers:
            await ledger.close()
        return {"batches": plane(one).batches}


@fault
async def one_node_has_another_schema(scale: float) -> dict[str, Any]:
    """A node of a newer program joins those that run: each reads what it can, and counts the rest."""
    newer = _newer()
    async with NatsServer() as nats, nodes(nats.url, 1, "r") as (old,):
        ledger = await Ledger.of(old)
        old.send_nowait(Pose("robot", 5))
        async with WsServer[newer["Message"], None].bind(
            "127.0.0.1:0", backplane=Nats(nats.url, room="r")
        ) as new:
            theirs = await Ledger.of(new, newer["Message"])
            await within(lambda: plane(old).nodes == plane(new).nodes == 1, "they do not meet")
            await within(lambda: theirs.poses == {"robot": 5}, "retained values are not read")
            await send(old, 1, 0, 1000)
            for n in range(1000):
                new.send_nowait(newer["Tick"](2, n, 3))
            await within(lambda: theirs.ticks[1] == ledger.ticks[2] == 1000, "ticks are missing")
            assert plane(old).gaps == plane(new).gaps == 0
            new.send_nowait(newer["Extra"](1))  # of no class that the old one has
            await within(lambda: plane(old).gaps == 1, "it is not counted")
            assert (plane(old).received, plane(new).received) == (1000, 1000)
            judged([ledger, theirs])
            await theirs.close()
        await ledger.close()
        return {"each": 1000}


@fault
async def nodes_are_replaced_by_newer_ones(scale: float) -> dict[str, Any]:
    """One node after the other is closed, and comes again at its address as a newer program. Others send.

    Who stays loses nothing of who stays, and reads what the newer ones send; a newer one knows what is
    retained. In the end all are newer, and read what no older one could.
    """
    newer = _newer()
    sent = {1: 0, 2: 0, 3: 0}  # ticks, by node

    def send(servers: dict[int, WsServer[Any, Any]], times: int) -> None:
        for number, server in servers.items():
            type_: Any = Tick if server.down is not None and server.down.type is Message else newer["Tick"]
            for _ in range(times):
                server.send_nowait(type_(number, sent[number]))
                sent[number] += 1

    async def bound(type_: Any, address: str) -> WsServer[Any, Any]:
        nats = Nats(url, room="r", reconnect_time_wait=0.05)
        found: WsServer[Any, Any] = await WsServer[type_, None].bind(address, backplane=nats)
        return found

    async with NatsServer() as nats_server, contextlib.AsyncExitStack() as stack:
        url = nats_server.url
        servers: dict[int, WsServer[Any, Any]] = {}
        for number in sent:
            servers[number] = await bound(Message, "127.0.0.1:0")
            stack.push_async_callback(lambda number=number: servers[number].close())
        await within(lambda: all(plane(each).nodes == 2 for each in servers.values()), "they do not meet")
        for number, server in servers.items():
            server.send_nowait(Pose(f"robot {number}", number))
        held = {"robot 1": 1, "robot 2": 2, "robot 3": 3}
        staying = await Ledger.of(servers[1])
        for replaced in (3, 2):
            send(servers, 100)
            await within(lambda: dict(staying.ticks) == sent, "ticks are missing")
            others = {number: server for number, server in servers.items() if number != replaced}
            address = servers[replaced].local_addr()
            closing = asyncio.ensure_future(servers[replaced].close())
            while not closing.done():
                send(others, 1)
                await asyncio.sleep(0)
            await closing
            send(others, 100)
            servers[replaced] = await bound(newer["Message"], f"127.0.0.1:{address[1]}")
            send(others, 100)
            await within(lambda: all(plane(each).nodes == 2 for each in servers.values()), "it does not join")
            for type_ in (Message, newer["Message"]):  # clients of the old program, and of the new one
                ledger = await Ledger.of(servers[replaced], type_)
                await within(lambda ledger=ledger: ledger.poses == held, "retained values are not there")
                before = dict(sent)
                send(servers, 100)
                await within(lambda ledger=ledger: sum(ledger.ticks.values()) == 300, "ticks are missing")
                assert {n: sent[n] - count for n, count in ledger.ticks.items()} == before
                judged([ledger])
                await ledger.close()
        await within(lambda: dict(staying.ticks) == sent, "ticks are missing")
        judged([staying])
        assert not any(staying.holes.values()), staying.holes
        assert plane(servers[1]).gaps == 0 and plane(servers[1]).received == sent[2] + sent[3] + 2
        servers[3].send_nowait(newer["Extra"](1))
        await within(lambda: plane(servers[1]).gaps == 1, "what the old one cannot read is not counted")
        await staying.close()
        await servers[1].close()
        servers[1] = await bound(newer["Message"], "127.0.0.1:0")
        await within(lambda: all(plane(each).nodes == 2 for each in servers.values()), "it does not join")
        gaps, received = plane(servers[1]).gaps, plane(servers[1]).received
        servers[3].send_nowait(newer["Extra"](1))
        await within(lambda: plane(servers[1]).received == received + 1, "a new class is not read")
        assert plane(servers[1]).gaps == gaps
        return {"ticks": sum(sent.values())}


def _newer() -> dict[str, Any]:
    # A namespace of its own: the names of the classes are in the schema.
    space: dict[str, Any] = {"__name__": "newer", "Codec": Codec, "u8": u8, "u32": u32}
    exec(
        "class Message(Codec, sealed=True): pass\n"
        "class Tick(Message):\n    node: u32\n    n: u32\n    lane: u8 = 0\n"
        "class Pose(Message, policy='latest', key='robot', retain=True):\n    robot: str\n    n: u32\n"
        "class Blob(Message):\n    n: u32\n    data: bytes\n"
        "class Extra(Message):\n    n: u32\n",
        space,
    )
    return space


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@fault
async def two_nodes_have_one_key(scale: float) -> dict[str, Any]:
    """A key that two nodes send is counted by both, with one WARNING each."""
    records = Records()
    log = logging.getLogger("deli_com.backplane")
    log.addHandler(records)
    try:
        async with NatsServer() as nats, nodes(nats.url, 2, "r") as servers:
            for n in range(50):
                for server in servers:
                    server.send_nowait(Pose("one", n))
                await asyncio.sleep(0.001)
            await settled(servers, 0)
            found = [plane(each).conflicts for each in servers]
            assert all(count >= 49 for count in found), found
            said = [text for text in records.said if "same key" in text]
            assert len(said) == 2, records.said
            return {"conflicts": found}
    finally:
        log.removeHandler(records)


async def _orphans(orphans: str, ends: str) -> dict[str, Any]:
    async with NatsServer() as nats, nodes(nats.url, 2, "r", orphans=orphans) as servers:
        program = await NodeProgram.start(nats.url, "r", 7, orphans)
        try:
            await within(lambda: all(plane(each).nodes == 2 for each in servers), "it does not join")
            await within(
                lambda: all(each.stats().retained_keys == 1 for each in servers), "its value is missing"
            )
            began = asyncio.get_running_loop().time()
            if ends == "closes":
                await program.say("quit")
            else:
                program.signal(signal.SIGKILL)
            await within(lambda: all(plane(each).nodes == 1 for each in servers), "it is not missed")
            took = asyncio.get_running_loop().time() - began
        finally:
            await program.end()
        kept = 1 if orphans == "keep" else 0
        await within(lambda: all(each.stats().retained_keys == kept for each in servers), "keys differ")
        # Who comes later gets what is kept.
        async with WsServer[Message, None].bind(
            "127.0.0.1:0", backplane=Nats(nats.url, room="r", orphans=orphans)
        ) as third:
            await within(lambda: plane(third).nodes == 2, "it does not join")
            await within(lambda: third.stats().retained_keys == kept, "keys differ")
            if kept:  # and a new writer may have the key
                third.send_nowait(Pose("robot 7", 9))
                ledger = await Ledger.of(servers[0])
                await within(lambda: ledger.poses == {"robot 7": 9}, "the new value is missing")
                assert all(plane(each).conflicts == 0 for each in servers)
                await ledger.close()
        return {"missed after": round(took, 2)}


@fault
async def orphans_are_kept(scale: float) -> dict[str, Any]:
    return await _orphans("keep", "dies")


@fault
async def orphans_are_forgotten(scale: float) -> dict[str, Any]:
    return await _orphans("forget", "dies")


@fault
async def a_node_that_closes_says_so(scale: float) -> dict[str, Any]:
    return await _orphans("forget", "closes")


@fault
async def a_key_is_forgotten(scale: float) -> dict[str, Any]:
    """`forget` holds on all nodes, in its order among the messages, also where NATS was away."""
    async with NatsServer() as nats, nodes(nats.url, 2, "r") as servers:
        one, two = servers
        one.send_nowait(Pose("a", 1))
        one.send_nowait(Pose("b", 1))
        await settled(servers, 0)
        assert two.stats().retained_keys == 2
        assert one.forget("a")
        one.send_nowait(Pose("c", 1))
        await settled(servers, 0)
        assert two.stats().retained_keys == 2
        nats.kill()
        await within(lambda: not plane(one).connected, "it is not noticed")
        one.forget("b")
        await nats.start()
        await within(lambda: two.stats().retained_keys == 1, "a key is kept")
        await settled(servers, 0)
        return {"sent": plane(one).sent}
