# The followers of a hub, by state.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower, FollowerState
from deli_com.fanout.sweep cimport Sweep
from deli_com.log.log cimport Log


cdef struct Roster:
    PyObject** items         # borrowed Followers; NULL: a hole left during a round
    Py_ssize_t count         # holes included
    Py_ssize_t capacity


cdef class Rosters:
    cdef Log log                              # of all followers; `flushed` is the position of CURRENT ones
    cdef Sweep sweep                          # deadlines are compared with its clock
    cdef uint64_t turns                       # loop turns in which a flush ran
    cdef set followers                        # all Followers, owned
    cdef Roster current
    cdef Roster ready
    cdef Roster blocked
    cdef bint in_round                        # a round has begun and yielded: removals leave holes

    cdef list laggards(self)
    cdef Roster* of(self, FollowerState state) noexcept
    cdef int put(self, Follower follower, FollowerState state) except -1
    cdef int place(self, Follower follower) except -1
    cdef void remove(self, Follower follower) noexcept
    cdef void end_round(self) noexcept

    # --- private -----------------------------------------------------------------------
    cdef Py_ssize_t _holes
    cdef int _vacate(self, Follower follower) noexcept
