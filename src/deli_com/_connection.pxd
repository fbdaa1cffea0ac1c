# One connection: a follower that also delivers to an inbox, and the stages of its end.

from deli_com._endpoint cimport Endpoint
from deli_com._hub cimport Follower


cdef enum ConnectionState:
    CONNECTION_OPENING
    CONNECTION_OPEN
    CONNECTION_CLOSING       # the end is announced; reading goes on, what arrives is discarded
    CONNECTION_CLOSED


cdef class Connection(Follower):
    cdef readonly Endpoint endpoint
    cdef readonly object remote_addr
    cdef readonly object request              # of the WebSocket handshake, or None
    cdef readonly Py_ssize_t messages_in
    cdef ConnectionState stage
    cdef double close_deadline                # endpoint clock at which a closing connection is aborted
    cdef object close_code                    # int, or None while unknown
    cdef str close_reason
    cdef bint reading_paused
    cdef int sweeps_to_look                   # until the kernel is asked whether it is dead; 0: no need to
    cdef Py_ssize_t undecodable               # messages of this connection that were no value
    cdef Py_ssize_t held                      # bytes of input in memory that are no whole message yet

    cdef int attach(self, object transport, bint secure) except -1
    cdef int opened(self) except -1
    cdef int deliver(self, const char* data, Py_ssize_t size) except -1
    cdef int _refuse_message(self, object error, Py_ssize_t size) except -1
    cdef int pause_reading(self) except -1
    cdef int hold(self, Py_ssize_t held) except -1
    cdef int finish(self, int code, str reason) except -1
    cdef int linger(self) except -1
    cdef int abort(self) except -1
    cdef int ended(self) except -1

    # --- for the wire protocol to override ---------------------------------------------
    cdef int give_back(self) except -1
    cdef int on_too_much(self, str cause) except -1
    cdef int say_close(self, int code, str reason) except -1
    cdef bint ended_in_order(self) except -1
