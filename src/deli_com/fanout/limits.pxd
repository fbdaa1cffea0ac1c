# How far followers may be behind, and for how long.

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.rosters cimport Rosters
from deli_com.ground.home cimport Home
from deli_com.log.arena cimport Arena
from deli_com.log.log cimport Log


cdef class Bounds(Rosters):
    cdef readonly Log log                     # of all followers
    cdef readonly Arena arena                 # its memory, and that of the audiences
    cdef readonly object loop
    cdef Home home                            # of this hub; public calls are checked against it
    cdef readonly Py_ssize_t max_backlog      # bytes that one follower may be behind
    cdef readonly Py_ssize_t max_queued     # bytes that the logs may hold within one turn
    cdef readonly double progress_timeout     # seconds without a byte taken before a laggard goes
    cdef readonly uint64_t bytes_out          # to all followers, frame headers included
    cdef readonly Py_ssize_t skipped          # messages that laggards did not get, policy skip
    cdef readonly Py_ssize_t superseded       # and policy latest
    cdef bint _unsettled                      # `choked` of some follower changed inside a flush

    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept
    cdef int schedule(self) except -1

    # --- for the hub -------------------------------------------------------------------
    cdef int _broken(self, Follower follower) except -1
    cdef int _judge(self) except -1
    cdef int _cut_off(self, Follower follower, str cause) except -1
    cdef int _progress(self) except -1
    cdef int _report(self, str what) except -1
    cdef int _settle_all(self) except -1
    cdef int _settle(self, Follower follower) except -1
    cdef void _gave(self, Follower follower, Py_ssize_t size) noexcept
    cdef void _missed(self, Follower follower, Py_ssize_t skipped, Py_ssize_t superseded) noexcept
