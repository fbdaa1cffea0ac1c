# The frames of one log that grow too old: when, and where they begin.

from libc.stdint cimport uint64_t

from deli_com.log.ring cimport Records


cdef class Ages:
    cdef Py_ssize_t count            # frames that are watched

    cdef int note(self, int lane, uint64_t due_ns, uint64_t start) except -1
    cdef uint64_t take_due(self, uint64_t now_ns, uint64_t before) except? 0
    cdef int forget_dead(self, int lane, Records log) except -1

    # --- private ---
    cdef dict _by_lane               # lane -> deque of (due, start offset), oldest first
