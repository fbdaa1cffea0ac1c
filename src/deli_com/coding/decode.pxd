from cpython.object cimport PyObject

from deli_com.coding.decode_errors cimport Decoder
from deli_com.coding.program cimport Op, Prog


# Reads one value at `data[pos[0]]` out of `size` bytes and moves `pos` behind it. Raises
# DecodeError, or what a __post_init__ raised. `name` starts the path of an error.
cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name)


# The same for bytes that are a value, of a type without code of the user's (`wait_as_bytes`).
cdef PyObject* decode_plain(Prog* prog, const char* data, Py_ssize_t size) except NULL


# --- for resolved.pyx, which reads what another writer sends ---

# Reads what one operation says at `dec.p`, and moves that. Operations to go over besides; -1: a fault.
ctypedef Py_ssize_t (*other_operation)(Decoder* dec, Op* op, char* base) noexcept

# Who knows the operations that the walker does not.
cdef void decode_others_by(other_operation function) noexcept

# One value into the slot at `base`. -1: a fault, or an exception is set.
cdef int decode_prog(Decoder* dec, Prog* prog, char* base) noexcept

# A new reference; NULL: a fault, or an exception is set.
cdef PyObject* decode_str(Decoder* dec, const char** at) noexcept
