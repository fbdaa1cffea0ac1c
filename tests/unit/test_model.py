"""The compacted log against its contract (log_model.py): random commands, tiny buffers, no event loop.

Each seed has other conditions: followers with and without a descriptor, transports that write at once or
later, flushes in slices, frames that share a record and frames of three. DELI_COM_MODEL_SEEDS sets the number
of seeds.
"""

from __future__ import annotations

import os
import random
import struct
from typing import Any

import pytest
from log_model import LATEST, RELIABLE, SKIP, Client, World
from rig import End, Rig

SEEDS = int(os.environ.get("DELI_COM_MODEL_SEEDS", "60"))
COMMANDS = 400
BACKLOG = 64 << 20  # nobody is cut off: what is lost is lost by policy or by mistake
SIZES = (8, 20, 60, 117, 118, 200, 3000, 32_760, 32_768, 70_000)


class Model:
    """A hub, the oracle beside it, and the commands."""

    def __init__(self, probe: Any, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(probe, max_backlog=BACKLOG, progress_timeout=1e9)
        self.hub = self.rig.hub
        self.window = self.rng.choice((2000, 50_000, 1 << 20))
        self.hub.set_window(self.window)
        self.hub.slice_ns = self.rng.choice((0, 2_000_000))
        self.hub.arena.max_keys = 1 << 16
        self.world = World(self.window)
        self.groups = [self.hub.group() for _ in range(self.rng.randrange(4))]
        for group in self.groups:
            self.hub.set_window(self.window, group)
        self.keys = self.rng.choice((1, 3, 40))
        self.large = self.rng.random() < 0.5
        self.privates: dict[int, Any] = {}  # logs of one client each, of those that left too
        self.clients: list[tuple[Client, End]] = []
        self.retired: list[tuple[Client, End]] = []
        self.weights = {
            self.connect: self.rng.choice((1, 4)),
            self.leave: 1,
            self.send: 40,
            self.burst: 4,
            self.read: 20,
            self.turn: 15,
            self.flush: 3,
            self.pump: 10,
            self.member: 6 if self.groups else 0,
            self.forget: 2,
        }
        for _ in range(self.rng.choice((0, 1, 5, 40))):
            self.connect()

    # --- commands ---

    def connect(self) -> None:
        if len(self.clients) > 60:
            return
        eager = self.rng.random() < 0.5
        end = End(
            self.rig,
            fd=self.rng.random() < 0.7,
            eager=eager,
            buffer=self.rng.choice((1, 4096, 1 << 16)),
        )
        end.patient = self.rng.random() < 0.2  # reads all the time, from a large buffer
        if end.patient:
            end.enlarge()
        end.follower.join(self.hub)
        self.rig.ends.append(end)
        client = Client(len(self.clients) + len(self.retired))
        client.enter("all", self.world.now)
        client.enter(("private", client.name), self.world.now)
        self.clients.append((client, end))

    def leave(self) -> None:
        if self.clients:
            client, end = self.clients.pop(self.rng.randrange(len(self.clients)))
            for audience in client.spans:
                client.leave(audience, self.world.now)
            end.follower.leave_()
            self.retired.append((client, end))

    def send(self) -> None:
        kind = self.rng.choice((RELIABLE, RELIABLE, SKIP, LATEST, LATEST))
        key = self.rng.randrange(self.keys) if kind == LATEST else None
        retain = kind == LATEST and key is not None and key % 2 == 0
        size = self.rng.choice(SIZES if self.large else SIZES[:6])
        audience: Any = "all"
        log = barred = None
        choice = self.rng.random()
        if choice < 0.15 and self.groups:
            index = self.rng.randrange(len(self.groups))
            audience, log = ("group", index), self.groups[index]
        elif choice < 0.3 and self.clients:
            client, end = self.rng.choice(self.clients)
            audience, log = ("private", client.name), self.hub.private(end.follower)
            self.privates[client.name] = log
            self.hub.set_window(self.window, log)
            retain = False
        if choice > 0.9 and self.clients:
            barred, barred_end = self.rng.choice(self.clients)
        payload = struct.pack("<Q", self.world.now) + bytes(size - 8)
        header = 2 if size < 126 else 4 if size < 65536 else 10
        sent = self.hub.put(
            payload, kind, key, retain, log, barred_end.follower if barred is not None else None
        )
        assert sent, "the log is nowhere near its bounds"
        self.world.send(
            kind=kind,
            audience=audience,
            size=size + header,
            key=key,
            retain=retain,
            barred=None if barred is None else barred.name,
        )

    def burst(self) -> None:
        for _ in range(self.rng.choice((5, 100))):
            self.send()
            self.read_patient()

    def read(self) -> None:
        if self.clients:
            self.rng.choice(self.clients)[1].read(self.rng.choice((1, 100, 5000, 1 << 20)))

    def pump(self) -> None:
        if self.clients:
            self.rng.choice(self.clients)[1].transport.pump()

    def turn(self) -> None:
        self.rig.loop.turn()

    def flush(self) -> None:
        self.hub.flush()

    def member(self) -> None:
        if not self.clients:
            return
        client, end = self.rng.choice(self.clients)
        index = self.rng.randrange(len(self.groups))
        if self.rng.random() < 0.7:
            self.hub.add(self.groups[index], end.follower)
            client.enter(("group", index), self.world.now)
        else:
            self.hub.discard(self.groups[index], end.follower)
            client.leave(("group", index), self.world.now)

    def forget(self) -> None:
        key = self.rng.randrange(self.keys)
        index = self.rng.randrange(len(self.groups) + 1)
        of = None if index == len(self.groups) else self.groups[index]
        self.hub.forget(key, of)
        self.world.forget("all" if of is None else ("group", index), key)

    # --- running ---

    def read_patient(self) -> None:
        for _, end in self.clients:
            if end.patient:
                end.read()
                end.transport.pump()

    def run(self) -> None:
        commands = list(self.weights)
        weights = list(self.weights.values())
        for step in range(COMMANDS):
            self.rng.choices(commands, weights)[0]()
            self.read_patient()
            self.hub.check()
            if step % 20 == 0:
                self.recount()
        self.rig.settle()
        self.finish()

    def audiences(self) -> list[Any]:
        return [*self.groups, *self.privates.values()]

    def recount(self) -> tuple[int, int]:
        return self.hub.recount(self.audiences())

    def finish(self) -> None:
        held, newest = self.recount()
        assert held == newest, "something is held that nobody waits for"
        assert self.hub.drained
        arena = self.hub.arena
        assert (arena.slabs - 4) * 262144 <= 4 * arena.live + (1 << 20)
        for client, end in self.clients:
            got = [struct.unpack_from("<Q", payload)[0] for payload in end.messages()]
            behind = end.patient and not end.transport.ever_held
            self.world.check(client, got, end.follower.lost, never_behind=behind)
        for client, end in self.retired:
            got = [struct.unpack_from("<Q", payload)[0] for payload in end.whole_messages()]
            self.world.check_order(client, got)


@pytest.mark.limit(120)
@pytest.mark.parametrize("part", range(4))
def test_every_client_sees_what_the_contract_says(probe: Any, part: int) -> None:
    for seed in range(part, SEEDS, 4):
        model = Model(probe, seed)
        try:
            model.run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            model.rig.close()
