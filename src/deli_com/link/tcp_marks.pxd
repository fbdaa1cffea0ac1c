# What a TCP connection does to know that its peer lives, and what lies between.

from deli_com.link.marked_link cimport MarkedLink


cdef class TcpMarks(MarkedLink):
    cdef str owed_seen               # token of the mark that is still to be answered, or None
    cdef int marks_read              # in the last read, or so far in the one under way

    cdef int begin_life(self) except -1
    cdef int watch_life(self, double clock) except -1
    cdef int answer_mark(self) except -1

    # --- private -----------------------------------------------------------------------
    cdef double _look_at             # endpoint clock, seconds: when the kernel is asked for a sign of life
    cdef int _judge_by_system(self, double clock) except -1
