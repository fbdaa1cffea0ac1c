"""The operations that only the programs of adapt.pyx have, which read another writer's values.

Fields that the reader lacks are skipped. They are checked as if they were decoded: bounds, flags, indexes,
UTF-8, counts, depth. That part of a program has no slots: its base is NULL.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from deli_com.coding.decode cimport *
from deli_com.coding.decode_errors cimport *
from deli_com.coding.encoder cimport number_size
from deli_com.coding.new_arrays cimport empty_array, empty_ndarray
from deli_com.coding.program cimport *
from deli_com.coding.rows cimport RowReader, read_in_row, read_rows, widen
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport *

cdef extern from "Python.h":
    PyObject* PyObject_CallNoArgs(PyObject* function) noexcept


cdef void enable_resolved() noexcept:
    decode_others_by(_other)


cdef Py_ssize_t _other(Decoder* dec, Op* op, char* base) noexcept:
    # The operations that only resolved programs have (program.pxd).
    cdef const char* p = dec.p
    cdef int code = op.code
    cdef PyObject** slot = <PyObject**>(base + op.offset)
    cdef PyObject* v
    cdef PyObject* old
    cdef uint32_t number
    if code == OP_SKIP:
        dec.p = p + op.kind
        return op.number
    elif code == OP_SKIP_BOOL:
        if load_u8(p) > 1:
            dec.number = load_u8(p)
            return decode_fail(dec, FAULT_BOOL, p)
        dec.p = p + 1
    elif code == OP_SKIP_ENUM:
        number = load_u32(p)
        if number >= op.number:
            dec.number = number
            return decode_fail(dec, FAULT_VARIANT, p)
        dec.p = p + 4
    elif code == OP_SMALL_INT:
        dec.p = p + 1
        if op.kind == OP_U8:
            return put_u64(slot, load_u8(p))
        return put_i64(slot, load_i8(p))
    elif code == OP_AS_FLOAT:
        dec.p = p + op.size
        return put_float(slot, _as_double(op.kind, p))
    elif code == OP_MEMBER:
        number = load_u32(p)
        if number >= (<Table*>op.ref).count:
            dec.number = number
            return decode_fail(dec, FAULT_VARIANT, p)
        v = (<Table*>op.ref).keys[number]
        if v == NULL:
            dec.number = number
            return decode_fail(dec, FAULT_UNKNOWN if op.kind else FAULT_VARIANT, p)
        Py_INCREF(v)
        slot[0] = v
        dec.p = p + 4
    elif code == OP_DEFAULT:
        v = <PyObject*>op.ref
        Py_INCREF(v)
        old = slot[0]  # a number to be overwritten
        slot[0] = v
        Py_XDECREF(old)
    elif code == OP_MAKE:
        v = PyObject_CallNoArgs(<PyObject*>op.ref)
        if v == NULL:
            return -1
        old = slot[0]
        slot[0] = v
        Py_XDECREF(old)
    elif code == OP_VARIANT:
        return _variant(dec, op, base)
    elif code == OP_WIDER:
        if dec.end - p < 4 or load_u32(p) > <size_t>(dec.end - p - 4) // number_size(op.kind & 0xFF):
            return decode_fail(dec, FAULT_EOF, p)
        dec.p = p + 4
        v = _wider(dec, op.kind & 0xFF, op.kind >> 8, <int>op.number, load_u32(p))
        if v == NULL:
            return -1
        slot[0] = v
    elif code == OP_FIXED_WIDER:
        v = _wider(dec, op.kind & 0xFF, op.kind >> 8, INTO_ARRAY, op.number)
        if v == NULL:
            return -1
        slot[0] = v
    elif code == OP_ROWS:
        v = read_rows(dec, <RowReader><object>op.ref)
        if v == NULL:
            return -1
        slot[0] = v
    elif code >= OP_ROW_COPY and code <= OP_ROW_DEFAULT:
        return read_in_row(dec, op, base + op.offset)
    else:
        return _over(dec, op)
    return 0


cdef Py_ssize_t _over(Decoder* dec, Op* op) noexcept:
    # Skips values of variable size.
    cdef const char* p = dec.p
    cdef Prog* item = <Prog*>op.ref
    cdef Py_ssize_t left = dec.end - p - 4
    cdef Py_ssize_t i, count
    cdef PyObject* text
    if op.code == OP_SKIP_OPTION:
        if load_u8(p) > 1:
            dec.number = load_u8(p)
            return decode_fail(dec, FAULT_BOOL, p)
        dec.p = p + 1
        return 0 if load_u8(p) else op.number
    if op.code == OP_SKIP_FIXED:
        if dec.end - p < op.number * item.min_size:
            return decode_fail(dec, FAULT_EOF, p)
        count = op.number
    elif left < 0:
        return decode_fail(dec, FAULT_EOF, p)
    else:
        count = load_u32(p)
    if op.code == OP_SKIP_STR:
        if count > left:
            return decode_fail(dec, FAULT_EOF, p)
        if is_ascii(p + 4, count):
            dec.p = p + 4 + count
            return 0
        text = decode_str(dec, &p)
        if text == NULL:
            return -1
        Py_DECREF(text)
        dec.p = p
        return 0
    if op.code == OP_SKIP_SIZED:
        if count > left // op.number:
            return decode_fail(dec, FAULT_EOF, p)
        dec.p = p + 4 + count * op.number
        return 0
    if op.code == OP_SKIP_SEALED:
        if count >= (<Table*>op.ref).count:
            dec.number = <uint32_t>count
            return decode_fail(dec, FAULT_VARIANT, p)
        dec.p = p + 4
        return decode_prog(dec, (<Table*>op.ref).progs[count], NULL)
    if op.code == OP_SKIP_LIST:
        if item.min_size == 0:
            if count > MAX_EMPTY:
                dec.number = <uint32_t>count
                return decode_fail(dec, FAULT_EMPTY, p)
        elif count > left // item.min_size:
            return decode_fail(dec, FAULT_EOF, p)
        dec.p = p + 4
    if item.min_size == 0:  # such values have no bytes
        return 0
    for i in range(count):
        if decode_prog(dec, item, NULL) < 0:
            decode_note_index(dec, i)
            return -1
    return 0


cdef Py_ssize_t _variant(Decoder* dec, Op* op, char* base) noexcept:
    # Decodes a sealed value of which the reader may lack some variants.
    cdef const char* p = dec.p
    cdef Table* table = <Table*>op.ref
    cdef uint32_t number
    if dec.end - p < 4:
        return decode_fail(dec, FAULT_EOF, p)
    number = load_u32(p)
    if number >= table.count:
        dec.number = number
        return decode_fail(dec, FAULT_VARIANT, p)
    if table.keys[number] != NULL:
        dec.p = p + 4
        return decode_prog(dec, table.progs[number], base + op.offset)
    if op.kind:
        dec.p = p + 4
        if decode_prog(dec, table.progs[number], NULL) < 0:
            return -1
    dec.number = number
    return decode_fail(dec, FAULT_UNKNOWN if op.kind else FAULT_VARIANT, p)


# --- conversion of numbers ---

cdef uint64_t _integer(int code, const char* p) noexcept:
    # An integer, sign-extended to 64 bits.
    if code == OP_U8:
        return load_u8(p)
    if code == OP_U16:
        return load_u16(p)
    if code == OP_U32:
        return load_u32(p)
    if code == OP_I8:
        return <uint64_t><int64_t>load_i8(p)
    if code == OP_I16:
        return <uint64_t><int64_t>load_i16(p)
    if code == OP_I32:
        return <uint64_t><int64_t>load_i32(p)
    return load_u64(p)


cdef inline double _as_double(int code, const char* p) noexcept:
    # A number of at most 32 bits.
    return f64_of_f32(p) if code == OP_F32 else <double><int64_t>_integer(code, p)


cdef int _fill(PyObject* result, int source, int target, const char* p, Py_ssize_t count) noexcept:
    cdef Py_buffer view
    if PyObject_GetBuffer(result, &view, PyBUF_SIMPLE) < 0:
        return -1
    widen(source, target, p, number_size(source), <char*>view.buf, number_size(target), count)
    PyBuffer_Release(&view)
    return 0


cdef PyObject* _wider(Decoder* dec, int source, int target, int into, Py_ssize_t count) noexcept:
    # Decodes a list, tuple or array of numbers of a wider kind. The caller has checked the bounds.
    cdef const char* p = dec.p
    cdef int size = number_size(source)
    cdef Py_ssize_t i
    cdef PyObject* result
    cdef PyObject** items
    cdef PyObject* v
    if into == INTO_ARRAY or into == INTO_NDARRAY:
        result = empty_ndarray(target, count) if into == INTO_NDARRAY else empty_array(target, count)
        if result != NULL and _fill(result, source, target, p, count) < 0:
            Py_DECREF(result)
            return NULL
        dec.p = p + count * size
        return result
    result = PyList_New(count) if into == INTO_LIST else PyTuple_New(count)
    if result == NULL or count == 0:
        return result
    PyObject_GC_UnTrack(result)  # until it is complete
    items = PySequence_Fast_ITEMS(result)
    for i in range(count):
        if target == OP_F64:
            v = PyFloat_FromDouble(_as_double(source, p))
        elif source <= OP_U64:
            v = make_u64(_integer(source, p))
        else:
            v = PyLong_FromLongLong(<int64_t>_integer(source, p))
        if v == NULL:
            Py_DECREF(result)
            return NULL
        items[i] = v
        p += size
    PyObject_GC_Track(result)
    dec.p = p
    return result
