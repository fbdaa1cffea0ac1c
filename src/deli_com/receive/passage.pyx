"""What takes messages as bytes: an endpoint that has a passage does not decode what it receives."""


cdef class Passage:
    """Takes messages and drops them; the one in `link.passing` passes them on."""

    cdef int handle(self, object link, const char* data, Py_ssize_t size) except -1:
        return 0

    cdef int hear(self, object link, object told) except -1:
        return 0
