# Where all TCP connections of one endpoint read into.

from libc.stdint cimport uint8_t

cdef enum:
    READ_BYTES = 262144          # most of one read; aiofastnet turns to other work after as many
    PART_BYTES = 65536           # first memory for an incomplete frame: a length alone allocates no more


cdef class ReadBuffer:
    cdef object loop
    cdef uint8_t* data           # READ_BYTES, owned; pages never read into cost nothing
    cdef object view             # of all of it, for transports
    cdef bint is_parsed          # values are being decoded from it
    cdef uint8_t* spare          # owned, or NULL
    cdef Py_ssize_t spare_bytes
    cdef bint spare_used         # since the timer was set
    cdef object timer            # set while there is a spare piece

    cdef uint8_t* take_spare(self, Py_ssize_t* size) noexcept
    cdef int keep_spare(self, uint8_t* memory, Py_ssize_t size) except -1
