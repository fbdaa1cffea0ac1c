# A connection that exchanges schemas: control texts, in both directions, between the values.

from deli_com.fanout.lane cimport Lane
from deli_com.link.connection cimport Connection


cdef class Speaker(Connection):
    cdef object agreement        # Agreement; None: the other end has announced nothing
    cdef object announcement     # of the request, until the connection is open; or None
    cdef dict told_at            # lane -> loop's clock when a gap of it was last reported; or None
    cdef object gap_timer        # TimerHandle, while a gap waits to be reported; or None
    cdef bint hello_is_owed      # its announcement has to be answered by a text

    cdef int agree(self) except -1
    cdef int say_live(self) except -1
    cdef int handle_control(self, bytes data) except -1
    cdef int settle(self) except -1
    cdef int end_by(self, object ending) except -1

    # --- for the wire protocol to override ---------------------------------------------
    cdef int say(self, bytes text) except -1
    cdef int cork(self) except -1
    cdef int uncork(self) except -1
    cdef int say_live_in_order(self) except -1
    cdef int break_off(self, int code, str reason) except -1
    cdef int on_early(self, const char* data, Py_ssize_t size) except -1
    cdef int on_settled(self) except -1
    cdef int on_mark(self, str token) except -1
    cdef int on_seen(self, str token) except -1

    # --- private -----------------------------------------------------------------------
    cdef bytes _gap(self, Lane lane, object count, object aged)
    cdef int _handle(self, bytes data) except -1
    cdef int _hear(self, object gap) except -1
    cdef int _answer(self, object says) except -1
    cdef int _hear(self, object told) except -1
