# One timer for all deadlines of a hub, and the clock they are read from.


cdef class Sweep:
    cdef readonly object loop
    cdef readonly double clock      # seconds; stops while there is no follower, and moves at sweeps only
    cdef double interval            # seconds between two sweeps
    cdef readonly bint was_late     # the loop was blocked before the last sweep
    cdef object _work               # called with the owner at every sweep; false stops the timer
    cdef object _handle             # the timer, or None while it is off
    cdef double _swept_at           # loop time of the last sweep, seconds

    # `owner` has this object. While the timer is on, it keeps `owner` and `kept`; this object keeps neither.
    cdef int start(self, object owner, object kept) except -1
    cdef int stop(self) except -1
    cdef double now(self) except? -1
    cdef bint is_late(self) except -1
    cdef double _passed(self) except? -1
    cdef double _elapsed(self) except? -1
