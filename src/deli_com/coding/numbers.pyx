"""The general path for numbers: subclasses, `__index__`, `__float__`, numpy scalars, and errors.

The walker itself encodes an exact int, float or bool of fitting size. All other values come here. A bool is
not accepted as a number, nor a number as a bool (numpy's bool is a bool).
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from deli_com.coding.buffers cimport is_masked
from deli_com.coding.encode_errors cimport (
    fail,
    fail_made,
    fail_of_value,
    float_too_large,
    mismatch,
    mismatch_of,
    number_name,
    out_of_range,
)
from deli_com.coding.encoder cimport Encoder, number_size, store_int
from deli_com.coding.program cimport OP_F32, OP_F64, OP_I8, OP_I16, OP_I32, OP_U8, OP_U16, OP_U32, OP_U64
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport *

from datetime import datetime

from deli_com.types.nanoseconds import Nanoseconds

cdef extern from "Python.h":
    PyObject* PyObject_CallOneArg(PyObject* function, PyObject* argument) noexcept

cdef PyObject* NANOSECONDS = <PyObject*>Nanoseconds  # the module above keeps it


cdef int encode_number(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    # Encodes any number. May run Python code.
    cdef PyObject* exact
    cdef int status
    if v == NULL:
        return fail(enc, "is not set")
    if _is_bool(v):
        return mismatch(enc, number_name(code), v)
    if code == OP_F32 or code == OP_F64:
        return _float(enc, code, v, p)
    if PyLong_Check(v):
        return _int(enc, code, v, p)
    if not PyIndex_Check(v):
        return mismatch(enc, number_name(code), v)
    if _refuse_masked(enc, code, v) < 0:
        return -1
    Py_INCREF(v)
    exact = PyNumber_Index(v)
    Py_DECREF(v)
    if exact == NULL:
        return fail_of_value(enc)
    status = _int(enc, code, exact, p)
    Py_DECREF(exact)
    return status


cdef int _int(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    # An int or an instance of a subclass, whose own value counts.
    cdef uint64_t raw, most
    cdef int size = number_size(code)
    if code <= OP_U64:
        most = DC_MAX_U64 >> (64 - 8 * size)
        if not int_raw(v, most, 0, &raw):
            return out_of_range(enc, code, v)
    else:
        most = DC_MAX_I64 >> (64 - 8 * size)
        if not int_raw(v, most, most + 1, &raw):
            return out_of_range(enc, code, v)
    store_int(p, size, raw)
    return 0


cdef int _float(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    # May run Python code.
    cdef double value
    cdef float narrow
    if PyFloat_Check(v):
        value = PyFloat_AS_DOUBLE(v)
    elif PyLong_Check(v):
        value = PyLong_AsDouble(v)
        if value == -1.0 and PyErr_Occurred() != NULL:
            if not PyErr_ExceptionMatches(PyExc_OverflowError):
                return -1
            PyErr_Clear()
            return out_of_range(enc, code, v)
    elif not PyIndex_Check(v) and not _has_float(v):
        return mismatch(enc, number_name(code), v)
    else:
        if _refuse_masked(enc, code, v) < 0:
            return -1
        Py_INCREF(v)
        value = PyFloat_AsDouble(v)  # calls __float__, else __index__
        if value == -1.0 and PyErr_Occurred() != NULL:
            if not PyErr_ExceptionMatches(PyExc_OverflowError):
                Py_DECREF(v)
                return fail_of_value(enc)
            PyErr_Clear()
            out_of_range(enc, code, v)
            Py_DECREF(v)
            return -1
        Py_DECREF(v)
    if code == OP_F64:
        store_f64(p, value)
        return 0
    if not f32_of(value, &narrow):
        return float_too_large(enc, value)
    store_f32(p, narrow)
    return 0


cdef int _refuse_masked(Encoder* enc, int code, PyObject* v) noexcept:
    # numpy.ma.masked would become nan. A masked array of one item is refused, too.
    cdef int status = is_masked(v)
    return mismatch_of(enc, "{} without a mask", number_name(code), v) if status > 0 else status


cdef extern from *:
    """
    static inline int dc_has_float(PyObject *o) {
        PyNumberMethods *number = Py_TYPE(o)->tp_as_number;
        return number != NULL && number->nb_float != NULL;
    }
    static inline int dc_is_numpy_bool(PyObject *o) {
        const char *name = Py_TYPE(o)->tp_name;
        return name[0] == 'n' && (strcmp(name, "numpy.bool") == 0 || strcmp(name, "numpy.bool_") == 0);
    }
    """
    bint _has_float "dc_has_float"(PyObject* o) noexcept
    bint _is_numpy_bool "dc_is_numpy_bool"(PyObject* o) noexcept


cdef inline bint _is_bool(PyObject* v) noexcept:
    return PyBool_Check(v) or _is_numpy_bool(v)


cdef int encode_bool(Encoder* enc, PyObject* v, char* p) noexcept:
    cdef int truth
    if v == NULL:
        return fail(enc, "is not set")
    if not _is_numpy_bool(v):
        return mismatch(enc, "bool", v)
    truth = PyObject_IsTrue(v)
    if truth < 0:
        return fail_of_value(enc)
    store_u8(p, <uint8_t>truth)
    return 0


# --- moments ---

cdef object _no_moment(int code, object value):
    # Why it is no moment.
    if isinstance(value, datetime):
        return "expected nanoseconds, got datetime: Nanoseconds.from_datetime(…) makes them"
    got = type(value).__qualname__
    return f"expected {number_name(code)} nanoseconds, got {got}: time.time_ns() gives an int"


ctypedef PyObject* (*MomentFunction)(int, PyObject*) noexcept
cdef MomentFunction _make_no_moment = <MomentFunction><void*>_no_moment


cdef int encode_nanoseconds(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    if v != NULL and (_is_bool(v) or not PyIndex_Check(v)):
        return fail_made(enc, _make_no_moment(code, v), "is no int of nanoseconds")
    return encode_number(enc, code, v, p)


cdef int put_integer(PyObject** slot, int code, const char* p) noexcept:
    if code == OP_U8:
        return put_u64(slot, load_u8(p))
    if code == OP_U16:
        return put_u64(slot, load_u16(p))
    if code == OP_U32:
        return put_u64(slot, load_u32(p))
    if code == OP_U64:
        return put_u64(slot, load_u64(p))
    if code == OP_I8:
        return put_i64(slot, load_i8(p))
    if code == OP_I16:
        return put_i64(slot, load_i16(p))
    if code == OP_I32:
        return put_i64(slot, load_i32(p))
    return put_i64(slot, load_i64(p))


cdef int put_nanoseconds(PyObject** slot, int code, const char* p) noexcept:
    cdef PyObject* plain = NULL
    if put_integer(&plain, code, p) < 0:
        return -1
    slot[0] = PyObject_CallOneArg(NANOSECONDS, plain)
    Py_DECREF(plain)
    return 0 if slot[0] != NULL else -1
