from cpython.object cimport PyObject

from deli_com._program cimport Prog


# Reads one value at `data[pos[0]]` out of `size` bytes and moves `pos` behind it. Raises
# DecodeError, or what a __post_init__ raised. `name` starts the path of an error.
cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name)


# The same for exactly `size` bytes, if any bytes are a value (`Prog.numbers`): a new reference.
cdef PyObject* decode_numbers(Prog* prog, const char* data, Py_ssize_t size) except NULL
