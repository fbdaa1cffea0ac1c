# Where a value is written that becomes a new `bytes`, or goes onto a bytearray: the stack, then a `bytes`.

from cpython.object cimport PyObject

from deli_com.ground.cursor cimport WriteCursor

cdef enum:
    STACK_BYTES = 1024   # values up to this size are encoded on the stack
    TAIL_BYTES = 2048    # a trailing `bytes` field of this size or more is copied once, into the result


cdef struct Scratch:
    WriteCursor cur           # must be first: a pointer to it is a pointer to the Scratch
    char* start
    PyObject* made            # owned bytes object to write to; NULL while the stack is enough
    char stack[STACK_BYTES]


# The cursor's `grow`.
cdef int scratch_grow(WriteCursor* cur, Py_ssize_t need) except -1


cdef inline void scratch_open(Scratch* scratch) noexcept:
    scratch.start = scratch.stack
    scratch.made = NULL
    scratch.cur.pos = scratch.stack
    scratch.cur.end = scratch.stack + STACK_BYTES
    scratch.cur.grow = scratch_grow
    scratch.cur.owner = NULL
    scratch.cur.tail = NULL
    scratch.cur.tail_min = TAIL_BYTES


# Drops what it owns. It is not called where `made` becomes the result.
cdef void scratch_close(Scratch* scratch) noexcept

# A new `bytes` of the first `head` bytes and the value's last ones, which stayed where they were. Closes it.
# NULL: MemoryError is set.
cdef PyObject* scratch_join(Scratch* scratch, Py_ssize_t head) noexcept
