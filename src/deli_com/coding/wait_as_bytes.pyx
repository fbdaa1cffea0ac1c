"""Which values may wait as bytes, and be decoded when they are taken.

The program must not notice the difference. So the bytes are checked on arrival, because invalid messages are
refused then. And decoding must run no code except the allocator's: no __post_init__, and no object with a GC
header, whose allocation may start the garbage collector and with it any finalizer.
"""

from cpython.object cimport PyTypeObject
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from deli_com.coding.program cimport (
    OP_BOOL,
    OP_BYTES,
    OP_ENTER,
    OP_ENUM,
    OP_F64,
    OP_LEAVE,
    OP_NEED,
    OP_OPTION,
    OP_SEALED,
    OP_STR,
    OP_U8,
    Op,
    Prog,
    Table,
)
from deli_com.ground.scalar cimport is_ascii, load_u8, load_u32
from deli_com.types.instance cimport record_type


cdef Plainness plainness(Prog* prog) noexcept:
    cdef Plainness result = PLAIN_ALWAYS
    cdef PyTypeObject* cls
    cdef Table* table
    cdef Py_ssize_t i, variant
    cdef int code
    for i in range(prog.count):
        code = prog.ops[i].code
        if code == OP_NEED or code == OP_LEAVE or OP_U8 <= code <= OP_F64:
            continue
        if code == OP_ENTER:
            cls = <PyTypeObject*>prog.ops[i].ref
            if record_type(cls).has_gc or record_type(cls).has_post_init:
                return NOT_PLAIN
        elif code == OP_SEALED:
            table = <Table*>prog.ops[i].ref
            for variant in range(table.count):
                if table.progs[variant].recursive or plainness(table.progs[variant]) == NOT_PLAIN:
                    return NOT_PLAIN
            result = PLAIN_IF_VALID
        elif code == OP_BOOL or code == OP_ENUM or code == OP_OPTION or code == OP_STR or code == OP_BYTES:
            if prog.leaf:
                return NOT_PLAIN  # a single object: waiting as bytes gains nothing
            result = PLAIN_IF_VALID
        else:
            return NOT_PLAIN
    return result


cdef bint is_plain_value(Prog* prog, const char* p, Py_ssize_t size) noexcept:
    return _end_of(prog, p, p + size) != NULL


cdef const char* _end_of(Prog* prog, const char* p, const char* end) noexcept:
    # The end of the value that begins at `p`; NULL: it is invalid, or its text is not ASCII.
    cdef Op* op = prog.ops
    cdef Op* last = op + prog.count
    cdef uint32_t number
    while op < last:
        if op.code == OP_NEED:
            if end - p < op.number:
                return NULL
        elif op.code == OP_BOOL:
            if load_u8(p) > 1:
                return NULL
            p += 1
        elif op.code == OP_OPTION:
            number = load_u8(p)
            if number > 1:
                return NULL
            p += 1
            if number == 0:
                op += op.number
        elif op.code == OP_ENUM:
            if load_u32(p) >= (<Table*>op.ref).count:
                return NULL
            p += 4
        elif op.code == OP_STR or op.code == OP_BYTES:
            if end - p < 4:
                return NULL
            number = load_u32(p)
            p += 4
            if number > <size_t>(end - p) or op.code == OP_STR and not is_ascii(p, number):
                return NULL
            p += number
        elif op.code == OP_SEALED:
            if end - p < 4 or load_u32(p) >= (<Table*>op.ref).count:
                return NULL
            p = _end_of((<Table*>op.ref).progs[load_u32(p)], p + 4, end)
            if p == NULL:
                return NULL
        else:  # a number; ENTER and LEAVE have no bytes
            p += op.size
        op += 1
    return p
