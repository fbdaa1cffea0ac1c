"""The inbox alone: order of values and waiters, cancellation at every step, bounds, the end. No sockets."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import sys
import threading
import weakref
from collections.abc import Coroutine
from enum import Enum
from typing import Any

import pytest

from deli_com import Codec, ConnectionClosed, DecodeError, FixedArray, UnexpectedEof, f64, i32, u64
from deli_com import codec as codec_of

CLOSED = (1006, "gone")


class Source:
    """Stands for a connection whose reading was paused."""

    def __init__(self) -> None:
        self.resumed = 0

    def resume_reading(self) -> None:
        self.resumed += 1


async def waiting(work: Any) -> asyncio.Task[Any]:
    """A task that has begun to wait."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    assert not task.done()
    return task


class TestTaking:
    async def test_values_come_in_order(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        for number in range(100):
            inbox.push_(number)
        assert [await inbox.recv() for _ in range(100)] == list(range(100))

    async def test_a_value_that_is_there_is_taken_without_a_turn(self, probe: Any) -> None:
        """`recv` on a non-empty inbox does not let the loop run."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        turned = []
        asyncio.get_running_loop().call_soon(turned.append, True)
        inbox.push_(1)
        assert await inbox.recv() == 1
        assert not turned

    async def test_one_queue_is_shared_by_all_ways_of_taking(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        for number in range(8):
            inbox.push_(number, f"peer {number}")
        assert await inbox.recv() == 0
        assert await inbox.recv_from() == ("peer 1", 1)
        assert await inbox.recv_many(3) == [2, 3, 4]
        assert await inbox.next_value() == 5
        assert await inbox.next_pair() == ("peer 6", 6)
        assert await inbox.recv_many(100) == [7]

    async def test_recv_takes_when_awaited_and_not_when_called(self, probe: Any) -> None:
        """A coroutine object that is made first and awaited last gets the later value."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        early = inbox.recv()
        inbox.push_(1)
        inbox.push_(2)
        assert await inbox.recv() == 1
        assert await early == 2

    async def test_a_recv_that_was_never_awaited_takes_nothing(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(1)
        inbox.recv()
        gc.collect()
        assert await inbox.recv() == 1

    async def test_a_recv_is_awaited_once(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(1)
        inbox.push_(2)
        recv = inbox.recv()
        assert await recv == 1
        with pytest.raises(RuntimeError, match="already awaited"):
            await recv
        assert await inbox.recv() == 2

    @pytest.mark.parametrize("most", [0, -1])
    async def test_recv_many_of_none_is_refused(self, probe: Any, most: int) -> None:
        with pytest.raises(ValueError):
            probe.ProbeInbox(asyncio.get_running_loop()).recv_many(most)

    async def test_the_ring_grows_wherever_it_stands(self, probe: Any) -> None:
        """Pushed and taken in every phase of its 16 places."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        pushed = taken = 0
        for phase in range(40):
            for _ in range(phase):
                inbox.push_(pushed)
                pushed += 1
            for _ in range(max(0, phase - 2)):
                assert await inbox.recv() == taken
                taken += 1
        assert await inbox.recv_many(1000) == list(range(taken, pushed))

    async def test_values_are_let_go(self, probe: Any) -> None:
        """Taken, dropped at the bound, or left in an inbox that dies: no reference stays."""

        class Value:
            pass

        inbox = probe.ProbeInbox(asyncio.get_running_loop(), max_count=4)
        values = [Value() for _ in range(6)]
        alive = [weakref.ref(value) for value in values]
        counts = [sys.getrefcount(value) for value in values]
        for value in values:
            inbox.push_(value, value)
        assert inbox.dropped == 2
        assert await inbox.recv() is values[0]
        assert await inbox.recv_many(2) == values[1:3]
        assert inbox.held == 1
        del inbox, value
        assert [sys.getrefcount(value) for value in values] == counts
        values.clear()
        assert [ref() for ref in alive] == [None] * 6


class TestWaiting:
    async def test_waiters_are_served_in_order(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        tasks = [await waiting(inbox.recv()) for _ in range(5)]
        for number in range(5):
            inbox.push_(number)
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]

    async def test_who_comes_later_does_not_overtake(self, probe: Any) -> None:
        """A `recv` in the turn of the push goes behind the waiter that was woken and those that wait."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first, second = await waiting(inbox.recv()), await waiting(inbox.recv())
        inbox.push_("a")
        late = asyncio.ensure_future(inbox.recv())
        await asyncio.sleep(0)
        assert first.done()
        inbox.push_("b")
        inbox.push_("c")
        assert await asyncio.gather(first, second, late) == ["a", "b", "c"]

    async def test_who_comes_between_push_and_wake_up_waits_a_turn(self, probe: Any) -> None:
        """The first value is for the waiter that was woken and has yet to run, the second for this one."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first = await waiting(inbox.recv())
        inbox.push_("a")
        inbox.push_("b")
        assert await inbox.recv() == "b"
        assert await first == "a"

    async def test_recv_many_leaves_what_others_were_woken_for(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        many, one = await waiting(inbox.recv_many(10)), await waiting(inbox.recv())
        for number in range(4):
            inbox.push_(number)
        assert await many == [0, 1, 2]
        assert await one == 3

    async def test_cancelling_before_the_value_loses_nothing(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first, second = await waiting(inbox.recv()), await waiting(inbox.recv())
        first.cancel()
        inbox.push_(1)
        assert await second == 1
        assert first.cancelled()

    async def test_cancelling_after_the_wake_up_loses_nothing(self, probe: Any) -> None:
        """Between `push` and the task's next step: the wake-up passes to the next waiter."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first, second = await waiting(inbox.recv()), await waiting(inbox.recv())
        inbox.push_(1)
        first.cancel()
        assert await second == 1
        assert first.cancelled()
        inbox.push_(2)
        assert await inbox.recv() == 2

    async def test_cancelling_the_only_waiter_after_its_wake_up(self, probe: Any) -> None:
        """The value stays for whoever comes next, at once."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first = await waiting(inbox.recv())
        inbox.push_(1)
        first.cancel()
        await asyncio.wait([first])
        turned: list[bool] = []
        asyncio.get_running_loop().call_soon(turned.append, True)
        assert await inbox.recv() == 1
        assert not turned

    async def test_cancelling_every_second_of_many(self, probe: Any) -> None:
        """Some before, some after their wake-up: the others get all values, in order."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        tasks = [await waiting(inbox.recv()) for _ in range(40)]
        for task in tasks[0:20:2]:
            task.cancel()
        for number in range(20):
            inbox.push_(number)
        for task in tasks[20:40:2]:
            task.cancel()
        assert await asyncio.gather(*tasks[1::2]) == list(range(20))
        assert all(task.cancelled() for task in tasks[0::2])

    async def test_a_waiter_closed_by_hand_passes_its_wake_up_on(self, probe: Any) -> None:
        """`close()` of the coroutine object, as of any."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        recv = inbox.recv()
        future = recv.send(None)
        assert asyncio.isfuture(future)
        second = await waiting(inbox.recv())
        inbox.push_(1)
        recv.close()
        assert await second == 1

    async def test_a_waiter_that_is_dropped_passes_its_wake_up_on(self, probe: Any) -> None:
        """Coroutines may be abandoned in mid-wait, when a task group is torn down: nothing is stuck."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())

        async def receive() -> object:
            return await inbox.recv()

        abandoned = receive()
        abandoned.send(None)
        second = await waiting(inbox.recv())
        inbox.push_(1)
        del abandoned
        gc.collect()
        assert await asyncio.wait_for(second, 1) == 1

    @pytest.mark.parametrize("timeout", [0.0, 0.001])
    async def test_wait_for_that_runs_out(self, probe: Any, timeout: float) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(inbox.recv(), timeout)
        inbox.push_(1)
        assert await asyncio.wait_for(inbox.recv(), 10) == 1

    async def test_everything_of_asyncio_takes_it(self, probe: Any) -> None:
        """create_task, TaskGroup, gather, wait_for, shield, timeout; in debug mode, where tasks are shown."""
        loop = asyncio.get_running_loop()
        inbox = probe.ProbeInbox(loop)
        loop.set_debug(True)
        recv = inbox.recv()
        assert isinstance(recv, Coroutine)
        assert inspect.isawaitable(recv)
        assert asyncio.iscoroutine(recv)
        inbox.push_(0)
        assert await recv == 0
        task = asyncio.create_task(inbox.recv(), name="named")
        assert "named" in repr(task)
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(inbox.recv())
            for number in (1, 2):
                inbox.push_(number)
        assert (await task, grouped.result()) == (1, 2)
        for number in (3, 4, 5, 6):
            inbox.push_(number)
        assert await asyncio.gather(inbox.recv(), inbox.recv()) == [3, 4]
        assert await asyncio.wait_for(inbox.recv(), 1) == 5
        assert await asyncio.shield(inbox.recv()) == 6
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await inbox.recv()
        loop.set_debug(False)

    def test_another_thread_may_not_await(self, probe: Any) -> None:
        """A RuntimeError there; the value stays."""

        async def main() -> None:
            inbox = probe.ProbeInbox(asyncio.get_running_loop())
            inbox.push_(1)
            caught: list[BaseException] = []

            def elsewhere() -> None:
                try:
                    inbox.recv().send(None)
                except BaseException as error:
                    caught.append(error)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert [type(error) for error in caught] == [RuntimeError]
            assert await inbox.recv() == 1

        asyncio.run(main())


class TestDropped:
    """A recv that was driven by hand and is let go in mid-wait, without close()."""

    async def test_it_gives_its_place_up(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        dropped = inbox.recv()
        dropped.send(None)
        behind = await waiting(inbox.recv())
        del dropped
        inbox.push_(1)
        assert await asyncio.wait_for(behind, 5) == 1

    async def test_it_passes_its_wake_up_on(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        dropped = inbox.recv()
        dropped.send(None)
        behind = await waiting(inbox.recv())
        inbox.push_(1)  # wakes the first
        del dropped
        assert await asyncio.wait_for(behind, 5) == 1

    async def test_in_a_cycle_that_the_collector_finds(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        cycle: list[Any] = [inbox.recv()]
        cycle[0].send(None).add_done_callback(cycle.append)  # recv -> future -> the list -> recv
        behind = await waiting(inbox.recv())
        inbox.push_(1)
        gc.collect()
        assert not behind.done()  # it is still held here
        del cycle
        await asyncio.sleep(0)  # lets the loop's own reference to the callback go
        gc.collect()
        assert await asyncio.wait_for(behind, 5) == 1

    async def test_in_another_thread(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        dropped = [inbox.recv()]
        dropped[0].send(None)
        behind = await waiting(inbox.recv())
        thread = threading.Thread(target=dropped.clear)
        thread.start()
        thread.join()
        inbox.push_(1)
        assert await asyncio.wait_for(behind, 5) == 1

    async def test_while_an_exception_is_on_its_way(self, probe: Any) -> None:
        """It lies on the stack of the frame that raises: the exception is what it was."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())

        def begun() -> Any:
            recv = inbox.recv()
            recv.send(None)
            return recv

        with pytest.raises(KeyError, match="what was raised"):
            print(begun(), {}["what was raised"])
        inbox.push_(1)
        assert await inbox.recv() == 1

    def test_when_its_loop_is_closed(self, probe: Any) -> None:
        loop = asyncio.new_event_loop()
        inbox = probe.ProbeInbox(loop)
        dropped = inbox.recv()
        dropped.send(None)
        inbox.push_(1)
        loop.close()
        del dropped
        assert inbox.held == 1


class TestByHand:
    @pytest.mark.parametrize("value", [1, None, (), (1, 2), KeyError("a value"), StopIteration(3)])
    @pytest.mark.parametrize("step", [next, lambda recv: recv.send(None)])
    async def test_the_result_is_the_value_of_the_stop(self, probe: Any, step: Any, value: object) -> None:
        """Whatever it is: a tuple or an exception is not taken for arguments of StopIteration."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(value)
        with pytest.raises(StopIteration) as stop:
            step(inbox.recv())
        assert stop.value.value is value

    async def test_one_that_no_inbox_made_is_refused(self, probe: Any) -> None:
        kind = type(probe.ProbeInbox(asyncio.get_running_loop()).recv())
        with pytest.raises(RuntimeError, match="not made by recv"):
            await kind()


class TestErrors:
    async def test_an_error_is_raised_in_its_place(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(1)
        inbox.push_(UnexpectedEof(3), is_error=True)
        inbox.push_(2)
        assert await inbox.recv() == 1
        with pytest.raises(DecodeError, match="unexpected end of buffer"):
            await inbox.recv()
        assert await inbox.recv() == 2

    async def test_recv_many_stops_before_an_error(self, probe: Any) -> None:
        """Which the next one raises."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        for value, is_error in ((1, False), (2, False), (UnexpectedEof(), True), (3, False)):
            inbox.push_(value, is_error=is_error)
        assert await inbox.recv_many(10) == [1, 2]
        with pytest.raises(DecodeError):
            await inbox.recv_many(10)
        assert await inbox.recv_many(10) == [3]

    async def test_an_error_wakes_its_waiter(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        task = await waiting(inbox.recv())
        inbox.push_(UnexpectedEof(), is_error=True)
        with pytest.raises(UnexpectedEof):
            await task


class TestTheEnd:
    async def test_what_is_held_comes_first(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(1)
        inbox.push_(2)
        inbox.close_(ConnectionClosed(*CLOSED), False)
        assert await inbox.recv_many(1) == [1]
        assert await inbox.recv() == 2
        for recv in (
            inbox.recv,
            inbox.recv_from,
            inbox.next_value,
            inbox.next_pair,
            lambda: inbox.recv_many(1),
        ):
            with pytest.raises(ConnectionClosed, match="gone"):
                await recv()

    async def test_every_waiter_is_told(self, probe: Any) -> None:
        """Each by an exception of its own: tracebacks must not pile up."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        tasks = [await waiting(inbox.recv()) for _ in range(3)]
        inbox.push_("last")
        inbox.close_(ConnectionClosed(*CLOSED), False)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == "last"
        assert [type(result) for result in results[1:]] == [ConnectionClosed] * 2
        assert results[1] is not results[2]

    async def test_async_for_ends_after_an_end_in_order(self, probe: Any) -> None:
        """A waiting one too; `recv` raises all the same."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())

        async def step() -> object:
            try:
                return await inbox.next_value()
            except StopAsyncIteration:
                return "ended"

        task = await waiting(step())
        inbox.close_(ConnectionClosed(1000), True)
        assert await task == "ended"
        assert await step() == "ended"
        with pytest.raises(ConnectionClosed):
            await inbox.recv()

    async def test_nothing_comes_in_after_the_end(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.close_(ConnectionClosed(*CLOSED), False)
        inbox.close_(ConnectionClosed(1000, "again"), True)
        assert inbox.push_(1) is False
        with pytest.raises(ConnectionClosed, match="gone"):
            await inbox.recv()

    async def test_cancelling_a_waiter_that_was_told_leaves_values_to_others(self, probe: Any) -> None:
        """Two values, two woken waiters, the end, and one of them cancelled: nothing is lost."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        first, second = await waiting(inbox.recv()), await waiting(inbox.recv())
        inbox.push_(1)
        inbox.push_(2)
        inbox.close_(ConnectionClosed(*CLOSED), False)
        first.cancel()
        assert await second == 1
        assert await inbox.recv() == 2
        with pytest.raises(ConnectionClosed):
            await inbox.recv()


class TestBounds:
    async def test_before_the_first_recv_values_are_dropped_and_counted(self, probe: Any) -> None:
        """By bytes or by count; no source pauses."""
        for limits in ({"max_bytes": 100}, {"max_count": 10}):
            inbox = probe.ProbeInbox(asyncio.get_running_loop(), **limits)
            assert not any(inbox.push_(number, wire=10) for number in range(25))
            assert (inbox.held, inbox.held_bytes, inbox.dropped) == (10, 100, 15)
            assert await inbox.recv_many(100) == list(range(10))
            assert inbox.held_bytes == 0

    async def test_after_the_first_recv_sources_pause(self, probe: Any) -> None:
        """Nothing is dropped; the source that filled it pauses, and goes on when half is free."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), max_bytes=100)
        inbox.recv()
        source = Source()
        assert [inbox.push_(number, source, 10) for number in range(10)] == [False] * 9 + [True]
        inbox.hold_back_(source)
        assert inbox.push_(10, source, 10) is True  # what was read already is taken
        for number in range(5):
            assert await inbox.recv() == number
            assert source.resumed == 0
        assert await inbox.recv() == 5
        assert source.resumed == 1
        assert await inbox.recv_many(10) == [6, 7, 8, 9, 10]
        assert (inbox.dropped, source.resumed) == (0, 1)

    async def test_pushing_from_resume_reading(self, probe: Any) -> None:
        """A source that goes on may deliver at once (picows has read ahead): order and count stay right."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), max_count=4)
        inbox.recv()

        class Eager(Source):
            def resume_reading(self) -> None:
                super().resume_reading()
                for number in (4, 5, 6):
                    inbox.push_(number, self)

        source = Eager()
        for number in range(4):
            inbox.push_(number, source)
        inbox.hold_back_(source)
        assert [await inbox.recv() for _ in range(7)] == list(range(7))

    async def test_one_value_over_the_bound_is_taken(self, probe: Any) -> None:
        """A message larger than the inbox still arrives."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), max_bytes=10)
        inbox.push_("big", wire=1000)
        assert await inbox.recv() == "big"


class TestModel:
    """Random commands against what the contract says: every value once, in order of waiting."""

    @pytest.mark.parametrize("seed", range(25))
    async def test_values_go_to_waiters_in_order(self, probe: Any, seed: int) -> None:
        rng = random.Random(seed)
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), max_count=1 << 10)
        started: list[asyncio.Task[Any]] = []  # in the order of waiting
        pushed = 0

        async def receive(most: int) -> list[int]:
            if most == 1:
                return [await inbox.recv()]
            values: list[int] = await inbox.recv_many(most)
            assert 1 <= len(values) <= most
            return values

        for _ in range(400):
            choice = rng.random()
            if choice < 0.35:
                for _ in range(rng.choice((1, 1, 1, 3))):
                    inbox.push_(pushed)
                    pushed += 1
            elif choice < 0.65:
                started.append(asyncio.ensure_future(receive(rng.choice((1, 1, 4)))))
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
            elif choice < 0.8 and started:
                rng.choice(started[-8:]).cancel()
            else:
                await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        inbox.close_(ConnectionClosed(*CLOSED), False)
        results = await asyncio.gather(*started, return_exceptions=True)
        received = [values for values in results if isinstance(values, list)]
        rest: list[int] = []
        while inbox.held:
            rest += await inbox.recv_many(100)
        flat = [value for values in received for value in values]
        assert sorted(flat + rest) == list(range(pushed)), "a value was lost or came twice"
        assert [values[0] for values in received] == sorted(values[0] for values in received), (
            "somebody overtook"
        )
        assert all(values == sorted(values) for values in received)
        kinds = {type(result) for result in results if not isinstance(result, list)}
        assert kinds <= {asyncio.CancelledError, ConnectionClosed}


class Pose(Codec):
    at: u64
    x: f64


class Labelled(Codec):
    at: u64
    text: str


class Checked(Codec):
    at: u64

    def __post_init__(self) -> None:
        if self.at == 13:
            raise ValueError("unlucky")


class Holding(Codec):
    pose: list[Pose]


class Large(Codec):
    first: FixedArray[f64, 17]


class Empty(Codec):
    pass


class Side(Enum):
    LEFT = 0
    RIGHT = 1


class Report(Codec):
    pose: Pose
    good: bool
    side: Side
    text: str | None
    data: bytes
    x: f64 | None


class Shape(Codec, sealed=True):
    pass


class Circle(Shape):
    text: str
    pose: Pose


class Nothing(Shape):
    pass


class Uneven(Codec, sealed=True):
    pass


class Plain(Uneven):
    at: u64


class Unlucky(Uneven):
    at: u64

    def __post_init__(self) -> None:
        pass


def some_text(rng: random.Random) -> str:
    return rng.choice(("", "text", "text " * 10, "text: größer", "\x7f text", "text \U0001f916"))


def some_report(rng: random.Random) -> Report:
    return Report(
        Pose(rng.getrandbits(60), rng.random()),
        rng.random() < 0.5,
        rng.choice(list(Side)),
        rng.choice((None, some_text(rng))),
        rng.randbytes(rng.randrange(90)),
        rng.choice((None, rng.random())),
    )


NOTHING = object()
SOME: dict[Any, Any] = {
    Labelled: (lambda rng: Labelled(rng.getrandbits(64), some_text(rng)),),
    Report: (some_report,),
    f64 | None: (lambda rng: rng.random(), lambda rng: None),
    Shape: (lambda rng: Circle(some_text(rng), Pose(1, 0.5)), lambda rng: Nothing()),
}


class TestPlain:
    """Values of numbers wait as the bytes that came, between others that are objects already."""

    @pytest.mark.parametrize(
        ("kind", "size"),
        [
            (Pose, 16),  # any bytes are one
            (f64, 8),
            (i32, 4),
            (Labelled, 128),  # looked at one by one
            (Report, 128),
            (f64 | None, 9),
            (Checked, 0),  # code of the user's
            (Holding, 0),  # a GC header: making one may start the collector, and so a finalizer
            (list[f64], 0),
            (tuple[f64, f64], 0),
            (bytes, 0),  # one object
            (str, 0),
            (bool, 0),
            (Large, 0),
            (Uneven, 0),  # one of its variants would not
            (Empty, 0),
        ],
    )
    async def test_which_types_wait_so(self, probe: Any, kind: Any, size: int) -> None:
        assert probe.ProbeInbox(asyncio.get_running_loop(), codec_of(kind)).plain_size == size

    @pytest.mark.parametrize("seed", range(10))
    async def test_which_values_wait_so(self, probe: Any, seed: int) -> None:
        """Only what is a value, and with ASCII text; what waits so comes out as `from_bytes` has it."""
        rng = random.Random(seed)
        waited = refused = 0
        for kind in (Labelled, Report, f64 | None, Shape):
            codec = codec_of(kind)
            inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec)
            inbox.recv()
            for _ in range(400):
                data = bytearray(codec.to_bytes(rng.choice(SOME[kind])(rng)))
                if rng.random() < 0.5:
                    data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 5, 0x7F, 0x80, 0xFF))
                if rng.random() < 0.3:
                    data = data[: rng.randrange(len(data) + 1)]
                if rng.random() < 0.2:
                    data += rng.randbytes(rng.randrange(60))
                try:
                    value = codec.from_bytes(data)
                except DecodeError:
                    value = NOTHING
                if inbox.push_plain_(bytes(data)) is None:
                    refused += 1
                    text = getattr(value, "text", None) or ""
                    assert value is NOTHING or len(data) > inbox.plain_size or not text.isascii(), (
                        value,
                        data,
                    )
                else:
                    waited += 1
                    got = await inbox.recv()
                    assert repr(got) == repr(value)  # nan is not nan
        assert waited > 300
        assert refused > 300

    async def test_in_order_with_objects_and_errors(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
        error = DecodeError("no value", 0, "")
        for number in range(50):
            inbox.push_plain_(Pose(number, number / 3).to_bytes() + b"newer fields", "peer")
            inbox.push_(number, "peer")
        inbox.push_(error, is_error=True)
        inbox.push_plain_(Pose(99, -0.0).to_bytes())
        assert (inbox.held, inbox.held_bytes) == (102, 50 * 29 + 17)
        assert await inbox.recv_from() == ("peer", Pose(0, 0.0))
        assert await inbox.recv() == 0
        assert await inbox.next_value() == Pose(1, 1 / 3)
        rest = await inbox.recv_many(1000)
        assert rest[1::2] == [Pose(number, number / 3) for number in range(2, 50)]
        assert rest[::2] == list(range(1, 50))
        with pytest.raises(DecodeError, match="no value"):
            await inbox.recv()
        assert str(await inbox.recv()) == "Pose(at=99, x=-0.0)"
        assert (inbox.held, inbox.held_bytes) == (0, 0)

    async def test_bytes_behind_the_value_go_nowhere(self, probe: Any) -> None:
        """They are cut off: the place behind may be that of the oldest value."""
        for turned in range(16):
            inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
            for number in range(turned):
                inbox.push_plain_(Pose(number, 0.0).to_bytes())
                await inbox.recv()
            for number in range(inbox.places):
                inbox.push_plain_(Pose(number, 0.5).to_bytes() + b"newer field" * 9)
            assert inbox.places == 16
            assert await inbox.recv_many(99) == [Pose(number, 0.5) for number in range(16)]

    async def test_a_waiter_gets_it(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
        waiters = [
            await waiting(inbox.recv()),
            await waiting(inbox.recv_many(5)),
            await waiting(inbox.recv_from()),
        ]
        for number in range(3):
            inbox.push_plain_(Pose(number, 0.5).to_bytes(), "peer")
        results = await asyncio.gather(*waiters)
        assert results == [Pose(0, 0.5), [Pose(1, 0.5)], ("peer", Pose(2, 0.5))]

    async def test_values_are_objects_of_their_own(self, probe: Any) -> None:
        """What was received stays as it was, whatever is received after it."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
        kept = []
        for number in range(300):
            inbox.push_plain_(Pose(number + 2**40, number / 7).to_bytes())
            value = await inbox.recv()
            kept.append(value if number % 2 else (value.at, value.x))
        for number, value in enumerate(kept):
            assert ((value.at, value.x) if isinstance(value, Pose) else value) == (number + 2**40, number / 7)

    async def test_dropping_one_source(self, probe: Any) -> None:
        """The rest keep their order and their bytes, wherever the ring begins."""
        rng = random.Random(5)
        a, b = Source(), Source()
        for turned in range(0, 40, 3):
            inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
            for _ in range(turned):
                inbox.push_plain_(Pose(0, 0.0).to_bytes())
                await inbox.recv()
            pushed = []
            for number in range(30):
                source = rng.choice((a, b))
                value = Pose(number, number / 3)
                pushed.append((source, value))
                if rng.random() < 0.7:
                    inbox.push_plain_(value.to_bytes(), source)
                else:
                    inbox.push_(value, source, 16)
            gone = sum(16 for source, _ in pushed if source is a)
            assert inbox.drop_from_(a) == gone
            assert (inbox.dropped, inbox.held_bytes) == (gone // 16, 30 * 16 - gone)
            assert await inbox.recv_many(100) == [value for source, value in pushed if source is b]

    async def test_bounds_and_the_end(self, probe: Any) -> None:
        """As for objects: dropped before the first recv, taken after it; what is there outlives the close."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose), max_count=3)
        assert not any(inbox.push_plain_(Pose(number, 0.0).to_bytes()) for number in range(5))
        assert (inbox.held, inbox.dropped) == (3, 2)
        inbox.recv()
        assert inbox.push_plain_(Pose(5, 0.0).to_bytes()) is True
        inbox.close_(ConnectionClosed(*CLOSED), False)
        assert inbox.push_plain_(Pose(6, 0.0).to_bytes()) is False
        assert [value.at for value in await inbox.recv_many(9)] == [0, 1, 2, 5]
        with pytest.raises(ConnectionClosed):
            await inbox.recv()

    async def test_memory_of_a_burst_is_given_back(self, probe: Any) -> None:
        """Not while anything moves: only what stays empty from one look to the next."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
        least = inbox.places
        for number in range(1000):
            inbox.push_plain_(Pose(number, 0.0).to_bytes())
        inbox.sweep_()
        assert [value.at for value in await inbox.recv_many(999)] == list(range(999))
        inbox.sweep_()
        inbox.sweep_()
        assert inbox.places == 1024, "one value is still there"
        assert (await inbox.recv()).at == 999
        inbox.push_plain_(Pose(7, 0.0).to_bytes())
        await inbox.recv()
        inbox.sweep_()
        assert inbox.places == 1024, "it has been in use since the last look"
        inbox.sweep_()
        assert inbox.places == least
        inbox.push_plain_(Pose(8, 0.5).to_bytes())
        assert await inbox.recv() == Pose(8, 0.5)

    async def test_garbage(self, probe: Any) -> None:
        class Holder:
            inbox: Any

        inbox = probe.ProbeInbox(asyncio.get_running_loop(), codec_of(Pose))
        source = Holder()
        source.inbox = inbox
        gone = weakref.ref(source)
        for number in range(40):
            inbox.push_plain_(Pose(number, 0.0).to_bytes(), source)
        del inbox, source
        gc.collect()
        assert gone() is None


class TestSpare:
    """One dead `recv` is kept for the next; nobody can tell."""

    async def test_it_holds_nothing(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        inbox.push_(1)
        await inbox.recv()
        inbox.recv()  # never awaited
        gone = weakref.ref(source := Source())
        inbox.push_(2, source)
        del inbox, source
        gc.collect()
        assert gone() is None

    async def test_one_that_is_held_is_not_used_again(self, probe: Any) -> None:
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        for number in range(20):
            inbox.push_(number)
        first = inbox.recv()
        assert await first == 0
        others = [inbox.recv() for _ in range(5)]
        assert len({id(one) for one in (first, *others)}) == 6
        assert [await one for one in reversed(others)] == [1, 2, 3, 4, 5]
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await first

    async def test_every_way_of_ending_leaves_a_fresh_one(self, probe: Any) -> None:
        """After a wait, a cancellation, an error, a close: the next has none of it."""
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        for number in range(200):
            task = await waiting(inbox.recv() if number % 2 else inbox.recv_many(3))
            if number % 3 == 0:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            elif number % 3 == 1:
                inbox.push_(DecodeError("no value", 0, ""), is_error=True)
                with pytest.raises(DecodeError):
                    await task
            else:
                inbox.push_(number)
                assert await task in (number, [number])
            inbox.push_(number)
            assert await inbox.recv_from() == (None, number)

    async def test_dropped_by_the_collector_while_it_is_at_work(
        self, probe: Any, request: pytest.FixtureRequest
    ) -> None:
        """The collector clears a cycle that holds an ended one, and code that it sets off receives."""
        gc.disable()  # a cycle that it had looked at before would not be of the youngest generation
        request.addfinalizer(gc.enable)
        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        other = probe.ProbeInbox(asyncio.get_running_loop())
        taken = []

        class Receiver:
            def __del__(self) -> None:
                recv = other.recv()
                recv.send(None)
                taken.append(recv)

        for number in range(50):
            inbox.push_(number)
            ended = inbox.recv()
            assert await ended == number
            cycle: list[Any] = [ended, Receiver()]
            cycle.append(cycle)
            del ended, cycle
            gc.collect(0)
        assert len(taken) == 50
        for number in range(50):
            other.push_(number)
        for number, recv in enumerate(taken):
            with pytest.raises(StopIteration) as stop:
                recv.send(None)
            assert stop.value.value == number


class TestGarbage:
    async def test_values_left_behind_do_not_keep_what_they_came_from(self, probe: Any) -> None:
        """A value holds its connection, that holds its endpoint, that the inbox: the collector sees all."""

        class Holder:
            def __init__(self, inbox: Any) -> None:
                self.inbox = inbox

        inbox = probe.ProbeInbox(asyncio.get_running_loop())
        source = Holder(inbox)
        gone = weakref.ref(source)
        for number in range(40):
            inbox.push_(number, source)
        del inbox, source
        gc.collect()
        assert gone() is None
