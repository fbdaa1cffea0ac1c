"""The error texts for values that cannot be encoded, with their paths.

Making a text may run out of memory. The callers are C code that does not raise, and a `try` of Cython
allocates memory itself. So each text is made by a function that raises, called through a C pointer. If that
gives NULL, a shorter text is used that exists already.
"""

from cpython.object cimport PyObject

from deli_com.coding.encoder cimport Encoder
from deli_com.coding.path cimport add_index, add_piece, path_text
from deli_com.coding.program cimport OP_F32, OP_U8, Op, Table
from deli_com.ground.cpython cimport (
    Py_DECREF,
    Py_INCREF,
    Py_XDECREF,
    PyErr_Clear,
    PyErr_Occurred,
    PyTuple_Check,
    PyTuple_GET_SIZE,
)

from deli_com.errors import EncodeError
from deli_com.types.apart import names_apart, variants_apart
from deli_com.types.instance import record_spec

cdef extern from *:
    """
    /* Takes the current exception; owned. */
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
    return NAMES[code - OP_U8]  # made at import, so that this cannot fail


cdef int report(Encoder* enc, str name) except -1:
    # Raises the error of a failed walk.
    cdef PyObject* path = enc.path
    cdef PyObject* detail = enc.detail
    enc.path = enc.detail = NULL
    if detail == NULL:
        Py_XDECREF(path)
        if PyErr_Occurred() == NULL:
            raise MemoryError("while encoding a value")
        return -1
    try:
        where = path_text(path, name)
        what = <object>detail
        if isinstance(what, Exception):
            raise EncodeError(f"{type(what).__name__} while the value was read: {what}", where) from what
        raise EncodeError(what, where)
    finally:
        Py_XDECREF(path)
        Py_DECREF(detail)


cdef int fail(Encoder* enc, str detail) noexcept:
    Py_INCREF(<PyObject*>detail)
    enc.detail = <PyObject*>detail
    return -1


cdef int fail_of_value(Encoder* enc) noexcept:
    # The value's code has raised. The exception becomes the detail, so that a path is built. BaseException
    # and MemoryError stay set instead.
    if PyErr_ExceptionMatches(PyExc_Exception) and not PyErr_ExceptionMatches(PyExc_MemoryError):
        enc.detail = dc_take_error()
    return -1


cdef int fail_made(Encoder* enc, PyObject* detail, str otherwise) noexcept:
    # `detail` is a new str, or NULL with an exception set, which is cleared.
    if detail == NULL:
        PyErr_Clear()
        return fail(enc, otherwise)
    enc.detail = detail
    return -1


cdef void encode_note(Encoder* enc, object piece) noexcept:
    if enc.detail != NULL:
        add_piece(&enc.path, piece)


cdef void encode_note_index(Encoder* enc, Py_ssize_t i) noexcept:
    if enc.detail != NULL:
        add_index(&enc.path, i)


# --- the texts ---

cdef object _counts(object text, Py_ssize_t first, Py_ssize_t second):
    # `text` has one or two placeholders for numbers.
    return (<str>text).format(first, second)


cdef str shown_kind(object value):
    if isinstance(value, type):
        return f"the class {value.__qualname__}, not an instance of it"
    return type(value).__qualname__


cdef object _expected(object wanted, object value):
    pairs = ": list(x.items()) makes pairs" if wanted == "list" and isinstance(value, dict) else ""
    return f"expected {wanted}, got {shown_kind(value)}{pairs}"


cdef object _expected_of(object wanted, object name, object value):
    return _expected((<str>wanted).format(name), value)


cdef object _expected_class(object cls, object value):
    if isinstance(value, type):
        return _expected(cls.__qualname__, value)
    wanted, got = names_apart(cls, type(value))
    return f"expected {wanted}, got {got}"


cdef object _expected_member(bint is_enum, object member, object value):
    if is_enum:
        return _expected_class(type(member), value)
    if isinstance(value, type):
        return _expected(f"a variant of {record_spec(member).variant_of.__qualname__}", value)
    wanted, got = variants_apart(member, type(value))
    return f"expected a variant of {wanted}, got {got}"


cdef object _too_large(double value):
    return f"{value!r} does not fit f32"


cdef object _out_of_range(int code, object value):
    if not isinstance(value, int):
        shown = shown_kind(value) if isinstance(value, type) else f"a {type(value).__qualname__}"
    elif int.bit_length(value) > 128:
        shown = f"an int of {int.bit_length(value)} bits"
    else:
        shown = int.__repr__(value)
    if code >= OP_F32:
        return f"{shown} does not fit {number_name(code)}"
    low, high = BOUNDS[code - OP_U8]
    return f"{shown} does not fit {number_name(code)} ({low}..{high})"


# The functions above in C: a new str, or NULL with an exception set.
ctypedef PyObject* (*CountsFunction)(PyObject*, Py_ssize_t, Py_ssize_t) noexcept
ctypedef PyObject* (*ExpectedFunction)(PyObject*, PyObject*) noexcept
ctypedef PyObject* (*ExpectedOfFunction)(PyObject*, PyObject*, PyObject*) noexcept
ctypedef PyObject* (*FloatFunction)(double) noexcept
ctypedef PyObject* (*RangeFunction)(int, PyObject*) noexcept
cdef CountsFunction make_counts = <CountsFunction><void*>_counts
cdef ExpectedFunction make_expected = <ExpectedFunction><void*>_expected
cdef ExpectedOfFunction make_expected_of = <ExpectedOfFunction><void*>_expected_of
cdef ExpectedFunction make_expected_class = <ExpectedFunction><void*>_expected_class
ctypedef PyObject* (*MemberFunction)(bint, PyObject*, PyObject*) noexcept
cdef MemberFunction make_expected_member = <MemberFunction><void*>_expected_member
cdef FloatFunction make_too_large = <FloatFunction><void*>_too_large
cdef RangeFunction make_out_of_range = <RangeFunction><void*>_out_of_range


cdef int fail_counts(Encoder* enc, str text, Py_ssize_t first, Py_ssize_t second) noexcept:
    return fail_made(enc, make_counts(<PyObject*>text, first, second), text)


cdef int float_too_large(Encoder* enc, double value) noexcept:
    return fail_made(enc, make_too_large(value), "does not fit f32")


cdef int mismatch(Encoder* enc, object wanted, PyObject* v) noexcept:
    if v == NULL:
        return fail(enc, "is not set")
    return fail_made(enc, make_expected(<PyObject*>wanted, v), "is of a wrong type")


cdef int mismatch_of(Encoder* enc, str wanted, object name, PyObject* v) noexcept:
    if v == NULL:
        return fail(enc, "is not set")
    return fail_made(enc, make_expected_of(<PyObject*>wanted, <PyObject*>name, v), "is of a wrong type")


cdef int out_of_range(Encoder* enc, int code, PyObject* v) noexcept:
    return fail_made(enc, make_out_of_range(code, v), "is out of range")


cdef int wrong_class(Encoder* enc, Op* op, PyObject* v) noexcept:
    if v == NULL:
        return fail(enc, "is not set")
    return fail_made(enc, make_expected_class(<PyObject*>op.ref, v), "is of a wrong class")


cdef int wrong_member(Encoder* enc, Table* table, PyObject* v) noexcept:
    # The value is no member of the enum, or no variant of the sealed class.
    if v == NULL:
        return fail(enc, "is not set")
    if table.count == 0:
        return mismatch_of(enc, "a variant of {}", <object>table.name, v)
    return fail_made(enc, make_expected_member(table.progs == NULL, table.keys[0], v), "is of a wrong class")


cdef int wrong_tuple(Encoder* enc, Py_ssize_t count, PyObject* v) noexcept:
    if v != NULL and PyTuple_Check(v):
        return fail_counts(enc, "expected {} items, got {}", count, PyTuple_GET_SIZE(v))
    return mismatch(enc, "tuple", v)


cdef int too_long(Encoder* enc, Py_ssize_t count) noexcept:
    return fail_counts(enc, "{} is more than a u32 can count", count, 0)
