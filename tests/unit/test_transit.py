"""The arithmetic of markers: against a simulated path with a rate, a delay, stalls and large buffers."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deli_com.fanout.transit import Transit

MS = 1_000_000
SECOND = 1000 * MS
TARGET = 500 * MS
STEP = 10 * MS  # of the simulation
SWEEP = 250 * MS
LEAST_BOUND = 16384
EXAMPLES = int(os.environ.get("DELI_COM_MODEL_EXAMPLES", "25"))
UNBOUNDED = 1 << 60


@dataclass
class Path:
    """Bytes leave it in order, at a rate; what is read by the peer is answered after the delay."""

    rate: float  # bytes a second
    delay: int  # ns, there and back
    capacity: int = 4_500_000  # bytes, of sockets and a proxy
    queue: deque[tuple[int, int]] = field(default_factory=deque)  # (bytes, token or 0)
    answers: deque[tuple[int, int]] = field(default_factory=deque)  # (when, token)
    budget: float = 0.0
    delivered: int = 0
    stalled_until: int = 0

    def run(self, now: int) -> None:
        if now < self.stalled_until:
            return
        self.budget = min(self.budget, 4096.0) + self.rate * STEP / SECOND
        while self.queue:
            size, token = self.queue[0]
            if size > self.budget:
                self.delivered += int(self.budget)
                self.queue[0] = (size - int(self.budget), token)
                self.budget -= int(self.budget)
                return
            self.budget -= size
            self.delivered += size
            self.queue.popleft()
            if token:
                self.answers.append((now + self.delay, token))


class Sender:
    """What the hub does with a follower of which something always waits."""

    def __init__(self, path: Path, message: int, offered: float = 1e12) -> None:
        self.path = path
        self.message = message
        self.offered = offered  # bytes a second
        self.transit = Transit(TARGET)
        self.given = 0
        self.now = SECOND
        self.tokens: Iterator[int] = itertools.count(1)
        self.is_held = False
        self.reads = True
        self.waits = 0.0
        self.unread: list[int] = []

    def mark(self) -> None:
        token = next(self.tokens)
        self.transit.mark(token, self.given, self.now)
        self.path.queue.append((0, token))

    def serve(self) -> None:
        transit = self.transit
        if transit.begins_anew(self.given):
            self.mark()
        size = max(self.message, int(self.path.rate * STEP / SECOND / 16))  # few messages a step: it is slow
        while self.waits >= size and self.given - self.path.delivered < self.path.capacity:
            credit = transit.credit(self.given)
            if credit == 0:
                if transit.ends_unmarked(self.given):
                    self.mark()
                transit.was_held(self.now)
                self.is_held = True
                assert not transit.ends_unmarked(self.given), "whoever stops has a marker behind"
                return
            self.waits -= size
            self.given += size
            self.path.queue.append((size, 0))
            if transit.in_force and not transit.suspended:
                assert transit.in_flight(self.given) < transit.bound + size
                if transit.is_due(self.given, self.now):
                    self.mark()

    def step(self) -> None:
        self.now += STEP
        transit = self.transit
        self.path.run(self.now)
        self.waits = min(self.waits + self.offered * STEP / SECOND, self.path.rate * 5)
        while self.path.answers and self.path.answers[0][0] <= self.now:
            self.unread.append(self.path.answers.popleft()[1])
        if self.reads:
            for token in self.unread:
                assert transit.answer(token, self.now)
            self.unread.clear()
        if self.now % SWEEP == 0:
            transit.look(self.now)
            if transit.is_due(self.given, self.now):
                self.mark()
        if self.is_held and transit.credit(self.given):
            self.is_held = False
        if not self.is_held:
            self.serve()

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * SECOND / STEP)):
            self.step()

    def transit_s(self) -> float:
        return (self.given - self.path.delivered) / self.path.rate


class TestUntilItIsKnown:
    def test_no_bound_before_an_answer(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 100_000, SECOND)
        transit.look(100 * SECOND)
        assert not transit.in_force
        assert transit.credit(1 << 40) > UNBOUNDED

    def test_no_bound_before_queueing_exceeds_the_target(self) -> None:
        transit = Transit(TARGET)
        now = SECOND
        for turn in range(50):
            transit.mark(turn, turn * 100_000, now)
            assert transit.answer(turn, now + 10 * MS + turn * 9 * MS)
            now += SECOND
        assert transit.queueing_ns == 49 * 9 * MS
        assert not transit.in_force

    def test_queueing_over_the_target_brings_it(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 0, SECOND)
        assert transit.answer(1, SECOND + 20 * MS)
        assert not transit.is_due(0, 2 * SECOND)
        transit.mark(2, 1_000_000, 2 * SECOND)
        assert transit.answer(2, 3 * SECOND)
        assert transit.in_force
        assert transit.rate == 1e6
        assert transit.bound == 520_000

    def test_a_marker_with_nothing_in_flight_lets_it_not_grow(self) -> None:
        """The least round trip is known then, and nothing of what the path carries."""
        transit = Transit(TARGET)
        transit.mark(1, 700_000, SECOND)
        assert transit.answer(1, SECOND + 700 * MS)
        assert transit.bound == 1_200_000
        transit.was_held(SECOND + 700 * MS)
        assert transit.begins_anew(700_000)
        transit.mark(2, 700_000, 2 * SECOND)
        assert transit.answer(2, 2 * SECOND + 20 * MS)
        assert transit.bound == 520_000

    def test_so_does_a_marker_that_is_overdue(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 0, SECOND)
        assert transit.answer(1, SECOND + 20 * MS)
        transit.mark(2, 1_000_000, 2 * SECOND)
        transit.look(2 * SECOND + 519 * MS)
        assert not transit.in_force
        transit.look(2 * SECOND + 521 * MS)
        assert transit.in_force
        assert transit.credit(1_000_000) == 0

    def test_few_markers_go_to_a_peer_that_never_answers(self) -> None:
        sender = Sender(Path(1e6, 1 << 60), 10_000, offered=1e6)
        sender.run(5)
        assert next(sender.tokens) == 5

    def test_none_where_little_flows(self) -> None:
        sender = Sender(Path(1e6, 10 * MS), 64, offered=640.0)
        sender.run(20)
        assert next(sender.tokens) == 1


class TestAnswers:
    def test_one_answers_all_before(self) -> None:
        transit = Transit(TARGET)
        for token in (7, 8, 9):
            transit.mark(token, token * 1000, token * SECOND)
        assert transit.answer(8, 10 * SECOND)
        assert transit.confirmed == 8000
        assert not transit.answer(7, 10 * SECOND)
        assert transit.answer(9, 10 * SECOND)

    def test_unknown_and_repeated_ones_are_none(self) -> None:
        transit = Transit(TARGET)
        assert not transit.answer(0, SECOND)
        transit.mark(7, 1000, SECOND)
        assert not transit.answer(6, SECOND)
        assert transit.answer(7, SECOND)
        assert not transit.answer(7, SECOND)
        assert transit.confirmed == 1000

    def test_more_than_there_is_room_for(self) -> None:
        """The newest takes the place of the one before: there is always one behind the last byte."""
        transit = Transit(TARGET)
        for token in range(1, 40):
            transit.mark(token, token * 1000, token * MS)
        assert not transit.ends_unmarked(39_000)
        assert not transit.answer(38, SECOND)
        assert transit.answer(39, SECOND)
        assert transit.confirmed == 39_000


class TestNotReading:
    def test_no_bound_and_no_sample(self) -> None:
        """A marker that was on its way while this end did not read says nothing of the path."""
        transit = Transit(TARGET)
        transit.mark(1, 0, SECOND)
        transit.answer(1, SECOND + 20 * MS)
        transit.mark(2, 1_000_000, 2 * SECOND)
        transit.look(3 * SECOND)
        assert transit.credit(1_000_000) == 0
        transit.suspend()
        assert transit.credit(1_000_000) > UNBOUNDED
        transit.mark(3, 2_000_000, 3 * SECOND)
        transit.resume(60 * SECOND)
        for token in (2, 3):
            assert transit.answer(token, 60 * SECOND)
        assert (transit.rate, transit.queueing_ns) == (0.0, 0)
        assert transit.confirmed == 2_000_000
        transit.is_due(2_000_000, 61 * SECOND)
        transit.mark(4, 2_500_000, 61 * SECOND)
        assert transit.answer(4, 62 * SECOND)
        assert transit.rate == 500_000.0

    def test_a_loop_that_was_blocked(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 0, SECOND)
        transit.answer(1, SECOND + 20 * MS)
        transit.mark(2, 1_000_000, 2 * SECOND)
        transit.forget_times()
        assert transit.answer(2, 20 * SECOND)
        assert not transit.in_force
        assert transit.confirmed == 1_000_000

    def test_lifted_for_good(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 0, SECOND)
        transit.answer(1, SECOND + 20 * MS)
        transit.mark(2, 1_000_000, 2 * SECOND)
        transit.look(3 * SECOND)
        transit.lift()
        assert transit.credit(1 << 50) > UNBOUNDED


class TestGrace:
    def test_what_is_ahead_of_a_marker_has_its_time(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 100_000, SECOND)
        transit.answer(1, 2 * SECOND)
        assert transit.rate == 100_000.0
        assert transit.grace(1000.0) == 0.0
        transit.mark(2, 100_000 + 65536 + 1_000_000, 3 * SECOND)
        assert transit.grace(1000.0) == 10.0
        assert transit.grace(4.0) == 4.0

    def test_little_adds_nothing(self) -> None:
        transit = Transit(TARGET)
        transit.mark(1, 100, SECOND)
        transit.answer(1, 2 * SECOND)
        transit.mark(2, 60_000, 3 * SECOND)
        assert transit.grace(1000.0) == 0.0


class TestOnAPath:
    @pytest.mark.parametrize("delay", [0, 20, 200], ids="{}ms".format)
    @pytest.mark.parametrize("rate", [30e3, 1e6, 50e6])
    def test_what_is_in_flight_is_the_target_and_the_path_is_never_idle(
        self, rate: float, delay: int
    ) -> None:
        sender = Sender(Path(rate, delay * MS, capacity=int(3 * rate)), 4096, offered=4 * rate)
        sender.run(40)
        before = sender.path.delivered
        late = []
        for _ in range(2000):
            sender.step()
            late.append(sender.transit_s())
        assert sender.transit.in_force
        assert max(late) <= max(0.7, LEAST_BOUND / rate + 0.6) + delay / 1000
        assert sender.path.delivered - before >= 0.97 * rate * 10

    def test_a_least_round_trip_that_had_queueing_is_seen_anew(self) -> None:
        """The first marker had 0.7 s of other bytes before it."""
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=4e6)
        sender.path.queue.append((700_000, 0))
        sender.run(30)
        assert sender.transit.least_ns < 100 * MS

    def test_buffers_that_fill_before_the_first_marker(self) -> None:
        """No round trip has ever been less than 4.5 s."""
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=1e8)
        sender.run(30)
        assert sender.transit.least_ns < 100 * MS
        assert sender.transit_s() < 0.7

    def test_it_ends_where_it_holds_nobody(self) -> None:
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=4e6)
        sender.run(15)
        assert sender.transit.in_force
        sender.path.rate = 1e8
        sender.run(60)
        assert not sender.transit.in_force

    @pytest.mark.parametrize("change", [0.1, 10.0])
    def test_a_rate_that_changes(self, change: float) -> None:
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=2e7)
        sender.run(30)
        sender.path.rate *= change
        sender.run(30)
        before = sender.path.delivered
        sender.run(10)
        assert sender.path.delivered - before >= 0.97 * sender.path.rate * 10
        assert sender.transit_s() <= 0.8

    def test_a_path_that_becomes_longer(self) -> None:
        """Its delay is not queueing: the rate stays, once the least round trip has been seen anew."""
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=4e6)
        sender.run(15)
        sender.path.delay = 900 * MS
        sender.run(90)
        before = sender.path.delivered
        sender.run(15)
        assert sender.path.delivered - before >= 0.9 * 1e6 * 15

    def test_a_stall_forgets_nothing(self) -> None:
        sender = Sender(Path(1e6, 20 * MS), 4096, offered=4e6)
        sender.run(15)
        sender.path.stalled_until = sender.now + 5 * SECOND
        sender.run(5)
        assert sender.given - sender.path.delivered <= sender.transit.bound + 4096
        sender.run(2)
        before = sender.path.delivered
        sender.run(5)
        assert sender.path.delivered - before >= 0.97 * 1e6 * 5
        assert sender.transit_s() <= 0.7

    @pytest.mark.parametrize("stall", [2.0, 5.0, 8.0])
    def test_what_a_peer_took_before_it_stalled_is_outdated(self, stall: float) -> None:
        """It reads all that comes, stalls, then takes 1 MB/s: it gets what is old once, then what is new."""
        sender = Sender(Path(1e7, MS), 4096, offered=4e6)
        sender.run(3)
        sender.path.rate = 1e6
        sender.path.stalled_until = sender.now + int(stall * SECOND)
        sender.run(stall + 5)  # what was in flight as it stalled is old
        for _ in range(100):
            sender.run(0.1)
            assert sender.given - sender.path.delivered <= 1_000_000


@st.composite
def _events(draw: st.DrawFn) -> list[tuple[str, float]]:
    return draw(
        st.lists(
            st.one_of(
                st.tuples(st.just("run"), st.floats(0.05, 3.0)),
                st.tuples(st.just("stall"), st.floats(0.05, 6.0)),
                st.tuples(st.just("rate"), st.floats(3e4, 3e7)),
                st.tuples(st.just("delay"), st.floats(0.0, 0.4)),
                st.tuples(st.just("offer"), st.floats(1e3, 3e7)),
                st.tuples(st.just("message"), st.floats(1, 300_000)),
                st.tuples(st.just("not reading"), st.floats(0.05, 8.0)),
                st.tuples(st.just("away"), st.just(0.0)),
            ),
            max_size=8,
        )
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.floats(3e4, 3e7), st.floats(0.0, 0.4), st.integers(1, 300_000), _events())
def test_model(rate: float, delay: float, message: int, events: list[tuple[str, float]]) -> None:
    """Whatever happens: `Sender` checks the bound at each step, and in the end all arrives."""
    sender = Sender(Path(rate, int(delay * SECOND)), message, offered=2 * rate)
    for kind, value in events:
        if kind == "run":
            sender.run(value)
        elif kind == "stall":
            sender.path.stalled_until = sender.now + int(value * SECOND)
            sender.run(value)
        elif kind == "rate":
            sender.path.rate = value
        elif kind == "delay":
            sender.path.delay = int(value * SECOND)
        elif kind == "offer":
            sender.offered = value
        elif kind == "message":
            sender.message = int(value)
        elif kind == "not reading":
            sender.reads = False
            sender.transit.suspend()
            sender.run(value)
            sender.transit.resume(sender.now)
            sender.reads = True
        else:
            sender.transit.forget_times()
    sender.offered = 0.0
    sender.path.rate = max(sender.path.rate, (sender.waits + sender.given - sender.path.delivered) / 20)
    sender.run(40)
    assert sender.waits < max(sender.message, sender.path.rate)
    assert sender.path.delivered == sender.given
    assert not sender.is_held


class TestMemory:
    """Most connections are idle: they answer one marker at a time, of keepalive."""

    def test_an_idle_connection_takes_little(self) -> None:
        assert Transit(SECOND // 2).__sizeof__() <= 256

    def test_more_unanswered_markers_are_kept_in_order(self) -> None:
        for count in range(1, 17):
            for start in range(3):  # markers answered before: the ring has turned by so many
                transit = Transit(SECOND // 2)
                for number in range(start):
                    transit.mark(900 + number, 10 * number, 1 + number)
                    assert transit.answer(900 + number, 2 + number)
                given = 10 * start
                for number in range(count):
                    given += 10
                    transit.mark(number, given, 100 + number)
                for number in range(count):
                    assert transit.answer(number, 200 + number), (count, number)
                    assert transit.confirmed == given - 10 * (count - number - 1)
                    assert not transit.answer(number, 200 + number)

    def test_past_sixteen_the_newest_stands_for_those_before_it(self) -> None:
        transit = Transit(SECOND // 2)
        for number in range(20):
            transit.mark(number, 10 * number, 1 + number)
        assert not transit.answer(17, 100)
        assert transit.answer(14, 100) and transit.confirmed == 140
        assert transit.answer(19, 101) and transit.confirmed == 190
