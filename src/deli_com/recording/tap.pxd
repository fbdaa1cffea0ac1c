# Passes the messages of an endpoint to its recordings and other listeners.

from libc.stdint cimport int32_t

from deli_com.recording.intake cimport Intake


cdef enum Way:
    WAY_SENT             # sent by the recorded endpoint
    WAY_RECEIVED


cdef class Hearer:
    # One message, as `Tap.note` gets it.
    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1
    # The program drops the key of this message, the newest of the key.
    cdef int forgets(self, bytes payload, object scope) except -1


cdef class Sink(Hearer):
    cdef readonly Intake intake
    # --- private ---
    cdef object _channel_of          # (way, variant, scope) -> channel; called once for each combination
    cdef bint _sealed[2]             # by way: the payload begins with the index of a variant
    cdef int32_t* _to_all[2]         # by way and variant: channel, -1 while unknown; owned
    cdef Py_ssize_t _variants[2]
    cdef dict _others                # (way, variant, scope) -> channel

    cdef int _channel(self, Way way, Py_ssize_t variant, object scope) except -1


cdef class Tap:
    cdef readonly tuple sinks

    # Records one message: `size` bytes that are read during the call, then `tail` (None if there is none).
    # `scope` is None for all clients, the name of a group, or ALONE for one client. BacklogFull, for sent
    # messages only: a sink is at its limit and has `raises` set.
    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1
    cdef int forgets(self, bytes payload, object scope) except -1
