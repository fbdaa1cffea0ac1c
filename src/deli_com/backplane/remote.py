"""`Remote`: what a node knows about one other node."""

from __future__ import annotations

from collections.abc import Iterator

from deli_com.backplane.arrivals import Arrivals, Shelf
from deli_com.backplane.frames import (
    CONTINUES,
    END,
    IN_GROUP,
    LENGTH,
    MORE,
    ORPHAN,
    STATE,
    Head,
    Item,
    records,
)

__all__ = ["BUFFER_BYTES", "Remote", "Retained"]

BUFFER_BYTES = 16 << 20  # of batches that wait until a node has sent its retained values


class Retained:
    """The retained values of another node, which arrive in several messages.

    Parameters
    ----------
    sequence : int
        Batches from this number on are not included.
    """

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.values: list[tuple[bytes, bytes | None, bool]] = []  # payload, group, whether its node is gone
        self.is_whole = False
        self._part: bytearray | None = None

    def add(self, message: bytes) -> None:
        """Add one of these messages.

        Raises
        ------
        ValueError
            The message is malformed, or others have been lost.
        """
        for record in records(message):
            if record.kind == STATE:
                self._add(record)

    def _add(self, record: Item) -> None:
        flags, payload = record.flags, record.payload
        if flags & END:
            if len(payload) != LENGTH.size or LENGTH.unpack(payload)[0] != len(self.values):
                raise ValueError(f"an answer with {len(self.values)} values is incomplete")
            self.is_whole = True
            return
        if flags & CONTINUES:
            if self._part is None or len(payload) < 4 or LENGTH.unpack_from(payload)[0] != len(self._part):
                raise ValueError("a part of a retained value is missing")
            self._part += payload[4:]
        else:
            self._part = bytearray(payload)
        if not flags & MORE:
            name = record.name if flags & IN_GROUP else None
            self.values.append((bytes(self._part), name, bool(flags & ORPHAN)))
            self._part = None


class Remote:
    """One other node.

    It is joined once it has sent its retained values. Its batches are kept until then. If messages of a node
    were lost, its retained values are requested again. Values that arrive meanwhile are newer than the
    answer.

    Parameters
    ----------
    head : Head
        Of a message from it.
    shelf : Shelf
    now : float
        On the loop's clock.
    """

    def __init__(self, head: Head, shelf: Shelf, now: float) -> None:
        self.id = head.node
        self.schema = head.schema
        self.heard_at = now
        self.asked_at = float("-inf")
        self.is_alive = True
        self.is_joined = False
        self.is_readable: bool | None = None  # None: its schema is not known yet
        self.must_ask = True
        self.arrivals = Arrivals(shelf, self.id)
        self._shelf = shelf
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._state: Retained | None = None  # the answer that is arriving
        self._due: Retained | None = None  # a complete answer that waits for earlier batches
        self._seen_gaps = 0

    def keep(self, batch: bytes) -> None:
        """Keep a batch until the node is joined."""
        self._buffer.append(batch)
        self._buffered += len(batch)
        if self._buffered > BUFFER_BYTES:
            self._buffer.clear()  # the next answer has at least as new values
            self._buffered = 0
            self._state = None
            self.must_ask = True

    def kept(self) -> Iterator[bytes]:
        """Return the kept batches, and keep them no longer."""
        held, self._buffer, self._buffered = self._buffer, [], 0
        yield from held

    def told(self, head: Head, message: bytes) -> bool:
        """Add a part of its retained values; return True if that completes joining the node.

        Raises
        ------
        ValueError
            As `Retained.add`; the values must be requested again.
        """
        if self._state is None or self._state.sequence != head.sequence:
            self._state = Retained(head.sequence)
        state = self._state
        try:
            state.add(message)
        except ValueError:
            self._state = None
            self.must_ask = True
            raise
        if not state.is_whole:
            return False
        self._state = None
        if self.is_joined:
            if self.arrivals.touched is not None:
                self._due = state
                self.look_at_arrivals()
            return False
        self.is_joined = True
        self.must_ask = False
        self.arrivals.begin(state.sequence)
        self._apply(state)
        return True

    def look_at_arrivals(self) -> None:
        """Check whether messages are missing, and whether a waiting answer can be applied."""
        if self.arrivals.gaps != self._seen_gaps:
            self._seen_gaps = self.arrivals.gaps
            self.ask_again()
        due = self._due
        if due is not None and self.arrivals.expected >= due.sequence:
            self._due = None
            self.must_ask = False
            self._apply(due)
            self.arrivals.touched = None

    def ask_again(self) -> None:
        """Request its retained values: this node may lack some."""
        if self.is_joined:
            self.must_ask = True
            self._due = None
            if self.arrivals.touched is None:
                self.arrivals.touched = {}

    def _apply(self, state: Retained) -> None:
        shelf = self._shelf
        touched = self.arrivals.touched or {}
        told = set()
        for payload, name, is_orphan in state.values:
            value = payload
            if self.arrivals.reader is not None:
                read = self.arrivals.read(payload)
                if read is None:
                    continue
                value = read
            slot = shelf.slot(value, name)
            if slot is None:
                continue
            if is_orphan:
                if not shelf.is_known(slot):
                    shelf.put(value, name, None)
                continue
            told.add(slot)
            if touched.get(slot, -1) < state.sequence:
                shelf.put(value, name, self.id)
        for slot in shelf.slots_of(self.id):
            if slot not in told and touched.get(slot, -1) < state.sequence:
                shelf.forget(slot)
