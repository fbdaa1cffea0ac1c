# Received values, in order, until somebody takes them.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.ground.home cimport Home
from deli_com.ground.waiter cimport Waiter


cdef struct Entry:
    PyObject* value          # owned; an exception to raise where `is_error`. NULL: still plain bytes
    PyObject* source         # owned; the connection it came over
    Py_ssize_t wire          # bytes it took on the wire
    bint is_error


cdef class Inbox:
    cdef readonly Py_ssize_t max_bytes    # wire bytes at which the inbox is full
    cdef readonly Py_ssize_t max_count    # values at which it is full
    cdef readonly Py_ssize_t held_bytes   # wire bytes of the values held
    cdef readonly Py_ssize_t dropped      # values dropped because nobody had asked for any
    cdef readonly Py_ssize_t superseded   # values whose key had a newer one before they were taken
    cdef readonly Py_ssize_t skipped      # values of policy skip that had to make room
    cdef readonly Py_ssize_t undecodable  # of a client: messages that turned out to be no value
    cdef bint is_client                   # such a one is raised by `recv`; else its source is told
    cdef readonly bint wanted             # a first recv has been called
    cdef readonly Py_ssize_t plain_size   # bytes of a plain value at most; 0: there are none
    cdef object loop
    cdef Home home                        # where values are taken

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
    cdef int give_back(self) except -1
    cdef uint64_t oldest_ns(self) noexcept
    cdef bint has_waiters(self) noexcept
    cdef dict shares(self)
    cdef int replace_sources(self, object source) except -1
    cdef Py_ssize_t drop_from(self, object source) except -1
    cdef int close(self, object error, bint in_order) except -1

    # --- private ---------------------------------------------------------------------
    cdef Entry* _ring                     # capacity is a power of two
    cdef char* _plain                     # `plain_size` bytes for each place of the ring
    cdef TypeCodec _codec                 # of plain values
    cdef bint _is_checked                 # not any bytes are a value
    cdef size_t _mask
    cdef size_t _first
    cdef size_t _next
    cdef size_t _seen                     # `_next` when `give_back` was last called
    cdef size_t _aged                     # the values before that place came before `_aged_ns`
    cdef uint64_t _aged_ns
    cdef object _waiters                  # deque of Waiters that were not woken yet
    cdef Py_ssize_t _waiting              # Waiters in it
    cdef Py_ssize_t _woken                # woken waiters that have not taken their value yet
    cdef list _held_back                  # sources whose reading is paused
    cdef object _closed                   # the exception that ends it, or None
    cdef bint _in_order                   # `async for` ends quietly

    cdef Entry* _add(self, object source, Py_ssize_t wire) except? NULL
    cdef bint _added(self) except -1
    cdef int _resize(self, size_t mask) except -1
    cdef int _wake(self) except -1
    cdef int _leave_queue(self, Waiter waiter) except -1
    cdef int _resume_sources(self) except -1
    cdef bint _has_room(self) noexcept
    cdef object _ending(self)
