"""ws/deadlines.py: one timer for many equal deadlines, and the effect of a blocked loop."""

from __future__ import annotations

import asyncio
import time

from helpers import SLOW, until

from deli_com.ws.deadlines import Deadlines


async def test_each_expires_in_its_turn_and_once() -> None:
    gone: list[str] = []
    deadlines: Deadlines[str] = Deadlines(asyncio.get_running_loop(), 0.05 * SLOW, gone.append)
    for name in "abc":
        deadlines.add(name)
        await asyncio.sleep(0.01)
    deadlines.discard("b")
    assert deadlines.first() == "a"
    await until(lambda: len(gone) == 2)
    await asyncio.sleep(0.1)
    assert gone == ["a", "c"]
    assert len(deadlines) == 0


async def test_a_blocked_loop_gives_what_has_arrived_meanwhile_its_turn() -> None:
    """The time is over when the loop runs again, and the item is saved in that same turn: it lives."""
    gone: list[str] = []
    loop = asyncio.get_running_loop()
    deadlines: Deadlines[str] = Deadlines(loop, 0.1, gone.append)
    deadlines.add("saved")
    deadlines.add("lost")
    await asyncio.sleep(0.02)
    time.sleep(0.5)  # noqa: ASYNC251 - the point
    loop.call_later(0.03, deadlines.discard, "saved")
    await until(lambda: gone)
    assert gone == ["lost"]
    assert len(deadlines) == 0


async def test_items_that_come_after_a_block_have_all_their_time() -> None:
    gone: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()
    deadlines: Deadlines[str] = Deadlines(loop, 0.2, lambda item: gone.append((item, loop.time())))
    deadlines.add("old")
    time.sleep(0.6)  # noqa: ASYNC251 - the point
    await asyncio.sleep(0.01)
    deadlines.add("new")
    began = loop.time()
    assert 0 <= deadlines.age("new") < 0.1
    await until(lambda: len(gone) == 2)
    assert [item for item, _ in gone] == ["old", "new"]
    assert 0.19 <= gone[1][1] - began < 0.2 + 0.5 * SLOW


async def test_none_is_never() -> None:
    deadlines: Deadlines[str] = Deadlines(asyncio.get_running_loop(), None, lambda item: None)
    deadlines.add("x")
    assert deadlines._timer is None
    deadlines.stop()


async def test_ends_that_take_as_long_as_the_next_deadline_is_away() -> None:
    """The next timer would have no time left: of uvloop that is no timer."""
    gone: list[int] = []
    loop = asyncio.get_running_loop()

    def end(item: int) -> None:
        gone.append(item)
        time.sleep(0.006)
        loop.call_later(1.0, int).cancel()  # uvloop reads the clock for it

    deadlines: Deadlines[int] = Deadlines(loop, 0.05 * SLOW, end)
    for number in range(20):
        deadlines.add(number)
        await asyncio.sleep(0.005)
    await until(lambda: len(deadlines) == 0)
    assert gone == list(range(20))


async def test_an_end_that_raises_keeps_no_other_waiting() -> None:
    gone: list[str] = []
    loop = asyncio.get_running_loop()
    told: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def end(item: str) -> None:
        if item == "a":
            raise MemoryError
        gone.append(item)

    deadlines: Deadlines[str] = Deadlines(loop, 0.05 * SLOW, end)
    for name in "abc":
        deadlines.add(name)
    await until(lambda: len(deadlines) == 0)
    assert gone == ["b", "c"]
    assert [type(error) for error in told] == [MemoryError]
