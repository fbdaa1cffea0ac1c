"""`Node`: one of the servers in a room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import weakref
from collections import deque
from typing import Any

from deli_com.backplane import frames
from deli_com.backplane.arrivals import Shelf
from deli_com.backplane.frames import HEAD_BYTES, Head, parse_ask, parse_head, parse_text, subject
from deli_com.backplane.outbox import Outbox
from deli_com.backplane.protocol import Backplane, Unreachable
from deli_com.backplane.remote import Remote
from deli_com.errors import SchemaMismatch
from deli_com.ground.callback import answer_of
from deli_com.ground.kept_tasks import keep
from deli_com.link.shown import hide_from, show_to
from deli_com.link.stats import BackplaneStats
from deli_com.net.backoff import Backoff
from deli_com.net.log_budget import LogBudget
from deli_com.schema.schema import Schema

__all__ = ["Node"]

HEARTBEAT_S = 1.0  # of silence, after which an empty batch is sent
DEAD_S = 5.0  # of silence, after which another node counts as dead
ASK_S = 1.0  # between two requests to the same node
TICK_S = 0.25  # between two checks of the deadlines
AGAIN_S = 0.001  # between two checks for room in the log
MAX_WAITING = 64 << 20  # bytes of others' messages that wait for room in the log; more is lost
MAX_REMOTES = 10_000  # other nodes that are remembered, including dead ones
LEAVE_S = 0.5  # for sending the last message

_log = logging.getLogger("deli_com.backplane")


class Node:
    """Passes what a server sends to the other servers of a room, and theirs to its clients.

    The event loop keeps a node alive. A node does not keep its server alive.

    Parameters
    ----------
    server : ServerBase
        A server that sends a type.
    backplane : Backplane
        The node opens it.
    """

    def __init__(self, server: Any, backplane: Backplane) -> None:
        self.id = os.urandom(16)
        self.schema: str = server.down.schema.hash
        self._server = weakref.ref(server)
        self._down = server.down
        self._backplane = backplane
        self._room = backplane.room
        self._loop: asyncio.AbstractEventLoop = server.loop
        self._awake = asyncio.Event()
        self._outbox = Outbox(server, self.id, server.max_backlog, self._awake.set)
        self._shelf = Shelf(server, self._outbox)
        self._shelf.on_conflict = self._conflicts
        self._shelf.on_lost = self._lost
        self._remotes: dict[bytes, Remote] = {}
        self._former = [0, 0, 0]  # received, gaps, duplicates of nodes that are not remembered
        self._readers: dict[str, Any] = {self.schema: None}  # hash to TypeCodec; False: it cannot be read
        self._texts_asked: dict[str, float] = {}
        self._control: deque[tuple[str, bytes]] = deque()
        self._waiting: deque[tuple[Remote, bytes, int]] = deque()
        self._waiting_bytes = 0
        self._dropped = 0  # messages of the backplane that were lost here
        self._was_connected = False
        self._published_at = float("-inf")
        self._ticked_at = self._loop.time()
        self._budget = LogBudget(_log)
        self._is_closing = False
        self._published = 0
        self._batches = subject(self._room, self.schema, "b")
        show_to(server, self._outbox)
        self._tasks = [self._loop.create_task(self._open()), self._loop.create_task(self._send())]
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(TICK_S, self._tick)

    def stats(self) -> BackplaneStats:
        """Return the counters. Legal from any thread."""
        remotes = [*self._remotes.values()]
        received, gaps, duplicates = self._former
        return BackplaneStats(
            connected=self._backplane.is_connected,
            sent=self._outbox.sequence,
            received=received + sum(each.arrivals.received for each in remotes),
            gaps=gaps + sum(each.arrivals.gaps for each in remotes),
            duplicates=duplicates + sum(each.arrivals.duplicates for each in remotes),
            nodes=sum(each.is_alive and each.is_joined for each in remotes),
            conflicts=self._shelf.conflicts,
            lost=self._outbox.lost,
            skipped=self._outbox.skipped,
            superseded=self._outbox.superseded,
            batches=self._published,
            waiting_bytes=self._outbox.queued_bytes(),
        )

    async def close(self, drain: float) -> None:
        """Send what waits, for at most `drain` seconds. Then tell the other nodes that this one closes."""
        if self._is_closing:
            return
        end = self._loop.time() + drain
        while (  # noqa: ASYNC110 - at the end, and not for long
            self._backplane.is_connected
            and not (self._outbox.is_empty() and not self._control)
            and self._loop.time() < end
        ):
            await asyncio.sleep(0.005)
        self._stop()
        await self._leave()

    def abandon(self) -> None:
        """Leave the room: the server was dropped without `close`. Legal from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._abandon)

    def _abandon(self) -> None:
        if not self._is_closing:
            self._stop()
            keep(self._loop, self._leave())

    def _stop(self) -> None:
        self._is_closing = True
        server = self._server()
        if server is not None:
            hide_from(server, self._outbox)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    async def _leave(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._backplane.is_connected:
            with contextlib.suppress(Exception):
                bye = frames.leave(self._head())
                await asyncio.wait_for(self._backplane.publish(self._batches, bye), LEAVE_S)
        try:
            await self._backplane.close()
        except Exception as error:
            _log.warning("backplane of room %r: closing has failed: %s", self._room, error)
        self._outbox.hold(True)
        self._remotes = {id: remote for id, remote in self._remotes.items() if remote.is_alive}

    # --- sending ------------------------------------------------------------------------------------------

    def _head(self) -> Head:
        return Head(self.id, self._outbox.sequence, self.schema)

    async def _open(self) -> None:
        backoff = Backoff(0.1, 5.0)
        subjects = [
            subject(self._room, "*", "b"),
            subject(self._room, "*", "s"),
            subject(self._room, self.schema, "t"),
            subject(self._room, self.id.hex(), "r"),
        ]
        while True:
            try:
                await answer_of(self._backplane.open(subjects, self._receive, self._changed))
            except Exception as error:
                if isinstance(error, (TypeError, RuntimeError)):
                    _log.error("backplane of room %r: %s", self._room, error)
                    return
                delay = backoff.next()
                self._budget.log(
                    logging.WARNING,
                    "backplane of room %r: %s; next attempt in %.1f s",
                    self._room,
                    str(error) or type(error).__name__,
                    delay,
                )
                await asyncio.sleep(delay)
            else:
                return

    def _changed(self) -> None:
        is_connected = self._backplane.is_connected
        if is_connected is self._was_connected or self._is_closing:
            return
        self._was_connected = is_connected
        if not is_connected:
            _log.warning("backplane of room %r: not connected", self._room)
            self._outbox.hold(True)
            return
        _log.info("backplane of room %r: connected", self._room)
        now = self._loop.time()
        for remote in self._remotes.values():
            remote.heard_at = now
        self._outbox.resize(self._backplane.max_payload)
        self._outbox.hold(False)
        self._say(subject(self._room, self.schema, "s"), frames.ask(self._head()))
        self._published_at = float("-inf")  # a heartbeat follows the waiting messages
        self._awake.set()

    def _say(self, where: str, message: bytes) -> None:
        self._control.append((where, message))
        self._awake.set()

    async def _send(self) -> None:
        """Publish the waiting batches, one after another."""
        while True:
            if not self._was_connected:
                self._awake.clear()
                await self._awake.wait()
                continue
            is_batch = False
            if self._control:
                where, message = self._control.popleft()
            else:
                where = self._batches
                batch = self._outbox.take()
                if batch is None:
                    if self._loop.time() - self._published_at < HEARTBEAT_S:
                        self._awake.clear()
                        await self._awake.wait()
                        continue
                    message = frames.heartbeat(self._head())
                else:
                    is_batch, message = True, batch
            try:
                await answer_of(self._backplane.publish(where, message))
            except Unreachable:
                if is_batch:
                    self._outbox.put_back(message)
                self._changed()
                await asyncio.sleep(AGAIN_S)  # `changed` may be called a little later
            except Exception as error:
                self._budget.log(
                    logging.WARNING,
                    "backplane of room %r: a message of %d bytes is lost: %s",
                    self._room,
                    len(message),
                    str(error) or type(error).__name__,
                )
            else:
                self._published += is_batch
                if where is self._batches:
                    self._published_at = self._loop.time()

    def _tick(self) -> None:
        now = self._loop.time()
        late, self._ticked_at = now - self._ticked_at, now
        self._timer = self._loop.call_later(TICK_S, self._tick)
        server = self._server()
        if not self._was_connected or server is None:
            return
        if late > 4 * TICK_S:  # this process was suspended; what arrived meanwhile was not read yet
            for remote in self._remotes.values():
                remote.heard_at = now
        if now - self._published_at >= HEARTBEAT_S:
            self._awake.set()
        for remote in [*self._remotes.values()]:
            if remote.is_alive and now - remote.heard_at > DEAD_S:
                self._gone(remote, "has been silent")
            elif remote.is_alive:
                self._ask(remote, now)

    def _ask(self, remote: Remote, now: float) -> None:
        """Ask a node for its schema or its retained values, whichever is missing."""
        if now - remote.asked_at < ASK_S:
            return
        if remote.is_readable is None:
            reader = self._readers.get(remote.schema, False)
            if remote.schema in self._readers:
                self._reads(remote, reader)
            elif now - self._texts_asked.get(remote.schema, float("-inf")) >= ASK_S:
                if len(self._texts_asked) > MAX_REMOTES:
                    self._texts_asked.clear()
                self._texts_asked[remote.schema] = now
                self._say(subject(self._room, remote.schema, "t"), frames.ask(self._head()))
        if remote.is_readable is not None and remote.must_ask:
            remote.asked_at = now
            self._say(subject(self._room, self.schema, "s"), frames.ask(self._head(), remote.id))

    # --- receiving ----------------------------------------------------------------------------------------

    def _receive(self, where: str, message: bytes) -> None:
        server = self._server()  # held while the shelf puts messages into its log
        if self._is_closing or server is None:
            return
        try:
            suffix = where[-1:]
            if suffix == "b":
                self._on_batch(message)
            elif suffix == "s":
                self._on_ask(message)
            elif suffix == "r":
                self._on_reply(message)
            elif suffix == "t":
                head = parse_head(message)
                self._say(self._reply_to(head), frames.text(self._down.schema.text))
        except ValueError as error:
            self._budget.log(logging.WARNING, "backplane: a message to %s is malformed: %s", where, error)

    def _reply_to(self, head: Head) -> str:
        return subject(self._room, head.node.hex(), "r")

    def _remote(self, head: Head) -> Remote | None:
        if head.node == self.id:
            return None
        remote = self._remotes.get(head.node)
        now = self._loop.time()
        if remote is None:
            if len(self._remotes) >= MAX_REMOTES:
                self._let_go()
            remote = self._remotes[head.node] = Remote(head, self._shelf, now)
            if head.schema in self._readers:
                self._reads(remote, self._readers[head.schema])
        remote.heard_at = now
        if not remote.is_alive:
            remote.is_alive = True
            remote.ask_again()
        return remote

    def _let_go(self) -> None:
        """Forget the dead nodes, or all other nodes if none is dead."""
        gone = [each for each in self._remotes.values() if not each.is_alive] or [*self._remotes.values()]
        for remote in gone:
            self._former[0] += remote.arrivals.received
            self._former[1] += remote.arrivals.gaps
            self._former[2] += remote.arrivals.duplicates
            self._gone(remote, "is forgotten: the limit of nodes is reached")
            del self._remotes[remote.id]

    def _reads(self, remote: Remote, reader: Any) -> None:
        remote.is_readable = reader is not False
        remote.arrivals.is_refused = reader is False
        remote.arrivals.reader = reader or None

    def _on_batch(self, batch: bytes) -> None:
        head = parse_head(batch)
        remote = self._remote(head)
        if remote is None:
            return
        if not remote.is_joined:
            if len(batch) > HEAD_BYTES:
                remote.keep(batch)
            self._ask(remote, self._loop.time())
        elif self._waiting:
            self._wait(remote, batch, 0)
        else:
            self._handle_batch(remote, batch, 0)

    def _handle_batch(self, remote: Remote, batch: bytes, at: int) -> bool:
        """Append the messages of a batch to the log; False: there was no room for all."""
        try:
            at = remote.arrivals.handle(batch, at)
        except ValueError as error:
            self._budget.log(
                logging.WARNING, "backplane: node %s sent a malformed batch: %s", remote.id.hex(), error
            )
            at = -1
        if at >= 0:
            self._waiting.appendleft((remote, batch, at))
            self._waiting_bytes += len(batch)
            self._loop.call_later(AGAIN_S, self._go_on)
            return False
        remote.look_at_arrivals()
        if remote.must_ask:
            self._ask(remote, self._loop.time())
        if remote.arrivals.has_left and remote.is_alive:
            self._gone(remote, "has closed")
        return True

    def _wait(self, remote: Remote, batch: bytes, at: int) -> None:
        if self._waiting_bytes + len(batch) > MAX_WAITING:
            self._dropped += 1  # the next batch shows the gap
            return
        self._waiting.append((remote, batch, at))
        self._waiting_bytes += len(batch)

    def _go_on(self) -> None:
        server = self._server()
        while self._waiting and not self._is_closing and server is not None:
            remote, batch, at = self._waiting.popleft()
            self._waiting_bytes -= len(batch)
            if not self._handle_batch(remote, batch, at):
                return

    def _on_ask(self, message: bytes) -> None:
        asked = parse_ask(message)
        if asked.target not in (b"", self.id) or asked.head.node == self.id:
            return
        remotes = self._remotes

        def values() -> Any:
            for payload, name in self._shelf.retained():
                slot = self._shelf.slot(payload, name)
                if slot is None:
                    continue
                owner = self._shelf.owner(slot)
                if slot in self._outbox.own:
                    yield payload, name, False
                elif owner is None or owner not in remotes or not remotes[owner].is_alive:
                    yield payload, name, True

        head = Head(self.id, self._outbox.cut(), self.schema)
        for part in frames.state(head, values(), self._backplane.max_payload):
            self._say(self._reply_to(asked.head), part)

    def _on_reply(self, message: bytes) -> None:
        text = parse_text(message)
        if text is not None:
            self._learn(text)
            return
        head = parse_head(message)
        remote = self._remote(head)
        if remote is None:
            return
        if remote.is_readable is None:
            self._ask(remote, self._loop.time())
            return
        if remote.told(head, message):
            _log.info("backplane of room %r: node %s has joined", self._room, remote.id.hex())
            for batch in remote.kept():
                if self._waiting:
                    self._wait(remote, batch, 0)
                else:
                    self._handle_batch(remote, batch, 0)

    def _learn(self, text: str) -> None:
        """The text of another schema has arrived."""
        schema = Schema.parse(text)
        if schema.hash not in self._texts_asked or schema.hash in self._readers:
            return
        try:
            self._readers[schema.hash] = self._down.reading(schema)
        except SchemaMismatch as error:
            self._readers[schema.hash] = False
            _log.warning(
                "backplane of room %r: messages of nodes with schema %s cannot be read, and are counted "
                "as gaps: %s",
                self._room,
                schema.hash,
                error,
            )
        now = self._loop.time()
        for remote in self._remotes.values():
            if remote.is_readable is None and remote.schema == schema.hash:
                self._reads(remote, self._readers[schema.hash])
                self._ask(remote, now)

    # --- nodes that leave, and errors -----------------------------------------------------------------------

    def _gone(self, remote: Remote, why: str) -> None:
        remote.is_alive = False
        _log.info("backplane of room %r: node %s %s", self._room, remote.id.hex(), why)
        if self._backplane.orphans == "forget":
            for slot in self._shelf.slots_of(remote.id):
                self._shelf.forget(slot)
        else:
            self._shelf.disown(remote.id)

    def _conflicts(self, slot: tuple[bytes | None, int, bytes]) -> None:
        self._budget.once(
            "conflict",
            logging.WARNING,
            "backplane of room %r: two nodes send the same key of policy latest (class %d, key %r): "
            "which value clients have depends on the node (further ones are only counted)",
            self._room,
            slot[1],
            slot[2][:64],
        )

    def _lost(self, why: object) -> None:
        self._budget.once(
            "lost",
            logging.WARNING,
            "backplane of room %r: a message of another node is lost: %s (further ones are only counted)",
            self._room,
            why,
        )
