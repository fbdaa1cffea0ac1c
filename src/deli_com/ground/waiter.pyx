"""What somebody awaits and somebody else ends: a future that forgets nobody.

asyncio's own futures drop their callbacks where scheduling one of them raises: a MemoryError, or what a
signal handler of the program raises inside `call_soon`. Whoever awaits such a future sleeps for ever, and not
even a cancellation wakes it. A `Waiter` whose end could not be told has not ended: ending it is tried again.
"""

from asyncio import CancelledError, InvalidStateError

cimport cython

cdef double AGAIN_S = 0.05


@cython.freelist(16)
cdef class Waiter:
    """A future for tasks of one event loop, as asyncio's protocol for futures has it.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    """

    def __cinit__(self, loop):
        self.loop = loop
        self._asyncio_future_blocking = False

    cdef bint is_done(self) noexcept:
        return self._is_done

    cdef bint end(self, object result, bint is_error) except -1:
        if self._is_done:
            if self._others:
                self._tell()  # those who were not told when it ended
            return False
        self._result = result
        self._is_error = is_error
        self._is_done = True
        try:
            self._tell()
        except BaseException:
            self._take_back()
            raise
        return True

    cdef int _take_back(self) except -1:
        # Scheduling has raised. If nobody was told, it has not ended.
        if self._callback is not None:
            self._is_done = False
            self._result = self._cancelled = None
        return 0

    cdef int _tell(self) except -1:
        # What was scheduled is forgotten, and only then.
        if self._callback is not None:
            self.loop.call_soon(self._callback, self, context=self._context)
            self._callback = self._context = None
        while self._others:
            callback, context = self._others[0]
            self.loop.call_soon(callback, self, context=context)
            del self._others[0]
        return 0

    cdef int _end_or_again(self, object result, bint is_error) except -1:
        try:
            self.end(result, is_error)
        except BaseException:
            self.loop.call_later(AGAIN_S, self._again, result, is_error)
            raise
        return 0

    def _again(self, result, is_error):
        self._end_or_again(result, is_error)

    def succeed(self, result=None):
        """Let whoever awaits it go on, with `result`. What raises is tried again by itself, and raised."""
        self._end_or_again(result, False)

    def fail(self, error not None):
        """Raise `error` in whoever awaits it; see `succeed`."""
        self._end_or_again(error, True)

    # --- asyncio's protocol for futures -------------------------------------------------

    def get_loop(self):
        """Return the loop whose tasks may await it."""
        return self.loop

    def done(self):
        """Whether it has ended, or was cancelled."""
        return self._is_done

    def cancelled(self):
        """Whether whoever awaited it was cancelled."""
        return self._cancelled is not None

    def result(self):
        """What it has ended with; raised where that is an error."""
        if not self._is_done:
            raise InvalidStateError("Result is not set.")
        if self._cancelled is not None:
            raise CancelledError(*self._cancelled)
        if self._is_error:
            raise self._result
        return self._result

    def exception(self):
        """The error that it has ended with, or None."""
        if not self._is_done:
            raise InvalidStateError("Exception is not set.")
        if self._cancelled is not None:
            raise CancelledError(*self._cancelled)
        return self._result if self._is_error else None

    def add_done_callback(self, callback, *, context=None):
        """Call ``callback(self)`` once it has ended."""
        if self._is_done:
            self.loop.call_soon(callback, self, context=context)
        elif self._callback is None:
            self._callback = callback
            self._context = context
        else:
            if self._others is None:
                self._others = []
            self._others.append((callback, context))

    def remove_done_callback(self, callback):
        """Do not call it; gives how often it would have been called."""
        cdef int count = 0
        if self._callback is not None and self._callback == callback:
            self._callback = self._context = None
            count += 1
        if self._others:
            kept = [other for other in self._others if other[0] != callback]
            count += len(self._others) - len(kept)
            self._others = kept
        return count

    def cancel(self, msg=None):
        """End it by a cancellation; False if it has ended before."""
        if self._is_done:
            return False
        self._cancelled = () if msg is None else (msg,)
        self._is_done = True
        try:
            self._tell()
        except BaseException:
            self._take_back()
            raise
        return True

    def __await__(self):
        if not self._is_done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__

    def __repr__(self):
        return f"<Waiter, {'ended' if self._is_done else 'pending'}>"
