"""Encodes buffers: foreign bytes-like values, arrays of numbers, structured arrays.

A buffer is accepted only if its memory is the value. It must have no pointers (objects, strings of variable
width), no gaps with undefined bytes between fields, and no mask that is stored elsewhere.
"""

import sys

from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport strlen

from deli_com.coding.columns cimport Columns
from deli_com.coding.encode_errors cimport (
    encode_note,
    encode_note_index,
    fail,
    fail_of_value,
    fail_made,
    mismatch,
    mismatch_of,
    number_name,
    shown_kind,
)
from deli_com.coding.encoder cimport Encoder, number_size
from deli_com.coding.program cimport OP_F32, OP_U8, OP_U64
from deli_com.ground.cpython cimport *

from array import array as _array_class

from deli_com.coding.foreign import as_array, hint_for

cdef tuple NUMPY_NAMES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64",
)
cdef object ARRAY_TYPE = _array_class


cdef object _no_buffer(object wanted, object value):
    return f"expected {wanted} in one C-contiguous buffer, got {shown_kind(value)}{hint_for(value)}"


cdef object _no_memory_of_its_own(object wanted, PyObject* format):
    shown = (<bytes><char*>format).decode("latin-1")
    return f"expected {wanted}, got a buffer of format {shown!r}, whose memory is not the value"


cdef object _other_items(int code, Py_buffer* view, object value):
    if view.ndim < 1:
        return (
            f"expected one dimension, got 0: one {number_name(code)} is no array of them; "
            "its ravel() has one"
        )
    shown = (<bytes>view.format).decode("latin-1") if view.format != NULL else "B"
    dtype = getattr(value, "dtype", None)
    which = "" if dtype is None else f", dtype {dtype}"
    if which and getattr(dtype, "kind", "f") in "biuf":
        which += f": .astype(np.{NUMPY_NAMES[code - OP_U8]}) converts"
    return (
        f"expected items of {number_name(code)}, got a buffer of format {shown!r} and "
        f"{view.itemsize} bytes an item{which}"
    )


cdef object _is_of_numbers(object value):
    # Whether format b means signed numbers there; others say it of bytes (pyarrow's Buffer does).
    numpy = sys.modules.get("numpy")
    return isinstance(value, ARRAY_TYPE) or numpy is not None and isinstance(value, numpy.ndarray)


cdef object _foreign(object value):
    found = as_array(value)
    return f"expected an array, {found}" if isinstance(found, str) else found


cdef object _masked(object value):
    # Whether it is a masked array, whose buffer does not show which items are masked.
    numpy = sys.modules.get("numpy.ma")
    return numpy is not None and isinstance(value, numpy.MaskedArray)


cdef object _not_rows(Columns table, object value, bint flat_only):
    # Why it is no array of these rows, or None. `...`: it is no array of numpy.
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return ...
    if value.dtype != table.dtype:
        wanted = table.dtype if table.dtype.names is None else f"codec({table.name}).dtype, {table.dtype}"
        return f"expected dtype {wanted}, got {value.dtype}"
    return _not_flat(value) if flat_only and value.ndim != 1 else None


cdef object _not_flat(object value):
    # An array whose shape the wire cannot say: it would arrive as a flat one.
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple):
        shape = memoryview(value).shape
    shape = tuple(shape)
    return f"expected one dimension, got {len(shape)}, shape {shape}: its ravel() has one"


# The functions above in C: a new reference, or NULL with an exception set.
ctypedef PyObject* (*BufferFunction)(PyObject*, PyObject*) noexcept
ctypedef PyObject* (*ItemsFunction)(int, Py_buffer*, PyObject*) noexcept
ctypedef PyObject* (*ValueFunction)(PyObject*) noexcept
cdef BufferFunction _make_no_buffer = <BufferFunction><void*>_no_buffer
cdef BufferFunction _make_no_memory = <BufferFunction><void*>_no_memory_of_its_own
cdef ItemsFunction _make_other_items = <ItemsFunction><void*>_other_items
cdef ValueFunction _ask_masked = <ValueFunction><void*>_masked
cdef ValueFunction _make_not_flat = <ValueFunction><void*>_not_flat
cdef ValueFunction _ask_of_numbers = <ValueFunction><void*>_is_of_numbers
cdef ValueFunction _make_foreign = <ValueFunction><void*>_foreign
ctypedef PyObject* (*RowsFunction)(PyObject*, PyObject*, bint) noexcept
cdef RowsFunction _ask_not_rows = <RowsFunction><void*>_not_rows

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


cdef bint _matches(int code, Py_buffer* view, PyObject* v) noexcept:
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
    if code == OP_U8 and (letter == b"c" or letter == b"b"):
        return letter == b"c" or not _has_numbers(v)
    if code <= OP_U64:
        return letter in b"BHILQN"
    return letter in b"bhilqn"


cdef bint _has_numbers(PyObject* v) noexcept:
    cdef PyObject* answer = _ask_of_numbers(v)
    if answer == NULL:
        PyErr_Clear()
        return True
    Py_DECREF(answer)
    return answer == Py_True


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
        return _foreign_view(enc, code, v, view)
    if open_buffer(enc, v, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, number_name(code)) < 0:
        return -1
    if view.ndim < 1 or not _matches(code, view, v):
        fail_made(enc, _make_other_items(code, view, v), "is a buffer of other items")
        PyBuffer_Release(view)
        return -1
    return 0


cdef int _foreign_view(Encoder* enc, int code, PyObject* v, Py_buffer* view) noexcept:
    # The same of another library's column or tensor. May run Python code.
    cdef PyObject* made
    cdef int status
    Py_INCREF(v)
    made = _make_foreign(v)
    if made == NULL:
        status = fail_of_value(enc)
    elif made == Py_None:
        status = mismatch_of(enc, "a buffer of {}", number_name(code), v)
        Py_DECREF(made)
    elif PyUnicode_Check(made):
        status = fail_made(enc, made, "")
    else:
        status = numbers_view(enc, code, made, view)  # which keeps it
        Py_DECREF(made)
    Py_DECREF(v)
    return status


cdef int encode_structured(
    Encoder* enc, PyObject* columns, PyObject* v, bint flat_only, bint last
) noexcept:
    # A structured array, as the bytes of a list of structs.
    cdef Columns table = <Columns><object>columns
    cdef Py_buffer view
    cdef Py_ssize_t bad, column = 0
    cdef int status
    cdef PyObject* trouble
    if v == NULL:
        return fail(enc, "is not set")
    trouble = _ask_not_rows(columns, v, flat_only)
    if trouble == <PyObject*>Ellipsis:
        Py_DECREF(trouble)
        return _encode_foreign_rows(enc, columns, v, flat_only, last)
    if trouble != Py_None:
        return fail_made(enc, trouble, "is no structured array of the right dtype")
    Py_DECREF(trouble)
    if open_buffer(enc, v, &view, PyBUF_SIMPLE, "a structured array") < 0:
        return -1
    bad = table.find_bad(<const char*>view.buf, view.len // table.row, &column)
    if bad >= 0:
        status = fail(enc, "is a number that the column cannot hold")
        encode_note(enc, table.paths[column])
        encode_note_index(enc, bad)
    else:
        status = write_sized(enc, <const char*>view.buf, view.len, view.len // table.row, last)
    PyBuffer_Release(&view)
    return status


cdef int _encode_foreign_rows(
    Encoder* enc, PyObject* columns, PyObject* v, bint flat_only, bint last
) noexcept:
    # The same of another library's column or tensor of bools. May run Python code.
    cdef PyObject* made
    cdef int status
    Py_INCREF(v)
    made = _make_foreign(v)
    if made == NULL:
        status = fail_of_value(enc)
    elif made == Py_None:
        status = mismatch_of(enc, "an ndarray of {}", (<Columns><object>columns).name, v)
        Py_DECREF(made)
    elif PyUnicode_Check(made):
        status = fail_made(enc, made, "")
    else:
        status = encode_structured(enc, columns, made, flat_only, last)
        Py_DECREF(made)
    Py_DECREF(v)
    return status
