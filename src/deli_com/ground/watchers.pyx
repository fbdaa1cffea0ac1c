"""A condition variable of one event loop: tasks wait for a condition that other code makes true."""

import asyncio

from deli_com.ground.waiter cimport Waiter


cdef class Watchers:
    """Tasks that wait until a predicate holds. Code that may have made it true calls `changed`.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __cinit__(self, loop):
        self._loop = loop
        self._waiting = []

    cdef bint is_empty(self) noexcept:
        return len(self._waiting) == 0

    cdef int changed(self) except -1:
        cdef list waiting = self._waiting
        self._waiting = []
        try:
            while waiting:
                (<Waiter>waiting[0]).end(None, False)
                waiting.pop(0)
        finally:
            self._waiting += waiting
        return 0

    cdef int call_back(self, object callback) except -1:
        waiter = Waiter(self._loop)
        waiter.add_done_callback(callback)
        self._waiting.append(waiter)
        return 0

    async def until(self, predicate):
        """Wait until `predicate()` holds; it is asked again after every change."""
        while not predicate():
            waiter = Waiter(self._loop)
            self._waiting.append(waiter)
            await waiter

    async def until_at_most(self, predicate, double seconds):
        """Wait for `predicate()` as `until` does, but no longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.until(predicate)
        except TimeoutError:
            pass
