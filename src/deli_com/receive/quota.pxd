# The limit on received data in memory, for all connections of an endpoint together.

from cpython.object cimport PyObject

from deli_com.receive.inbox cimport Inbox


cdef class InputQuota:
    cdef readonly Py_ssize_t limit            # bytes: limit on `buffered` plus the wire bytes in the inbox
    cdef readonly Py_ssize_t buffered         # bytes in read buffers and fragments: the sum of all `held`
    cdef Inbox inbox
    # --- private ---
    cdef PyObject* _owner                     # borrowed: the endpoint, which owns this
    cdef object _log

    cdef inline int check(self) except -1:
        # Call after a message was delivered. It may close connections.
        return self.enforce() if self.buffered + self.inbox.held_bytes > self.limit else 0

    cdef inline int keep(self, Py_ssize_t more) except -1:
        # Call when a connection holds `more` bytes of input than before. It may close connections.
        self.buffered += more
        return self.check() if more > 0 else 0

    cdef int enforce(self) except -1
