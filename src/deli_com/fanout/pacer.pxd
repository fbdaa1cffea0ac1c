# How `await send` waits for the clients that keep up.

from cpython.object cimport PyObject

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.hub cimport Hub
from deli_com.ground.waiter cimport Waiter


cdef class Pacer:
    cdef PyObject* _hub                  # borrowed: what has this has the hub, too
    cdef readonly Py_ssize_t high_water  # bytes a paced follower may be behind before sends wait
    cdef dict _waiters                   # Waiter to (scope, waits), in order of waiting
    cdef object _timer                   # ends the window; set while a sender waits
    cdef double _waited                  # seconds waited in this window
    cdef double _waiting_since           # loop time
    cdef bint _window_open               # followers carry marks
    cdef unsigned long long _turn_seen   # hub.turns at the last look
    cdef Py_ssize_t _sends               # awaited since the loop last ran
    cdef unsigned long long _loop_ran_ns  # when it last ran, as far as seen from here

    cdef bint must_wait(self, object scope, bint waits) except -1
    cdef bint _is_full(self, Follower follower) except -1
    cdef bint must_yield(self) noexcept
    cdef int loop_ran(self) noexcept
    cdef Waiter wait(self, object scope, bint waits)
    cdef int forget(self, Waiter waiter) except -1
    cdef int release(self) except -1
    cdef int heal(self) except -1
    cdef bint has_waiters(self) noexcept
    cdef int on_flushed(self) except -1
    cdef int _open_window(self) except -1
    cdef int _close_window(self) except -1
    cdef int _weigh(self) except -1


cdef class Paced:
    cdef Hub _hub                        # what the pacer borrows
    cdef object _kept                    # keeps it, and the pacer's owner, which ends the wait
    cdef Pacer _pacer
    cdef object _scope                   # the followers to wait for: None for all, an Audience, or a Follower
    cdef bint _waits                     # for those that are far slower, too
    cdef Waiter _waiter                  # while it waits for others
    cdef int _state
    cdef object _step(self)
    cdef object _yielded(self)
