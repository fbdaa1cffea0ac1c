"""The record of a decoder's fault, its path, and the error that is raised for it."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t

from deli_com.coding.path cimport add_index, add_piece, path_text
from deli_com.coding.program cimport *
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport load_u8, load_u32

from deli_com.errors import (
    DecodeError,
    InvalidBool,
    InvalidUtf8,
    InvalidVariant,
    UnexpectedEof,
    UnknownVariant,
)

cdef extern from *:
    """
    static int dc_reraise(void) { return -1; }
    """
    int _reraise "dc_reraise"() except -1


cdef int report_fault(Decoder* dec, str name) except -1:
    # Raises the error of a failed walk.
    cdef Py_ssize_t at
    cdef PyObject* pieces = dec.path
    if dec.fault == FAULT_NONE:
        if PyErr_Occurred() != NULL:
            _reraise()
        raise MemoryError("while decoding a value")
    try:
        path = path_text(pieces, name)
    finally:
        Py_XDECREF(pieces)
    at = dec.at - dec.start
    if dec.fault == FAULT_EOF:
        raise UnexpectedEof(at, path)
    if dec.fault == FAULT_UTF8:
        raise InvalidUtf8(at, path)
    if dec.fault == FAULT_BOOL:
        raise InvalidBool(dec.number, at, path)
    if dec.fault == FAULT_VARIANT:
        raise InvalidVariant(dec.number, at, path)
    if dec.fault == FAULT_REFUSED:
        cause = <object>dec.cause
        Py_DECREF(dec.cause)
        raise DecodeError(f"{type(cause).__name__} while the value was made: {cause}", at, path) from cause
    if dec.fault == FAULT_SHAPE:
        detail = <object>dec.cause
        Py_DECREF(dec.cause)
        raise DecodeError(detail, at, path)
    if dec.fault == FAULT_UNKNOWN:
        raise UnknownVariant(dec.number, at, path)
    if dec.fault == FAULT_EMPTY:
        raise DecodeError(f"{dec.number} elements without a size are more than {MAX_EMPTY}", at, path)
    raise DecodeError(f"values of recursive types are nested more than {MAX_DEPTH} deep", at, path)


cdef void decode_note(Decoder* dec, object piece) noexcept:
    if dec.fault != FAULT_NONE:
        add_piece(&dec.path, piece)


cdef void decode_note_index(Decoder* dec, Py_ssize_t i) noexcept:
    if dec.fault != FAULT_NONE:
        add_index(&dec.path, i)


cdef extern from *:
    """
    /* Takes the current exception, owned, if it is a refusal of the fields by `__post_init__`. It is no
     * refusal if it is a BaseException, a MemoryError, or a DecodeError. */
    static PyObject *dc_take_refusal(PyObject *decode_error) {
        PyObject *type, *error, *traceback;
        if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError) ||
            PyErr_ExceptionMatches(decode_error)) return NULL;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (traceback != NULL) PyException_SetTraceback(error, traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        return error;
    }
    """
    PyObject* dc_take_refusal(PyObject* decode_error) noexcept


cdef void refused(Decoder* dec, const char* p) noexcept:
    # Records that `__post_init__` of the value that ends at `p` has raised.
    cdef PyObject* cause = dc_take_refusal(<PyObject*>DecodeError)
    if cause != NULL:
        dec.cause = cause
        decode_fail(dec, FAULT_REFUSED, p)


cdef Op* fail_run(Decoder* dec, Op* need, const char* p) noexcept:
    # A run is longer than the remaining bytes. Finds the operation at which decoding field by field would
    # stop. That may be an invalid value before the end of the bytes.
    cdef Op* op = need + 1
    while op.size <= dec.end - p:
        if (op.code == OP_BOOL or op.code == OP_SKIP_BOOL or op.code == OP_ROW_BOOL) and load_u8(p) > 1:
            dec.number = load_u8(p)
            decode_fail(dec, FAULT_BOOL, p)
            return op
        if _no_index(op, p):
            dec.number = load_u32(p)
            decode_fail(dec, FAULT_VARIANT, p)
            return op
        p += op.size
        op += 1
    decode_fail(dec, FAULT_EOF, p)
    return op


cdef bint _no_index(Op* op, const char* p) noexcept:
    # Whether the operation reads an index that it refuses.
    if op.code == OP_ENUM:
        return load_u32(p) >= (<Table*>op.ref).count
    if op.code == OP_TAG:
        return load_u32(p) != <uint32_t>op.number
    if op.code == OP_SKIP_ENUM:
        return load_u32(p) >= op.number
    if op.code == OP_MEMBER:
        return load_u32(p) >= (<Table*>op.ref).count or (<Table*>op.ref).keys[load_u32(p)] == NULL
    if op.code == OP_ROW_ENUM:
        return load_u32(p) >= op.number or row_index(op, load_u32(p)) == NO_MEMBER
    return False
