"""What a client of the compacted log must get: the contract of docs/policies.md, independent of the code.

`World` is told every command and keeps a list of what was sent. `Client` knows from when to when it was a
client, and a member of which groups. `check` compares that with the messages that a client received, in
order.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

RELIABLE, SKIP, LATEST = range(3)
NEVER = 1 << 60


@dataclass(frozen=True)
class Sent:
    """One message. `number` is its place in the order of all sends."""

    number: int
    kind: int
    audience: Hashable  # "all", ("group", i) or ("private", i)
    size: int  # of its frame, in bytes
    key: Hashable = None
    retain: bool = False
    barred: int | None = None  # the one client that does not get it


@dataclass
class Client:
    """When it was in which audience: (from, until) by send number."""

    name: int
    spans: dict[Hashable, list[list[int]]] = field(default_factory=dict)

    def enter(self, audience: Hashable, now: int) -> None:
        spans = self.spans.setdefault(audience, [])
        if not spans or spans[-1][1] != NEVER:
            spans.append([now, NEVER])

    def leave(self, audience: Hashable, now: int) -> None:
        spans = self.spans.get(audience)
        if spans and spans[-1][1] == NEVER:
            spans[-1][1] = now

    def is_in(self, message: Sent) -> bool:
        spans = self.spans.get(message.audience, ())
        return message.barred != self.name and any(a <= message.number < b for a, b in spans)


class World:
    """Everything that was sent and forgotten."""

    def __init__(self, window: int) -> None:
        self.window = window  # bytes of skip messages that a laggard gets
        self.sent: list[Sent] = []
        self.forgotten: dict[
            tuple[Hashable, Hashable], int
        ] = {}  # (audience, key) to the number it happened at

    @property
    def now(self) -> int:
        return len(self.sent)

    def send(self, **what: object) -> Sent:
        self.sent.append(Sent(self.now, **what))  # type: ignore[arg-type]
        return self.sent[-1]

    def forget(self, audience: Hashable, key: Hashable) -> None:
        self.forgotten[audience, key] = self.now

    def newest(self, audience: Hashable, before: int) -> dict[Hashable, Sent]:
        """The newest message of each key sent before that number, but for what was forgotten by then. (What
        happens between two sends has no order here: forgotten at the same number may be after.)"""
        found = {m.key: m for m in self.sent[:before] if m.kind == LATEST and m.audience == audience}
        return {
            k: m for k, m in found.items() if not m.number < self.forgotten.get((audience, k), -1) < before
        }

    def check(self, client: Client, got: list[int], lost: tuple[int, int], *, never_behind: bool) -> None:
        """`got`: numbers in order of arrival, all drained. `lost`: what it says it skipped and superseded."""
        messages, live, early = self.check_order(client, got)
        self._check_early(client, messages, early)
        due = [m for m in self.sent if client.is_in(m)]
        arrived = set(got)
        for message in due:
            if message.kind == RELIABLE or never_behind:
                assert message.number in arrived, f"{message} never came"
        self._check_skip(client, arrived, due, lost[0])
        self._check_latest(client, arrived, live, due, lost[1])

    def check_order(self, client: Client, got: list[int]) -> tuple[list[Sent], list[Sent], list[Sent]]:
        """What came, and of it what was sent while it was a client, and what before."""
        messages = [self.sent[number] for number in got]
        live = [m for m in messages if client.is_in(m)]
        early = [m for m in messages if not client.is_in(m)]
        for message in {m for m in messages if got.count(m.number) > 1}:
            # Only retained ones may, and only to a client that left and came back.
            again = [a for a, _ in client.spans[message.audience] if a > message.number]
            assert message.retain and len(again) >= got.count(message.number) - client.is_in(message), (
                f"{message} twice"
            )
            for _ in range(got.count(message.number) - 1):
                live.reverse()
                if message in live:
                    live.remove(message)
                live.reverse()
        numbers = [m.number for m in live]
        assert numbers == sorted(numbers), "out of order"
        return messages, live, early

    def _check_early(self, client: Client, messages: list[Sent], early: list[Sent]) -> None:
        # From before it joined: only the retained messages that were the newest then, before all live ones.
        for message in early:
            assert message.kind == LATEST and message.retain, f"{message} is not for it"
            assert message.barred != client.name, f"{message} is barred to it"
            spans = client.spans.get(message.audience, ())
            joined = [a for a, _ in spans if a > message.number]
            assert joined, f"{message} is of an audience it was never in afterwards"
            assert any(self.newest(message.audience, a).get(message.key) == message for a in joined), (
                f"{message} was not the newest when it joined"
            )
            later = messages[messages.index(message) + 1 :]
            same = [m for m in later if m.audience == message.audience and m in early and len(joined) == 1]
            assert all(m.number > message.number for m in same), "retained messages out of order"
            ahead = messages[: messages.index(message)]
            assert not any(m.audience == message.audience and m.number >= joined[-1] for m in ahead), (
                "a retained message after live ones"
            )

    def _check_skip(self, client: Client, arrived: set[int], due: list[Sent], said: int) -> None:
        skips = [m for m in due if m.kind == SKIP]
        missing = [m for m in skips if m.number not in arrived]
        assert len(missing) <= said, "skipped, and not counted"
        for audience in {m.audience for m in skips}:
            room = self.window
            for message in reversed([m for m in self.sent if m.audience == audience and m.kind == SKIP]):
                room -= message.size
                if room < 0:
                    break
                if client.is_in(message):
                    assert message.number in arrived, f"{message} was within the window"

    def _check_latest(
        self, client: Client, arrived: set[int], live: list[Sent], due: list[Sent], said: int
    ) -> None:
        latest = [m for m in due if m.kind == LATEST]
        assert len([m for m in latest if m.number not in arrived]) <= said, "superseded, and not counted"
        for audience, spans in client.spans.items():
            joined, left = spans[-1]
            for key, message in self.newest(audience, min(left, self.now)).items():
                if message.barred == client.name or message.number < self.forgotten.get((audience, key), -1):
                    continue
                if left != NEVER and any(
                    m.key == key and m.audience == audience and m.number >= left for m in self.sent
                ):
                    continue  # superseded after it left
                if message.number >= joined or message.retain:
                    assert message.number in arrived, f"{message}, the newest of its key, never came"
