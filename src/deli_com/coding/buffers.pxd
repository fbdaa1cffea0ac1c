# Encodes values from buffers. Each function may run Python code (`__buffer__`). The memory of an exported
# buffer does not move until it is released.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from deli_com.coding.encode_errors cimport too_long
from deli_com.coding.encoder cimport MAX_LENGTH, Encoder, need_room
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.scalar cimport store_u32


cdef inline int write_sized(
    Encoder* enc, const char* data, Py_ssize_t size, Py_ssize_t count, bint last
) noexcept:
    # Writes a u32 count, then `size` bytes.
    cdef WriteCursor* cur = enc.cur
    if count > <Py_ssize_t>MAX_LENGTH:
        return too_long(enc, count)
    if need_room(cur, 4 + size, last) < 0:
        return -1
    store_u32(cur.pos, <uint32_t>count)
    if size > 0:  # the data of an empty buffer may be NULL, which memcpy must not get
        memcpy(cur.pos + 4, data, size)
    cur.pos += 4 + size
    return 0


cdef int encode_foreign_bytes(Encoder* enc, PyObject* v, bint last) noexcept
# `flat_only`: the array must have one dimension, like a decoded one.
cdef int encode_array(Encoder* enc, int code, PyObject* v, bint flat_only, bint last) noexcept
cdef int encode_structured(
    Encoder* enc, PyObject* columns, PyObject* v, bint flat_only, bint last) noexcept

# Gets a view of a C-contiguous buffer of numbers of the kind `code`. The caller releases it.
cdef int numbers_view(Encoder* enc, int code, PyObject* v, Py_buffer* view) noexcept

# Whether the memory of a view with a format holds the value itself.
cdef bint is_plain(Py_buffer* view) noexcept

# 1 for a masked array, whose buffer is not its value; 0 for others; -1 with an exception set.
cdef int is_masked(PyObject* v) noexcept
