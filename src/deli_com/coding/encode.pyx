"""The encoder: walks a program and writes the value's slots at a cursor.

Reference rules. The walker borrows values from slots and lists. Python code can run only in the functions
marked "may run Python code" (a `__index__`, `__float__`, `__buffer__` written in Python). Such code may
replace any slot and shrink any list, so:

1. the walker holds a reference to each struct, tuple and list that it walks;
2. after such a call, sizes and item pointers of lists are read again;
3. such code does not touch the cursor, and `grow` runs no Python code.

Functions return -1 on failure, with either `Encoder.detail` set (each caller adds a piece to the path, and
the root makes the EncodeError) or a Python exception.
"""

from cpython.bytearray cimport PyByteArray_Resize
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from deli_com.coding.buffers cimport (
    encode_array,
    encode_foreign_bytes,
    encode_structured,
    numbers_view,
    write_sized,
)
from deli_com.coding.encode_errors cimport *
from deli_com.coding.encoder cimport MAX_LENGTH, Encoder, need_room, number_size, store_int
from deli_com.coding.numbers cimport encode_bool, encode_nanoseconds, encode_number
from deli_com.coding.program cimport *
from deli_com.coding.scratch cimport Scratch, scratch_close, scratch_join, scratch_open
from deli_com.coding.shapes cimport check_shape, encode_dimension
from deli_com.ground.cpython cimport *
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.scalar cimport *

cdef enum:
    MAX_U8 = 0xFF
    MAX_U16 = 0xFFFF

cdef extern from "deli_com/ground/utf8.h":
    const char* utf8_kept(PyObject* text, Py_ssize_t* size) noexcept


cdef int encode_root(Prog* prog, WriteCursor* cur, PyObject* value, str name) except -1:
    return _encode(prog, cur, value, name)


ctypedef int (*report_function)(Encoder* enc, str name) noexcept


cdef inline int _encode(Prog* prog, WriteCursor* cur, PyObject* value, str name) noexcept:
    # encode_root for callers that must clean up: returns -1 with the exception set.
    cdef Encoder enc
    cdef PyObject* slot = value
    enc.cur = cur
    enc.detail = NULL
    enc.path = NULL
    enc.depth = 0
    if encode_prog(&enc, prog, <char*>&slot, True) == 0:
        return 0
    return (<report_function>report)(&enc, name)


# --- into a new bytes, and onto a bytearray ---

cdef object encode_to_bytes(Prog* prog, PyObject* value, str name):
    cdef Scratch scratch
    cdef PyObject* result
    cdef Py_ssize_t head
    if prog.fixed:
        return _to_bytes_fixed(prog, value, name)
    scratch_open(&scratch)
    if _encode(prog, &scratch.cur, value, name) < 0:
        scratch_close(&scratch)
        return _reraise()
    head = scratch.cur.pos - scratch.start
    if scratch.cur.tail != NULL:
        result = scratch_join(&scratch, head)
    elif scratch.made == NULL:
        result = PyBytes_FromStringAndSize(scratch.start, head)
    else:
        result = scratch.made
        if PyBytes_GET_SIZE(result) != head:
            _PyBytes_Resize(&result, head)  # on failure `result` is NULL, and MemoryError is set
    return _given(result)


cdef int _no_more(WriteCursor* cur, Py_ssize_t need) except -1:
    raise SystemError("a value of fixed width is longer than its type")


cdef object _to_bytes_fixed(Prog* prog, PyObject* value, str name):
    # Encodes directly into the result.
    cdef WriteCursor cur
    cdef PyObject* result = PyBytes_FromStringAndSize(NULL, prog.min_size)
    if result == NULL:
        return _reraise()
    cur.pos = PyBytes_AS_STRING(result)
    cur.end = cur.pos + prog.min_size
    cur.grow = _no_more
    if _encode(prog, &cur, value, name) < 0:
        Py_DECREF(result)
        return _reraise()
    return _given(result)


cdef extern from *:
    """
    #define dc_given(result) (result)
    #define dc_reraise_object() NULL
    """
    # A result that is owned already. NULL: an exception is set.
    object _given "dc_given"(PyObject* result)
    object _reraise "dc_reraise_object"()


cdef int encode_append(Prog* prog, object value, str name, object buf) except -1:
    # The value is encoded before the bytearray is touched, because the value's Python code may use it.
    cdef Scratch scratch
    cdef Py_ssize_t head, tail, old
    cdef char* end
    if not isinstance(buf, bytearray):
        raise TypeError(f"encode appends to a bytearray, got {type(buf).__qualname__}")
    scratch_open(&scratch)
    try:
        encode_root(prog, &scratch.cur, <PyObject*>value, name)
        head = scratch.cur.pos - scratch.start
        tail = 0 if scratch.cur.tail == NULL else PyBytes_GET_SIZE(scratch.cur.tail)
        old = PyByteArray_GET_SIZE(<PyObject*>buf)
        PyByteArray_Resize(buf, old + head + tail)
        end = PyByteArray_AS_STRING(<PyObject*>buf) + old
        memcpy(end, scratch.start, head)
        if tail:
            memcpy(end + head, PyBytes_AS_STRING(scratch.cur.tail), tail)
    finally:
        scratch_close(&scratch)
    return 0


# --- the walker ---

cdef int encode_prog(Encoder* enc, Prog* prog, char* base, bint tail) noexcept:
    # `tail`: the value ends the message, so its last bytes may be kept by reference.
    cdef int status
    if not prog.recursive:
        return _walk(enc, prog, base, tail)
    if enc.depth == MAX_DEPTH:
        return fail_counts(enc, "values of recursive types are nested more than {} deep", MAX_DEPTH, 0)
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
    cdef const char* data
    cdef Py_ssize_t index, size
    while True:
        if op == end:
            status = 0
            break
        code = op.code
        if code == OP_NEED:
            if cur.end - p < op.number:
                cur.pos = p
                if need_room(cur, op.number, False) < 0:
                    break
                p = cur.pos
        elif code == OP_U8:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, MAX_U8, 0, &raw):
                store_u8(p, <uint8_t>raw)
            elif encode_number(enc, OP_U8, v, p) < 0:
                break
            p += 1
        elif code == OP_U16:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, MAX_U16, 0, &raw):
                store_u16(p, <uint16_t>raw)
            elif encode_number(enc, OP_U16, v, p) < 0:
                break
            p += 2
        elif code == OP_U32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_U32, 0, &raw):
                store_u32(p, <uint32_t>raw)
            elif encode_number(enc, OP_U32, v, p) < 0:
                break
            p += 4
        elif code == OP_U64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_U64, 0, &raw):
                store_u64(p, raw)
            elif encode_number(enc, OP_U64, v, p) < 0:
                break
            p += 8
        elif code == OP_I32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_I32, DC_MAX_I32 + 1, &raw):
                store_u32(p, <uint32_t>raw)
            elif encode_number(enc, OP_I32, v, p) < 0:
                break
            p += 4
        elif code == OP_I64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyLong_CheckExact(v) and int_raw(v, DC_MAX_I64, DC_MAX_I64 + 1, &raw):
                store_u64(p, raw)
            elif encode_number(enc, OP_I64, v, p) < 0:
                break
            p += 8
        elif code == OP_F32:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyFloat_CheckExact(v) and f32_of(PyFloat_AS_DOUBLE(v), &narrow):
                store_f32(p, narrow)
            elif encode_number(enc, OP_F32, v, p) < 0:
                break
            p += 4
        elif code == OP_F64:
            v = (<PyObject**>(base + op.offset))[0]
            if v != NULL and PyFloat_CheckExact(v):
                store_f64(p, PyFloat_AS_DOUBLE(v))
            elif encode_number(enc, OP_F64, v, p) < 0:
                break
            p += 8
        elif code == OP_I8 or code == OP_I16:
            if encode_number(enc, code, (<PyObject**>(base + op.offset))[0], p) < 0:
                break
            p += op.size
        elif code == OP_BOOL:
            v = (<PyObject**>(base + op.offset))[0]
            if v == Py_True:
                store_u8(p, 1)
            elif v == Py_False:
                store_u8(p, 0)
            elif encode_bool(enc, v, p) < 0:
                break
            p += 1
        elif code == OP_ENUM:
            v = (<PyObject**>(base + op.offset))[0]
            index = table_find(<Table*>op.ref, v)
            if index < 0:
                wrong_member(enc, <Table*>op.ref, v)
                break
            store_u32(p, <uint32_t>index)
            p += 4
        elif code == OP_TAG:
            store_u32(p, <uint32_t>op.number)
            p += 4
        elif code == OP_ENTER:
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL or Py_TYPE(v) != <PyTypeObject*>op.ref:
                wrong_class(enc, op, v)
                break
            Py_INCREF(v)  # released at LEAVE or below
            held[level] = v
            bases[level] = base
            level += 1
            base = <char*>v
        elif code == OP_ENTER_TUPLE:
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL or not PyTuple_Check(v) or PyTuple_GET_SIZE(v) != op.number:
                wrong_tuple(enc, op.number, v)
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
        elif code == OP_STR:
            v = (<PyObject**>(base + op.offset))[0]
            data = NULL
            if v != NULL and PyUnicode_Check(v):
                if PyUnicode_IS_COMPACT_ASCII(v):
                    data = <const char*>PyUnicode_DATA(v)
                    size = PyUnicode_GET_LENGTH(v)
                else:
                    data = utf8_kept(v, &size)
            if data != NULL and size <= min(cur.end - p - 4, <Py_ssize_t>MAX_LENGTH):
                store_u32(p, <uint32_t>size)
                memcpy(p + 4, data, size)
                p += 4 + size
            else:
                cur.pos = p
                if _str(enc, v, tail and op.tail) < 0:
                    break
                p = cur.pos
        else:
            # These operations write at the cursor itself.
            cur.pos = p
            v = (<PyObject**>(base + op.offset))[0]
            if v == NULL:
                fail(enc, "is not set")
                break
            if code == OP_BYTES:
                if _bytes(enc, v, tail and op.tail) < 0:
                    break
            elif code == OP_LIST or code == OP_TUPLE:
                if _elements(enc, op, v, tail and op.tail) < 0:
                    break
            elif code == OP_SEALED:
                index = table_find(<Table*>op.ref, <PyObject*>Py_TYPE(v))
                if index < 0:
                    wrong_member(enc, <Table*>op.ref, v)
                    break
                if need_room(cur, 4, False) < 0:
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
                if encode_array(enc, op.kind, v, op.number, tail and op.tail) < 0:
                    break
            elif code == OP_STRUCTURED:
                if encode_structured(enc, <PyObject*>op.ref, v, op.number, tail and op.tail) < 0:
                    break
            elif code == OP_NANOSECONDS:
                if encode_nanoseconds(enc, op.kind, v, p) < 0:
                    break
                cur.pos += op.size
            elif code == OP_DIMENSION:
                if encode_dimension(enc, op, base, p) < 0:
                    break
                cur.pos += op.size
            else:  # OP_SHAPE
                if check_shape(enc, op, base) < 0:
                    break
            p = cur.pos
        op += 1
    if status == 0:
        cur.pos = p
        return 0
    encode_note(enc, <object>op.path)
    while level > 0:
        level -= 1
        Py_DECREF(held[level])
    return -1


# --- text and bytes ---

cdef int _str(Encoder* enc, PyObject* v, bint last) noexcept:
    cdef const char* data
    cdef Py_ssize_t size
    if v == NULL or not PyUnicode_Check(v):
        return mismatch(enc, "str", v)
    if PyUnicode_IS_COMPACT_ASCII(v):
        data = <const char*>PyUnicode_DATA(v)
        size = PyUnicode_GET_LENGTH(v)
    else:
        # CPython caches the UTF-8 form in the string, so sending the string again costs one copy.
        data = utf8_kept(v, &size)
        if data == NULL:
            data = PyUnicode_AsUTF8AndSize(v, &size)
        if data == NULL:
            if not PyErr_ExceptionMatches(PyExc_UnicodeError):
                return -1
            PyErr_Clear()
            return fail(enc, "has a lone surrogate, which UTF-8 cannot hold")
    return write_sized(enc, data, size, size, last)


cdef int _bytes(Encoder* enc, PyObject* v, bint last) noexcept:
    cdef WriteCursor* cur = enc.cur
    cdef Py_ssize_t size
    if PyBytes_Check(v):
        size = PyBytes_GET_SIZE(v)
        if last and size >= cur.tail_min and PyBytes_CheckExact(v):
            if size > <Py_ssize_t>MAX_LENGTH:
                return too_long(enc, size)
            if need_room(cur, 4, True) < 0:
                return -1
            store_u32(cur.pos, <uint32_t>size)
            cur.pos += 4
            Py_INCREF(v)  # released by the owner of the cursor
            cur.tail = v
            return 0
        return write_sized(enc, PyBytes_AS_STRING(v), size, size, last)
    if PyByteArray_CheckExact(v):
        size = PyByteArray_GET_SIZE(v)
        return write_sized(enc, PyByteArray_AS_STRING(v), size, size, last)
    return encode_foreign_bytes(enc, v, last)


# --- lists ---

cdef int _elements(Encoder* enc, Op* op, PyObject* v, bint last) noexcept:
    # Encodes list[T] and tuple[T, ...].
    cdef Prog* item = <Prog*>op.ref
    cdef bint is_list = op.code == OP_LIST
    cdef WriteCursor* cur = enc.cur
    cdef Py_ssize_t count
    cdef int status
    if not (PyList_Check(v) if is_list else PyTuple_Check(v)):
        if is_list and item.columns != NULL and PyObject_CheckBuffer(v):
            return encode_structured(enc, item.columns, v, True, last)
        return mismatch(enc, "list" if is_list else "tuple", v)
    count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
    if count > <Py_ssize_t>MAX_LENGTH:
        return too_long(enc, count)
    if item.min_size == 0 and count > MAX_EMPTY:
        return fail_counts(enc, "{} elements without a size are more than {}", count, MAX_EMPTY)
    if need_room(cur, 4 + (count * item.min_size if item.fixed else 0), last and item.fixed) < 0:
        return -1
    store_u32(cur.pos, <uint32_t>count)
    cur.pos += 4
    Py_INCREF(v)
    status = _items(enc, item, v, is_list, count)
    Py_DECREF(v)
    return status


cdef int _items(Encoder* enc, Prog* item, PyObject* v, bint is_list, Py_ssize_t count) noexcept:
    # Encodes the elements. The caller holds `v`; a list may change meanwhile.
    cdef Py_ssize_t i
    cdef PyObject* element
    cdef int code = item.ops[item.count - 1].code if item.count > 0 else OP_NEED
    if item.leaf and OP_U8 <= code <= OP_F64:
        return _item_numbers(enc, code, v, is_list, count)
    if item.fixed and need_room(enc.cur, count * item.min_size, False) < 0:
        return -1
    for i in range(count):
        if is_list and PyList_GET_SIZE(v) != count:
            return fail(enc, "changed its length while it was encoded")
        element = PySequence_Fast_ITEMS(v)[i]
        Py_INCREF(element)
        if encode_prog(enc, item, <char*>&element, False) < 0:
            encode_note_index(enc, i)
            Py_DECREF(element)
            return -1
        Py_DECREF(element)
    if is_list and PyList_GET_SIZE(v) != count:
        return fail(enc, "changed its length while it was encoded")
    return 0


cdef int _item_numbers(Encoder* enc, int code, PyObject* v, bint is_list, Py_ssize_t count) noexcept:
    cdef int size = number_size(code)
    cdef char* p
    if need_room(enc.cur, count * size, False) < 0:
        return -1
    p = enc.cur.pos
    if _numbers(enc, code, v, is_list, count, p) < 0:
        return -1
    enc.cur.pos = p + count * size
    return 0


cdef int _numbers(Encoder* enc, int code, PyObject* v, bint is_list, Py_ssize_t count, char* p) noexcept:
    # Encodes `count` numbers from a list or tuple into memory that is reserved. May run Python code.
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
            store_int(p, size, raw)
        else:
            if encode_number(enc, code, element, p) < 0:
                encode_note_index(enc, i)
                return -1
            if is_list:
                if PyList_GET_SIZE(v) != count:
                    return fail(enc, "changed its length while it was encoded")
                items = PySequence_Fast_ITEMS(v)
        p += size
    return 0


cdef int _fixed_numbers(Encoder* enc, Op* op, PyObject* v, char* p) noexcept:
    # Encodes a FixedArray of `op.number` numbers into memory that is reserved.
    cdef Py_buffer view
    cdef bint is_list
    cdef Py_ssize_t count
    cdef int status
    if v == NULL:
        return fail(enc, "is not set")
    is_list = PyList_Check(v)
    if is_list or PyTuple_Check(v):
        count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
        if count != op.number:
            return fail_counts(enc, "expected {} items, got {}", op.number, count)
        Py_INCREF(v)
        status = _numbers(enc, op.kind, v, is_list, count, p)
        Py_DECREF(v)
        return status
    if numbers_view(enc, op.kind, v, &view) < 0:
        return -1
    if view.len != op.size:
        status = fail_counts(
            enc, "expected {} items, got {}", op.number, view.len // number_size(op.kind)
        )
    else:
        if view.len > 0:
            memcpy(p, view.buf, view.len)
        status = 0
    PyBuffer_Release(&view)
    return status


cdef int _fixed(Encoder* enc, Op* op, PyObject* v) noexcept:
    # Encodes a FixedArray of other items.
    cdef bint is_list = PyList_Check(v)
    cdef Py_ssize_t count
    cdef int status
    if not is_list and not PyTuple_Check(v):
        return mismatch(enc, "list or tuple", v)
    count = PyList_GET_SIZE(v) if is_list else PyTuple_GET_SIZE(v)
    if count != op.number:
        return fail_counts(enc, "expected {} items, got {}", op.number, count)
    Py_INCREF(v)
    status = _items(enc, <Prog*>op.ref, v, is_list, count)
    Py_DECREF(v)
    return status
