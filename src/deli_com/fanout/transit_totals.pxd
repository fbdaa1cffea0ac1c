# What markers tell of all followers together.

from libc.stdint cimport uint64_t


cdef class TransitTotals:
    cdef uint64_t longest_ns  # that bytes wait on their way to the follower for which that is longest
    cdef uint64_t in_flight   # bytes that no answer confirms, to all together
    cdef double least_rate    # bytes a second, of those with a bound; 0.0: there are none

    cdef int sum_up(self, set followers) except -1
