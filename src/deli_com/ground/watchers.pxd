# Tasks and callbacks that wait for a condition that other code makes true.

cdef class Watchers:
    cdef object _loop
    cdef list _waiting                        # Waiters, ended at every change

    # Wakes all of them. If that raises, those that were not woken stay for the next call.
    cdef int changed(self) except -1
    cdef bint is_empty(self) noexcept

    # Calls back at the next change, once.
    cdef int call_back(self, object callback) except -1
