"""Where a value is written that becomes a new `bytes`, or goes onto a bytearray.

A small value stays on the C stack. A larger one is written into a `bytes` that grows, and that is the result.
"""

from cpython.object cimport PyObject
from libc.string cimport memcpy

from deli_com.ground.cpython cimport *
from deli_com.ground.cursor cimport WriteCursor


cdef int scratch_grow(WriteCursor* cur, Py_ssize_t need) except -1:
    cdef Scratch* scratch = <Scratch*>cur
    cdef Py_ssize_t used = cur.pos - scratch.start
    cdef Py_ssize_t size
    if need > (<Py_ssize_t>1 << 62):
        raise MemoryError
    # Doubles for small additions; grows by the exact size for large ones.
    size = used + (need if used < need else used)
    if scratch.made != NULL:
        if _PyBytes_Resize(&scratch.made, size) < 0:
            return -1
    else:
        scratch.made = PyBytes_FromStringAndSize(NULL, size)
        if scratch.made == NULL:
            return -1
        memcpy(PyBytes_AS_STRING(scratch.made), scratch.start, used)
    scratch.start = PyBytes_AS_STRING(scratch.made)
    cur.pos = scratch.start + used
    cur.end = scratch.start + size
    return 0


cdef void scratch_close(Scratch* scratch) noexcept:
    Py_XDECREF(scratch.made)
    Py_XDECREF(scratch.cur.tail)  # the encoder made this reference


cdef PyObject* scratch_join(Scratch* scratch, Py_ssize_t head) noexcept:
    # The trailing bytes were kept by reference. They are copied once, here.
    cdef PyObject* tail = scratch.cur.tail
    cdef PyObject* result = PyBytes_FromStringAndSize(NULL, head + PyBytes_GET_SIZE(tail))
    if result != NULL:
        memcpy(PyBytes_AS_STRING(result), scratch.start, head)
        memcpy(PyBytes_AS_STRING(result) + head, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    scratch_close(scratch)
    return result
