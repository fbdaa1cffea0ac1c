# Encodes numbers and bools that are not exactly an int, float or bool of fitting size.

from cpython.object cimport PyObject

from deli_com.coding.encoder cimport Encoder


# Encodes one number of the kind `code` at `p`, where there is room. May run Python code.
cdef int encode_number(Encoder* enc, int code, PyObject* v, char* p) noexcept
cdef int encode_bool(Encoder* enc, PyObject* v, char* p) noexcept
