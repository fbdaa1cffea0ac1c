from cpython.object cimport PyObject

from deli_com.coding.program cimport Prog


# Reads one value at `data[pos[0]]` out of `size` bytes and moves `pos` behind it. Raises
# DecodeError, or what a __post_init__ raised. `name` starts the path of an error.
cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name)


# The same for bytes that are a value, of a type without code of the user's (`wait_as_bytes`).
cdef PyObject* decode_plain(Prog* prog, const char* data, Py_ssize_t size) except NULL
