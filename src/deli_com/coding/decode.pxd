from cpython.object cimport PyObject

from deli_com.coding.decode_errors cimport Decoder
from deli_com.coding.program cimport Op, Prog


# Decodes one value at `data[pos[0]]` out of `size` bytes, and moves `pos` to its end. Raises DecodeError,
# or the exception of a __post_init__. `name` starts the path of an error.
cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name)


# The same for bytes that are known to be a value, of a type that runs no user code (`wait_as_bytes`).
cdef PyObject* decode_plain(Prog* prog, const char* data, Py_ssize_t size) except NULL


# --- for resolved.pyx, which reads another writer's values ---

# Runs one operation at `dec.p`, and moves that. Returns the number of operations to skip; -1: a fault.
ctypedef Py_ssize_t (*other_operation)(Decoder* dec, Op* op, char* base) noexcept

# Sets the function for the operations that the walker does not know.
cdef void decode_others_by(other_operation function) noexcept

# Decodes one value into the slot at `base`. -1: a fault, or an exception is set.
cdef int decode_prog(Decoder* dec, Prog* prog, char* base) noexcept

# A new reference; NULL: a fault, or an exception is set.
cdef PyObject* decode_str(Decoder* dec, const char** at) noexcept
