# A connection whose way to its peer is measured by markers.

from libc.stdint cimport uint64_t

from deli_com.link.speaker cimport Speaker


cdef class MarkedLink(Speaker):
    cdef double heard_at             # endpoint clock, seconds: the last byte read
    cdef readonly double round_trip  # seconds, of the last marker answered; nan before

    cdef int begin_marks(self, Py_ssize_t mark_bytes) except -1
    cdef int watch(self, double clock) except -1
    cdef int handle_answer(self, uint64_t token) except -1
    cdef int judge_silence(self, double clock) except -1

    # --- for the wire protocol to override ---------------------------------------------
    cdef bint may_mark(self) except -1
    cdef int send_mark(self, uint64_t token) except -1
    cdef int send_sign(self) except -1
    cdef int on_silent(self, str cause) except -1

    # --- private -----------------------------------------------------------------------
    cdef double _asked_at            # endpoint clock: it is to give a sign of life since; 0: it is not
    cdef double _ask_at              # endpoint clock: when a marker is due in any case; inf: none is
    cdef double _sign_at             # endpoint clock: when a sign of life is due, as long as nothing is read
    cdef uint64_t _acked             # of our bytes, by the peer's kernel, when last asked
    cdef Py_ssize_t _mark_bytes      # of a marker on the wire, at most
    cdef int _watch_transit(self, double clock) except -1
    cdef int _say_alive(self, double clock) except -1
