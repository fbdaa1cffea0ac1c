# The state of one walk of the decoder, and its record of a fault.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from deli_com.coding.program cimport Op
from deli_com.ground.cpython cimport PyBytes_AS_STRING
from deli_com.ground.scalar cimport load_u32


cdef enum Fault:
    FAULT_NONE         # an exception is set
    FAULT_EOF
    FAULT_UTF8
    FAULT_BOOL
    FAULT_VARIANT
    FAULT_EMPTY        # too many elements without bytes
    FAULT_DEPTH
    FAULT_REFUSED      # by __post_init__; `cause` is what it raised
    FAULT_SHAPE        # `cause` says which there should be
    FAULT_UNKNOWN      # a whole message of a variant that the reader lacks


cdef struct Decoder:
    const char* start
    const char* end
    const char* p
    int fault
    const char* at         # where in the input
    uint32_t number        # what was found there
    PyObject* cause        # owned, with FAULT_REFUSED and FAULT_SHAPE only
    PyObject* path         # owned list of pieces, innermost first, or NULL
    int depth              # values of recursive types around this one


cdef inline int decode_fail(Decoder* dec, int fault, const char* at) noexcept:
    dec.fault = fault
    dec.at = at
    return -1


cdef inline uint32_t row_index(Op* op, uint32_t index) noexcept:
    # The reader's index of a member in a row; NO_MEMBER if the reader lacks it.
    return index if op.ref == NULL else load_u32(PyBytes_AS_STRING(<PyObject*>op.ref) + 4 * <Py_ssize_t>index)


# Add a piece to the path of a fault, innermost first. They do nothing if an exception is set instead.
cdef void decode_note(Decoder* dec, object piece) noexcept
cdef void decode_note_index(Decoder* dec, Py_ssize_t i) noexcept

# Records that `__post_init__` of the value that ends at `p` has raised.
cdef void refused(Decoder* dec, const char* p) noexcept

# A run is longer than the remaining bytes. Finds the operation at which decoding field by field would stop.
# That may be an invalid value before the end of the bytes.
cdef Op* fail_run(Decoder* dec, Op* need, const char* p) noexcept

# Raises the error of a failed walk.
cdef int report_fault(Decoder* dec, str name) except -1
