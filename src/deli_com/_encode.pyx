"""The encoder: walks a program and writes the value's slots at a cursor.

Reference rules. The walker borrows values from slots and lists. Python code can run only in the
functions marked "may run Python code" (a `__index__`, `__float__`, `__buffer__` written in
Python); such code may replace any slot and shrink any list, so:

1. every struct, tuple and list being walked is held by a reference of its own;
2. after such a call, sizes and item pointers of lists are read anew;
3. the cursor is not touched by it, and `grow` runs no Python code.

Functions return -1 on failure, with either `Encoder.detail` set (the caller adds its piece to
the path, and the root makes the EncodeError) or a Python exception, or `Encoder.inexact`.
"""

import sys

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strlen

from deli_com._columns cimport Columns
from deli_com._cpython cimport *
from deli_com._cursor cimport WriteCursor
from deli_com._program cimport *
from deli_com._scalar cimport *

from deli_com.errors import EncodeError

cdef enum:
    MAX_U8 = 0xFF
    MAX_U16 = 0xFFFF
    MAX_LENGTH = 0xFFFFFFFF  # bytes or elements that a u32 can count

cdef extern from *:
    """
    #define DC_MAX_U32 UINT32_MAX
    #define DC_MAX_U64 UINT64_MAX
    #define DC_MAX_I32 ((uint64_t)INT32_MAX)
    #define DC_MAX_I64 ((uint64_t)INT64_MAX)
    """
    uint64_t DC_MAX_U32
    uint64_t DC_MAX_U64
    uint64_t DC_MAX_I32
    uint64_t DC_MAX_I64

cdef tuple NAMES = ("u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64")
cdef tuple BOUNDS = (
    (0, 2**8 - 1), (0, 2**16 - 1), (0, 2**32 - 1), (0, 2**64 - 1),
    (-2**7, 2**7 - 1), (-2**15, 2**15 - 1), (-2**31, 2**31 - 1), (-2**63, 2**63 - 1),
)


cdef struct Encoder:
    WriteCursor* cur
    PyObject* detail       # owned str, or NULL
    PyObject* path         # owned list of pieces, innermost first, or NULL
    int depth              # values of recursive types around this one
    bint exact_only
    bint inexact           # stopped before Python code would have run


ctypedef int (*grow_function)(WriteCursor* cur, Py_ssize_t need) noexcept


cdef inline int _need(WriteCursor* cur, Py_ssize_t need) noexcept:
    # cursor_need for callers that look at the result themselves.
    if cur.end - cur.pos < need:
        return (<grow_function>cur.grow)(cur, need)
    return 0


cdef inline int number_size(int code) noexcept:
    if code == OP_U8 or code == OP_I8:
        return 1
    if code == OP_U16 or code == OP_I16:
        return 2
    if code == OP_U32 or code == OP_I32 or code == OP_F32:
        return 4
    return 8


cdef int encode_root(Prog* prog, WriteCursor* cur, object value, str name, bint exact_only) except -1:
    cdef Encoder enc
    cdef PyObject* slot = <PyObject*>value
    enc.cur = cur
    enc.detail = NULL
    enc.path = NULL
    enc.depth = 0
    enc.exact_only = exact_only
    enc.inexact = False
    if encode_prog(&enc, prog, <char*>&slot, True) == 0:
        return 0
    return _report(&enc, name)


cdef int _report(Encoder* enc, str name) except -1:
    # Makes the error of a failed walk.
    pieces = []
    detail = None
    if enc.path != NULL:
        pieces = <list>enc.path
        Py_DECREF(enc.path)
    if enc.detail != NULL:
        detail = <str>enc.detail
        Py_DECREF(enc.detail)
        raise EncodeError(detail, name + "".join(reversed(pieces)))
    if enc.inexact:
        return 1
    return -1  # the exception is set


cdef int _fail(Encoder* enc, str detail) noexcept:
    Py_INCREF(<PyObject*>detail)
    enc.detail = <PyObject*>detail
    return -1


cdef int _fail_counts(Encoder* enc, str text, Py_ssize_t first, Py_ssize_t second) noexcept:
    # `text` has two places for numbers.
    try:
        return _fail(enc, text.format(first, second))
    except BaseException:
        return _fail(enc, text)


cdef void _note(Encoder* enc, object piece) noexcept:
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


cdef void _note_index(Encoder* enc, Py_ssize_t i) noexcept:
    if enc.detail == NULL:
        return
    try:
        _note(enc, f"[{i}]")
    except BaseException:
        pass


# --- the walker ---

cdef int encode_prog(Encoder* enc, Prog* prog, char* base, bint tail) noexcept:
    # `tail`: this value ends the message, so its last bytes may leave by reference.
    cdef int status
    if not prog.recursive:
        return _walk(enc, prog, base, tail)
    if enc.depth == MAX_DEPTH:
        return _fail_counts(enc, "values of recursive types are nested more than {} deep", MAX_DEPTH, 0)
    enc.depth += 1
    status = _walk(enc, prog, base, tail)
    enc.depth -= 1
    return status


cdef int _walk(Encoder* enc, Prog* prog, char* base, bint tail) noexcept:
    cdef WriteCursor* cur = enc.cur
    cdef char* p = cur.pos
    cdef Op* op = prog.ops
    cdef Op* end = op + prog.count
    cdef char* bases[MAX_INLINE + 1]
    cdef PyObject* held[MAX_INLINE + 1]
    cdef int level = 0
    cdef int status = -1
    cdef int code
    cdef PyObject* v
    cdef uint64_t raw
    cdef float narrow
    cdef Py_ssize_t index
    while True:
        if op == end:
            status = 0
            break
        code = op.code
        if code == OP_NEED:
            if cur.end - p < op.number:
                cur.pos = p
                if _need(cur, op.number) < 0:
                    break
                p = cur.pos
        elif code == OP_U8:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, MAX_U8, 0, &raw):
                store_u8(p, <uint8_t>raw)
            elif _number(enc, OP_U8, v, p) < 0:
                break
            p += 1
        elif code == OP_U16:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, MAX_U16, 0, &raw):
                store_u16(p, <uint16_t>raw)
            elif _number(enc, OP_U16, v, p) < 0:
                break
            p += 2
        elif code == OP_U32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_U32, 0, &raw):
                store_u32(p, <uint32_t>raw)
            elif _number(enc, OP_U32, v, p) < 0:
                break
            p += 4
        elif code == OP_U64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_U64, 0, &raw):
                store_u64(p, raw)
            elif _number(enc, OP_U64, v, p) < 0:
                break
            p += 8
        elif code == OP_I32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_I32, DC_MAX_I32 + 1, &raw):
                store_u32(p, <uint32_t>raw)
            elif _number(enc, OP_I32, v, p) < 0:
                break
            p += 4
        elif code == OP_I64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_I64, DC_MAX_I64 + 1, &raw):
                store_u64(p, raw)
            elif _number(enc, OP_I64, v, p) < 0:
                break
            p += 8
        elif code == OP_F32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyFloat_CheckExact(v) and f32_of(PyFloat_AS_DOUBLE(v), &narrow):
                store_f32(p, narrow)
            elif _number(enc, OP_F32, v, p) < 0:
                break
            p += 4
        elif code == OP_F64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyFloat_CheckExact(v):
                store_f64(p, PyFloat_AS_DOUBLE(v))
            elif _number(enc, OP_F64, v, p) < 0:
                break
            p += 8
        elif code == OP_I8 or code == OP_I16:
            if _number(enc, code, (<PyObject**>(base + op.offset))[0], p) < 0:
                break
            p += op.size
        elif code == OP_BOOL:
            v = (<PyObject**>(base + op.offset))[0]
            if v == Py_True:
                store_u8(p, 1)
            elif v == Py_False:
                store_u8(p, 0)
            elif _bool(enc, v, p) < 0:
                break
            p += 1
        elif code == OP_ENUM:
            v = (<PyObject**>(base + op.offset))[0]
            index = table_find(<Table*>op.ref, v)
            if index < 0:
                _mismatch(enc, <object>(<Table*>op.ref).name, v)
                break
            store_u32(p, <uint32_t>index)
            p += 4
        elif code == OP_TAG:
            store_u32(p, <uint32_t>op.number)
            p += 4
        elif code == OP_ENTER:
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL or Py_TYPE(v) != <PyTypeObject*>op.ref:
                _wrong_class(enc, op, v)
                break
            Py_INCREF(v)  # released at LEAVE or below
            held[level] = v
            bases[level] = base
            level += 1
            base = <char*>v
        elif code == OP_ENTER_TUPLE:
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL or not PyTuple_Check(v) or PyTuple_GET_SIZE(v) != op.number:
                _wrong_tuple(enc, op.number, v)
                break
            Py_INCREF(v)  # released at LEAVE or below
            held[level] = v
            bases[level] = base
            level += 1
            base = <char*>dc_tuple_items(v)
        elif code == OP_LEAVE:
            level -= 1
            base = bases[level]
            Py_DECREF(held[level])
        elif code == OP_OPTION:
            v = (<PyObject**>(base + op.offset))[0]
            if v == Py_None:
                store_u8(p, 0)
                op += op.number
            else:
                store_u8(p, 1)
            p += 1
        elif code == OP_FIXED_NUMBERS:
            if _fixed_numbers(enc, op, (<PyObject**>(base + op.offset))[0], p) < 0:
                break
            p += op.size
        else:
            # These write at the cursor itself.
            cur.pos = p
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL:
                _fail(enc, "is not set")
                break
            if code == OP_STR:
                if _str(enc, v) < 0:
                    break
            elif code == OP_BYTES:
                if _bytes(enc, v, tail and op.tail) < 0:
                    break
            elif code == OP_LIST or code == OP_TUPLE:
                if _elements(enc, op, v) < 0:
                    break
            elif code == OP_SEALED:
                index = table_find(<Table*>op.ref, <PyObject*>Py_TYPE(v))
                if index < 0:
                    _mismatch_of(enc, "a variant of {}", <object>(<Table*>op.ref).name, v)
                    break
                if _need(cur, 4) < 0:
                    break
                store_u32(cur.pos, <uint32_t>index)
                cur.pos += 4
                if encode_prog(enc, (<Table*>op.ref).progs[index], base + op.offset, tail and op.tail) < 0:
                    break
            elif code == OP_CALL:
                if encode_prog(enc, <Prog*>op.ref, base + op.offset, tail and op.tail) < 0:
                    break
            elif code == OP_FIXED:
                if _fixed(enc, op, v) < 0:
                    break
            elif code == OP_ARRAY or code == OP_NDARRAY:
                if _array(enc, op.kind, v) < 0:
                    break
            else:  # OP_STRUCTURED
                if _structured(enc, <PyObject*>op.ref, v) < 0:
                    break
            p = cur.pos
        op += 1
    if status == 0:
        cur.pos = p
        return 0
    _note(enc, <object>op.path)
    while level > 0:
        level -= 1
        Py_DECREF(held[level])
    return -1


# --- numbers ---

cdef int _number(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    # Any number, the slow way. May run Python code.
    cdef PyObject* exact
    cdef int status
    if v == NULL:
        return _fail(enc, "is not set")
    if _is_bool(v):
        return _mismatch(enc, NAMES[code - OP_U8], v)
    if code == OP_F32 or code == OP_F64:
        return _float(enc, code, v, p)
    if PyLong_Check(v):
        return _int(enc, code, v, p)
    if not PyIndex_Check(v):
        return _mismatch(enc, NAMES[code - OP_U8], v)
    if _would_run_python(enc, v):
        return -1
    Py_INCREF(v)
    exact = PyNumber_Index(v)
    Py_DECREF(v)
    if exact == NULL:
        return -1
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
            return _out_of_range(enc, code, v)
    else:
        most = DC_MAX_I64 >> (64 - 8 * size)
        if not int_raw(v, most, most + 1, &raw):
            return _out_of_range(enc, code, v)
    if size == 1:
        store_u8(p, <uint8_t>raw)
    elif size == 2:
        store_u16(p, <uint16_t>raw)
    elif size == 4:
        store_u32(p, <uint32_t>raw)
    else:
        store_u64(p, raw)
    return 0


cdef int _float(Encoder* enc, int code, PyObject* v, char* p) noexcept:
    # May run Python code.
    cdef double value
    cdef float narrow
    cdef PyObject* exact
    if PyFloat_Check(v):
        value = PyFloat_AS_DOUBLE(v)
    elif PyLong_Check(v):
        value = PyLong_AsDouble(v)
        if value == -1.0 and PyErr_Occurred() != NULL:
            if not PyErr_ExceptionMatches(PyExc_OverflowError):
                return -1
            PyErr_Clear()
            return _out_of_range(enc, code, v)
    elif not PyIndex_Check(v) and not _has_float(v):
        return _mismatch(enc, NAMES[code - OP_U8], v)
    else:
        if _would_run_python(enc, v):
            return -1
        Py_INCREF(v)
        value = PyFloat_AsDouble(v)  # __float__, else __index__
        if value == -1.0 and PyErr_Occurred() != NULL:
            if not PyErr_ExceptionMatches(PyExc_OverflowError):
                Py_DECREF(v)
                return -1
            PyErr_Clear()
            _out_of_range(enc, code, v)
            Py_DECREF(v)
            return -1
        Py_DECREF(v)
    if code == OP_F64:
        store_f64(p, value)
        return 0
    if not f32_of(value, &narrow):
        return _float_too_large(enc, value)
    store_f32(p, narrow)
    return 0


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


cdef inline bint _would_run_python(Encoder* enc, PyObject* v) noexcept:
    # Methods of static types are C; those of heap types may be Python.
    if enc.exact_only and PyType_HasFeature(Py_TYPE(v), Py_TPFLAGS_HEAPTYPE):
        enc.inexact = True
        return True
    return False


cdef int _bool(Encoder* enc, PyObject* v, char* p) noexcept:
    cdef int truth
    if v == NULL:
        return _fail(enc, "is not set")
    if not _is_numpy_bool(v):
        return _mismatch(enc, "bool", v)
    truth = PyObject_IsTrue(v)
    if truth < 0:
        return -1
    store_u8(p, <uint8_t>truth)
    return 0


# --- what is wrong ---

cdef int _float_too_large(Encoder* enc, double value) noexcept:
    try:
        return _fail(enc, f"{value!r} does not fit f32")
    except BaseException:
        return _fail(enc, "does not fit f32")


cdef int _mismatch(Encoder* enc, object wanted, PyObject* v) noexcept:
    if v == NULL:
        return _fail(enc, "is not set")
    try:
        return _fail(enc, f"expected {wanted}, got {type(<object>v).__qualname__}")
    except BaseException:
        return _fail(enc, "is of a wrong type")


cdef int _mismatch_of(Encoder* enc, str wanted, object name, PyObject* v) noexcept:
    try:
        return _mismatch(enc, wanted.format(name), v)
    except BaseException:
        return _fail(enc, "is of a wrong type")


cdef int _out_of_range(Encoder* enc, int code, PyObject* v) noexcept:
    try:
        value = <object>v
        if not isinstance(value, int):
            shown = f"a {type(value).__qualname__}"
        elif int.bit_length(value) > 128:
            shown = f"an int of {int.bit_length(value)} bits"
        else:
            shown = int.__repr__(value)
        if code >= OP_F32:
            return _fail(enc, f"{shown} does not fit {NAMES[code - OP_U8]}")
        low, high = BOUNDS[code - OP_U8]
        return _fail(enc, f"{shown} does not fit {NAMES[code - OP_U8]} ({low}..{high})")
    except BaseException:
        return _fail(enc, "is out of range")


cdef int _wrong_class(Encoder* enc, Op* op, PyObject* v) noexcept:
    try:
        return _mismatch(enc, (<object>op.ref).__qualname__, v)
    except BaseException:
        return _fail(enc, "is of a wrong class")


cdef int _wrong_tuple(Encoder* enc, Py_ssize_t count, PyObject* v) noexcept:
    if v != NULL and PyTuple_Check(v):
        return _fail_counts(enc, "expected {} items, got {}", count, PyTuple_GET_SIZE(v))
    return _mismatch(enc, "tuple", v)


cdef int _too_long(Encoder* enc, Py_ssize_t count) noexcept:
    return _fail_counts(enc, "{} is more than a u32 can count", count, 0)


# --- text and bytes ---

cdef int _str(Encoder* enc, PyObject* v) noexcept:
    cdef WriteCursor* cur = enc.cur
    cdef const char* data
    cdef Py_ssize_t size
    if not PyUnicode_Check(v):
        return _mismatch(enc, "str", v)
    if PyUnicode_IS_COMPACT_ASCII(v):
        data = <const char*>PyUnicode_DATA(v)
        size = PyUnicode_GET_LENGTH(v)
    else:
        # CPython keeps the UTF-8 form with the string: sending it again costs a copy.
        data = PyUnicode_AsUTF8AndSize(v, &size)
        if data == NULL:
            if not PyErr_ExceptionMatches(PyExc_UnicodeError):
                return -1
            PyErr_Clear()
            return _fail(enc, "has a lone surrogate, which UTF-8 cannot hold")
    if size > <Py_ssize_t>MAX_LENGTH:
        return _too_long(enc, size)
    if _need(cur, 4 + size) < 0:
        return -1
    store_u32(cur.pos, <uint32_t>size)
    memcpy(cur.pos + 4, data, size)
    cur.pos += 4 + size
    return 0


cdef int _bytes(Encoder* enc, PyObject* v, bint tail) noexcept:
    cdef WriteCursor* cur = enc.cur
    cdef Py_ssize_t size
    cdef Py_buffer view
    cdef int status
    if PyBytes_Check(v):
        size = PyBytes_GET_SIZE(v)
        if tail and size >= cur.tail_min and PyBytes_CheckExact(v):
            if size > <Py_ssize_t>MAX_LENGTH:
                return _too_long(enc, size)
            if _need(cur, 4) < 0:
                return -1
            store_u32(cur.pos, <uint32_t>size)
            cur.pos += 4
            Py_INCREF(v)  # released by whoever started the cursor
            cur.tail = v
            return 0
        return _sized(enc, PyBytes_AS_STRING(v), size, size)
    if PyByteArray_CheckExact(v):
        size = PyByteArray_GET_SIZE(v)
        return _sized(enc, PyByteArray_AS_STRING(v), size, size)
    if not PyObject_CheckBuffer(v):
        return _mismatch(enc, "bytes", v)
    if _buffer(enc, v, &view, PyBUF_SIMPLE, "bytes") < 0:
        return -1
    status = _sized(enc, <const char*>view.buf, view.len, view.len)
    PyBuffer_Release(&view)
    return status


cdef int _sized(Encoder* enc, const char* data, Py_ssize_t size, Py_ssize_t count) noexcept:
    # A u32 count, then `size` bytes.
    cdef WriteCursor* cur = enc.cur
    if count > <Py_ssize_t>MAX_LENGTH:
        return _too_long(enc, count)
    if _need(cur, 4 + size) < 0:
        return -1
    store_u32(cur.pos, <uint32_t>count)
    memcpy(cur.pos + 4, data, size)
    cur.pos += 4 + size
    return 0


# --- buffers ---

cdef int _buffer(Encoder* enc, PyObject* v, Py_buffer* view, int flags, str wanted) noexcept:
    # A view of `v`, to be released. May run Python code; what it exports stays put until then.
    if not _exact_exporter(v) and _would_run_python(enc, v):
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
        return -1
    PyErr_Clear()
    try:
        _fail(enc, f"expected {wanted} in one C-contiguous buffer, got {type(<object>v).__qualname__}")
    except BaseException:
        _fail(enc, "is no C-contiguous buffer")
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


cdef int _array(Encoder* enc, int code, PyObject* v) noexcept:
    cdef Py_buffer view
    cdef int status
    if _numbers_view(enc, code, v, &view) < 0:
        return -1
    status = _sized(enc, <const char*>view.buf, view.len, view.len // number_size(code))
    PyBuffer_Release(&view)
    return status


cdef int _numbers_view(Encoder* enc, int code, PyObject* v, Py_buffer* view) noexcept:
    # A view of a buffer of numbers of this kind, to be released.
    if not PyObject_CheckBuffer(v):
        return _mismatch_of(enc, "a buffer of {}", NAMES[code - OP_U8], v)
    if _buffer(enc, v, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT, NAMES[code - OP_U8]) < 0:
        return -1
    if view.ndim < 1 or not _matches(code, view):
        try:
            shown = (<bytes>view.format).decode("latin-1") if view.format != NULL else "B"
            _fail(enc, f"expected items of {NAMES[code - OP_U8]}, got a buffer of format {shown!r} "
                       f"and {view.itemsize} bytes an item")
        except BaseException:
            _fail(enc, "is a buffer of other items")
        PyBuffer_Release(view)
        return -1
    return 0


cdef int _structured(Encoder* enc, PyObject* columns, PyObject* v) noexcept:
    # A structured array, as the bytes of a list of structs.
    cdef Columns table = <Columns><object>columns
    cdef Py_buffer view
    cdef Py_ssize_t bad, column = 0
    cdef int status
    try:
        value = <object>v
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray):
            return _mismatch_of(enc, "a structured array of {}", table.cls.__qualname__, v)
        if value.dtype != table.dtype or value.ndim < 1:
            return _fail(enc, f"expected dtype codec({table.cls.__qualname__}).dtype, {table.dtype}, got {value.dtype}")
    except BaseException:
        return _fail(enc, "is no structured array of the right dtype")
    if _buffer(enc, v, &view, PyBUF_SIMPLE, table.cls.__qualname__) < 0:
        return -1
    bad = table.find_bad(<const char*>view.buf, view.len // table.row, &column)
    if bad >= 0:
        status = _fail(enc, "is a number that the column cannot hold")
        _note(enc, table.paths[column])
        _note_index(enc, bad)
    else:
        status = _sized(enc, <const char*>view.buf, view.len, view.len // table.row)
    PyBuffer_Release(&view)
    return status


# --- lists ---

cdef int _elements(Encoder* enc, Op* op, PyObject* v) noexcept:
    # list[T] and tuple[T, ...].
    cdef Prog* item = <Prog*>op.ref
    cdef bint is_list = op.code == OP_LIST
    cdef WriteCursor* cur = enc.cur
    cdef Py_ssize_t count
    cdef int status
    if not (PyList_Check(v) if is_list else PyTuple_Check(v)):
        if is_list and item.columns != NULL and PyObject_CheckBuffer(v):
            return _structured(enc, item.columns, v)
        return _mismatch(enc, "list" if is_list else "tuple", v)
    count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
    if count > <Py_ssize_t>MAX_LENGTH:
        return _too_long(enc, count)
    if item.min_size == 0 and count > MAX_EMPTY:
        return _fail_counts(enc, "{} elements without a size are more than {}", count, MAX_EMPTY)
    if _need(cur, 4) < 0:
        return -1
    store_u32(cur.pos, <uint32_t>count)
    cur.pos += 4
    Py_INCREF(v)
    status = _items(enc, item, v, is_list, count)
    Py_DECREF(v)
    return status


cdef int _items(Encoder* enc, Prog* item, PyObject* v, bint is_list, Py_ssize_t count) noexcept:
    # The elements themselves. `v` is held by the caller, and a list may change meanwhile.
    cdef Py_ssize_t i
    cdef PyObject* element
    cdef int code = item.ops[item.count - 1].code if item.count > 0 else OP_NEED
    if item.leaf and OP_U8 <= code <= OP_F64:
        return _item_numbers(enc, code, v, is_list, count)
    if item.fixed and _need(enc.cur, count * item.min_size) < 0:
        return -1
    for i in range(count):
        if is_list and PyList_GET_SIZE(v) != count:
            return _fail(enc, "changed its length while it was encoded")
        element = PySequence_Fast_ITEMS(v)[i]
        Py_INCREF(element)
        if encode_prog(enc, item, <char*>&element, False) < 0:
            _note_index(enc, i)
            Py_DECREF(element)
            return -1
        Py_DECREF(element)
    if is_list and PyList_GET_SIZE(v) != count:
        return _fail(enc, "changed its length while it was encoded")
    return 0


cdef int _item_numbers(Encoder* enc, int code, PyObject* v, bint is_list, Py_ssize_t count) noexcept:
    cdef int size = number_size(code)
    cdef char* p
    if _need(enc.cur, count * size) < 0:
        return -1
    p = enc.cur.pos
    if _numbers(enc, code, v, is_list, count, p) < 0:
        return -1
    enc.cur.pos = p + count * size
    return 0


cdef int _numbers(Encoder* enc, int code, PyObject* v, bint is_list, Py_ssize_t count, char* p) noexcept:
    # `count` numbers from a list or tuple, into room that is there. May run Python code.
    cdef PyObject** items = PySequence_Fast_ITEMS(v)
    cdef PyObject* element
    cdef Py_ssize_t i
    cdef int size = number_size(code)
    cdef uint64_t raw, positive, negative
    cdef float narrow
    positive = (DC_MAX_U64 if code <= OP_U64 else DC_MAX_I64) >> (64 - 8 * size)
    negative = 0 if code <= OP_U64 else positive + 1
    for i in range(count):
        element = items[i]
        if code == OP_F64 and PyFloat_CheckExact(element):
            store_f64(p, PyFloat_AS_DOUBLE(element))
        elif code == OP_F32 and PyFloat_CheckExact(element) and f32_of(PyFloat_AS_DOUBLE(element), &narrow):
            store_f32(p, narrow)
        elif code < OP_F32 and PyLong_CheckExact(element) and int_raw(element, positive, negative, &raw):
            if size == 1:
                store_u8(p, <uint8_t>raw)
            elif size == 2:
                store_u16(p, <uint16_t>raw)
            elif size == 4:
                store_u32(p, <uint32_t>raw)
            else:
                store_u64(p, raw)
        else:
            if _number(enc, code, element, p) < 0:
                _note_index(enc, i)
                return -1
            if is_list:
                if PyList_GET_SIZE(v) != count:
                    return _fail(enc, "changed its length while it was encoded")
                items = PySequence_Fast_ITEMS(v)
        p += size
    return 0


cdef int _fixed_numbers(Encoder* enc, Op* op, PyObject* v, char* p) noexcept:
    # FixedArray of numbers: `op.number` of them into room that is there.
    cdef Py_buffer view
    cdef bint is_list
    cdef Py_ssize_t count
    cdef int status
    if v == NULL:
        return _fail(enc, "is not set")
    is_list = PyList_Check(v)
    if is_list or PyTuple_Check(v):
        count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
        if count != op.number:
            return _fail_counts(enc, "expected {} items, got {}", op.number, count)
        Py_INCREF(v)
        status = _numbers(enc, op.kind, v, is_list, count, p)
        Py_DECREF(v)
        return status
    if _numbers_view(enc, op.kind, v, &view) < 0:
        return -1
    if view.len != op.size:
        status = _fail_counts(
            enc, "expected {} items, got {}", op.number, view.len // number_size(op.kind)
        )
    else:
        memcpy(p, view.buf, view.len)
        status = 0
    PyBuffer_Release(&view)
    return status


cdef int _fixed(Encoder* enc, Op* op, PyObject* v) noexcept:
    # FixedArray of anything else.
    cdef bint is_list = PyList_Check(v)
    cdef Py_ssize_t count
    cdef int status
    if not is_list and not PyTuple_Check(v):
        return _mismatch(enc, "list or tuple", v)
    count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
    if count != op.number:
        return _fail_counts(enc, "expected {} items, got {}", op.number, count)
    Py_INCREF(v)
    status = _items(enc, <Prog*>op.ref, v, is_list, count)
    Py_DECREF(v)
    return status


from array import array as _array_class

cdef object ARRAY_TYPE = _array_class
