# Whoever waits for a condition that other code brings about.

cdef class Watchers:
    cdef object _loop
    cdef list _waiting                        # Waiters, ended at every change

    # Wakes all of them. Where that raises, those who were not woken stay for the next call.
    cdef int changed(self) except -1
    cdef bint is_empty(self) noexcept

    # Calls back at the next change, once.
    cdef int call_back(self, object callback) except -1
