# Encodes numbers and bools that are not exactly an int, float or bool of fitting size.

from cpython.object cimport PyObject

from deli_com.coding.encoder cimport Encoder


# Encodes one number of the kind `code` at `p`, where there is room. May run Python code.
cdef int encode_number(Encoder* enc, int code, PyObject* v, char* p) noexcept
cdef int encode_bool(Encoder* enc, PyObject* v, char* p) noexcept

# A moment: any int that fits. May run Python code.
cdef int encode_nanoseconds(Encoder* enc, int code, PyObject* v, char* p) noexcept

# An integer of any kind, from `p` into a slot that may hold an int to be written over. -1: no memory.
cdef int put_integer(PyObject** slot, int code, const char* p) noexcept
# The same as `Nanoseconds`, into a slot that is NULL.
cdef int put_nanoseconds(PyObject** slot, int code, const char* p) noexcept
