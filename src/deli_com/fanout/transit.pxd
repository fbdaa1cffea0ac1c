# What lies between this end and a peer, measured by markers that the peer answers. No sockets, no clock.

from libc.stdint cimport uint64_t

cdef enum:
    MARKS = 16               # that may be unanswered
    RATES = 10               # seconds of which the largest rate is kept


cdef struct Mark:
    uint64_t token
    uint64_t offset          # bytes given to the peer before it
    uint64_t sent_ns
    uint64_t seen            # bytes confirmed when it was sent
    uint64_t seen_ns         # when that was known, or more began to be given
    bint counts              # sets round trip and rate; not where this end did not read meanwhile


cdef struct Fastest:
    uint64_t second          # which that is, from 1 on; 0: none
    double rate              # the largest sample of it, bytes a second


cdef class Transit:
    cdef public uint64_t target_ns           # how long bytes may wait on their way
    cdef readonly uint64_t least_ns          # least round trip seen; 0 before the first
    cdef readonly uint64_t queueing_ns       # of the last marker answered: time beyond the least
    cdef readonly uint64_t round_trip_ns     # of the last marker answered
    cdef readonly uint64_t confirmed         # bytes given before the last marker answered
    cdef readonly double rate                # bytes a second; 0.0 before the first sample
    cdef readonly uint64_t bound             # bytes that may be in flight
    cdef readonly bint in_force              # ... and whether they are limited to that
    cdef readonly bint suspended             # this end does not read: silence says nothing
    cdef readonly bint lifted                # for good: the connection is closing
    cdef readonly bint draining              # nothing is given until all is confirmed: to see the least again
    cdef readonly bint answers               # the peer has answered a marker

    cpdef bint is_due(self, uint64_t given, uint64_t now_ns) noexcept
    cpdef bint ends_unmarked(self, uint64_t given) noexcept
    cpdef int mark(self, uint64_t token, uint64_t given, uint64_t now_ns) noexcept
    cpdef bint answer(self, uint64_t token, uint64_t now_ns) noexcept
    cpdef int look(self, uint64_t now_ns) noexcept
    cpdef Py_ssize_t credit(self, uint64_t given) noexcept
    cpdef int was_held(self, uint64_t now_ns) noexcept
    cpdef bint begins_anew(self, uint64_t given) noexcept
    cpdef int suspend(self) noexcept
    cpdef int resume(self, uint64_t now_ns) noexcept
    cpdef int lift(self) noexcept
    cpdef int forget_times(self) noexcept
    cpdef uint64_t in_flight(self, uint64_t given) noexcept
    cpdef uint64_t waiting_ns(self, uint64_t now_ns) noexcept
    cpdef double grace(self, double most) noexcept

    # --- private -----------------------------------------------------------------------
    cdef Mark* _marks                        # a ring: unanswered, in order of sending
    cdef int _room                           # in the ring: 1, or MARKS once two were unanswered
    cdef Mark _only
    cdef int _first
    cdef int _count
    cdef uint64_t _confirmed_ns
    cdef uint64_t _marked                    # bytes given before the last marker
    cdef uint64_t _marked_ns
    cdef uint64_t _idle_ns                   # when hardly anything had been given since the last marker
    cdef Fastest* _fastest                   # of RATES seconds, owned; NULL before the first sample
    cdef uint64_t _held_ns                   # when the bound last held the peer
    cdef bint _held                          # ... since the last marker answered
    cdef bint _is_clean                      # the least was measured with nothing in flight
    cdef uint64_t _fine_ns                   # when queueing was last within the target
    cdef bint _has_room(self) noexcept
    cdef Mark* _mark_at(self, int i) noexcept
    cdef uint64_t _allowed(self) noexcept
    cdef int _measure(self, Mark* mark, uint64_t now_ns) noexcept
    cdef int _sample(self, Mark* mark, uint64_t now_ns) noexcept
    cdef int _enforce(self, uint64_t now_ns) noexcept
    cdef int _adjust(self, Mark* mark, uint64_t now_ns) noexcept
