# The followers of the broadcast logs, and when they are served. Writes to sockets and transports. Knows
# nothing about WebSocket and values.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport Audience, Follower, Owner
from deli_com.fanout.limits cimport Limits
from deli_com.fanout.rosters cimport Rosters
from deli_com.fanout.sweep cimport Sweep
from deli_com.fanout.transit_totals cimport TransitTotals
from deli_com.fanout.writer cimport Writer
from deli_com.ground.home cimport Home
from deli_com.log.arena cimport Arena
from deli_com.log.log cimport Log


cdef class Hub(Owner):
    cdef readonly Log log                     # of all followers
    cdef readonly Arena arena                 # its memory, and that of the audiences
    cdef readonly object loop
    cdef Home home                            # of this hub; public calls are checked against it
    cdef Rosters rosters                      # followers by state
    cdef Limits limits                        # how far they may be behind
    cdef Writer writer                        # writes to one of them by itself
    cdef Sweep sweep                          # one timer, and the clock of `rosters`
    cdef set followers                        # those of `rosters`
    cdef set bounded                          # followers with a bound on their bytes in flight
    cdef TransitTotals transit_totals         # of all followers that answer markers
    cdef Py_ssize_t timed                     # followers, and `keeps_time`; above 0, frames get a time
    cdef bint keeps_time                      # retained frames need it, also without followers
    cdef public uint64_t slice_ns             # a flush that takes longer lets the loop run

    # An endpoint has this hub. Its callbacks are called, and what runs later for the hub keeps it.
    cdef int belong_to(self, Owner owner) except -1
    cdef int be_left(self) noexcept
    cdef Owner kept(self)
    cdef int start_sweep(self) except -1

    cdef int join(self, Follower follower) except -1
    cdef void begin(self) noexcept
    cdef int appended(self, Py_ssize_t frame) except -1
    cdef int addressed(self, Audience audience, Py_ssize_t frame) except -1
    cdef int let_expire(self, Log log, int lane, uint64_t age_ns, Py_ssize_t frame) except -1
    cdef int exclude(self, Follower follower) except -1
    cdef int flush_now(self) except -1
    cdef int schedule(self) except -1
    cdef Audience new_audience(self, object name)
    cdef int lift_bounds(self) except -1
    cdef int keep_time(self) noexcept
    cdef int purge_keys(self) except -1
    cdef bint is_drained(self) noexcept

    # --- private -----------------------------------------------------------------------
    cdef PyObject* _owner                     # borrowed; NULL: no endpoint has this hub, or it was freed
    cdef uint64_t _last_id
    cdef list _dirty                          # audiences with frames to flush
    cdef list _individual                     # followers that the next flush serves by themselves, and None
    cdef bint _is_aging                       # what was appended may be too old by then; a None is there
    cdef Py_ssize_t _aside                    # bytes appended to audiences since the last flush
    cdef object _audiences                    # all that live: a weak set
    cdef Py_ssize_t _ready_start              # rotates
    cdef bint _flushing                       # inside flush_now: not re-entrant
    cdef bint _must_place_all                 # `writing_paused` of some follower changed inside flush_now
    cdef uint64_t _round_end
    cdef bint _served_all                     # every READY follower was served before the round
    cdef Py_ssize_t _round_start              # rotates, so that no follower is always last
    cdef Py_ssize_t _round_done
    cdef bint _scheduled
    cdef uint64_t _last_append_ns

    cdef bint _flush(self) except -1
    cdef bint _is_quiet(self) noexcept
    cdef int _flush_at_once(self) except -1
    cdef int _separate(self) except -1
    cdef int _serve_all_alone(self) except -1
    cdef bint _serve_ready(self, uint64_t deadline) except -1
    cdef int _mark_audiences_flushed(self) except -1
    cdef bint _go_round(self, uint64_t deadline) except -1
    cdef int _end_round(self) except -1
    cdef int _catch_up(self, Follower follower) except -1
    cdef int _place_all(self) except -1
    cdef int _relocate(self) except -1
