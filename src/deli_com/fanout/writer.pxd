# Serves single followers: those that the round cannot serve together.

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.limits cimport Limits
from deli_com.fanout.rosters cimport Rosters
from deli_com.log.log cimport Log
from deli_com.log.merge cimport Merge


cdef class Writer:
    cdef uint64_t bytes_out                   # to all followers, frame headers included
    cdef Py_ssize_t skipped                   # messages that laggards did not get, policy skip
    cdef Py_ssize_t superseded                # and policy latest
    cdef Follower writing                     # whose transport is being called; placed right after

    cdef int serve(self, Follower follower) except -1
    cdef int write_through(self, Follower follower, int cursors, uint64_t limit) except -1
    cdef int stopped_short(self, Follower follower, Py_ssize_t sent, bint in_round) except -1
    cdef void forget(self) noexcept

    # --- private -----------------------------------------------------------------------
    cdef Rosters _rosters
    cdef Limits _limits
    cdef Log _log                             # of all followers
    cdef Merge _merge                         # of the follower that is being served
    cdef int _serve_bounded(self, Follower follower) except -1
    cdef int _hold(self, Follower follower) except -1
    cdef int _mark(self, Follower follower) except -1
    cdef int _mark_if_due(self, Follower follower) except -1
    cdef bint _advance(self, Follower follower, int pieces) except -1
    cdef int _cut_in_round(self, Follower follower, Py_ssize_t sent) except -1
    cdef int _cut_alone(self, Follower follower, Py_ssize_t sent) except -1
    cdef void _missed(self, Follower follower, Py_ssize_t skipped, Py_ssize_t superseded) noexcept
    cdef int _expire(self, Follower follower) except -1
    cdef void _gave(self, Follower follower, Py_ssize_t size) noexcept
    cdef bint _tell_missed(self, Follower follower) except -1
    cdef int _hand_over(self, Follower follower, list pieces) except -1
