# Messages of one endpoint that go to another one as the bytes that came.

from deli_com.fanout.encoded cimport Encoded
from deli_com.link.endpoint cimport Endpoint
from deli_com.receive.message_key cimport MessageKeys
from deli_com.receive.passage cimport Passage


cdef class Passing(Passage):
    cdef readonly Endpoint target         # where messages go; None: there is none now
    cdef readonly Endpoint also           # another one that gets them all; None
    cdef readonly bint holds              # what there is no room for waits, and its reader pauses; else lost
    cdef readonly Py_ssize_t max_queued   # bytes that `target` may have queued, where nothing is held
    cdef readonly Py_ssize_t passed       # messages
    cdef readonly Py_ssize_t lost         # messages that found no way: there was none, or it was full
    cdef readonly Py_ssize_t undecodable  # messages whose class or key is not to be told
    cdef object _told                     # (control) -> None: what the other end says; or None
    cdef object _on_full                  # () -> None: `also` is full, and gets no more; or None
    cdef MessageKeys _keys                # of the target's type; None: there are none
    cdef bint _is_sealed                  # the index of the class comes first
    cdef frozenset _only                  # indices of classes that pass; None: all
    cdef set _touched                     # (lane, key) of what came since `begin_anew`; None: nobody asks
    cdef list _held                       # what waits: messages, as bytes, and what the other end says
    cdef int _texts                       # that were passed on since the last look; the rest waits
    cdef list _paused                     # connections whose reading waits for that
    cdef bint _is_scheduled
    cdef bint _warned
    cdef list _ends                       # stream offsets of the target's log behind messages that may wait

    cdef bint _put(self, bytes payload) except -1
    cdef Py_ssize_t _index_of(self, bytes payload) noexcept
    cdef Encoded _message(self, Endpoint to, bytes payload, Py_ssize_t index)
    cdef int _to_also(self, bytes payload, Py_ssize_t index) except -1
    cdef int _append(self, Endpoint to, Encoded message) except -1
    cdef int _hold(self, object link, object what) except -1
    cdef int _later(self) except -1
