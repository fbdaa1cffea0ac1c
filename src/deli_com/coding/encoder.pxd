# What the parts of the encoder share: the state of one walk, and where it writes.

from cpython.object cimport PyObject

from deli_com.coding.program cimport OP_F32, OP_I8, OP_I16, OP_I32, OP_U8, OP_U16, OP_U32
from deli_com.ground.cpython cimport Py_TYPE, Py_TPFLAGS_HEAPTYPE, PyType_HasFeature
from deli_com.ground.cursor cimport WriteCursor


cdef enum:
    MAX_LENGTH = 0xFFFFFFFF  # bytes or elements that a u32 can count
    SLACK = 64               # bytes


cdef struct Encoder:
    WriteCursor* cur
    # `detail` is owned: a str, what is wrong, or what code of the value has raised; NULL: an exception is
    # set, or `inexact`.
    PyObject* detail
    PyObject* path         # owned list of pieces, innermost first, or NULL
    int depth              # values of recursive types around this one
    bint exact_only        # stop before Python code would run
    bint inexact           # stopped so


ctypedef int (*grow_function)(WriteCursor* cur, Py_ssize_t need) noexcept


cdef inline int need_room(WriteCursor* cur, Py_ssize_t need, bint last) noexcept:
    # cursor_need for callers that look at the result themselves. Asks for some room on top unless
    # this is the last of the value: then a result of its exact size needs no second allocation.
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


cdef inline bint would_run_python(Encoder* enc, PyObject* v) noexcept:
    # Methods of static types are C; those of heap types may be Python.
    if enc.exact_only and PyType_HasFeature(Py_TYPE(v), Py_TPFLAGS_HEAPTYPE):
        enc.inexact = True
        return True
    return False
