# Who follows the broadcast logs, and when they are served. Knows sockets and transports,
# no WebSocket and no codec.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com._arena cimport Arena
from deli_com._follower cimport Audience, Follower, FollowerState, Keeper
from deli_com._log cimport Cursor, Log, Position
from deli_com._plan cimport Plan
from deli_com._sweep cimport Sweep


cdef struct Roster:
    PyObject** items         # borrowed Followers; NULL: a hole left during a round
    Py_ssize_t count         # holes included
    Py_ssize_t capacity


cdef class Hub(Keeper):
    cdef readonly Log log                     # of all followers
    cdef readonly Arena arena                 # its memory, and that of the audiences
    cdef readonly object loop
    cdef readonly Py_ssize_t max_backlog      # bytes that one follower may be behind
    cdef readonly Py_ssize_t max_retained     # bytes that the logs may hold within one turn
    cdef readonly double progress_timeout     # seconds without a byte taken before a laggard goes
    cdef readonly uint64_t turns              # loop turns in which a flush ran
    cdef readonly uint64_t bytes_out          # to all followers, frame headers included
    cdef readonly Py_ssize_t skipped          # messages that laggards did not get, policy skip
    cdef readonly Py_ssize_t superseded       # and policy latest
    cdef Sweep sweep                          # its clock is what deadlines are read from
    cdef set followers                        # owns them
    cdef Roster current
    cdef Roster ready
    cdef Roster blocked

    cdef int check_thread(self, str what) except -1
    cdef int join(self, Follower follower) except -1
    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept
    cdef void begin(self) noexcept
    cdef int appended(self, Py_ssize_t frame) except -1
    cdef int addressed(self, Audience audience, Py_ssize_t frame) except -1
    cdef int set_apart(self, Follower follower) except -1
    cdef int flush_now(self) except -1
    cdef Audience new_audience(self, object name)
    cdef int schedule(self) except -1
    cdef bint is_drained(self) noexcept
    cdef list laggards(self)

    # --- for the floor above to override -----------------------------------------------
    cdef int take(self, object message) except -1
    cdef int on_flushed(self) except -1
    cdef bint on_sweep(self) except -1

    # --- private -----------------------------------------------------------------------
    cdef unsigned long _thread
    cdef uint64_t _last_id
    cdef Plan _plan                           # of the follower that is being served alone
    cdef list _dirty                          # audiences with frames to flush
    cdef list _apart                          # followers that a frame in the log of all is not for
    cdef Py_ssize_t _aside                    # bytes appended to audiences since the last flush
    cdef object _audiences                    # all that live: a weak set
    cdef Py_ssize_t _ready_start              # rotates
    cdef bint _flushing                       # inside flush_now: not re-entrant
    cdef bint _unsettled                      # `choked` of some follower changed inside flush_now
    cdef Follower _writing                    # whose transport is being called; settled right after
    cdef bint _in_round                       # a round has begun and yielded
    cdef uint64_t _round_end
    cdef Py_ssize_t _round_start              # rotates: nobody is always last
    cdef Py_ssize_t _round_done
    cdef Py_ssize_t _holes
    cdef bint _scheduled
    cdef object _turn_callback
    cdef uint64_t _last_append_ns

    cdef int _put(self, Follower follower, FollowerState state) except -1
    cdef int _vacate(self, Follower follower) noexcept
    cdef Roster* _roster(self, FollowerState state) noexcept
    cdef void _take_out(self, Follower follower) noexcept
    cdef bint _flush(self) except -1
    cdef int _take_apart(self) except -1
    cdef bint _serve_ready(self, uint64_t deadline) except -1
    cdef int _settle_audiences(self) except -1
    cdef bint _go_round(self, uint64_t deadline) except -1
    cdef int _end_round(self) except -1
    cdef int _catch_up(self, Follower follower) except -1
    cdef int _serve_alone(self, Follower follower) except -1
    cdef int _write_through(self, Follower follower, int cursors, uint64_t limit) except -1
    cdef int _advance(self, Follower follower, int pieces) except -1
    cdef int _cut_alone(self, Follower follower, Py_ssize_t sent) except -1
    cdef int _cut_in_round(self, Follower follower, Py_ssize_t sent) except -1
    cdef void _gave(self, Follower follower, Py_ssize_t size) noexcept
    cdef int _hand_over(self, Follower follower, list pieces) except -1
    cdef int _broken(self, Follower follower) except -1
    cdef int _settle_all(self) except -1
    cdef int _settle(self, Follower follower) except -1
    cdef int _relocate(self) except -1
    cdef int _judge(self) except -1
    cdef int _cut_off(self, Follower follower, str cause) except -1
    cdef int _progress(self) except -1
    cdef int _report(self, str what) except -1
