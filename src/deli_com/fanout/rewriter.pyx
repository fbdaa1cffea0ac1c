"""What one follower gets in place of the frames of its logs, where it speaks another protocol.

Such a follower has a place in the logs like any other, so that policies, pacing and limits hold for it. It
has no descriptor of its own to be written to: the hub writes through its transport what its rewriter gives.
"""

from deli_com.log.log cimport Cursor
from deli_com.log.merge cimport Merge


cdef class Rewriter:
    """Subclasses say what the frames become."""

    cdef list rewrite(self, Merge merge, Cursor* cursors):
        self.total = 0
        return []

    cdef int begin(self, object transport) except -1:
        return 0
