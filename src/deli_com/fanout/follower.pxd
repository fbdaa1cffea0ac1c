# One receiver of broadcast logs: its position in each, and whether it keeps up.

from libc.stdint cimport uint64_t

from deli_com.fanout.rewriter cimport Rewriter
from deli_com.fanout.transit cimport Transit
from deli_com.log.log cimport Cursor, Log
from deli_com.log.ring cimport Position


cdef enum FollowerState:
    FOLLOWER_GONE        # has left, or never joined
    FOLLOWER_CURRENT     # up to date: served by the shared round
    FOLLOWER_READY       # behind, or apart from the others; its transport is empty: the next turn serves it
    FOLLOWER_BLOCKED     # behind; its transport holds our bytes: `on_writing_resumed` will come; or `is_held`


cdef class Owner:
    # Callbacks from the parts of an endpoint to their owner. The default of each does nothing.
    # A follower tells its hub:
    cdef int on_writability(self, Follower follower) except -1
    cdef int on_left(self, Follower follower) except -1
    cdef int on_own_messages(self, Follower follower) except -1
    cdef int on_transit(self, Follower follower) except -1
    # The hub, and the queue of other threads' messages, call the endpoint:
    cdef int append_encoded(self, object message) except -1
    cdef int on_flushed(self) except -1
    cdef bint on_sweep(self) except -1


cdef class Audience(Log):
    # A log for a group or for one follower. Their cursors read it in addition to the log of all.
    cdef Owner owner
    cdef object __weakref__
    cdef readonly object name    # of a group; None where it is for one follower
    cdef readonly set members    # Followers
    cdef Py_ssize_t cap          # limit in bytes of reliable frames that wait in it; 0: no separate limit
    cdef bint is_dirty           # in the hub's list of those that have frames to flush
    cdef uint64_t marked         # stream offset up to which the flush under way serves it

    cdef bint has_room(self, Py_ssize_t frame) noexcept
    cdef int add_member(self, Follower follower) except -1
    cdef int discard_member(self, Follower follower) except -1


cdef class Follower:
    cdef Owner hub               # None once gone
    cdef uint64_t id             # of its hub, never given twice; 0: never joined
    cdef object transport        # asyncio transport; its write buffer limits are 0: it tells of every byte
    cdef int fd                  # for our own send() (plain TCP on POSIX); -1: all through the transport
    cdef int socket              # asked what the kernel knows of the peer; -1: no socket to ask
    cdef Rewriter rewriter       # makes of the frames what it gets, through the transport; None: the frames
    cdef const bint* muted       # NULL, or borrowed from the owner: nonzero once nothing may be written
    cdef FollowerState state
    cdef bint writing_paused     # the transport holds bytes: pause_writing came, resume_writing has not
    cdef Py_ssize_t slot         # index in the roster of its state
    cdef Transit transit         # measures what lies between; None: nothing does
    cdef bint is_bounded         # served by itself, as far as `transit` allows
    cdef bint is_held             # BLOCKED: as much is in flight as `transit` allows, and an answer will come

    # Where it is: `cursors[0]` in the log of all. They are pinned while it is behind.
    cdef Cursor* cursors         # owned
    cdef int cursor_count
    cdef list audiences          # of cursors[1:], in their order: owns the logs, Audiences unless tagged
    cdef Audience private        # the log of this follower alone, or None
    cdef bint is_fresh           # READY, but it was up to date when the flush began
    cdef uint64_t excluded_until  # offset in the log of all up to which a frame is not for it

    cdef uint64_t given_bytes    # to the kernel or the transport, ever
    cdef readonly Py_ssize_t skipped     # messages of policy skip that it did not get
    cdef readonly Py_ssize_t superseded  # messages of policy latest that it did not get
    cdef dict missed             # of both, by lane, what `on_missed` has to report; None: nothing is reported

    cdef uint64_t behind_turn    # the hub's turn at which it fell behind
    cdef double behind_since     # hub clock, seconds
    cdef double progress_at      # hub clock when bytes were last seen to move, seconds
    cdef bint holds_reliable     # what its transport holds is of a reliable frame
    cdef uint64_t progress_sent  # bytes that had left the transport by then
    cdef uint64_t progress_acked  # bytes that the peer's kernel had acknowledged by then

    cdef bint paced              # `await send` waits for it: see fanout/pacer.pyx
    cdef int slow_windows        # pacing windows in a row in which it was far slower than the fastest
    cdef uint64_t paced_mark     # bytes sent when the pacing window began

    cdef bint is_behind(self) noexcept
    cdef bint has_all(self) noexcept
    cdef bint has_all_of(self, Audience audience) noexcept
    cdef uint64_t sent_bytes(self) except? 0
    cdef Py_ssize_t lag(self) noexcept
    cdef int on_writing_paused(self) except -1
    cdef int on_writing_resumed(self) except -1
    cdef int leave(self) except -1

    # --- for the owner of the connection to override ---------------------------------
    cdef int on_evicted(self, str cause, str detail) except -1
    cdef int on_broken(self) except -1
    cdef int on_sweep(self, double clock) except -1
    cdef int on_missed(self) except -1
    cdef int on_mark_due(self) except -1
    cdef str of_transit(self)

    # --- private -----------------------------------------------------------------------
    cdef int _add_cursor(self, Log log, Position at, uint64_t floor) except -1
    cdef int _drop_cursor(self, int i) except -1
    cdef int _pin_all(self) noexcept
    cdef int _unpin_all(self) noexcept
    cdef bint _is_alone(self, Py_ssize_t lag) noexcept
