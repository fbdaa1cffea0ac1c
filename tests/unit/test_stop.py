"""How a result leaves `recv`: by a StopIteration that may be reused. No program may notice that."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import weakref
from typing import Any

import pytest


class Thing:
    pass


def stopped(inbox: Any, value: object) -> StopIteration:
    """What driving a `recv` by hand raises for this value."""
    inbox.push_(value)
    try:
        next(inbox.recv())
    except StopIteration as stop:
        return stop
    raise AssertionError("no StopIteration")


@pytest.mark.parametrize("value", [None, 0, (), (1, 2), [3], ValueError("no"), StopIteration(7), ValueError])
async def test_any_value_comes_through(probe: Any, value: Any) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    for _ in range(3):
        assert stopped(inbox, value).value is value
        inbox.push_(value)
        assert await inbox.recv() is value
        inbox.push_(value)
        assert await anext(aiter(Each(inbox))) is value


class Each:
    """`async for` over an inbox."""

    def __init__(self, inbox: Any) -> None:
        self.inbox = inbox

    def __aiter__(self) -> Each:
        return self

    def __anext__(self) -> Any:
        return self.inbox.next_value()


async def test_it_does_not_keep_the_value(probe: Any) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    for _ in range(5):
        inbox.push_(Thing())
        gone = weakref.ref(value := await inbox.recv())
        del value
        assert gone() is None
        inbox.push_(Thing())
        async for value in Each(inbox):
            gone = weakref.ref(value)
            break
        del value
        assert gone() is None


async def test_one_that_is_held_stays_as_it_is(probe: Any) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    held = [stopped(inbox, number) for number in range(10)]
    inbox.push_(10)
    assert await inbox.recv() == 10
    assert [stop.value for stop in held] == list(range(10))
    assert len({id(stop) for stop in held}) == 10


async def test_the_next_has_nothing_of_the_last(probe: Any) -> None:
    """Traceback, context, notes and attributes go with the one that had them."""
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    for number in range(5):
        try:
            raise KeyError("context")
        except KeyError:
            stop: Any = stopped(inbox, number)
        assert stop.__traceback__ is not None
        assert (stop.__cause__, stop.__suppress_context__, vars(stop)) == (None, False, {})
        assert not hasattr(stop, "__notes__")
        assert isinstance(stop, StopIteration)
        stop.mine = Thing()
        stop.add_note("a note")
        stop.args = (Thing(),)
        gone = weakref.ref(stop.mine), weakref.ref(stop.args[0])
        try:
            raise stop from ValueError("cause")
        except StopIteration:
            pass
        del stop
        assert [ref() for ref in gone] == [None, None]
        assert str(stopped(inbox, number)) in ("", str(number))
        assert "StopIteration" in "".join(traceback.format_exception(stopped(inbox, number)))


@pytest.mark.parametrize("name", ["__context__", "__cause__", "__traceback__", "note", "mine", "args"])
async def test_each_of_these_alone_goes(probe: Any, name: str) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())

    def state(stop: Any) -> tuple[object, ...]:
        stop.__traceback__ = stop.__traceback__ if name == "__traceback__" else None
        lines = len(traceback.extract_tb(stop.__traceback__))
        notes = getattr(stop, "__notes__", None)
        return (
            stop.__context__,
            stop.__cause__,
            lines,
            notes,
            getattr(stop, "mine", None),
        )  # vars() makes a dict

    fresh = state(stopped(inbox, 0))
    for number in range(5):
        stop: Any = stopped(inbox, number)
        assert state(stop) == fresh
        if name == "note":
            stop.add_note("a note")
        elif name == "mine":
            stop.mine = 1
        elif name == "args":
            stop.args = (1, 2)
        elif name != "__traceback__":
            setattr(stop, name, ValueError())
        del stop
        after = stopped(inbox, number)
        assert state(after) == fresh
        assert "1, 2" not in repr(after)
        del after


async def test_none_is_left_behind(probe: Any) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())

    def some() -> None:
        held = [stopped(inbox, number) for number in range(10)]
        del held[::2]

    some()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(300):
        some()
    gc.collect()
    assert sys.getallocatedblocks() - before < 300


async def test_in_a_cycle(probe: Any) -> None:
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    for number in range(5):
        stop: Any = stopped(inbox, number)
        stop.myself = stop
        stop.mine = Thing()
        gone = weakref.ref(stop.mine)
        del stop
        gc.collect()
        assert gone() is None
        inbox.push_(number)
        assert await inbox.recv() == number


async def test_a_finalizer_that_receives(probe: Any) -> None:
    """It runs while the one that holds its object is being freed, and needs one itself."""
    inbox = probe.ProbeInbox(asyncio.get_running_loop())
    seen = []

    class Receiving:
        def __del__(self) -> None:
            seen.append(stopped(inbox, len(seen)).value)

    for number in range(20):
        stop: Any = stopped(inbox, number)
        stop.mine = Receiving()
        del stop
        stop = stopped(inbox, Receiving())
        del stop
        inbox.push_(number)
        assert await inbox.recv() == number
    assert seen == list(range(40))


async def test_nested_generators(probe: Any) -> None:
    """The result of a result: a coroutine that awaits one inside another."""
    inbox = probe.ProbeInbox(asyncio.get_running_loop())

    async def inner() -> Any:
        inbox.push_("a")
        return await inbox.recv() + await later()

    async def later() -> Any:
        inbox.push_("b")
        return await inbox.recv()

    assert await inner() == "ab"

    def by_hand() -> Any:
        inbox.push_("c")
        result = yield from inbox.recv()
        return result + "d"

    with pytest.raises(StopIteration) as stop:
        next(by_hand())
    assert stop.value.value == "cd"
