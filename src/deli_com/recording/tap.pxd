# What an endpoint shows of its messages to those who record them.

from libc.stdint cimport int32_t

from deli_com.recording.intake cimport Intake


cdef enum Way:
    WAY_SENT             # by the endpoint that is recorded
    WAY_RECEIVED


cdef class Sink:
    cdef readonly Intake intake
    # --- private ---
    cdef object _channel_of          # (way, variant, scope) -> channel; called once for each
    cdef bint _sealed[2]             # by way: the payload begins with the index of a variant
    cdef int32_t* _to_all[2]         # by way and variant: channel, -1 while unknown; owned
    cdef Py_ssize_t _variants[2]
    cdef dict _others                # (way, variant, scope) -> channel

    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1
    cdef int _channel(self, Way way, Py_ssize_t variant, object scope) except -1


cdef class Tap:
    cdef readonly tuple sinks

    # One message. `size` bytes that are read during the call, then `tail` (None: nothing). `scope`: None
    # where it is for everybody, the name of its group, or ALONE. BacklogFull, of what is sent: a sink has
    # no room and says so.
    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1
