# What one follower gets in place of the frames of its logs, where it speaks another protocol.

from deli_com.log.log cimport Cursor
from deli_com.log.merge cimport Merge


cdef class Rewriter:
    cdef Py_ssize_t total        # bytes of what the last `rewrite` gave

    # What goes to the transport for the frames of a merge that is not advanced yet: objects that a transport
    # may keep, whole frames of the other protocol, in order. An empty list: none of it is for this follower.
    cdef list rewrite(self, Merge merge, Cursor* cursors)
    # Writes what comes before all else.
    cdef int begin(self, object transport) except -1
