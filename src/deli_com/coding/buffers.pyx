"""Buffers: foreign bytes-like values, arrays of numbers, structured arrays."""

import sys

from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport strlen

from deli_com.coding.columns cimport Columns
from deli_com.coding.encode_errors cimport (
    fail,
    fail_of_value,
    mismatch,
    mismatch_of,
    note,
    note_index,
    number_name,
)
from deli_com.coding.encoder cimport Encoder, number_size, would_run_python
from deli_com.coding.program cimport OP_F32, OP_U64
from deli_com.ground.cpython cimport *

from array import array as _array_class

cdef object ARRAY_TYPE = _array_class


cdef int encode_foreign_bytes(Encoder* enc, PyObject* v, bint last) noexcept:
    cdef Py_buffer view
    cdef int status
    if not PyObject_CheckBuffer(v):
        return mismatch(enc, "bytes", v)
    if open_buffer(enc, v, &view, PyBUF_SIMPLE, "bytes") < 0:
        return -1
    status = write_sized(enc, <const char*>view.buf, view.len, view.len, last)
    PyBuffer_Release(&view)
    return status


cdef int open_buffer(Encoder* enc, PyObject* v, Py_buffer* view, int flags, str wanted) noexcept:
    # A view of `v`, to be released. May run Python code; what it exports stays put until then.
    if not _exact_exporter(v) and would_run_python(enc, v):
        return -1
    Py_INCREF(v)
    if PyObject_GetBuffer(v, view, flags) == 0:
        Py_DECREF(v)  # the view holds one of its own
        return 0
    if not (
        PyErr_ExceptionMatches(PyExc_BufferError)
        or PyErr_ExceptionMatches(PyExc_TypeError)
        or PyErr_ExceptionMatches(PyExc_ValueError)
    ):
        Py_DECREF(v)
        return fail_of_value(enc)
    PyErr_Clear()
    try:
        fail(enc, f"expected {wanted} in one C-contiguous buffer, got {type(<object>v).__qualname__}")
    except BaseException:
        fail(enc, "is no C-contiguous buffer")
    Py_DECREF(v)
    return -1


cdef bint _exact_exporter(PyObject* v) noexcept:
    # array.array is a heap type, but written in C.
    return Py_TYPE(v) == <PyTypeObject*>ARRAY_TYPE


cdef bint _matches(int code, Py_buffer* view) noexcept:
    # Whether the items of `view` are of this kind, in this machine's byte order.
    cdef const char* format = view.format
    cdef char letter
    if format == NULL:
        format = b"B"
    letter = format[0]
    if letter == b"@" or letter == b"=" or letter == b"<" or (
        (letter == b">" or letter == b"!") and view.itemsize == 1
    ):
        format += 1
        letter = format[0]
    if view.itemsize != number_size(code) or strlen(format) != 1:
        return False
    if code >= OP_F32:
        return letter == b"f" or letter == b"d"
    if code <= OP_U64:
        return letter in b"BHILQN"
    return letter in b"bhilqn"


cdef int encode_array(Encoder* enc, int code, PyObject* v, bint flat_only, bint last) noexcept:
    cdef Py_buffer view
    cdef int status
    if numbers_view(enc, code, v, &view) < 0:
        return -1
    if flat_only and view.ndim != 1:
        PyBuffer_Release(&view)
        return wrong_shape(enc, <object>v)
    status = write_sized(enc, <const char*>view.buf, view.len, view.len // number_size(code), last)
    PyBuffer_Release(&view)
    return status


cdef int wrong_shape(Encoder* enc, object value) noexcept:
    # An array whose shape the wire cannot say: it would arrive as a flat one.
    try:
        shape = memoryview(value).shape
        return fail(enc, f"expected one dimension, got {len(shape)}, shape {shape}: its ravel() has one")
    except BaseException:
        return fail(enc, "has not one dimension")


cdef int numbers_view(Encoder* enc, int code, PyObject* v, Py_buffer* view) noexcept:
    # A view of a buffer of numbers of this kind, to be released.
    if not PyObject_CheckBuffer(v):
        return mismatch_of(enc, "a buffer of {}", number_name(code), v)
    if open_buffer(enc, v, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, number_name(code)) < 0:
        return -1
    if view.ndim < 1 or not _matches(code, view):
        try:
            shown = (<bytes>view.format).decode("latin-1") if view.format != NULL else "B"
            got = f"a buffer of format {shown!r} and {view.itemsize} bytes an item"
            fail(enc, f"expected items of {number_name(code)}, got {got}")
        except BaseException:
            fail(enc, "is a buffer of other items")
        PyBuffer_Release(view)
        return -1
    return 0


cdef int encode_structured(Encoder* enc, PyObject* columns, PyObject* v, bint last) noexcept:
    # A structured array, as the bytes of a list of structs.
    cdef Columns table = <Columns><object>columns
    cdef Py_buffer view
    cdef Py_ssize_t bad, column = 0
    cdef int status
    try:
        value = <object>v
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray):
            return mismatch_of(enc, "an ndarray of {}", table.name, v)
        if value.dtype != table.dtype:
            wanted = table.dtype if table.dtype.names is None else f"codec({table.name}).dtype, {table.dtype}"
            return fail(enc, f"expected dtype {wanted}, got {value.dtype}")
        if value.ndim != 1:
            return wrong_shape(enc, value)
    except BaseException:
        return fail(enc, "is no structured array of the right dtype")
    if open_buffer(enc, v, &view, PyBUF_SIMPLE, table.name) < 0:
        return -1
    bad = table.find_bad(<const char*>view.buf, view.len // table.row, &column)
    if bad >= 0:
        status = fail(enc, "is a number that the column cannot hold")
        note(enc, table.paths[column])
        note_index(enc, bad)
    else:
        status = write_sized(enc, <const char*>view.buf, view.len, view.len // table.row, last)
    PyBuffer_Release(&view)
    return status
