"""The decoder: walks a program and fills slots from bytes that it does not own.

An instance is stored in its parent's slot as soon as it exists. So an error anywhere frees everything by
releasing the root. Python code runs only in `__post_init__`, and in finalizers if an allocation starts the
garbage collector. Neither can see a half-filled list or tuple, because those are tracked by the collector
only when they are complete.

Each length from the wire is compared with the remaining bytes before it is used: a count is at most the
remaining bytes divided by the least size of an element. Elements without bytes are limited to `MAX_EMPTY`.
"""

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from deli_com.coding.columns cimport Columns
from deli_com.coding.decode_errors cimport *
from deli_com.coding.encoder cimport number_size
from deli_com.coding.new_arrays cimport new_array, new_ndarray, new_view
from deli_com.coding.numbers cimport put_integer, put_nanoseconds
from deli_com.coding.program cimport *
from deli_com.coding.recycler cimport RECYCLED_BYTES, recycled_bytes
from deli_com.coding.shapes cimport give_shape
from deli_com.ground.cpython cimport *
from deli_com.ground.scalar cimport *
from deli_com.types.instance cimport RecordTypeObject, record_alloc_boxed, record_finish, record_type

cdef extern from "deli_com/ground/utf8.h":
    PyObject* utf8_decode(const char* data, Py_ssize_t size) noexcept

cdef enum:
    OWN_UTF8 = 192  # bytes; CPython's decoder is faster for longer text (bench_codec.py, "other string")


cdef other_operation _other = NULL   # set by resolved.pyx before the first program that needs it


cdef void decode_others_by(other_operation function) noexcept:
    global _other
    _other = function


cdef object decode_root(Prog* prog, const char* data, Py_ssize_t size, Py_ssize_t* pos, str name):
    cdef Decoder dec
    cdef PyObject* slot = NULL
    dec.start = data
    dec.end = data + size
    dec.p = data + pos[0]
    dec.fault = FAULT_NONE
    dec.path = NULL
    dec.depth = 0
    if decode_prog(&dec, prog, <char*>&slot) < 0:
        # Frees the incomplete value without losing an exception that is set.
        _release(slot)
        report_fault(&dec, name)
    pos[0] = dec.p - data
    value = <object>slot
    Py_DECREF(slot)
    return value


cdef PyObject* decode_plain(Prog* prog, const char* data, Py_ssize_t size) except NULL:
    cdef Decoder dec
    cdef PyObject* slot = NULL
    dec.start = dec.p = data
    dec.end = data + size
    dec.fault = FAULT_NONE
    dec.path = NULL
    dec.depth = 0
    if _walk(&dec, prog, <char*>&slot) < 0:
        _release(slot)
        return NULL
    return slot


cdef extern from *:
    """
    static void dc_release(PyObject *value) {
        PyObject *type, *error, *traceback;
        if (value == NULL) return;
        PyErr_Fetch(&type, &error, &traceback);
        Py_DECREF(value);
        PyErr_Restore(type, error, traceback);
    }
    """
    void _release "dc_release"(PyObject* value) noexcept


# --- the walker ---

cdef int decode_prog(Decoder* dec, Prog* prog, char* base) noexcept:
    cdef int status
    if not prog.recursive:
        return _walk(dec, prog, base)
    if dec.depth == MAX_DEPTH:
        return decode_fail(dec, FAULT_DEPTH, dec.p)
    dec.depth += 1
    status = _walk(dec, prog, base)
    dec.depth -= 1
    return status


cdef inline PyObject** _slot(char* base, Op* op) noexcept:
    return <PyObject**>(base + op.offset)


cdef inline void _put(char* base, Op* op, PyObject* value) noexcept:
    (<PyObject**>(base + op.offset))[0] = value


cdef int _walk(Decoder* dec, Prog* prog, char* base) noexcept:
    # A slot is NULL, or holds a number to be overwritten. It owns what is stored in it.
    cdef const char* p = dec.p
    cdef const char* end = dec.end
    cdef const char* text
    cdef Op* op = prog.ops
    cdef Op* last = op + prog.count
    cdef char* bases[MAX_INLINE + 1]
    cdef int level = 0
    cdef int status = -1
    cdef int code
    cdef PyObject* v
    cdef uint32_t number
    cdef Py_ssize_t more
    cdef RecordTypeObject* type
    while True:
        if op == last:
            status = 0
            break
        code = op.code
        if code == OP_NEED:
            if end - p < op.number:
                op = fail_run(dec, op, p)
                break
        elif code == OP_U8:
            _put(base, op, PyLong_FromLong(load_u8(p)))  # CPython keeps the ints 0 to 255
            p += 1
        elif code == OP_U16:
            if put_u64(_slot(base, op), load_u16(p)) < 0:
                break
            p += 2
        elif code == OP_U32:
            if put_u64(_slot(base, op), load_u32(p)) < 0:
                break
            p += 4
        elif code == OP_U64:
            if put_u64(_slot(base, op), load_u64(p)) < 0:
                break
            p += 8
        elif code == OP_I8:
            v = PyLong_FromLong(load_i8(p))
            if v == NULL:
                break
            _put(base, op, v)
            p += 1
        elif code == OP_I16:
            if put_i64(_slot(base, op), load_i16(p)) < 0:
                break
            p += 2
        elif code == OP_I32:
            if put_i64(_slot(base, op), load_i32(p)) < 0:
                break
            p += 4
        elif code == OP_I64:
            if put_i64(_slot(base, op), load_i64(p)) < 0:
                break
            p += 8
        elif code == OP_F32:
            if put_float(_slot(base, op), f64_of_f32(p)) < 0:
                break
            p += 4
        elif code == OP_F64:
            if put_float(_slot(base, op), load_f64(p)) < 0:
                break
            p += 8
        elif code == OP_BOOL:
            number = load_u8(p)
            if number > 1:
                dec.number = number
                decode_fail(dec, FAULT_BOOL, p)
                break
            v = Py_True if number else Py_False
            Py_INCREF(v)
            _put(base, op, v)
            p += 1
        elif code == OP_ENUM:
            number = load_u32(p)
            if number >= (<Table*>op.ref).count:
                dec.number = number
                decode_fail(dec, FAULT_VARIANT, p)
                break
            v = (<Table*>op.ref).keys[number]
            Py_INCREF(v)
            _put(base, op, v)
            p += 4
        elif code == OP_TAG:
            number = load_u32(p)
            if number != op.number:
                dec.number = number
                decode_fail(dec, FAULT_VARIANT, p)
                break
            p += 4
        elif code == OP_ENTER:
            v = record_alloc_boxed(<PyTypeObject*>op.ref)
            if v == NULL:
                break
            _put(base, op, v)
            bases[level] = base
            level += 1
            base = <char*>v
        elif code == OP_ENTER_TUPLE:
            v = PyTuple_New(op.number)
            if v == NULL:
                break
            if op.number > 0:
                PyObject_GC_UnTrack(v)  # until LEAVE
            _put(base, op, v)
            bases[level] = base
            level += 1
            base = <char*>dc_tuple_items(v)
        elif code == OP_LEAVE:
            if op.ref == NULL:
                if op.number > 0:
                    PyObject_GC_Track(dc_tuple_of(base))
            else:
                type = record_type(<PyTypeObject*>op.ref)
                if (type.has_gc or type.has_post_init) and record_finish(<PyObject*>base, type) < 0:
                    refused(dec, p)
                    break
            level -= 1
            base = bases[level]
        elif code == OP_OPTION:
            number = load_u8(p)
            if number > 1:
                dec.number = number
                decode_fail(dec, FAULT_BOOL, p)
                break
            p += 1
            if number == 0:
                Py_INCREF(Py_None)
                _put(base, op, Py_None)
                op += op.number
        elif code == OP_FIXED_NUMBERS:
            v = new_array(op.kind, p, op.number)
            if v == NULL:
                break
            _put(base, op, v)
            p += op.size
        elif code == OP_STR:
            text = p  # taking the address of `p` would keep it out of a register
            v = _text(dec, &text)
            if v == NULL:
                break
            p = text
            _put(base, op, v)
        elif code == OP_BYTES:
            if end - p < 4 or <uint32_t>load_u32(p) > <size_t>(end - p - 4):
                decode_fail(dec, FAULT_EOF, p)
                break
            number = load_u32(p)
            if number < RECYCLED_BYTES:
                v = PyBytes_FromStringAndSize(p + 4, number)
            else:
                v = recycled_bytes(p + 4, number)
            if v == NULL:
                break
            _put(base, op, v)
            p += 4 + <Py_ssize_t>number
        else:
            dec.p = p
            if code == OP_LIST or code == OP_TUPLE:
                v = _elements(dec, op)
                if v == NULL:
                    break
                _put(base, op, v)
            elif code == OP_SEALED:
                if end - p < 4:
                    decode_fail(dec, FAULT_EOF, p)
                    break
                number = load_u32(p)
                if number >= (<Table*>op.ref).count:
                    dec.number = number
                    decode_fail(dec, FAULT_VARIANT, p)
                    break
                dec.p = p + 4
                if decode_prog(dec, (<Table*>op.ref).progs[number], base + op.offset) < 0:
                    break
            elif code == OP_CALL:
                if decode_prog(dec, <Prog*>op.ref, base + op.offset) < 0:
                    break
            elif code == OP_FIXED:
                if end - p < op.number * (<Prog*>op.ref).min_size:
                    decode_fail(dec, FAULT_EOF, p)
                    break
                v = _items(dec, <Prog*>op.ref, op.number, False)
                if v == NULL:
                    break
                _put(base, op, v)
            elif code == OP_ARRAY:
                v = _array(dec, op.kind, False)
                if v == NULL:
                    break
                _put(base, op, v)
            elif code == OP_NDARRAY:
                v = _array(dec, op.kind, True)
                if v == NULL:
                    break
                _put(base, op, v)
            elif code == OP_STRUCTURED:
                v = _structured(dec, <PyObject*>op.ref)
                if v == NULL:
                    break
                _put(base, op, v)
            elif code == OP_NANOSECONDS:
                if put_nanoseconds(_slot(base, op), op.kind, p) < 0:
                    break
                dec.p = p + op.size
            elif code == OP_DIMENSION:
                if put_integer(_slot(base, op), op.kind, p) < 0:
                    break
                dec.p = p + op.size
            elif code == OP_SHAPE:
                if give_shape(dec, op, base) < 0:
                    break
            else:
                more = _other(dec, op, base)
                if more < 0:
                    break
                op += more
            p = dec.p
        op += 1
    if status == 0:
        dec.p = p
        return 0
    decode_note(dec, <object>op.path)
    return -1


# --- values ---

cdef PyObject* decode_str(Decoder* dec, const char** at) noexcept:
    return _text(dec, at)


cdef inline PyObject* _text(Decoder* dec, const char** at) noexcept:
    cdef const char* p = at[0]
    cdef Py_ssize_t size
    cdef PyObject* v
    if dec.end - p < 4 or <uint32_t>load_u32(p) > <size_t>(dec.end - p - 4):
        decode_fail(dec, FAULT_EOF, p)
        return NULL
    size = load_u32(p)
    p += 4
    if is_ascii(p, size):
        v = PyUnicode_New(size, 127)
        if v == NULL:
            return NULL
        memcpy(PyUnicode_DATA(v), p, size)
    else:
        v = utf8_decode(p, size) if size <= OWN_UTF8 else PyUnicode_DecodeUTF8(p, size, NULL)
        if v == NULL:
            _bad_text(dec, p)
            return NULL
    at[0] = p + size
    return v


cdef extern from *:
    """
    /* Clears a UnicodeDecodeError; returns the byte offset of the fault, or -1 for another exception. */
    static Py_ssize_t dc_unicode_fault(void) {
        PyObject *type, *error, *traceback;
        Py_ssize_t start = 0;
        if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return -1;
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        if (error == NULL || PyUnicodeDecodeError_GetStart(error, &start) < 0) { PyErr_Clear(); start = 0; }
        Py_XDECREF(type); Py_XDECREF(error); Py_XDECREF(traceback);
        return start;
    }
    """
    Py_ssize_t dc_unicode_fault() noexcept


cdef void _bad_text(Decoder* dec, const char* text) noexcept:
    cdef Py_ssize_t start = dc_unicode_fault()
    if start >= 0:
        decode_fail(dec, FAULT_UTF8, text + start)


cdef PyObject* _elements(Decoder* dec, Op* op) noexcept:
    # Decodes list[T] and tuple[T, ...].
    cdef Prog* item = <Prog*>op.ref
    cdef const char* start = dec.p
    cdef Py_ssize_t count, left
    if dec.end - start < 4:
        decode_fail(dec, FAULT_EOF, start)
        return NULL
    count = load_u32(start)
    left = dec.end - start - 4
    if item.min_size == 0:
        if count > MAX_EMPTY:
            dec.number = <uint32_t>count
            decode_fail(dec, FAULT_EMPTY, start)
            return NULL
    elif count > left // item.min_size:
        decode_fail(dec, FAULT_EOF, start)
        return NULL
    dec.p = start + 4
    return _items(dec, item, count, op.code == OP_LIST)


cdef PyObject* _items(Decoder* dec, Prog* item, Py_ssize_t count, bint is_list) noexcept:
    # Decodes a list or tuple of `count` elements.
    cdef PyObject* result = PyList_New(count) if is_list else PyTuple_New(count)
    cdef PyObject** items
    cdef Py_ssize_t i
    cdef int code = item.ops[item.count - 1].code if item.count > 0 else OP_NEED
    if result == NULL or count == 0:
        return result
    # Untracked until it is complete: a finalizer that the collector runs must not find a list with NULL
    # items.
    PyObject_GC_UnTrack(result)
    items = PySequence_Fast_ITEMS(result)
    if item.leaf and OP_U8 <= code <= OP_F64 and dec.end - dec.p >= count * item.min_size:
        if _numbers(dec, code, items, count) < 0:
            _release(result)
            return NULL
    else:
        for i in range(count):
            if decode_prog(dec, item, <char*>&items[i]) < 0:
                decode_note_index(dec, i)
                _release(result)
                return NULL
    PyObject_GC_Track(result)
    return result


cdef int _numbers(Decoder* dec, int code, PyObject** items, Py_ssize_t count) noexcept:
    # The caller has checked the bounds.
    cdef const char* p = dec.p
    cdef PyObject* v
    cdef Py_ssize_t i
    cdef int size = number_size(code)
    for i in range(count):
        if code == OP_F64:
            v = PyFloat_FromDouble(load_f64(p))
        elif code == OP_F32:
            v = PyFloat_FromDouble(f64_of_f32(p))
        elif code == OP_U8:
            v = PyLong_FromLong(load_u8(p))
        elif code == OP_U16:
            v = PyLong_FromLong(load_u16(p))
        elif code == OP_U32:
            v = PyLong_FromLongLong(load_u32(p))
        elif code == OP_U64:
            v = make_u64(load_u64(p))
        elif code == OP_I8:
            v = PyLong_FromLong(load_i8(p))
        elif code == OP_I16:
            v = PyLong_FromLong(load_i16(p))
        elif code == OP_I32:
            v = PyLong_FromLong(load_i32(p))
        else:
            v = PyLong_FromLongLong(load_i64(p))
        if v == NULL:
            return -1
        items[i] = v
        p += size
    dec.p = p
    return 0


# --- arrays ---


cdef PyObject* _array(Decoder* dec, int code, bint as_numpy) noexcept:
    # Decodes Array[T] and NDArray[T].
    cdef const char* start = dec.p
    cdef Py_ssize_t count
    cdef PyObject* result
    if dec.end - start < 4 or <Py_ssize_t>load_u32(start) > (dec.end - start - 4) // number_size(code):
        decode_fail(dec, FAULT_EOF, start)
        return NULL
    count = load_u32(start)
    if as_numpy:
        result = new_ndarray(code, start + 4, count)
    else:
        result = new_array(code, start + 4, count)
    if result != NULL:
        dec.p = start + 4 + count * number_size(code)
    return result


cdef PyObject* _structured(Decoder* dec, PyObject* columns) noexcept:
    # Decodes a structured array, after checking its bool and enum columns.
    cdef Columns table = <Columns><object>columns
    cdef const char* start = dec.p
    cdef const char* at
    cdef Py_ssize_t count, bad, column = 0
    cdef PyObject* raw
    cdef PyObject* result
    if dec.end - start < 4 or <Py_ssize_t>load_u32(start) > (dec.end - start - 4) // table.row:
        decode_fail(dec, FAULT_EOF, start)
        return NULL
    count = load_u32(start)
    bad = table.find_bad(start + 4, count, &column)
    if bad >= 0:
        at = start + 4 + bad * table.row + table.checks[column].offset
        dec.number = load_u32(at) if table.checks[column].limit else load_u8(at)
        decode_fail(dec, FAULT_VARIANT if table.checks[column].limit else FAULT_BOOL, at)
        decode_note(dec, table.paths[column])
        decode_note_index(dec, bad)
        return NULL
    # Made as an array of bytes first, because numpy takes microseconds to parse the format of a structured
    # buffer.
    raw = new_ndarray(OP_U8, start + 4, count * table.row)
    if raw == NULL:
        return NULL
    result = new_view(raw, <PyObject*>table.dtype)
    Py_DECREF(raw)
    dec.p = start + 4 + count * table.row
    return result
