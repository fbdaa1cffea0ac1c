from deli_com.coding.program cimport Prog


cdef enum Plainness:
    NOT_PLAIN        # to be decoded when it comes
    PLAIN_IF_VALID   # `is_plain_value` tells of each value
    PLAIN_ALWAYS     # any `min_size` bytes are a value


cdef Plainness plainness(Prog* prog) noexcept

# Whether a value begins at `p` and ends within `size` bytes. False also where only decoding it would tell.
cdef bint is_plain_value(Prog* prog, const char* p, Py_ssize_t size) noexcept
