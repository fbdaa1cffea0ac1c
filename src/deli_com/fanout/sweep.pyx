"""One timer for all deadlines of a hub, and the clock they are read from.

Deadlines are compared with `clock`, which a sweep moves by the time since the last one, but
by two intervals at most. A sweep that comes late (user code blocked the loop, the machine
slept) therefore postpones every deadline, and no connection is closed for a delay of this process.
"""

cdef double LONGEST_INTERVAL = 0.25
cdef double LATE_S = 0.25           # beyond the interval: a loop that is only busy is not blocked


cdef class Sweep:
    """A repeating timer that is off while there is nothing to watch.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    work : callable
        Called with the owner at every sweep. The timer stops once it returns false.
    """

    def __cinit__(self, loop, work):
        self.loop = loop
        self.interval = LONGEST_INTERVAL
        self._work = work

    cdef int start(self, object owner, object kept) except -1:
        # Idempotent.
        if self._handle is None:
            self._swept_at = self.loop.time()
            self._handle = self.loop.call_later(self.interval, _run, self, owner, kept)
        return 0

    cdef int stop(self) except -1:
        # There is nothing to watch any more, and will not be.
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return 0

    cdef double _elapsed(self) except? -1:
        # Since the last sweep, in clock seconds. `time()` may jump either way under test loops.
        return min(max(0.0, <double>self.loop.time() - self._swept_at), 2 * self.interval)

    cdef bint is_late(self) except -1:
        # Whether the loop was blocked: the next sweep should have come long ago.
        return self._handle is not None and self._passed() > self.interval + LATE_S

    cdef double _passed(self) except? -1:
        return <double>self.loop.time() - self._swept_at

    cdef double now(self) except? -1:
        # The clock between two sweeps.
        return self.clock if self._handle is None else self.clock + self._elapsed()


def _run(Sweep self not None, owner, kept):
    self._handle = None
    go_on = True
    try:
        self.was_late = self._passed() > self.interval + LATE_S
        self.clock += self._elapsed()
        self._swept_at = self.loop.time()
        go_on = self._work(owner)
    finally:
        if go_on:
            _go_on(self, owner, kept)


def _go_on(Sweep self not None, owner, kept):
    try:
        self.start(owner, kept)
    except BaseException:
        self.loop.call_soon(_go_on, self, owner, kept)  # otherwise no deadline would be checked any more
        raise
