"""Finds the end of a value without decoding it: it reads only lengths and flags."""

from libc.stdint cimport uint32_t

from deli_com.coding.columns cimport Columns
from deli_com.coding.encoder cimport number_size
from deli_com.coding.program cimport (
    MAX_DEPTH,
    MAX_EMPTY,
    OP_ARRAY,
    OP_BYTES,
    OP_CALL,
    OP_FIXED,
    OP_LIST,
    OP_NDARRAY,
    OP_NEED,
    OP_OPTION,
    OP_SEALED,
    OP_STR,
    OP_STRUCTURED,
    OP_TUPLE,
    Op,
    Prog,
    Table,
)
from deli_com.ground.scalar cimport load_u8, load_u32


cdef const char* pass_over(Prog* prog, const char* p, const char* end, int depth) noexcept:
    cdef Op* op = prog.ops
    cdef Op* last = op + prog.count
    cdef uint32_t number
    cdef int code
    if depth > MAX_DEPTH:
        return NULL
    while op < last:
        code = op.code
        if code == OP_NEED:
            if end - p < op.number:
                return NULL
        elif code == OP_OPTION:
            if load_u8(p) == 0:
                op += op.number
            p += 1
        elif code < OP_OPTION:  # in a run; ENTER and LEAVE have no bytes
            p += op.size
        elif code == OP_CALL:
            p = pass_over(<Prog*>op.ref, p, end, depth + 1)
            if p == NULL:
                return NULL
        elif code == OP_FIXED:
            p = _pass_items(<Prog*>op.ref, op.number, p, end, depth)
            if p == NULL:
                return NULL
        elif code <= OP_SEALED:
            if end - p < 4:
                return NULL
            number = load_u32(p)
            p += 4
            if code == OP_STR or code == OP_BYTES:
                p = _pass_bytes(number, 1, p, end)
            elif code == OP_LIST or code == OP_TUPLE:
                p = _pass_items(<Prog*>op.ref, number, p, end, depth)
            elif code == OP_ARRAY or code == OP_NDARRAY:
                p = _pass_bytes(number, number_size(op.kind), p, end)
            elif code == OP_STRUCTURED:
                p = _pass_bytes(number, (<Columns>op.ref).row, p, end)
            elif number < (<Table*>op.ref).count:  # OP_SEALED
                p = pass_over((<Table*>op.ref).progs[number], p, end, depth + 1)
            else:
                return NULL
            if p == NULL:
                return NULL
        else:
            return NULL
        op += 1
    return p


cdef inline const char* _pass_bytes(uint32_t count, Py_ssize_t size, const char* p, const char* end) noexcept:
    return p + count * size if <Py_ssize_t>count <= (end - p) // size else NULL


cdef const char* _pass_items(
    Prog* item, Py_ssize_t count, const char* p, const char* end, int depth
) noexcept:
    if item.fixed and item.min_size > 0:
        return p + count * item.min_size if count <= (end - p) // item.min_size else NULL
    if item.min_size == 0 and count > MAX_EMPTY:
        return NULL
    for _ in range(count):
        p = pass_over(item, p, end, depth + 1)
        if p == NULL:
            return NULL
    return p
