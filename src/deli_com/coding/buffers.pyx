"""Encodes buffers: foreign bytes-like values, arrays of numbers, structured arrays.

A buffer is accepted only if its memory is the value. It must have no pointers (objects, strings of variable
width), no gaps with undefined bytes between fields, and no mask that is stored elsewhere.
"""

import sys

from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport strlen

from deli_com.coding.columns cimport Columns
from deli_com.coding.encode_errors cimport (
    fail,
    fail_of_value,
    fail_made,
    mismatch,
    mismatch_of,
    note,
    note_index,
    number_name,
    shown_kind,
)
from deli_com.coding.encoder cimport Encoder, number_size
from deli_com.coding.program cimport OP_F32, OP_U64
from deli_com.ground.cpython cimport *

from array import array as _array_class

cdef object ARRAY_TYPE = _array_class


cdef object _no_buffer(object wanted, object value):
    return f"expected {wanted} in one C-contiguous buffer, got {shown_kind(value)}"


cdef object _no_memory_of_its_own(object wanted, PyObject* format):
    shown = (<bytes><char*>format).decode("latin-1")
    return f"expected {wanted}, got a buffer of format {shown!r}, whose memory is not the value"


cdef object _other_items(int code, Py_buffer* view):
    if view.ndim < 1:
        return (
            f"expected one dimension, got 0: one {number_name(code)} is no array of them; "
            "its ravel() has one"
        )
    shown = (<bytes>view.format).decode("latin-1") if view.format != NULL else "B"
    return (
        f"expected items of {number_name(code)}, got a buffer of format {shown!r} and "
        f"{view.itemsize} bytes an item"
    )


cdef object _masked(object value):
    # Whether it is a masked array, whose buffer does not show which items are masked.
    numpy = sys.modules.get("numpy.ma")
    return numpy is not None and isinstance(value, numpy.MaskedArray)


cdef object _not_rows(Columns table, object value):
    # Why `value` is not an array of these rows; None if it is.
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return f"expected an ndarray of {table.name}, got {shown_kind(value)}"
    if value.dtype != table.dtype:
        wanted = table.dtype if table.dtype.names is None else f"codec({table.name}).dtype, {table.dtype}"
        return f"expected dtype {wanted}, got {value.dtype}"
    return _not_flat(value) if value.ndim != 1 else None


cdef object _not_flat(object value):
    # For an array whose shape the wire cannot express: it would arrive with one dimension.
    shape = memoryview(value).shape
    return f"expected one dimension, got {len(shape)}, shape {shape}: its ravel() has one"


# The functions above in C: a new reference, or NULL with an exception set.
ctypedef PyObject* (*BufferFunction)(PyObject*, PyObject*) noexcept
ctypedef PyObject* (*ItemsFunction)(int, Py_buffer*) noexcept
ctypedef PyObject* (*ValueFunction)(PyObject*) noexcept
cdef BufferFunction _make_no_buffer = <BufferFunction><void*>_no_buffer
cdef BufferFunction _make_no_memory = <BufferFunction><void*>_no_memory_of_its_own
cdef ItemsFunction _make_other_items = <ItemsFunction><void*>_other_items
cdef ValueFunction _ask_masked = <ValueFunction><void*>_masked
cdef ValueFunction _make_not_flat = <ValueFunction><void*>_not_flat
cdef BufferFunction _ask_not_rows = <BufferFunction><void*>_not_rows

cdef extern from "deli_com/ground/plain.h":
    bint deli_com_is_plain(const char* format, Py_ssize_t itemsize) noexcept


cdef bint is_plain(Py_buffer* view) noexcept:
    return view.format == NULL or deli_com_is_plain(view.format, view.itemsize)


cdef int is_masked(PyObject* v) noexcept:
    # 1: it is a masked array; 0: it is not; -1: an exception is set.
    cdef PyObject* answer
    if not PyType_HasFeature(Py_TYPE(v), Py_TPFLAGS_HEAPTYPE):
        return 0  # masked arrays are a Python class
    answer = _ask_masked(v)
    if answer == NULL:
        return -1
    Py_DECREF(answer)
    return answer == Py_True


cdef int encode_foreign_bytes(Encoder* enc, PyObject* v, bint last) noexcept:
    cdef Py_buffer view
    cdef int status
    if not PyObject_CheckBuffer(v):
        return mismatch(enc, "bytes", v)
    if open_buffer(enc, v, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, "bytes") < 0:
        return -1
    status = write_sized(enc, <const char*>view.buf, view.len, view.len, last)
    PyBuffer_Release(&view)
    return status


cdef int open_buffer(Encoder* enc, PyObject* v, Py_buffer* view, int flags, str wanted) noexcept:
    # Gets a view of `v`, which the caller releases. May run Python code. Exported memory does not move until
    # then.
    cdef int status
    if Py_TYPE(v) != <PyTypeObject*>ARRAY_TYPE:  # array.array is a heap type too, but has no mask
        status = is_masked(v)
        if status > 0:
            return mismatch_of(enc, "{} without a mask", wanted, v)
        if status < 0:
            return -1
    Py_INCREF(v)
    status = PyObject_GetBuffer(v, view, flags)
    if status == 0:
        if not is_plain(view):
            status = fail_made(
                enc, _make_no_memory(<PyObject*>wanted, <PyObject*>view.format), "is a buffer of other items"
            )
            PyBuffer_Release(view)
    elif (
        PyErr_ExceptionMatches(PyExc_BufferError)
        or PyErr_ExceptionMatches(PyExc_TypeError)
        or PyErr_ExceptionMatches(PyExc_ValueError)
    ):
        PyErr_Clear()
        fail_made(enc, _make_no_buffer(<PyObject*>wanted, v), "is no C-contiguous buffer")
    else:
        fail_of_value(enc)
    Py_DECREF(v)  # the view holds its own reference
    return status


cdef bint _matches(int code, Py_buffer* view) noexcept:
    # Whether the items of `view` have this kind, in the byte order of this machine.
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
        return fail_made(enc, _make_not_flat(v), "has not one dimension")
    status = write_sized(enc, <const char*>view.buf, view.len, view.len // number_size(code), last)
    PyBuffer_Release(&view)
    return status


cdef int numbers_view(Encoder* enc, int code, PyObject* v, Py_buffer* view) noexcept:
    # Gets a view of a buffer of numbers of this kind, which the caller releases.
    if not PyObject_CheckBuffer(v):
        return mismatch_of(enc, "a buffer of {}", number_name(code), v)
    if open_buffer(enc, v, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, number_name(code)) < 0:
        return -1
    if view.ndim < 1 or not _matches(code, view):
        fail_made(enc, _make_other_items(code, view), "is a buffer of other items")
        PyBuffer_Release(view)
        return -1
    return 0


cdef int encode_structured(Encoder* enc, PyObject* columns, PyObject* v, bint last) noexcept:
    # A structured array, as the bytes of a list of structs.
    cdef Columns table = <Columns><object>columns
    cdef Py_buffer view
    cdef Py_ssize_t bad, column = 0
    cdef int status
    cdef PyObject* trouble
    if v == NULL:
        return fail(enc, "is not set")
    trouble = _ask_not_rows(columns, v)
    if trouble != Py_None:
        return fail_made(enc, trouble, "is no structured array of the right dtype")
    Py_DECREF(trouble)
    if open_buffer(enc, v, &view, PyBUF_SIMPLE, "a structured array") < 0:
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
