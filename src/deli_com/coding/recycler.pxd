# Memory of large `bytes` that were received and dropped, kept to be filled again.

from cpython.object cimport PyObject

cdef enum:
    RECYCLED_BYTES = 16384     # a `bytes` value of this size or more is looked after
    MOST_KEPT_BYTES = 8388608  # of all objects in the ring, whether the program still holds them or not
    MOST_KEPT = 256            # objects


# A new reference to a `bytes` of `size` bytes copied from `data`: one that the program dropped, or a new one.
# `size` is at least RECYCLED_BYTES. NULL: MemoryError is set.
cdef PyObject* recycled_bytes(const char* data, Py_ssize_t size) noexcept

# Gives back the memory of dropped objects if none was filled since the last call at least IDLE_NS ago.
# Cheap; called at each sweep of an endpoint.
cdef void recycler_rest() noexcept

# Gives back all of that memory at once.
cdef void recycler_drop() noexcept
