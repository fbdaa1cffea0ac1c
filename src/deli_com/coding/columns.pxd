from libc.stdint cimport uint32_t


cdef struct Check:
    Py_ssize_t offset         # of the column from the start of a row, in bytes
    uint32_t limit            # first u32 that is no member; 0: a bool


cdef class Columns:
    cdef readonly Py_ssize_t row   # bytes of one item
    cdef object node          # of one item
    cdef readonly str name    # of the struct class, or "bool"
    cdef object _dtype        # made at the first need: numpy is imported only if used
    cdef Check* checks        # owned
    cdef Py_ssize_t count
    cdef list paths           # of the checks, by index: ".side"

    cdef Py_ssize_t find_bad(self, const char* data, Py_ssize_t rows, Py_ssize_t* column) noexcept
