"""What each client of a server may and must get, without using a log: the oracle of tests/net/test_model.py.

A `History` is told every command when it is given, and every message when it is read. It never looks at the
server. All have numbers of one clock, so the number of a message is its position in the order of all sends.
`History.complain` then lists the errors in the transcript of one reader, one per line::

    live        everything sent while it was a client (a member, for a group's log) and not barred, in the
                order of sending, none twice
    replay      before what is sent after it joined, in the order of sending: the newest retained message of
                each slot at that moment
    excuses     a live or retained message is missing only if, before the reader got the next later one, it
                was superseded or forgotten (latest), or followed by more bytes than fit (skip); or if the
                reader was closed and nothing later came
    keen        a reader that is never behind has no excuse

A slot is a key with its type, and each log has its own slots. A log is that of all, of a group or of one
client.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

__all__ = ["ALL", "History", "Reader", "Sent"]

ALL = "all"


@dataclass
class Sent:
    """One message, where it went, and what its policy says."""

    number: int
    log: Hashable
    kind: str  # "reliable", "skip" or "latest"
    slot: Hashable  # of latest: its type and key
    retain: bool
    size: int  # bytes on the wire, with its header
    barred: Reader | None


@dataclass
class Stay:
    """A reader's time in a log; messages sent strictly between the two are for it."""

    log: Hashable
    since: int
    until: int | None = None


@dataclass(eq=False)
class Reader:
    """One client, as its side of the connection sees it."""

    name: str
    joined: int | None = None
    keen: int | None = None  # up to date from then on, whatever comes
    closed: bool = False  # its connection has ended, or will without notice
    stays: list[Stay] = field(default_factory=list)
    got: list[tuple[int, int]] = field(default_factory=list)  # number, and the clock when it was read

    def stay(self, log: Hashable) -> Stay | None:
        """The groups of which it is a member now."""
        return next((stay for stay in self.stays if stay.log == log and stay.until is None), None)


class History:
    """Every command, on one clock.

    Parameters
    ----------
    window, private_window : int
        Bytes of skip messages that a reader which is behind is owed, of each log but its own, and of that.
    """

    def __init__(self, window: int, private_window: int) -> None:
        self.clock = 0
        self.sent: dict[int, Sent] = {}
        self._windows = window, private_window
        self._slots: dict[Hashable, list[tuple[int, Sent | None]]] = {}  # of each log and slot: newest last

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def window(self, log: Hashable) -> int:
        return self._windows[isinstance(log, Reader)]

    # --- commands ------------------------------------------------------------------------

    def join(self, reader: Reader) -> None:
        reader.joined = self.tick()
        reader.stays += [Stay(ALL, reader.joined), Stay(reader, reader.joined)]

    def add(self, reader: Reader, log: Hashable) -> None:
        if reader.stay(log) is None:
            reader.stays.append(Stay(log, self.tick()))

    def discard(self, reader: Reader, log: Hashable) -> None:
        if (stay := reader.stay(log)) is not None:
            stay.until = self.tick()

    def send(self, sent: Sent) -> None:
        self.sent[sent.number] = sent
        if sent.kind == "latest":
            self._slots.setdefault((sent.log, sent.slot), []).append((sent.number, sent))

    def forget(self, log: Hashable, slot: Hashable) -> None:
        self._slots.setdefault((log, slot), []).append((self.tick(), None))

    # --- what follows from them ----------------------------------------------------------

    def retained(self, log: Hashable, before: int) -> list[Sent]:
        """What a log keeps for those who come at that moment, in order of sending."""
        found = []
        for (of, _), changes in self._slots.items():
            newest = (
                next((sent for at, sent in reversed(changes) if at < before), None) if of == log else None
            )
            if newest is not None and newest.retain:
                found.append(newest)
        return sorted(found, key=lambda sent: sent.number)

    def slots(self) -> int:
        """How many keys were ever used."""
        return len(self._slots)

    def has_gone(self, sent: Sent, at: int) -> bool:
        """Whether a reader that was behind until then may never get it."""
        if sent.kind == "latest":
            return any(sent.number < change <= at for change, _ in self._slots[sent.log, sent.slot])
        if sent.kind == "skip":
            later = (other for other in self.sent.values() if sent.number <= other.number <= at)
            skips = sum(other.size for other in later if other.kind == "skip" and other.log == sent.log)
            return skips > self.window(sent.log)
        return False

    def is_in(self, sent: Sent, reader: Reader) -> bool:
        """Whether it was a member where that was sent, when it was."""
        return any(
            stay.log == sent.log
            and stay.since < sent.number
            and (stay.until is None or sent.number < stay.until)
            for stay in reader.stays
        )

    def is_for(self, sent: Sent, reader: Reader) -> bool:
        return sent.barred is not reader and self.is_in(sent, reader)

    def unread(self, reader: Reader) -> int:
        """Bytes of reliable messages it has not read; what it is barred from is in its way as well."""
        got = {number for number, _ in reader.got}
        return sum(
            sent.size
            for sent in self.sent.values()
            if sent.kind == "reliable" and sent.number not in got and self.is_in(sent, reader)
        )

    # --- judging -------------------------------------------------------------------------

    def _replayed_for(
        self, reader: Reader, sent: Sent, at: int, last: int, replayed: list[tuple[int, Stay]]
    ) -> Stay | None:
        # The membership during which it was retained, if it is in order. `last` is the newest one before it.
        for stay in reader.stays:
            if (
                stay.log == sent.log
                and sent.number < stay.since <= at
                and last < stay.since
                and sent.barred is not reader
                and all(before < sent.number for before, one in replayed if one is stay)
                and sent in self.retained(sent.log, stay.since)
            ):
                return stay
        return None

    def complain(self, reader: Reader) -> Iterator[str]:
        """What is wrong with what a reader got; nothing more is on its way to it."""
        live: list[tuple[int, int]] = []
        replayed: list[tuple[int, Stay]] = []
        taken: set[int] = set()
        for number, at in reader.got:
            sent = self.sent[number]
            last = live[-1][0] if live else 0
            if self.is_for(sent, reader) and number not in taken and number > last:
                live.append((number, at))
                taken.add(number)
                continue
            stay = self._replayed_for(reader, sent, at, last, replayed)
            if stay is None:
                yield f"{number} of {sent.log!r} is not for it, comes twice, or late: after {last}"
                continue
            taken.add(number)
            replayed.append((number, stay))

        def when(number: int) -> int | None:
            # The number up to which it has certainly read; None if that is unknown, so nothing can be
            # required.
            reached = next((at for later, at in live if later > number), None)
            return self.clock if reached is None and not reader.closed else reached

        for sent in self.sent.values():
            if sent.number in taken or not self.is_for(sent, reader) or (at := when(sent.number)) is None:
                continue
            if reader.keen is not None and sent.number > reader.keen:
                yield f"{sent.number} ({sent.kind}) of {sent.log!r} is missing, and it was never behind"
            elif not self.has_gone(sent, at):
                yield f"{sent.number} ({sent.kind}) of {sent.log!r} is missing at {at}, and was there"
        for stay in reader.stays:
            for sent in self.retained(stay.log, stay.since):
                if sent.number in taken or sent.barred is reader or (at := when(stay.since)) is None:
                    continue
                if not self.has_gone(sent, at):
                    yield f"{sent.number} was in {stay.log!r} when it came at {stay.since}, and is missing"
