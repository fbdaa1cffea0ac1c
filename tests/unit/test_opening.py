"""The result of `bind` and `connect` before it is awaited. No sockets."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

import pytest

from deli_com.opening import Opening


class Thing:
    """Stands for a server."""

    def __init__(self) -> None:
        self.closed = 0
        self.left_with: type[BaseException] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left_with = kind
        self.closed += 1


def opening(turns: int = 1, error: Exception | None = None) -> Opening[Thing]:
    async def open_thing() -> Thing:
        for _ in range(turns):
            await asyncio.sleep(0)
        if error is not None:
            raise error
        return Thing()

    work = open_thing()
    work.__qualname__ = "Things.open"
    return Opening(work, "Things.open('here')")


class TestAwaiting:
    async def test_it_gives_the_opened_object(self) -> None:
        thing = await opening()
        assert isinstance(thing, Thing)
        assert not thing.closed

    async def test_an_error_comes_out(self) -> None:
        with pytest.raises(OSError, match="in use"):
            await opening(error=OSError("in use"))

    async def test_everything_of_asyncio_takes_it(self) -> None:
        """It is a coroutine object to all of them, in debug mode as well, where tasks are shown."""
        asyncio.get_running_loop().set_debug(True)
        made = opening()
        assert isinstance(made, Coroutine)
        assert asyncio.iscoroutine(made)
        assert inspect.isawaitable(made)
        task = asyncio.create_task(made, name="opens")
        assert "opens" in repr(task)
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(opening())
        one, two = await asyncio.gather(opening(), opening())
        waited = await asyncio.wait_for(opening(), 5)
        shielded = await asyncio.shield(opening())
        for thing in (await task, grouped.result(), one, two, waited, shielded):
            assert isinstance(thing, Thing)
        asyncio.get_running_loop().set_debug(False)

    async def test_cancelling_cancels_the_work(self) -> None:
        task = asyncio.create_task(opening(turns=1000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_it_is_awaited_once(self) -> None:
        made = opening()
        await made
        with pytest.raises(RuntimeError, match="already awaited"):
            await made

    async def test_throw_and_close_reach_the_work(self) -> None:
        made = opening(turns=1000)
        made.send(None)
        with pytest.raises(KeyError):
            made.throw(KeyError("thrown"))
        made = opening(turns=1000)
        made.send(None)
        made.close()
        with pytest.raises(RuntimeError, match="already awaited"):
            await made


class TestBlock:
    async def test_it_closes_at_the_end(self) -> None:
        async with opening() as thing:
            assert not thing.closed
        assert (thing.closed, thing.left_with) == (1, None)

    async def test_it_closes_on_an_error(self) -> None:
        """Which goes on out of the block."""
        with pytest.raises(ZeroDivisionError):
            async with opening() as thing:
                raise ZeroDivisionError
        assert (thing.closed, thing.left_with) == (1, ZeroDivisionError)

    async def test_an_error_of_opening_comes_out(self) -> None:
        with pytest.raises(OSError, match="in use"):
            async with opening(error=OSError("in use")):
                pytest.fail("the block must not run")


class TestForgotten:
    @pytest.mark.parametrize("name", ["recv", "local_addr", "client_count", "send_nowait", "anything"])
    async def test_an_attribute_says_await_me(self, name: str) -> None:
        """The first mistake of everybody; `hasattr` stays honest."""
        made = opening()
        with pytest.raises(AttributeError, match=rf"Things\.open\('here'\).*{name}.*await it"):
            getattr(made, name)
        assert not hasattr(made, name)
        made.close()

    async def test_sending_to_it_says_await_me(self) -> None:
        """`send` is the one name that coroutines have too."""
        made: Any = opening()
        with pytest.raises(AttributeError, match="await it"):
            made.send(b"a value")
        made.close()

    def test_dropping_it_warns(self) -> None:
        """As for any coroutine, by the name the user wrote."""
        made = opening()
        with pytest.warns(RuntimeWarning, match=r"coroutine 'Things\.open' was never awaited"):
            del made

    def test_repr(self) -> None:
        made = opening()
        assert repr(made) == "<Things.open('here'), not awaited>"
        made.close()

    def test_a_plain_with_says_async_with(self) -> None:
        made: Any = opening()
        with pytest.raises(TypeError, match=r"write `async with Things\.open\('here'\)`"):
            with made:
                pass
