from cpython.object cimport PyObject

from deli_com.coding.program cimport Prog
from deli_com.ground.cursor cimport WriteCursor


# Encodes one value at the cursor. Raises EncodeError, or the exception of a `__index__`, `__float__` or
# `__buffer__` of the value. The bytes written so far are then undefined. `name` starts the path of an error.
cdef int encode_root(Prog* prog, WriteCursor* cur, PyObject* value, str name) except -1

# The same into a new `bytes`, and to the end of a bytearray.
cdef object encode_to_bytes(Prog* prog, PyObject* value, str name)
cdef int encode_append(Prog* prog, object value, str name, object buf) except -1
