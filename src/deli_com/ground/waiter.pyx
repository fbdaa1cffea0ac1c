"""A future whose callbacks are not lost when scheduling one of them raises.

asyncio's own futures drop their callbacks then. The cause may be a MemoryError, or an exception of the
program's signal handler inside `call_soon`. A task that awaits such a future waits for ever, and not even a
cancellation wakes it. A `Waiter` whose callbacks could not be scheduled has not ended. Its end is retried.
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
                self._tell()  # callbacks that were not scheduled when it ended
            return False
        self._result = result
        self._is_error = is_error
        self._is_done = True
        try:
            self._tell()
        except BaseException:
            self._undo_end()
            raise
        return True

    cdef int _undo_end(self) except -1:
        # Scheduling has raised. If no callback was scheduled, the waiter has not ended.
        if self._callback is not None:
            self._is_done = False
            self._result = self._cancelled = None
        return 0

    cdef int _tell(self) except -1:
        # A callback is forgotten only after it was scheduled.
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
        """End it with `result` and wake the task that awaits it. An error is raised, and the call retried."""
        self._end_or_again(result, False)

    def fail(self, error not None):
        """End it with `error`, which is raised in the task that awaits it; see `succeed`."""
        self._end_or_again(error, True)

    # --- asyncio's protocol for futures -------------------------------------------------

    def get_loop(self):
        """Return the loop whose tasks may await it."""
        return self.loop

    def done(self):
        """Whether it has ended, or was cancelled."""
        return self._is_done

    def cancelled(self):
        """Whether the task that awaited it was cancelled."""
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
            self._undo_end()
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
