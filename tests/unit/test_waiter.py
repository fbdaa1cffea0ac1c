"""A future whose end cannot be reported has not ended, so no task waits for it forever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from deli_com.ground.waiter import Waiter


class Failing:
    """The loop's `call_soon` raises the next `times` that a task is to be woken."""

    def __init__(self, error: type[BaseException], times: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.real = self.loop.call_soon
        self.error, self.left = error, times

    def __call__(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.left and args and isinstance(args[0], Waiter):
            self.left -= 1
            raise self.error("injected")
        return self.real(callback, *args, **kwargs)

    def __enter__(self) -> Failing:
        self.loop.call_soon = self  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        del self.loop.call_soon


async def waiting() -> tuple[Waiter, asyncio.Task[Any]]:
    waiter = Waiter(asyncio.get_running_loop())

    async def wait() -> Any:
        return await waiter

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return waiter, task


async def test_it_gives_a_result_or_an_error() -> None:
    waiter, task = await waiting()
    assert not waiter.done()
    assert "pending" in repr(waiter)
    waiter.succeed(5)
    waiter.succeed(6)
    assert await task == 5
    assert (waiter.done(), waiter.result(), waiter.exception()) == (True, 5, None)
    waiter, task = await waiting()
    waiter.fail(ZeroDivisionError("mine"))
    with pytest.raises(ZeroDivisionError, match="mine"):
        await task
    assert isinstance(waiter.exception(), ZeroDivisionError)


async def test_a_task_that_waits_can_be_cancelled_and_timed_out() -> None:
    waiter, task = await waiting()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waiter.cancelled()
    with pytest.raises(asyncio.CancelledError):
        waiter.result()
    assert not waiter.cancel()
    waiter.succeed(1)  # too late, and nobody minds
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await Waiter(asyncio.get_running_loop())


async def test_before_its_end_there_is_no_result() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    with pytest.raises(asyncio.InvalidStateError):
        waiter.result()
    with pytest.raises(asyncio.InvalidStateError):
        waiter.exception()
    assert waiter.get_loop() is asyncio.get_running_loop()
    assert asyncio.isfuture(waiter)


async def test_many_may_wait_by_shield_and_callbacks() -> None:
    waiter = Waiter(asyncio.get_running_loop())
    told: list[Waiter] = []
    waiter.add_done_callback(told.append)
    waiter.add_done_callback(told.append)
    assert waiter.remove_done_callback(told.append) == 2
    for _ in range(3):
        waiter.add_done_callback(told.append)
    shielded = asyncio.shield(waiter)
    waiter.succeed(7)
    assert await shielded == 7
    assert told == [waiter] * 3
    waiter.add_done_callback(told.append)
    await asyncio.sleep(0)
    assert len(told) == 4


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("times", [1, 3])
async def test_what_could_not_be_told_is_told_later(error: type[BaseException], times: int) -> None:
    """asyncio's own future would have forgotten the task, which not even a cancellation wakes then."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    waiter, task = await waiting()
    with Failing(MemoryError if times > 1 else error, times) as failing:
        with pytest.raises((MemoryError, error)):
            waiter.succeed(3)
        assert not waiter.done()
        assert await task == 3
        assert failing.left == 0
    assert all(isinstance(context["exception"], MemoryError) for context in told)


@pytest.mark.loops("asyncio")
async def test_a_cancellation_that_could_not_be_told_may_be_tried_again() -> None:
    waiter, task = await waiting()
    with Failing(MemoryError, 1):
        with pytest.raises(MemoryError):
            task.cancel()
        assert not waiter.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
