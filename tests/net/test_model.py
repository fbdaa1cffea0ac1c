"""Random commands to a real server over real sockets: every client gets what the oracle requires.

Some clients read at once. Others read on command, a few bytes at a time, with the smallest buffers possible.
The commands cover every policy, groups, private messages, messages to all but one, joining, leaving, and
forgetting. `history.py` is the oracle. DELI_COM_MODEL_SEEDS=100 runs more seeds; the test id names the seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Hashable
from typing import Any

import pytest
from helpers import certificates
from history import ALL, History, Sent
from peers import PING
from readers import (
    EVENTS,
    KINDS,
    TOKEN,
    WIDE,
    Client,
    Event,
    Mode,
    Note,
    Order,
    Pose,
    State,
    Tick,
    Word,
    body,
    wire_size,
)

from deli_com import BacklogFull, ConnectionClosed, Departure, Group, Peer, WsServer

SEEDS = int(os.environ.get("DELI_COM_MODEL_SEEDS", "10"))
STEPS = 200
PRIVATE_BYTES = 1 << 20  # that wait for one client alone
SLAB_BYTES = 1 << 18
SPARE_BYTES = 4 * SLAB_BYTES


class Model:
    """A server, its clients, and the history of both."""

    def __init__(self, seed: int, loop_name: str, secure: bool) -> None:
        self.rng = random.Random(f"{seed} {loop_name} {secure}")
        self.tls, self.trusting = certificates() if secure else (None, None)
        self.slow_client = self.rng.choice(["disconnect", "wait", "skip", "latest"])
        self.max_backlog = self.rng.choice([40_000, 90_000, 250_000])
        self.max_keys = self.rng.choice([9, 1 << 16])
        self.max_queued = 2 * self.max_backlog  # of the whole server, within one turn
        self.laziness = self.rng.choice([0.2, 0.5, 0.8])  # how rarely those read that are not keen
        self.history = History(self.max_backlog, PRIVATE_BYTES)
        self.kinds = {
            **KINDS,
            Note: self.slow_client if self.slow_client in ("skip", "latest") else "reliable",
        }
        self.clients: list[Client] = []
        self.groups: dict[str, Group[Event]] = {}
        self.arriving: Client | None = None
        self.waiting: list[asyncio.Task[None]] = []
        self.failures: list[BaseException] = []  # of callbacks, whose errors only are logged
        self.server: WsServer[Event, None]

    # --- what clients are there ------------------------------------------------------------

    def here(self) -> list[Client]:
        return [client for client in self.clients if client.peer is not None and client.departure is None]

    def on_connect(self, peer: Peer) -> None:
        client = self.arriving
        assert client is not None
        client.peer = peer
        self.history.join(client)
        self.clients.append(client)
        try:
            if self.rng.random() < 0.4:  # in the turn in which it came
                for _ in range(self.rng.randrange(4)):
                    self.rng.choice([self.send, self.send, self.join_group])()
        except AssertionError as failure:
            self.failures.append(failure)

    def on_disconnect(self, peer: Peer, departure: Departure) -> None:
        try:
            self.departed(peer, departure)
        except AssertionError as failure:
            self.failures.append(failure)

    def departed(self, peer: Peer, departure: Departure) -> None:
        client = next(client for client in self.clients if client.peer is peer)
        client.departure = departure
        client.closed = True
        if departure.cause == "too slow":
            assert self.history.unread(client) > self.max_backlog, f"{client}: {departure}"
        else:
            assert departure.cause in ("left", "lost", "closed", "server closed"), departure

    async def connect(self) -> None:
        if len(self.here()) >= 6:
            return
        is_keen = sum(client.is_keen for client in self.here()) < 2 and self.rng.random() < 0.4
        client = self.arriving = Client(f"client {len(self.clients)}", self.history, is_keen)
        await client.dial(self.server, self.trusting)
        assert client.peer is not None
        if is_keen:
            quiet = 0
            while quiet < 10:  # turns: it has what was retained
                quiet = 0 if client.pull() else quiet + 1
                await asyncio.sleep(0)
            client.keen = self.history.tick()

    def leave(self) -> None:
        if len(self.here()) > 2 and (here := self.here()):
            client = self.rng.choice(here)
            if self.rng.random() < 0.5:
                client.hang_up()
            else:
                assert client.peer is not None
                client.peer.close(4000, "enough")

    # --- commands --------------------------------------------------------------------------

    def where(self) -> tuple[Hashable, Any]:
        """A log, and what sends to it."""
        where = self.rng.random()
        if where < 0.2 and self.here():
            client = self.rng.choice(self.here())
            return client, client.peer
        if where < 0.5:
            name = self.rng.choice(["a", "b"])
            return name, self.groups[name]
        return ALL, self.server

    def make(self, kind: Any, size: int) -> Event:
        key = {"id": self.rng.randrange(6)} if kind in (Pose, Mode) else {}
        number = self.history.clock + 1
        return kind(number=number, body=body(number, size), **key)  # type: ignore[no-any-return]

    def note(self, event: Event, log: Hashable, barred: Client | None) -> None:
        kind = type(event)
        size = wire_size(len(EVENTS.to_bytes(event)))
        slot = (kind, getattr(event, "id", None))
        retain = kind in (Mode, State) and not isinstance(log, Client)
        self.history.send(Sent(event.number, log, self.kinds[kind], slot, retain, size, barred))

    def send(self) -> None:
        log, to = self.where()
        kinds = self.rng.choice([list(self.kinds), [Word, Order], [Tick], [Pose], [Mode, State]])
        size = self.rng.choice([0, 10, 100, 1_200, 5_000, 20_000])
        count = self.rng.choice([1, 1, 2, 5])
        if size <= 1_200 and self.rng.random() < 0.1:
            count = 100
        elif self.rng.random() < 0.1:
            size, count = self.rng.choice([32_700, 60_000, 120_000]), 1
        for _ in range(count):
            if not self.send_one(log, to, self.make(self.rng.choice(kinds), size)):
                return

    def send_one(self, log: Hashable, to: Any, event: Event) -> bool:
        """Whether it was accepted."""
        barred = None
        options = {}
        if not isinstance(log, Client) and self.here() and self.rng.random() < 0.15:
            barred = self.rng.choice(self.here())
            options["except_"] = barred.peer
        before = self.server.messages_out
        try:
            if self.rng.random() < 0.1 and log is ALL:
                self.waiting.append(asyncio.ensure_future(to.send(event, **options)))
            else:
                to.send_nowait(event, **options)
        except ConnectionClosed:
            assert isinstance(log, Client)
            return False
        except BacklogFull:
            assert self.server.messages_out == before
            self.refused(event, log)
            return False
        assert self.history.tick() == event.number
        self.note(event, log, barred)
        return True

    def post(self) -> None:
        """A message of its own to each."""
        kind = self.rng.choice(list(self.kinds))
        for client in self.here():
            self.send_one(client, client.peer, self.make(kind, 50))

    async def flood(self) -> None:
        """A little of each slab is retained: what lies there moves."""
        log, to = self.where()
        for key in range(6):
            self.send_one(log, to, Mode(self.history.clock + 1, body(self.history.clock + 1, 50), key))
            for _ in range(14):
                self.send_one(ALL, self.server, self.make(Tick, 20_000))
                await asyncio.sleep(0)
                self.read_keen()

    def refused(self, event: Event, log: Hashable) -> None:
        """Too much for one client, one key too many, or too much for one turn."""
        size = wire_size(len(EVENTS.to_bytes(event)))
        if self.server.stats().queued_bytes + size > self.max_queued:
            return
        if isinstance(log, Client) and self.kinds[type(event)] == "reliable":
            assert (
                sum(sent.size for sent in self.history.sent.values() if sent.log is log) + size
                > PRIVATE_BYTES
            )
        else:
            assert self.kinds[type(event)] == "latest"
            assert self.history.slots() >= self.max_keys

    async def send_from_a_thread(self) -> None:
        event = self.make(self.rng.choice([Word, Tick, Mode]), 100)
        count = self.server.messages_out
        refused = self.server.stats().refused["backlog full"]
        await asyncio.to_thread(self.server.send_nowait, event)
        while self.server.messages_out == count:
            if self.server.stats().refused["backlog full"] > refused:
                self.refused(event, ALL)
                return
            await asyncio.sleep(0)
            self.read_some()  # it waits for room
        assert self.history.tick() == event.number
        self.note(event, ALL, None)

    def join_group(self) -> None:
        if here := self.here():
            client, name = self.rng.choice(here), self.rng.choice(["a", "b"])
            kept = self.history.retained(name, self.history.clock + 1)
            if client.is_keen and sum(sent.size for sent in kept) > WIDE // 4:
                return  # it would fall behind
            if self.groups[name].add(client.peer):
                self.history.add(client, name)

    def leave_group(self) -> None:
        name = self.rng.choice(["a", "b"])
        members = [client for client in self.here() if client.peer in self.groups[name].members]
        if members:
            client = self.rng.choice(members)
            self.groups[name].discard(client.peer)
            self.history.discard(client, name)

    def forget(self) -> None:
        log, to = self.where()
        if isinstance(log, Client):
            return
        kind = self.rng.choice([Pose, Mode, State])
        key = None if kind is State else self.rng.randrange(6)
        to.forget(key, kind)
        self.history.forget(log, (kind, key))

    def read_some(self) -> None:
        if here := [client for client in self.clients if not client.closed and not client.is_keen]:
            client = self.rng.choice(here)
            client.pull(self.rng.choice([1, 100, 3_000, 40_000]))

    def read_all(self) -> None:
        if here := [client for client in self.clients if not client.closed and not client.is_keen]:
            while self.rng.choice(here).pull():
                pass

    async def turn(self) -> None:
        for _ in range(self.rng.choice([1, 1, 2, 5])):
            await asyncio.sleep(0)

    def read_keen(self) -> None:
        for client in self.clients:
            if client.is_keen and not client.closed:
                while client.pull():
                    pass

    async def settle(self) -> None:
        """Everybody reads everything; then nothing is held but what is retained."""
        while not await self.is_quiet():
            pass
        for client in self.here():
            if not client.closed:
                tokens = client.tokens
                await client.wire.send(TOKEN, PING)
                while client.tokens == tokens and not client.closed:
                    client.pull()
                    await asyncio.sleep(0)
        stats = self.server.stats()
        kept = [
            sent for log in (ALL, "a", "b") for sent in self.history.retained(log, self.history.clock + 1)
        ]
        assert stats.queued_bytes == 0
        assert stats.retained_keys == len(kept)
        assert stats.retained_bytes == sum(sent.size for sent in kept)
        assert stats.slabs * SLAB_BYTES <= 4 * stats.retained_bytes + (1 << 20) + SPARE_BYTES

    async def is_quiet(self) -> bool:
        for _ in range(5):
            moved = [client.pull() for client in self.clients if not client.closed]
            await asyncio.sleep(0)
            if any(moved) or not self.server._is_drained():
                return False
        return True

    async def step(self) -> None:
        rng = self.rng
        chosen = rng.random()
        if chosen < 0.40:
            rng.choice([self.send] * 9 + [self.post])()
        elif chosen < 0.55:
            await self.turn()
        elif chosen < 0.74:
            if rng.random() > self.laziness:
                rng.choice([self.read_some, self.read_some, self.read_some, self.read_all])()
        elif chosen < 0.79:
            await self.connect()
        elif chosen < 0.80:
            self.leave()
        elif chosen < 0.88:
            self.join_group()
        elif chosen < 0.92:
            self.leave_group()
        elif chosen < 0.95:
            self.forget()
        elif chosen < 0.97:
            await rng.choice([self.flood, self.turn])()
            self.server.flush()
        elif chosen < 0.99:
            await self.send_from_a_thread()
        else:
            await self.settle()
        self.read_keen()

    async def run(self) -> None:
        self.server = await WsServer[Event, None].bind(
            "127.0.0.1:0",
            ssl=self.tls,
            slow_client=self.slow_client,  # type: ignore[arg-type]
            max_backlog=self.max_backlog,
            max_keys=self.max_keys,
            progress_timeout=60,
            close_timeout=0.2,
            on_connect=self.on_connect,
            on_disconnect=self.on_disconnect,
        )
        try:
            self.groups = {name: self.server.group(name) for name in ("a", "b")}
            for _ in range(3):
                await self.connect()
            for _ in range(STEPS):
                await self.step()
            await self.settle()
            complaints = [
                f"{client}: {complaint}"
                for client in self.clients
                for complaint in self.history.complain(client)
            ]
            assert not complaints, "\n".join(complaints[:20])
            assert not self.failures
        finally:
            for client in self.clients:
                client.hang_up()
            for task in self.waiting:
                task.cancel()
            await asyncio.gather(*self.waiting, return_exceptions=True)
            await self.server.close(drain=0)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.limit(60)
async def test_every_client_gets_what_it_must(
    seed: int, secure: bool, loop_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent, whoever is slow, comes or goes."""
    monkeypatch.setattr("deli_com.server_base.MIN_QUEUED", 1)  # so that this bound is met, too
    await Model(seed, loop_name, secure).run()
