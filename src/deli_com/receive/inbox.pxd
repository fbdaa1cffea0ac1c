# The inbox: received values wait here, in order, until the program takes them.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.ground.home cimport Home
from deli_com.ground.waiter cimport Waiter


cdef struct Entry:
    PyObject* value          # owned; an exception to raise if `is_error`. NULL: not decoded yet
    PyObject* source         # owned; the connection that received it
    Py_ssize_t wire          # bytes on the wire
    bint is_error


cdef class Inbox:
    cdef readonly Py_ssize_t max_bytes    # limit on `held_bytes` at which the inbox is full
    cdef readonly Py_ssize_t max_count    # limit on the number of values at which it is full
    cdef readonly Py_ssize_t held_bytes   # wire bytes of the waiting values
    cdef readonly Py_ssize_t dropped      # values dropped: no recv so far, or their source was closed
    cdef readonly Py_ssize_t superseded   # values replaced by a newer one of their key before they were taken
    cdef readonly Py_ssize_t skipped      # values of policy skip that were dropped to make room
    cdef readonly Py_ssize_t undecodable  # in a client: messages that failed to decode when they were taken
    cdef bint is_client                   # `recv` raises the decode error; in a server its source is told
    cdef readonly bint wanted             # recv has been called at least once
    cdef readonly Py_ssize_t plain_size   # most bytes of a value that waits undecoded; 0: no value does
    cdef object loop
    cdef Home home                        # the thread and loop in which values are taken

    cdef Py_ssize_t count(self) noexcept
    cdef bint is_full(self) noexcept
    cdef bint push(self, object source, object value, Py_ssize_t wire, bint is_error) except -1
    cdef bint may_wait(self, const char* data, Py_ssize_t size) noexcept
    cdef bint push_plain(self, object source, const char* data, Py_ssize_t size) except -1
    cdef int hold_back(self, object source) except -1
    cdef bint may_take(self) except -1
    cdef bint take(self, Entry* entry) except -1
    cdef int take_more(self, list values, Py_ssize_t most) except -1
    cdef PyObject* take_at_once(self) except? NULL
    cdef int sweep(self) except -1
    cdef uint64_t oldest_ns(self) noexcept
    cdef bint has_waiters(self) noexcept
    cdef dict shares(self)
    cdef int replace_sources(self, object source) except -1
    cdef Py_ssize_t drop_from(self, object source) except -1
    cdef int close(self, object error, bint in_order) except -1

    # --- private ---------------------------------------------------------------------
    cdef Entry* _ring                     # capacity is a power of two
    cdef char* _plain                     # `plain_size` bytes for each entry of the ring
    cdef TypeCodec _codec                 # decodes plain values
    cdef bint _is_checked                 # bytes must be checked, because not all are a valid value
    cdef size_t _mask
    cdef size_t _first
    cdef size_t _next
    cdef size_t _seen                     # `_next` when `sweep` was last called
    cdef size_t _aged                     # entries before this index arrived before `_aged_ns`
    cdef uint64_t _aged_ns
    cdef object _waiters                  # deque of Waiters that are not woken yet
    cdef Py_ssize_t _waiting              # number of Waiters in it
    cdef Py_ssize_t _woken                # woken waiters that have not taken their value yet
    cdef list _held_back                  # sources whose reading is paused
    cdef object _closed                   # the exception that later recv calls raise, or None
    cdef bint _in_order                   # `async for` ends without an error

    cdef Entry* _add(self, object source, Py_ssize_t wire) except? NULL
    cdef bint _added(self) except -1
    cdef int _resize(self, size_t mask) except -1
    cdef int _wake(self) except -1
    cdef int _leave_queue(self, Waiter waiter) except -1
    cdef int _resume_sources(self) except -1
    cdef bint _has_room(self) noexcept
    cdef object _ending(self)
