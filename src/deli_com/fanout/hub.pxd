# Who follows the broadcast logs, and when they are served. Knows sockets and transports,
# no WebSocket and no codec.

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.limits cimport Bounds
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport Merge
from deli_com.log.ring cimport Position


cdef class Hub(Bounds):
    cdef public uint64_t slice_ns             # a flush that takes longer lets the loop run

    cdef int join(self, Follower follower) except -1
    cdef void begin(self) noexcept
    cdef int appended(self, Py_ssize_t frame) except -1
    cdef int addressed(self, Audience audience, Py_ssize_t frame) except -1
    cdef int set_apart(self, Follower follower) except -1
    cdef int flush_now(self) except -1
    cdef Audience new_audience(self, object name)
    cdef bint is_drained(self) noexcept

    # --- for the floor above to override -----------------------------------------------
    cdef int take(self, object message) except -1
    cdef int on_flushed(self) except -1
    cdef bint on_sweep(self) except -1

    # --- private -----------------------------------------------------------------------
    cdef uint64_t _last_id
    cdef Merge _plan                           # of the follower that is being served alone
    cdef list _dirty                          # audiences with frames to flush
    cdef list _apart                          # followers that a frame in the log of all is not for
    cdef Py_ssize_t _aside                    # bytes appended to audiences since the last flush
    cdef object _audiences                    # all that live: a weak set
    cdef Py_ssize_t _ready_start              # rotates
    cdef bint _flushing                       # inside flush_now: not re-entrant
    cdef Follower _writing                    # whose transport is being called; settled right after
    cdef uint64_t _round_end
    cdef bint _served_all                     # before the round, nobody of the READY was left out
    cdef Py_ssize_t _round_start              # rotates: nobody is always last
    cdef Py_ssize_t _round_done
    cdef bint _scheduled
    cdef uint64_t _last_append_ns

    cdef bint _flush(self) except -1
    cdef bint _is_quiet(self) noexcept
    cdef int _flush_at_once(self) except -1
    cdef int _take_apart(self) except -1
    cdef bint _serve_ready(self, uint64_t deadline) except -1
    cdef int _settle_audiences(self) except -1
    cdef bint _go_round(self, uint64_t deadline) except -1
    cdef int _end_round(self) except -1
    cdef int _catch_up(self, Follower follower) except -1
    cdef int _serve_alone(self, Follower follower) except -1
    cdef int _write_through(self, Follower follower, int cursors, uint64_t limit) except -1
    cdef bint _advance(self, Follower follower, int pieces) except -1
    cdef int _cut_alone(self, Follower follower, Py_ssize_t sent) except -1
    cdef int _cut_in_round(self, Follower follower, Py_ssize_t sent) except -1
    cdef bint _tell_missed(self, Follower follower) except -1
    cdef int _hand_over(self, Follower follower, list pieces) except -1
    cdef int _relocate(self) except -1
