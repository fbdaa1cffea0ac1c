# Gets the messages of an endpoint as bytes, in place of its inbox.

cdef class Passage:
    cdef readonly bint from_anyone   # peers that announce no schema are assumed to send the endpoint's type

    # One whole message of `link`, a Connection; `data` is borrowed for the call.
    cdef int handle(self, object link, const char* data, Py_ssize_t size) except -1
    # A Live or Gap from the other end of `link`.
    cdef int hear(self, object link, object told) except -1
