from libc.stdint cimport uint32_t


cdef struct Check:
    Py_ssize_t offset         # offset of the column in a row, in bytes
    uint32_t limit            # number of members of the enum; 0: a bool


cdef class Columns:
    cdef readonly Py_ssize_t row   # bytes of one row
    cdef object node          # plan node of one row
    cdef readonly str name    # name of the struct class, or "bool"
    cdef object _dtype        # made on first use, because it imports numpy
    cdef Check* checks        # owned
    cdef Py_ssize_t count
    cdef list paths           # paths of the checks, by index: ".side"

    cdef Py_ssize_t find_bad(self, const char* data, Py_ssize_t rows, Py_ssize_t* column) noexcept
