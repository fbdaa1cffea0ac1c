# The bound on input that waits in memory, for all connections of an endpoint together.

from cpython.object cimport PyObject

from deli_com.receive.inbox cimport Inbox


cdef class InputQuota:
    cdef readonly Py_ssize_t limit            # bytes of input in memory: `buffered`, and what the inbox holds
    cdef readonly Py_ssize_t buffered         # of them in read buffers and fragments: sum of all `held`
    cdef Inbox inbox
    # --- private ---
    cdef PyObject* _owner                     # borrowed: the endpoint, which has this
    cdef object _log

    cdef inline int check(self) except -1:
        # After a message was delivered. It may end connections.
        return self.enforce() if self.buffered + self.inbox.held_bytes > self.limit else 0

    cdef inline int keep(self, Py_ssize_t more) except -1:
        # A connection keeps so many more bytes of input than before. It may end connections.
        self.buffered += more
        return self.check() if more > 0 else 0

    cdef int enforce(self) except -1
