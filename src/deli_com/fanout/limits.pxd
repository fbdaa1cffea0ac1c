# How far followers may be behind, and for how long.

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.rosters cimport Rosters
from deli_com.log.arena cimport Arena
from deli_com.log.log cimport Log


cdef class Limits:
    cdef readonly Py_ssize_t max_backlog      # bytes that one follower may be behind
    cdef readonly Py_ssize_t max_queued       # bytes that the logs may hold within one turn
    cdef readonly double progress_timeout     # seconds without a byte taken before a laggard is evicted

    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept
    cdef bint is_crowded(self) noexcept
    cdef int evict_too_far(self) except -1
    cdef int evict_overdue(self) except -1
    cdef int drop_broken(self, Follower follower) except -1
    cdef int give_up(self, Follower follower, object error, str what) except -1

    # --- private -----------------------------------------------------------------------
    cdef Rosters _rosters
    cdef Log _log                             # of all followers
    cdef Arena _arena                         # its memory, and that of the audiences
    cdef int _evict(self, Follower follower, str cause, str detail) except -1


# Errors that belong to one follower must not stop the flush for the others: logs the one being handled.
cdef int report(str what) except -1
