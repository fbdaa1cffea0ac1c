"""The operations that only programs of adapt.pyx have, which read what another writer sends.

Fields that the reader lacks are skipped, and checked as if they were decoded: bounds, flags, indexes, UTF-8,
counts, depth. The part of a program that does so has no slots: its base is NULL.
"""

from array import array as _array_class

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from deli_com.coding.columns cimport Columns
from deli_com.coding.decode cimport *
from deli_com.coding.encoder cimport number_size
from deli_com.coding.new_arrays cimport new_view
from deli_com.coding.program cimport *
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport *

cdef extern from "Python.h":
    PyObject* PyObject_CallNoArgs(PyObject* function) noexcept


cdef void enable_resolved() noexcept:
    decode_others_by(_other)


cdef class RowReader:
    """A structured array that is read field by field."""

    def __init__(self, Columns columns not None, Program program not None):
        self.columns = columns
        self.program = program
        self.prog = &program.prog
        self.is_flat = _is_flat(self.prog)


cdef Py_ssize_t _other(Decoder* dec, Op* op, char* base) noexcept:
    # The operations of resolved programs alone (program.pxd).
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
        return put_float(slot, _integer(op.kind, p))
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
        old = slot[0]  # a number that was to be written over
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
        v = _wider(dec, op)
        if v == NULL:
            return -1
        slot[0] = v
    elif code == OP_FIXED_WIDER:
        v = _array_of(op.kind >> 8, op.number, False)
        if v == NULL:
            return -1
        slot[0] = v
        dec.p = p + op.size
        return _fill(v, op.kind & 0xFF, op.kind >> 8, p, op.number)
    elif code == OP_ROWS:
        v = _rows(dec, <RowReader><object>op.ref)
        if v == NULL:
            return -1
        slot[0] = v
    elif code >= OP_ROW_COPY and code <= OP_ROW_DEFAULT:
        return _in_row(dec, op, base + op.offset)
    else:
        return _over(dec, op)
    return 0


cdef Py_ssize_t _over(Decoder* dec, Op* op) noexcept:
    # Skips values of varying width.
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
    if item.min_size == 0:  # such values have no bytes at all
        return 0
    for i in range(count):
        if decode_prog(dec, item, NULL) < 0:
            decode_note_index(dec, i)
            return -1
    return 0


cdef Py_ssize_t _variant(Decoder* dec, Op* op, char* base) noexcept:
    # A sealed value, some of whose variants the reader lacks.
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


# --- numbers of another kind ---

cdef double _integer(int code, const char* p) noexcept:
    # An integer of at most 32 bits.
    if code == OP_U8:
        return load_u8(p)
    if code == OP_U16:
        return load_u16(p)
    if code == OP_U32:
        return load_u32(p)
    if code == OP_I8:
        return load_i8(p)
    if code == OP_I16:
        return load_i16(p)
    return load_i32(p)


cdef inline uint64_t _raw(int code, const char* p) noexcept:
    # An integer, its sign carried on to 64 bits.
    if code == OP_U8:
        return load_u8(p)
    if code == OP_U16:
        return load_u16(p)
    if code == OP_U32:
        return load_u32(p)
    if code == OP_U64:
        return load_u64(p)
    if code == OP_I8:
        return <uint64_t><int64_t>load_i8(p)
    if code == OP_I16:
        return <uint64_t><int64_t>load_i16(p)
    if code == OP_I32:
        return <uint64_t><int64_t>load_i32(p)
    return load_u64(p)


cdef inline void _widen(int source, int target, const char* p, char* to, Py_ssize_t count) noexcept:
    # Numbers, one behind the other on both sides.
    cdef int step = number_size(source)
    cdef int room = number_size(target)
    while count > 0:
        if target == OP_F64:
            store_f64(to, f64_of_f32(p) if source == OP_F32 else _integer(source, p))
        elif room == 2:
            store_u16(to, <unsigned short>_raw(source, p))
        elif room == 4:
            store_u32(to, <uint32_t>_raw(source, p))
        else:
            store_u64(to, _raw(source, p))
        p += step
        to += room
        count -= 1


cdef PyObject* _array_of(int code, Py_ssize_t count, bint as_numpy) noexcept:
    # A new array, to be filled by `_fill`.
    cdef PyObject* result
    try:
        if as_numpy:
            import numpy
            letter = "u" if code <= OP_U64 else "i" if code <= OP_I64 else "f"
            made = numpy.empty(count, f"<{letter}{number_size(code)}")
        else:
            made = _array_class("BHIQbhiqfd"[code - OP_U8], bytes(count * number_size(code)))
    except BaseException as error:
        _set(error)
        return nothing_object()
    result = <PyObject*>made
    Py_INCREF(result)
    return result


cdef inline PyObject* nothing_object() noexcept:
    return NULL


cdef extern from *:
    """
    static void dc_set_problem(PyObject *error) { PyErr_SetObject((PyObject *)Py_TYPE(error), error); }
    """
    void _set "dc_set_problem"(object error) noexcept


cdef int _fill(PyObject* result, int source, int target, const char* p, Py_ssize_t count) noexcept:
    cdef Py_buffer view
    if PyObject_GetBuffer(result, &view, PyBUF_SIMPLE) < 0:
        return -1
    _widen(source, target, p, <char*>view.buf, count)
    PyBuffer_Release(&view)
    return 0


cdef PyObject* _wider(Decoder* dec, Op* op) noexcept:
    # A list, tuple or array of numbers of a wider kind.
    cdef const char* p = dec.p
    cdef int source = op.kind & 0xFF
    cdef int target = op.kind >> 8
    cdef int size = number_size(source)
    cdef Py_ssize_t count, i
    cdef PyObject* result
    cdef PyObject** items
    cdef PyObject* v
    if dec.end - p < 4 or <Py_ssize_t>load_u32(p) > (dec.end - p - 4) // size:
        decode_fail(dec, FAULT_EOF, p)
        return NULL
    count = load_u32(p)
    p += 4
    if op.number == INTO_ARRAY or op.number == INTO_NDARRAY:
        result = _array_of(target, count, op.number == INTO_NDARRAY)
        if result != NULL and _fill(result, source, target, p, count) < 0:
            Py_DECREF(result)
            return NULL
        if result != NULL:
            dec.p = p + count * size
        return result
    result = PyList_New(count) if op.number == INTO_LIST else PyTuple_New(count)
    if result == NULL or count == 0:
        dec.p = p
        return result
    PyObject_GC_UnTrack(result)  # until it is complete
    items = PySequence_Fast_ITEMS(result)
    for i in range(count):
        if target == OP_F64:
            v = PyFloat_FromDouble(f64_of_f32(p) if source == OP_F32 else _integer(source, p))
        elif source <= OP_U64:
            v = make_u64(_raw(source, p))
        else:
            v = PyLong_FromLongLong(<int64_t>_raw(source, p))
        if v == NULL:
            Py_DECREF(result)
            return NULL
        items[i] = v
        p += size
    PyObject_GC_Track(result)
    dec.p = p
    return result


# --- rows ---

cdef object _empty = None     # numpy.empty
cdef object _u1 = None        # and its dtype of bytes


cdef int _import_numpy() except -1:
    global _empty, _u1
    import numpy
    _u1 = numpy.dtype("u1")
    _empty = numpy.empty
    return 0


cdef bint _is_flat(Prog* row) noexcept:
    # Whether the program is one run, but for defaults.
    cdef Py_ssize_t i
    cdef int code
    for i in range(row.count):
        code = row.ops[i].code
        if code == OP_NEED:
            if i != 0:
                return False
        elif not (OP_SKIP <= code <= OP_SKIP_ENUM or OP_ROW_COPY <= code <= OP_ROW_DEFAULT):
            return False
    return row.count > 0 and row.ops[0].code == OP_NEED


cdef bint _by_column(Prog* row, const char* p, Py_ssize_t count, char* to, Py_ssize_t room) noexcept:
    # Reads `count` rows into those at `to`, of `room` bytes each. False: a value is none; which is not said.
    cdef Py_ssize_t step = row.min_size
    cdef Py_ssize_t k
    cdef Op* op
    for k in range(row.count):
        op = &row.ops[k]
        if op.code == OP_NEED:
            continue
        if not _column(op, p, step, count, to + op.offset, room):
            return False
        p += op.size
    return True


cdef bint _column(
    Op* op, const char* p, Py_ssize_t step, Py_ssize_t count, char* to, Py_ssize_t room
) noexcept:
    cdef Py_ssize_t i
    cdef uint32_t number
    cdef unsigned char wrong = 0
    if op.code == OP_SKIP:
        pass
    elif op.code == OP_SKIP_BOOL or op.code == OP_ROW_BOOL:
        for i in range(count):
            wrong |= p[i * step]
        if wrong > 1:
            return False
        if op.code == OP_ROW_BOOL:
            for i in range(count):
                to[i * room] = p[i * step]
    elif op.code == OP_SKIP_ENUM:
        for i in range(count):
            if load_u32(p + i * step) >= op.number:
                return False
    elif op.code == OP_ROW_ENUM:
        for i in range(count):
            number = load_u32(p + i * step)
            if number >= op.number or row_index(op, number) == NO_MEMBER:
                return False
            store_u32(to + i * room, row_index(op, number))
    elif op.code == OP_ROW_DEFAULT:
        for i in range(count):
            memcpy(to + i * room, PyBytes_AS_STRING(<PyObject*>op.ref), PyBytes_GET_SIZE(<PyObject*>op.ref))
    elif op.code == OP_ROW_COPY and op.size == 4:
        for i in range(count):
            memcpy(to + i * room, p + i * step, 4)
    elif op.code == OP_ROW_COPY and op.size == 8:
        for i in range(count):
            memcpy(to + i * room, p + i * step, 8)
    elif op.code == OP_ROW_COPY:
        for i in range(count):
            memcpy(to + i * room, p + i * step, op.size)
    elif op.kind == kinds_pair(OP_F32, OP_F64) and op.size == 4:
        for i in range(count):
            store_f64(to + i * room, f64_of_f32(p + i * step))
    else:  # OP_ROW_WIDER
        for i in range(count):
            _widen(op.kind & 0xFF, op.kind >> 8, p + i * step, to + i * room,
                   op.size // number_size(op.kind & 0xFF))
    return True


cdef Py_ssize_t _in_row(Decoder* dec, Op* op, char* to) noexcept:
    # A field of a row, whose memory is at `to`.
    cdef const char* p = dec.p
    cdef uint32_t number
    if op.code == OP_ROW_COPY:
        memcpy(to, p, op.size)
    elif op.code == OP_ROW_BOOL:
        if load_u8(p) > 1:
            dec.number = load_u8(p)
            return decode_fail(dec, FAULT_BOOL, p)
        to[0] = p[0]
    elif op.code == OP_ROW_ENUM:
        number = load_u32(p)
        if number >= op.number or row_index(op, number) == NO_MEMBER:
            dec.number = number
            return decode_fail(dec, FAULT_VARIANT, p)
        store_u32(to, row_index(op, number))
    elif op.code == OP_ROW_WIDER:
        _widen(op.kind & 0xFF, op.kind >> 8, p, to, op.size // number_size(op.kind & 0xFF))
    else:  # OP_ROW_DEFAULT, which has no bytes on the wire
        memcpy(to, PyBytes_AS_STRING(<PyObject*>op.ref), PyBytes_GET_SIZE(<PyObject*>op.ref))
    dec.p = p + op.size
    return 0


cdef PyObject* _rows(Decoder* dec, RowReader rows) noexcept:
    # A structured array, row by row.
    cdef const char* p = dec.p
    cdef Prog* row = rows.prog
    cdef Py_ssize_t count, i
    cdef Py_buffer view
    if dec.end - p < 4 or <Py_ssize_t>load_u32(p) > (dec.end - p - 4) // row.min_size:
        decode_fail(dec, FAULT_EOF, p)
        return NULL
    count = load_u32(p)
    try:
        if _empty is None:
            _import_numpy()
        made = _empty(count * rows.columns.row, _u1)
    except BaseException as error:
        _set(error)
        return nothing_object()
    if PyObject_GetBuffer(<PyObject*>made, &view, PyBUF_SIMPLE) < 0:
        return nothing_object()
    dec.p = p + 4
    if rows.is_flat and _by_column(row, p + 4, count, <char*>view.buf, rows.columns.row):
        dec.p += count * row.min_size
        count = 0
    for i in range(count):
        if decode_prog(dec, row, <char*>view.buf + i * rows.columns.row) < 0:
            decode_note_index(dec, i)
            PyBuffer_Release(&view)
            return nothing_object()
    PyBuffer_Release(&view)
    try:
        dtype = rows.columns.dtype
    except BaseException as error:
        _set(error)
        return nothing_object()
    return new_view(<PyObject*>made, <PyObject*>dtype)
