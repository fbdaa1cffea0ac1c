# Passes the messages that one endpoint receives to another endpoint, as bytes.

from deli_com.fanout.encoded cimport Encoded
from deli_com.link.endpoint cimport Endpoint
from deli_com.receive.message_key cimport MessageKeys
from deli_com.receive.passage cimport Passage


cdef class Passing(Passage):
    cdef readonly Endpoint target         # gets the messages; None: there is none now
    cdef readonly Endpoint also           # a second one that gets the messages; None
    cdef readonly bint holds              # without room, messages wait and reading pauses; False: lost
    cdef readonly Py_ssize_t max_queued   # bytes that `target` may have queued, if `holds` is False
    cdef readonly Py_ssize_t passed       # messages passed on
    cdef readonly Py_ssize_t lost         # dropped messages: no target, or it was full
    cdef readonly Py_ssize_t undecodable  # messages whose class or key cannot be read
    cdef object _told                     # (control) -> None: a text of the other end; or None
    cdef object _on_full                  # () -> None: `also` is full, and gets no more messages; or None
    cdef MessageKeys _keys                # of the target's type; None: there are none
    cdef bint _is_sealed                  # the index of the class comes first
    cdef frozenset _only                  # indices of classes that pass; None: all
    cdef set _touched                     # (lane, key) that arrived since `begin_resend`; None: not needed
    cdef list _held                       # waiting messages, as bytes, and controls of the other end
    cdef int _texts                       # controls handled since the last `_go_on`; see TEXTS_AT_ONCE
    cdef list _paused                     # connections whose reading is paused
    cdef bint _is_scheduled
    cdef bint _warned
    cdef list _ends                       # stream offsets in the target's log after messages that may wait

    cdef bint _put(self, bytes payload) except -1
    cdef Py_ssize_t _index_of(self, bytes payload) noexcept
    cdef Encoded _message(self, Endpoint to, bytes payload, Py_ssize_t index)
    cdef int _to_also(self, bytes payload, Py_ssize_t index) except -1
    cdef int _append(self, Endpoint to, Encoded message) except -1
    cdef int _hold(self, object link, object what) except -1
    cdef int _later(self) except -1
