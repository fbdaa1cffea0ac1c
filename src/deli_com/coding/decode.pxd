from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from deli_com.coding.program cimport Op, Prog
from deli_com.ground.cpython cimport PyBytes_AS_STRING
from deli_com.ground.scalar cimport load_u32


# Reads one value at `data[pos[0]]` out of `size` bytes and moves `pos` behind it. Raises
# DecodeError, or what a __post_init__ raised. `name` starts the path of an error.
cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name)


# The same for bytes that are a value, of a type without code of the user's (`wait_as_bytes`).
cdef PyObject* decode_plain(Prog* prog, const char* data, Py_ssize_t size) except NULL


# --- for resolved.pyx, which reads what another writer sends ---

cdef enum Fault:
    FAULT_NONE         # an exception is set
    FAULT_EOF
    FAULT_UTF8
    FAULT_BOOL
    FAULT_VARIANT
    FAULT_EMPTY        # too many elements without a size
    FAULT_DEPTH
    FAULT_REFUSED      # by __post_init__; `cause` is what it raised
    FAULT_UNKNOWN      # a whole message of a variant that the reader lacks


cdef struct Decoder:
    const char* start
    const char* end
    const char* p
    int fault
    const char* at         # where in the input
    uint32_t number        # what was found there
    PyObject* cause        # owned, with FAULT_REFUSED only
    PyObject* path         # owned list of pieces, innermost first, or NULL
    int depth              # values of recursive types around this one


# Reads what one operation says at `dec.p`, and moves that. Operations to go over besides; -1: a fault.
ctypedef Py_ssize_t (*other_operation)(Decoder* dec, Op* op, char* base) noexcept

# Who knows the operations that the walker does not.
cdef void decode_others_by(other_operation function) noexcept

# One value into the slot at `base`. -1: a fault, or an exception is set.
cdef int decode_prog(Decoder* dec, Prog* prog, char* base) noexcept

# Pieces of the path of a fault, innermost first.
cdef void decode_note(Decoder* dec, object piece) noexcept
cdef void decode_note_index(Decoder* dec, Py_ssize_t i) noexcept

# A new reference; NULL: a fault, or an exception is set.
cdef PyObject* decode_str(Decoder* dec, const char** at) noexcept


cdef inline int decode_fail(Decoder* dec, int fault, const char* at) noexcept:
    dec.fault = fault
    dec.at = at
    return -1


cdef inline uint32_t row_index(Op* op, uint32_t index) noexcept:
    # The reader's index of a member, in a row; NO_MEMBER: it has none.
    return index if op.ref == NULL else load_u32(PyBytes_AS_STRING(<PyObject*>op.ref) + 4 * <Py_ssize_t>index)
