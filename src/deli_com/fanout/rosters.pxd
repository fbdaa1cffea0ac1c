# The followers of a hub, by state.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower, FollowerState, Keeper
from deli_com.fanout.sweep cimport Sweep


cdef struct Roster:
    PyObject** items         # borrowed Followers; NULL: a hole left during a round
    Py_ssize_t count         # holes included
    Py_ssize_t capacity


cdef class Rosters(Keeper):
    cdef Sweep sweep                          # its clock is what deadlines are read from
    cdef readonly uint64_t turns              # loop turns in which a flush ran
    cdef set followers                        # owns them
    cdef Roster current
    cdef Roster ready
    cdef Roster blocked

    cdef list laggards(self)

    # --- for the hub -------------------------------------------------------------------
    cdef bint _in_round                       # a round has begun and yielded
    cdef Py_ssize_t _holes
    cdef int _put(self, Follower follower, FollowerState state) except -1
    cdef int _vacate(self, Follower follower) noexcept
    cdef Roster* _roster(self, FollowerState state) noexcept
    cdef void _take_out(self, Follower follower) noexcept
