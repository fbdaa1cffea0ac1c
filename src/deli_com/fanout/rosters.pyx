"""The followers of a hub, by state: three arrays of pointers, over which a round iterates fast."""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject

from deli_com.fanout.follower cimport (
    FOLLOWER_BLOCKED,
    FOLLOWER_CURRENT,
    FOLLOWER_GONE,
    FOLLOWER_READY,
    Follower,
    FollowerState,
)


cdef class Rosters:
    """The followers that are up to date, ready and blocked. A hub moves them.

    Parameters
    ----------
    log : Log
        The log of all followers.
    sweep : Sweep
        Its clock is used.
    """

    def __cinit__(self, Log log not None, Sweep sweep not None):
        self.log = log
        self.sweep = sweep
        self.followers = set()

    def __dealloc__(self):
        PyMem_RawFree(self.current.items)
        PyMem_RawFree(self.ready.items)
        PyMem_RawFree(self.blocked.items)

    cdef Roster* of(self, FollowerState state) noexcept:
        if state == FOLLOWER_CURRENT:
            return &self.current
        if state == FOLLOWER_READY:
            return &self.ready
        return &self.blocked

    cdef int put(self, Follower follower, FollowerState state) except -1:
        # Moves a follower into the roster of `state`. A follower that is behind holds a pin. The
        # caller has set `at` (and its record is right if the follower becomes a laggard).
        cdef Roster* roster = self.of(state)
        cdef Py_ssize_t capacity
        cdef PyObject** items
        if follower.state == state:
            return 0
        if roster.count == roster.capacity:
            capacity = max(16, 2 * roster.capacity)
            items = <PyObject**>PyMem_RawRealloc(roster.items, capacity * sizeof(PyObject*))
            if items == NULL:
                raise MemoryError("followers")
            roster.items = items
            roster.capacity = capacity
        cdef bint was_behind = follower.is_behind()
        if follower.state != FOLLOWER_GONE:
            self._vacate(follower)
        if state == FOLLOWER_BLOCKED:
            follower.is_fresh = False  # from here on it is a laggard like any other
        follower.state = state
        follower.slot = roster.count
        roster.items[roster.count] = <PyObject*>follower
        roster.count += 1
        if follower.is_behind():
            if not was_behind:
                follower._pin_all()
                follower.behind_turn = self.turns
                follower.behind_since = self.sweep.clock
                follower.progress_at = self.sweep.clock
                follower.progress_sent = 0
        elif was_behind:
            follower._unpin_all()
        return 0

    cdef int place(self, Follower follower) except -1:
        # Moves a follower to the state that follows from its transport, BLOCKED while that holds bytes, and
        # from its bound.
        if follower.state == FOLLOWER_CURRENT:
            if follower.writing_paused:
                follower.cursors.at.record = self.log.flushed.record
                self.put(follower, FOLLOWER_BLOCKED)
        else:
            self.put(
                follower,
                FOLLOWER_BLOCKED if follower.writing_paused or follower.is_held else FOLLOWER_READY)
        return 0

    cdef int _vacate(self, Follower follower) noexcept:
        cdef Roster* roster = self.of(follower.state)
        cdef Follower last
        if self.in_round and follower.state == FOLLOWER_CURRENT:
            roster.items[follower.slot] = NULL  # the round counts by index: closed when it ends
            self._holes += 1
            return 0
        roster.count -= 1
        if follower.slot != roster.count:
            last = <Follower>roster.items[roster.count]
            last.slot = follower.slot
            roster.items[follower.slot] = <PyObject*>last
        return 0

    cdef void remove(self, Follower follower) noexcept:
        # It is in no roster any more. Idempotent.
        if follower.state == FOLLOWER_GONE:
            return
        if follower.is_behind():
            follower._unpin_all()
        self._vacate(follower)
        follower.state = FOLLOWER_GONE

    cdef void end_round(self) noexcept:
        # Closes the holes of followers that have left CURRENT since the round began.
        cdef Py_ssize_t i
        cdef Py_ssize_t kept = 0
        cdef Follower follower
        self.in_round = False
        if not self._holes:
            return
        for i in range(self.current.count):
            if self.current.items[i] != NULL:
                follower = <Follower>self.current.items[i]
                follower.slot = kept
                self.current.items[kept] = <PyObject*>follower
                kept += 1
        self.current.count = kept
        self._holes = 0

    cdef list laggards(self):
        cdef Py_ssize_t i
        return [<Follower>self.blocked.items[i] for i in range(self.blocked.count)] + [
            <Follower>self.ready.items[i] for i in range(self.ready.count)
        ]
