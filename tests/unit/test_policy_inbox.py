"""The inbox with policies: compared with a plain model, and cases that it does not cover. No sockets."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deli_com import Codec, ConnectionClosed, DecodeError, u8, u16, u32
from deli_com import codec as codec_of

CLOSED = ConnectionClosed(1006, "gone")
AWAY_NS = 9_000_000  # a little less than receive/policy_inbox.pyx has it


class Message(Codec, sealed=True):
    pass


class Order(Message):
    number: u32


class Blob(Message):  # is decoded when it comes
    number: u32
    items: list[u32]


class Line(Message, policy="skip"):
    number: u32
    text: str


class Pose(Message, policy="latest", key="robot"):
    robot: u8
    number: u32


class Named(Message, policy="latest", key=("name", "part")):
    """Its key begins behind a field of any length, and is split."""

    note: str
    name: str
    number: u32
    part: u8 | None


class Track(Message, policy="latest", key="name"):
    name: str
    points: list[u16]
    number: u32


class State(Message, policy="latest"):
    number: u32


CODEC = codec_of(Message)


def make(kind: str, key: int, number: int) -> Message:
    if kind == "order":
        return Order(number)
    if kind == "blob":
        return Blob(number, [number])
    if kind == "line":
        return Line(number, "x" * key)
    if kind == "pose":
        return Pose(key, number)
    if kind == "named":
        return Named("n" * (number % 40), "ab"[key % 2], number, None if key > 1 else 7)
    if kind == "track":
        return Track("k" * key, [number % 99] * (number % 5), number)
    return State(number)


def slot_of(value: Message, source: object) -> object:
    if isinstance(value, Pose):
        return source, Pose, value.robot
    if isinstance(value, Named):
        return source, Named, value.name, value.part
    if isinstance(value, Track):
        return source, Track, value.name
    return (source, State) if isinstance(value, State) else None


@dataclass
class Waiting:
    value: Message
    source: object
    turn: int
    size: int
    slot: object


@dataclass
class Model:
    """What docs/policies.md says of an inbox, without a thought of speed."""

    max_count: int
    items: list[Waiting] = field(default_factory=list)
    turn: int = 1
    is_marked: bool = False
    is_fair: bool = False
    tick: int = 0
    since: dict[object, int] = field(default_factory=dict)
    superseded: int = 0
    skipped: int = 0
    dropped: int = 0
    wanted: bool = False

    def push(self, value: Message, source: object, size: int) -> None:
        slot = slot_of(value, source)
        if slot is not None:
            if slot not in self.since:
                self.tick += 1
                self.since[slot] = self.tick
            old = [item for item in self.items if item.slot == slot and item.turn < self.turn]
            self.items = [item for item in self.items if item not in old]
            self.superseded += len(old)
        elif isinstance(value, Line):
            while 2 * (len(self.items) + 1) > self.max_count:
                lines = [item for item in self.items if isinstance(item.value, Line)]
                if not lines:
                    break
                self.items.remove(lines[0])
                self.skipped += 1
        if not self.wanted and len(self.items) >= self.max_count:
            self.dropped += 1
            return
        newest = [item for item in self.items if item.slot is not None]
        if slot is not None:
            self.is_fair = bool(newest) and (self.is_fair or any(item.turn < self.turn for item in newest))
        self.items.append(Waiting(value, source, self.turn, size, slot))
        self.is_marked = True

    def end_turn(self) -> None:
        if self.is_marked:
            self.turn += 1
            self.is_marked = False

    def take(self) -> Message:
        first = self.items[0]
        if first.slot is not None and self.is_fair:
            free = []
            for item in self.items:
                if item.slot is None:
                    break
                free.append(item)
            first = min(free, key=lambda item: self.since[item.slot])  # the first of its slot
        self.items.remove(first)
        if first.slot is not None:
            self.tick += 1
            self.since[first.slot] = self.tick
            self.is_fair = self.is_fair and any(item.slot is not None for item in self.items)
        return first.value

    def drop_from(self, source: object) -> int:
        gone = [item for item in self.items if item.source is source]
        self.items = [item for item in self.items if item.source is not source]
        self.dropped += len(gone)
        self.is_fair = self.is_fair and any(item.slot is not None for item in self.items)
        return sum(item.size for item in gone)


class Source:
    """Stands for a connection."""

    def __init__(self) -> None:
        self.resumed = 0
        self.refused: list[tuple[DecodeError, int]] = []

    def resume_reading(self) -> None:
        self.resumed += 1

    def _refused(self, error: DecodeError, size: int) -> None:
        self.refused.append((error, size))


KINDS = ["order", "blob", "line", "pose", "named", "track", "state"]
PUSH = st.tuples(st.just("push"), st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 1), st.booleans())
STEPS = st.lists(
    st.one_of(
        PUSH,
        PUSH,
        PUSH,
        st.tuples(st.just("take")),
        st.tuples(st.just("turn")),
        st.tuples(st.just("many"), st.integers(1, 5)),
        st.tuples(st.just("cancel")),
        st.tuples(st.just("wait"), st.sampled_from(KINDS), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 1)),
    ),
    max_size=120,
)


async def play(probe: Any, steps: list[tuple[Any, ...]], *, max_count: int) -> None:
    inbox = probe.ProbePolicyInbox(asyncio.get_running_loop(), CODEC, max_count=max_count)
    model = Model(max_count)
    sources = [Source(), Source()]
    number = 0

    def push(kind: str, key: int, source: Source, as_value: bool) -> None:
        nonlocal number
        number += 1
        value = make(kind, key, number)
        data = CODEC.to_bytes(value)
        model.push(value, source, len(data))
        # Objects come from connections with another schema. Their key is that of the value.
        if as_value or inbox.push_plain_(data, source) is None:
            inbox.push_(value, source, len(data))

    async def turn() -> None:
        await asyncio.sleep(0)
        model.end_turn()

    for step in steps:
        if step[0] == "push":
            push(step[1], step[2], sources[step[3]], step[4])
        elif step[0] == "take" and model.items:
            model.wanted = True
            assert await inbox.recv() == model.take()
        elif step[0] == "many" and model.items:
            model.wanted = True
            expected = [model.take() for _ in range(min(step[1], len(model.items)))]
            assert await inbox.recv_many(step[1]) == expected
        elif step[0] == "turn":
            await turn()
        elif step[0] == "cancel" and not model.items:
            model.wanted = True
            waiter = asyncio.ensure_future(inbox.recv())
            await turn()
            push("pose", 1, sources[0], False)  # it is woken, and cancelled before it takes
            waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiter
            model.end_turn()
        elif step[0] == "wait" and not model.items:
            model.wanted = True
            waiter = asyncio.ensure_future(inbox.recv())
            await turn()
            push(step[1], step[2], sources[0], False)
            assert await waiter == model.take()
            model.end_turn()
        elif step[0] == "drop":
            assert inbox.drop_from_(sources[step[1]]) == model.drop_from(sources[step[1]])
        assert inbox.held == len(model.items)
        assert inbox.held_bytes == sum(item.size for item in model.items)
        assert (inbox.superseded, inbox.skipped, inbox.dropped) == (
            model.superseded,
            model.skipped,
            model.dropped,
        )
    inbox.close_(CLOSED, False)
    while model.items:
        assert await inbox.recv() == model.take()
    with pytest.raises(ConnectionClosed):
        await inbox.recv()
    assert inbox.held_bytes == 0


class TestModel:
    @given(steps=STEPS, max_count=st.sampled_from([6, 20, 1000]))
    @example(steps=[("push", "pose", 0, 0, False), ("turn",), ("push", "pose", 1, 0, False)], max_count=6)
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_it_does_what_the_plain_model_does(
        self, probe: Any, steps: list[tuple[Any, ...]], max_count: int
    ) -> None:
        asyncio.run(play(probe, steps, max_count=max_count))


def push(inbox: Any, value: Codec, source: object = None) -> bool:
    data = codec_of(MESSAGES.get(type(value), type(value))).to_bytes(value)
    paused: bool | None = inbox.push_plain_(data, source)
    return bool(inbox.push_(value, source, len(data))) if paused is None else paused


MESSAGES: dict[type, type] = dict.fromkeys((Order, Blob, Line, Pose, Named, Track, State), Message)


def new(probe: Any, cls: type = Message, **bounds: int) -> Any:
    return probe.ProbePolicyInbox(asyncio.get_running_loop(), codec_of(cls), **bounds)


async def turn() -> None:
    await asyncio.sleep(0)


class TestNewest:
    async def test_ten_of_one_key_in_a_turn_all_come_to_a_program_that_only_awaits(self, probe: Any) -> None:
        """A run in which the machine paused for longer than AWAY_NS does not count."""
        longest: float = AWAY_NS
        while longest >= AWAY_NS:
            inbox = new(probe)
            taken: list[int] = []
            at: list[int] = []

            async def program(inbox: Any = inbox, taken: list[int] = taken, at: list[int] = at) -> None:
                while True:
                    value = await inbox.recv()
                    taken.append(value.number)
                    at.append(time.monotonic_ns())

            task = asyncio.ensure_future(program())
            await turn()
            for number in range(500):
                push(inbox, Pose(1, number))
                if number % 10 == 9:
                    await turn()
            await turn()
            task.cancel()
            longest = max(after - before for before, after in itertools.pairwise(at))
        assert taken == list(range(500))
        assert inbox.superseded == 0

    async def test_no_key_waits_for_ever(self, probe: Any) -> None:
        """Each turn brings all keys, in one order, and the program takes one value."""
        inbox = new(probe)
        seen: list[int] = []
        for number in range(100):
            for robot in range(5):
                push(inbox, Pose(robot, number))
            await turn()
            seen.append((await inbox.recv()).robot)
        assert seen == [0, 1, 2, 3, 4] * 20

    async def test_keys_that_are_always_new_keep_no_other_waiting(self, probe: Any) -> None:
        inbox = new(probe)
        seen = []
        for number in range(60):
            push(inbox, Track("old", [], number))
            push(inbox, Track(f"new {number}", [], number))
            await turn()
            seen.append((await inbox.recv()).name)
        assert [place for place, name in enumerate(seen) if name == "old"][:6] == [0, 2, 5, 9, 14, 20]

    async def test_it_passes_no_reliable_value(self, probe: Any) -> None:
        inbox = new(probe)
        push(inbox, Pose(1, 1))
        push(inbox, Order(1))
        await turn()
        push(inbox, Pose(1, 2))
        push(inbox, Order(2))
        push(inbox, Pose(2, 1))
        assert await inbox.recv_many(9) == [Order(1), Pose(1, 2), Order(2), Pose(2, 1)]

    async def test_keys_of_two_sources_are_two(self, probe: Any) -> None:
        inbox = new(probe)
        left, right = Source(), Source()
        push(inbox, Pose(1, 1), left)
        push(inbox, Pose(1, 2), right)
        await turn()
        push(inbox, Pose(1, 3), left)
        assert [await inbox.recv_from() for _ in range(2)] == [(left, Pose(1, 3)), (right, Pose(1, 2))]

    async def test_nobody_who_was_woken_loses_a_value(self, probe: Any) -> None:
        """No turn ends as long as a woken waiter has yet to take, however long its task is kept."""
        inbox = new(probe)
        step = inbox.recv()
        step.send(None)  # it waits
        push(inbox, Pose(1, 1))
        for number in range(2, 5):
            await turn()
            push(inbox, Pose(1, number))
        with pytest.raises(StopIteration) as stopped:
            step.send(None)
        assert stopped.value.value == Pose(1, 1)
        assert inbox.superseded == 0


class Counted(Codec, policy="latest", key="name"):
    name: str
    number: u32

    made = 0

    def __post_init__(self) -> None:
        type(self).made += 1
        if self.number == 13:
            raise ValueError("thirteen")


class TestDecoding:
    async def test_what_is_replaced_was_not_decoded(self, probe: Any) -> None:
        inbox = new(probe, Counted)
        Counted.made = 0
        values = [Counted("a", number) for number in range(10)]
        for value in values:
            push(inbox, value)
            await turn()
        before = Counted.made
        assert await inbox.recv() == values[-1]
        assert Counted.made == before + 1
        assert inbox.superseded == 9

    async def test_a_client_is_told_of_what_is_no_value(self, probe: Any) -> None:
        inbox = new(probe, Counted).as_client()
        bad = Counted("a", 12).to_bytes().replace(b"\x0c", b"\x0d")
        inbox.push_plain_(bad, None)
        push(inbox, Counted("b", 1))
        inbox.push_plain_(bad.replace(b"a", b"c"), None)
        with pytest.raises(DecodeError, match="thirteen"):
            await inbox.recv()
        assert await inbox.recv_many(5) == [Counted("b", 1)]
        with pytest.raises(DecodeError, match="thirteen"):
            await inbox.recv_many(5)
        assert inbox.undecodable == 2
        assert inbox.held == 0

    async def test_a_server_passes_over_it_and_waits_on(self, probe: Any) -> None:
        inbox, source = new(probe, Counted), Source()
        bad = Counted("a", 12).to_bytes().replace(b"\x0c", b"\x0d")
        waiter = asyncio.ensure_future(inbox.recv())
        await turn()
        inbox.push_plain_(bad, source)
        await turn()
        await turn()
        assert not waiter.done()
        assert [size for _, size in source.refused] == [len(bad)]
        push(inbox, Counted("b", 1), source)
        assert await waiter == Counted("b", 1)

    async def test_a_value_that_is_made_may_take_another(self, probe: Any) -> None:
        """Code of the user's runs while a value is made: it finds the inbox whole."""
        found: list[Any] = []

        class Nested(Codec, policy="latest", key="name"):
            name: u8
            number: u32

            def __post_init__(self) -> None:
                if self.name == 1 and nested:
                    nested.clear()
                    step = inbox.recv()
                    with pytest.raises(StopIteration) as stopped:
                        step.send(None)
                    found.append(stopped.value.value)

        nested: list[bool] = []
        inbox = new(probe, Nested)
        first, second = Nested(1, 1), Nested(2, 2)
        push(inbox, first)
        push(inbox, second)
        nested.append(True)
        assert await inbox.recv() == first
        assert found == [second]
        assert inbox.held == 0


class TestBounds:
    async def test_policy_skip_keeps_the_last_that_fit_half(self, probe: Any) -> None:
        inbox = new(probe, max_count=10)
        inbox.recv().close()  # it is wanted
        paused = [push(inbox, Line(number, "")) for number in range(100)]
        assert not any(paused)
        assert [value.number for value in await inbox.recv_many(100)] == list(range(95, 100))
        assert inbox.skipped == 95

    async def test_reliable_values_pause_reading_and_latest_ones_do_not(self, probe: Any) -> None:
        inbox = new(probe, max_count=10)
        inbox.recv().close()
        source = Source()
        for number in range(1000):
            assert not push(inbox, Pose(number % 5, number), source)
            await turn()
        assert [push(inbox, Order(number), source) for number in range(5)] == [False] * 4 + [True]
        inbox.hold_back_(source)
        await inbox.recv_many(5)
        assert source.resumed == 1

    async def test_keys_that_were_taken_are_not_remembered_for_ever(self, probe: Any) -> None:
        inbox = new(probe)
        for number in range(10_000):
            push(inbox, Track(str(number), [], 1))
            await inbox.recv()
        assert inbox.slots == (4096, 4096)
        inbox.sweep_()
        inbox.sweep_()
        assert inbox.slots == (0, 0)

    async def test_a_long_key_is_forgotten_at_once(self, probe: Any) -> None:
        inbox = new(probe)
        push(inbox, Track("k" * 1000, [], 1))
        assert inbox.slots == (1, 0)
        await turn()
        push(inbox, Track("k" * 1000, [], 2))
        assert await inbox.recv() == Track("k" * 1000, [], 2)
        assert inbox.slots == (0, 0)

    async def test_the_collector_sees_what_it_holds(self, probe: Any) -> None:
        inbox, source = new(probe), Source()
        source.inbox = inbox  # type: ignore[attr-defined]
        push(inbox, Pose(1, 1), source)
        push(inbox, Order(1), source)
        await turn()
        gone = weakref.ref(source)
        del inbox, source
        gc.collect()
        assert gone() is None
