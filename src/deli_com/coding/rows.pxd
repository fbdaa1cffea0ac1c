# Structured arrays of another writer, whose rows are converted to the reader's dtype.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint8_t

from deli_com.coding.columns cimport Columns
from deli_com.coding.decode_errors cimport Decoder
from deli_com.coding.program cimport OP_U8, Op, Prog, Program


cdef extern from "deli_com/coding/rows.h" nogil:
    enum:
        DC_PICK
        DC_NOTHING

    ctypedef struct RowStep:
        int32_t to
        int32_t[3] start
        uint8_t has_second
        uint8_t has_floats
        uint8_t is_more
        uint8_t[3][16] pick
        uint8_t[16] place
        uint8_t[16] constant

    void dc_widen(int source, int target, const char* p, Py_ssize_t step, char* to, Py_ssize_t room,
                  Py_ssize_t count) noexcept
    void dc_copy(Py_ssize_t size, const char* p, Py_ssize_t step, char* to, Py_ssize_t room,
                 Py_ssize_t count) noexcept
    bint dc_can_shuffle() noexcept
    bint dc_step(const RowStep* step, const char* p, Py_ssize_t size, char* to, Py_ssize_t room,
                 Py_ssize_t count) noexcept


# Reads a structured array field by field.
cdef class RowReader:
    cdef Columns columns      # columns of the reader
    cdef Program program      # program of one row of the writer; slots are offsets in the reader's row
    cdef Prog* prog
    cdef bint is_flat         # rows of the writer have a fixed size, so columns can be read one by one
    cdef RowStep* steps       # owned; NULL: only column by column
    cdef Py_ssize_t step_count
    cdef Py_ssize_t reach     # bytes from the start of a writer's row that the steps read
    cdef Py_ssize_t extent    # bytes from the start of a reader's row that the steps write
    cdef bytearray in_steps   # by operation: whether the steps store its value


# Decodes a structured array; NULL: a fault, or an exception is set.
cdef PyObject* read_rows(Decoder* dec, RowReader rows) noexcept

# Runs one operation of a row's program. `to`: the target in the reader's row.
cdef Py_ssize_t read_in_row(Decoder* dec, Op* op, char* to) noexcept


cdef inline void widen(
    int source, int target, const char* p, Py_ssize_t step, char* to, Py_ssize_t room, Py_ssize_t count
) noexcept:
    # Converts `count` numbers of the kind `source`, `step` bytes apart, to numbers of a wider kind, `room`
    # bytes apart.
    dc_widen(source - OP_U8, target - OP_U8, p, step, to, room, count)
