"""Why a value cannot be encoded, in words, and where in it."""

from cpython.object cimport PyObject

from deli_com.coding.encoder cimport Encoder
from deli_com.coding.program cimport OP_F32, OP_U8, Op, Table
from deli_com.ground.cpython cimport Py_DECREF, Py_INCREF, PyTuple_Check, PyTuple_GET_SIZE

from deli_com.errors import EncodeError
from deli_com.types.apart import names_apart, variants_apart

cdef extern from *:
    """
    /* Takes the exception that is set; owned. */
    static PyObject *dc_take_error(void) {
    #if PY_VERSION_HEX >= 0x030C0000
        return PyErr_GetRaisedException();
    #else
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) PyException_SetTraceback(error, traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        return error;
    #endif
    }
    """
    PyObject* dc_take_error() noexcept
    PyObject* PyExc_Exception
    PyObject* PyExc_MemoryError
    int PyErr_ExceptionMatches(PyObject* kind) noexcept

cdef tuple NAMES = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64")
cdef tuple BOUNDS = (
    (0, 2**8 - 1), (0, 2**16 - 1), (0, 2**32 - 1), (0, 2**64 - 1),
    (-2**7, 2**7 - 1), (-2**15, 2**15 - 1), (-2**31, 2**31 - 1), (-2**63, 2**63 - 1),
)


cdef str number_name(int code):
    return NAMES[code - OP_U8]


cdef int report(Encoder* enc, str name) except -1:
    # Makes the error of a failed walk.
    pieces = []
    detail = None
    if enc.path != NULL:
        pieces = <list>enc.path
        Py_DECREF(enc.path)
    if enc.detail != NULL:
        detail = <object>enc.detail
        Py_DECREF(enc.detail)
        path = name + "".join(reversed(pieces))
        if isinstance(detail, Exception):
            raise EncodeError(f"{type(detail).__name__} while the value was read: {detail}", path) from detail
        raise EncodeError(detail, path)
    if enc.inexact:
        return 1
    return -1  # the exception is set


cdef int fail(Encoder* enc, str detail) noexcept:
    Py_INCREF(<PyObject*>detail)
    enc.detail = <PyObject*>detail
    return -1


cdef int fail_of_value(Encoder* enc) noexcept:
    # Code of the value has raised, and the exception is set: it becomes the detail, so that a path is built.
    # What ends a program, and a want of memory, goes on as it is.
    if PyErr_ExceptionMatches(PyExc_Exception) and not PyErr_ExceptionMatches(PyExc_MemoryError):
        enc.detail = dc_take_error()
    return -1


cdef int fail_counts(Encoder* enc, str text, Py_ssize_t first, Py_ssize_t second) noexcept:
    # `text` has two places for numbers.
    try:
        return fail(enc, text.format(first, second))
    except BaseException:
        return fail(enc, text)


cdef void note(Encoder* enc, object piece) noexcept:
    # Adds to the path of an error; an exception of Python code needs none.
    if enc.detail == NULL:
        return
    try:
        if enc.path == NULL:
            pieces = []
            Py_INCREF(<PyObject*>pieces)
            enc.path = <PyObject*>pieces
        (<list>enc.path).append(piece)
    except BaseException:
        pass  # out of memory: a shorter path


cdef void note_index(Encoder* enc, Py_ssize_t i) noexcept:
    if enc.detail == NULL:
        return
    try:
        note(enc, f"[{i}]")
    except BaseException:
        pass


cdef int float_too_large(Encoder* enc, double value) noexcept:
    try:
        return fail(enc, f"{value!r} does not fit f32")
    except BaseException:
        return fail(enc, "does not fit f32")


cdef int mismatch(Encoder* enc, object wanted, PyObject* v) noexcept:
    if v == NULL:
        return fail(enc, "is not set")
    try:
        return fail(enc, f"expected {wanted}, got {type(<object>v).__qualname__}")
    except BaseException:
        return fail(enc, "is of a wrong type")


cdef int mismatch_of(Encoder* enc, str wanted, object name, PyObject* v) noexcept:
    try:
        return mismatch(enc, wanted.format(name), v)
    except BaseException:
        return fail(enc, "is of a wrong type")


cdef int out_of_range(Encoder* enc, int code, PyObject* v) noexcept:
    try:
        value = <object>v
        if not isinstance(value, int):
            shown = f"a {type(value).__qualname__}"
        elif int.bit_length(value) > 128:
            shown = f"an int of {int.bit_length(value)} bits"
        else:
            shown = int.__repr__(value)
        if code >= OP_F32:
            return fail(enc, f"{shown} does not fit {number_name(code)}")
        low, high = BOUNDS[code - OP_U8]
        return fail(enc, f"{shown} does not fit {number_name(code)} ({low}..{high})")
    except BaseException:
        return fail(enc, "is out of range")


cdef int wrong_class(Encoder* enc, Op* op, PyObject* v) noexcept:
    if v == NULL:
        return fail(enc, "is not set")
    try:
        wanted, got = names_apart(<object>op.ref, type(<object>v))
        return fail(enc, f"expected {wanted}, got {got}")
    except BaseException:
        return fail(enc, "is of a wrong class")


cdef int wrong_member(Encoder* enc, Table* table, PyObject* v) noexcept:
    # No member of an enum, no variant of a sealed class.
    cdef bint is_enum = table.progs == NULL
    if v == NULL:
        return fail(enc, "is not set")
    try:
        if table.count == 0:
            return mismatch_of(enc, "a variant of {}", <object>table.name, v)
        member = <object>table.keys[0]
        if is_enum:
            wanted, got = names_apart(type(member), type(<object>v))
            return fail(enc, f"expected {wanted}, got {got}")
        wanted, got = variants_apart(member, type(<object>v))
        return fail(enc, f"expected a variant of {wanted}, got {got}")
    except BaseException:
        return fail(enc, "is of a wrong class")


cdef int wrong_tuple(Encoder* enc, Py_ssize_t count, PyObject* v) noexcept:
    if v != NULL and PyTuple_Check(v):
        return fail_counts(enc, "expected {} items, got {}", count, PyTuple_GET_SIZE(v))
    return mismatch(enc, "tuple", v)


cdef int too_long(Encoder* enc, Py_ssize_t count) noexcept:
    return fail_counts(enc, "{} is more than a u32 can count", count, 0)
