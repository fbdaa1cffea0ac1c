"""Calls with failing allocations: all from the k-th on fail, for k = 0, 1, … until the call succeeds.

CPython's `_testcapi` does that; without it these tests cannot run. For each k, the call must return, or raise
a MemoryError or one of its normal errors. After that, with memory, it must work as before, and nothing of it
may stay allocated.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import ctypes
import gc
import sys
import types
from collections.abc import Callable
from typing import Any

CALM = 12  # so many successes in a row: no allocation of the call is left to fail
ROUNDS = 10  # until caches of CPython and Cython are full; a leak never ends
RESERVE = 1 << 13  # references: more than there are failures in a sweep
SPARE = 60  # blocks that caches of CPython may keep: names, frames, code objects for tracebacks


def hold_code(reserve: int) -> int:
    """Give each code object that is loaded references in reserve; return how many code objects these are.

    CPython 3.12.1 and 3.13.0 take one reference too many from the code of a function that cannot be made
    (MAKE_FUNCTION, python/cpython issue 122752). After a few of those the code is freed while it is in use.
    """
    if not (3, 12) <= sys.version_info < (3, 14):
        return 0
    found: set[int] = set()
    waiting = [thing.__code__ for thing in gc.get_objects() if isinstance(thing, types.FunctionType)]
    while waiting:
        code = waiting.pop()
        if id(code) not in found:
            found.add(id(code))
            ctypes.c_ssize_t.from_address(id(code)).value += reserve  # the first word of an object
            waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return len(found)


def last_resort() -> MemoryError | None:
    """Find the MemoryError that CPython raises where it can make no other; None where it cannot be reached.

    It is static (`last_resort_memory_error` in its sources), and in 3.12 and 3.13 nothing clears its
    traceback. That grows by an entry with each raise, keeps the frames alive, and takes longer to print each
    time: tens of thousands of lines in a sweep, which cost a busy machine the seconds that a step has.
    """
    if sys.version_info < (3, 12):  # 3.11 gives up ("Cannot recover from MemoryErrors") on the way to it
        return None
    held: list[MemoryError | None] = [None] * 40
    k = 0
    _testcapi.set_nomemory(0, 0)
    while k < 40:
        try:
            bytes(2000)
        except MemoryError as error:
            held[k] = error
        k += 1
    _testcapi.remove_mem_hooks()
    return held[-1] if held[-1] is held[-2] else None


LAST_RESORT = last_resort()


def clear_last_resort() -> None:
    """Do for it what CPython does for other errors, when they go."""
    if LAST_RESORT is not None:
        LAST_RESORT.__traceback__ = LAST_RESORT.__context__ = LAST_RESORT.__cause__ = None


class Sweep:
    """Counts over all calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0  # injected ones that a call told of

    def __call__(self, name: str, call: Callable[[], Any], *allowed: type[BaseException]) -> None:
        """Sweep one call; AssertionError where it is not as it must be."""
        hold_code(RESERVE)
        usual = outcome(call)
        self._once(name, call, usual, allowed)
        grown = []
        while not grown or grown[-1] >= SPARE:
            gc.collect()
            before = sys.getallocatedblocks()
            self._once(name, call, usual, allowed)
            gc.collect()
            grown.append(sys.getallocatedblocks() - before)
            assert len(grown) < ROUNDS, f"{name}: so many blocks more after each round: {grown}"

    def bursts(self, name: str, call: Callable[[], Any], step: int = 1, width: int = 30) -> None:
        """Sweep a call that is mostly Python: `width` allocations fail, then none.

        CPython 3.11 loops forever in a handler whose own allocations keep failing.
        """
        hold_code(RESERVE)
        usual = outcome(call)
        calm = k = 0
        while calm < CALM:
            trouble = self._failing(call, k, k + width)
            calm = calm + 1 if trouble is None else 0
            if trouble is not None and not isinstance(trouble, MemoryError):
                raise AssertionError(f"{name}, k = {k}: {trouble!r}") from trouble
            after = outcome(call)
            assert after == usual, f"{name}, k = {k}: then {after}, not {usual}"
            k += step

    def _once(
        self, name: str, call: Callable[[], Any], usual: str, allowed: tuple[type[BaseException], ...]
    ) -> None:
        calm = k = 0
        while calm < CALM:
            trouble = self._failing(call, k, 0)
            if isinstance(trouble, MemoryError):
                calm = 0
            elif trouble is None or isinstance(trouble, allowed):
                calm += 1
            else:
                raise AssertionError(f"{name}, k = {k}: {trouble!r}") from trouble
            trouble = None
            after = outcome(call)
            assert after == usual, f"{name}, k = {k}: then {after}, not {usual}"
            k += 1
            assert k < 5000, f"{name} never succeeds"

    def _failing(self, call: Callable[[], Any], first: int, end: int) -> BaseException | None:
        self.calls += 1
        trouble: BaseException | None = None
        _testcapi.set_nomemory(first, end)
        try:
            call()
        except BaseException as error:
            _testcapi.remove_mem_hooks()
            trouble = error
        _testcapi.remove_mem_hooks()
        if isinstance(trouble, MemoryError):
            self.failures += 1
        clear_last_resort()
        return trouble


def outcome(call: Callable[[], Any]) -> str:
    """What a call gives or raises, as text."""
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
