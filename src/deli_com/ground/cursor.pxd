# Where encoders write. Pure inline functions: there is no module behind this file.
#
# A cursor never owns memory. The code that starts one (the log, `to_bytes`) gives it room
# and a `grow` that allocates more. The codec only moves `pos`.

from cpython.object cimport PyObject


cdef struct WriteCursor:
    char* pos              # next byte to write; bytes before it are the value so far
    char* end              # one past the last writable byte
    # Makes at least `need` bytes writable at `pos`, moving the value if it must:
    # `pos` and `end` are then new, pointers taken before are dead. -1: MemoryError is set.
    int (*grow)(WriteCursor* cur, Py_ssize_t need) except -1
    void* owner            # borrowed; what `grow` works for
    PyObject* tail         # NULL, or an owned reference to the exact `bytes` that ends the value
    Py_ssize_t tail_min    # exact `bytes` of at least this size in last place go to `tail` uncopied


cdef inline int cursor_need(WriteCursor* cur, Py_ssize_t need) except -1:
    # Bounds check of one fixed-width run or one variable-width item, in bytes.
    if cur.end - cur.pos < need:
        return cur.grow(cur, need)
    return 0
