# The parts of the encoder share this: the state of one walk, and the cursor.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from deli_com.coding.program cimport OP_F32, OP_I8, OP_I16, OP_I32, OP_U8, OP_U16, OP_U32
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.scalar cimport store_u8, store_u16, store_u32, store_u64


cdef enum:
    MAX_LENGTH = 0xFFFFFFFF  # most bytes or elements that a u32 can count
    SLACK = 64               # bytes


cdef struct Encoder:
    WriteCursor* cur
    # `detail` is owned: a str with the reason, or an exception that the value's code has raised. NULL: an
    # exception is set instead.
    PyObject* detail
    PyObject* path         # owned list of path pieces, innermost first, or NULL
    int depth              # number of enclosing values of recursive types


ctypedef int (*grow_function)(WriteCursor* cur, Py_ssize_t need) noexcept


cdef inline int need_room(WriteCursor* cur, Py_ssize_t need, bint last) noexcept:
    # cursor_need for callers that check the result themselves. It reserves some extra bytes unless this is
    # the last part of the value: then a result of the exact size needs no second allocation.
    if cur.end - cur.pos < need:
        return (<grow_function>cur.grow)(cur, need if last else need + SLACK)
    return 0


cdef inline int number_size(int code) noexcept:
    if code == OP_U8 or code == OP_I8:
        return 1
    if code == OP_U16 or code == OP_I16:
        return 2
    if code == OP_U32 or code == OP_I32 or code == OP_F32:
        return 4
    return 8


cdef inline void store_int(char* p, int size, uint64_t raw) noexcept:
    # Writes an int of `size` bytes, 1 to 8, unsigned or in two's complement.
    if size == 1:
        store_u8(p, <uint8_t>raw)
    elif size == 2:
        store_u16(p, <uint16_t>raw)
    elif size == 4:
        store_u32(p, <uint32_t>raw)
    else:
        store_u64(p, raw)
