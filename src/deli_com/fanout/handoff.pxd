# A queue of messages from other threads to the loop's thread.

from cpython.object cimport PyObject

from deli_com.fanout.encoded cimport Encoded
from deli_com.fanout.hub cimport Hub


cdef class Handoff:
    cdef PyObject* _owner                 # borrowed: it has this, and the hub
    cdef PyObject* _hub                   # borrowed: the log of all is there
    cdef readonly Py_ssize_t held_bytes   # payload bytes that wait
    cdef object _queue                    # deque of Encoded, in the order of the calls
    cdef object _room                     # Condition: threads that found the queue full
    cdef bint _scheduled                  # the loop has been told
    cdef object _ended                    # the exception that put raises, or None

    cdef int put(self, Encoded message) except -1
    cdef int end(self, object error) except -1
    cdef bint is_empty(self) noexcept
    cdef int heal(self) except -1
    cdef int _drain_some(self) except -1
    cdef int _go_on(self) except -1
    cdef bint _is_full(self, Py_ssize_t more) noexcept
