# Who follows the broadcast log, and how far each has come. Knows sockets and transports,
# no WebSocket and no codec.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com._log cimport Log, Position
from deli_com._net cimport iovec
from deli_com._sweep cimport Sweep


cdef enum FollowerState:
    FOLLOWER_GONE        # has left, or never joined
    FOLLOWER_CURRENT     # up to date: served by the shared round
    FOLLOWER_READY       # behind, its transport is empty: the next turn serves it
    FOLLOWER_BLOCKED     # behind, its transport holds bytes of ours: `unchoke` will come


cdef struct Roster:
    PyObject** items         # borrowed Followers; NULL: a hole left during a round
    Py_ssize_t count         # holes included
    Py_ssize_t capacity


cdef enum:
    VECTORS = 64             # vectors a system call: a round of more is served in several


cdef class Follower:
    cdef Hub hub                 # None once gone
    cdef object transport        # asyncio transport; its write buffer limits are 0: it tells of every byte
    cdef int fd                  # for our own send() (plain TCP on POSIX); -1: all through the transport
    cdef int socket              # asked what the kernel knows of the peer; -1: no socket to ask
    cdef const bint* muted       # NULL, or borrowed from the owner: nonzero once nothing may be written
    cdef FollowerState state
    cdef bint choked             # the transport holds bytes: pause_writing came, resume_writing has not
    cdef Position at             # the next frame to send; pinned in the log while behind
    cdef Py_ssize_t slot         # index in the roster of its state

    cdef uint64_t behind_turn    # the hub's turn at which it fell behind
    cdef double behind_since     # hub clock, seconds
    cdef double progress_at      # hub clock when bytes were last seen to move, seconds
    cdef uint64_t progress_sent  # stream offset that had left the transport by then
    cdef uint64_t progress_acked  # bytes that the peer's kernel had acknowledged by then

    cdef bint paced              # `await send` waits for it: see _pacer.pyx
    cdef int slow_windows        # pacing windows in a row in which it was far slower than the fastest
    cdef uint64_t paced_mark     # stream offset sent when the pacing window began

    cdef bint is_behind(self) noexcept
    cdef uint64_t sent_offset(self) except? 0
    cdef Py_ssize_t lag(self) noexcept
    cdef int choke(self) except -1
    cdef int unchoke(self) except -1
    cdef int leave(self) except -1

    # --- for the owner of the connection to override ---------------------------------
    cdef int on_too_slow(self, str cause) except -1
    cdef int on_broken(self) except -1
    cdef int on_sweep(self, double clock) except -1


cdef class Hub:
    cdef readonly Log log
    cdef readonly object loop
    cdef readonly Py_ssize_t max_backlog      # bytes that one follower may be behind
    cdef readonly Py_ssize_t max_retained     # bytes that the log may hold within one turn
    cdef readonly double progress_timeout     # seconds without a byte taken before a laggard goes
    cdef readonly uint64_t turns              # loop turns in which a flush ran
    cdef Sweep sweep                          # its clock is what deadlines are read from
    cdef set followers                        # owns them
    cdef Roster current
    cdef Roster ready
    cdef Roster blocked

    cdef int check_thread(self, str what) except -1
    cdef int join(self, Follower follower) except -1
    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept
    cdef int appended(self, Py_ssize_t frame) except -1
    cdef int flush_now(self) except -1
    cdef int schedule(self) except -1
    cdef bint is_drained(self) noexcept
    cdef list laggards(self)

    # --- for the floor above to override -----------------------------------------------
    cdef int on_flushed(self) except -1
    cdef bint on_sweep(self) except -1

    # --- private -----------------------------------------------------------------------
    cdef unsigned long _thread
    cdef Position _flushed                    # what every CURRENT follower has, but for the round under way
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
    cdef int _serve_ready(self) except -1
    cdef bint _go_round(self, uint64_t deadline) except -1
    cdef int _end_round(self) except -1
    cdef int _serve_alone(self, Follower follower, uint64_t limit) except -1
    cdef int _write_through(self, Follower follower, uint64_t limit) except -1
    cdef int _fell_short(self, Follower follower, Position* base, Py_ssize_t sent) except -1
    cdef int _hand_over(self, Follower follower, list pieces) except -1
    cdef int _broken(self, Follower follower) except -1
    cdef int _settle_soon(self, Follower follower) except -1
    cdef int _settle_all(self) except -1
    cdef int _settle(self, Follower follower) except -1
    cdef int _judge(self) except -1
    cdef int _cut_off(self, Follower follower, str cause) except -1
    cdef int _progress(self) except -1
    cdef int _report(self, str what) except -1
