# The keys of one log: which values of policy latest it knows.

from deli_com.log.arena cimport Arena
from deli_com.log.ring cimport Key


cdef class KeyTable:
    cdef Arena arena                 # counts the keys of all its logs, and bounds them
    # --- private ---
    cdef list _tables                # by lane: dict of key value to Key
    cdef Py_ssize_t _count           # keys in them, of `arena.keys`

    cdef Key get(self, Py_ssize_t lane, object value)
    cdef Key pop(self, Py_ssize_t lane, object value)
    cdef list tables(self)
    cdef int purge(self) except -1
