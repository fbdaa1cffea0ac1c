from deli_com.coding.program cimport Prog


cdef enum Plainness:
    NOT_PLAIN        # must be decoded on arrival
    PLAIN_IF_VALID   # ask `is_plain_value` for each value
    PLAIN_ALWAYS     # any `min_size` bytes are a valid value


cdef Plainness plainness(Prog* prog) noexcept

# Whether a valid value begins at `p` and ends within `size` bytes. False also if only decoding could tell.
cdef bint is_plain_value(Prog* prog, const char* p, Py_ssize_t size) noexcept
