"""Memory of large `bytes` that were received and dropped, filled again by the next ones.

A fresh allocation of 64 KiB or more costs a page fault for each 4 KiB, because the C library returns such
memory to the system. These faults cost more than the copy. So the decoder keeps a reference to each large
`bytes` that it gives out. Once the program has dropped an object, that reference is the only one. Then the
object is filled with the next value.

The ring is in the order of giving out. Only its oldest objects are looked at, because programs drop
values mostly in the order of receiving. An object that the program still holds when the ring is full leaves
it, and belongs to the program alone from then on. All of this happens with the GIL held.
"""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from deli_com.ground.cpython cimport *
from deli_com.ground.sockets cimport deli_com_clock_ns

cdef extern from *:
    """
    /* Only the ring holds `o`. */
    #define dc_is_alone(o) (Py_REFCNT(o) == 1)
    /* `o` becomes a `bytes` of `size` bytes, no more than it was made with; its hash is computed again. */
    static inline void dc_refit(PyObject *o, Py_ssize_t size) {
        PyBytesObject *bytes = (PyBytesObject *)o;
        Py_SET_SIZE((PyVarObject *)o, size);
        bytes->ob_sval[size] = 0;
    #if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    #elif defined(_MSC_VER)
    #pragma warning(push)
    #pragma warning(disable: 4996)
    #endif
        bytes->ob_shash = -1;
    #if defined(__GNUC__)
    #pragma GCC diagnostic pop
    #elif defined(_MSC_VER)
    #pragma warning(pop)
    #endif
    }
    """
    bint is_alone "dc_is_alone"(PyObject* o) noexcept
    void refit "dc_refit"(PyObject* o, Py_ssize_t size) noexcept

cdef enum:
    LOOKS = 4              # at the oldest objects, for one value
    IDLE_NS = 1000000000   # without a value filled, before memory is given back

cdef struct Kept:
    PyObject* object       # owned
    Py_ssize_t room        # bytes that it was made with

cdef Kept _ring[MOST_KEPT]
cdef Py_ssize_t _first = 0     # the oldest, an index below MOST_KEPT
cdef Py_ssize_t _count = 0
cdef Py_ssize_t _bytes = 0     # of the rooms, altogether
cdef bint _is_used = False     # since the last rest
cdef uint64_t _rested_at = 0


cdef PyObject* recycled_bytes(const char* data, Py_ssize_t size) noexcept:
    cdef Kept kept
    cdef PyObject* found = NULL
    cdef int _look
    global _is_used
    _is_used = True
    for _look in range(LOOKS):
        if _count == 0 or not is_alone(_ring[_first].object):
            break
        kept = _take()
        if size <= kept.room and kept.room - size <= size // 2:
            found = kept.object
            break
        Py_DECREF(kept.object)  # of another size than what comes now
    if found == NULL:
        found = PyBytes_FromStringAndSize(NULL, size)
        if found == NULL:
            return NULL
        kept.room = size
    else:
        refit(found, size)
    memcpy(PyBytes_AS_STRING(found), data, size)
    if kept.room <= MOST_KEPT_BYTES // 2:
        _keep(found, kept.room)
    return found


cdef Kept _take() noexcept:
    # The oldest leaves the ring, with the ring's reference.
    cdef Kept kept = _ring[_first]
    global _first, _count, _bytes
    _first = (_first + 1) % MOST_KEPT
    _count -= 1
    _bytes -= kept.room
    return kept


cdef void _keep(PyObject* made, Py_ssize_t room) noexcept:
    # A reference of the ring's own, as the newest.
    cdef Kept* kept
    global _count, _bytes
    while _count == MOST_KEPT or _bytes + room > MOST_KEPT_BYTES:
        Py_DECREF(_take().object)
    kept = &_ring[(_first + _count) % MOST_KEPT]
    Py_INCREF(made)
    kept.object = made
    kept.room = room
    _count += 1
    _bytes += room


cdef void recycler_rest() noexcept:
    cdef uint64_t now
    global _is_used, _rested_at
    if _count == 0:
        return
    now = deli_com_clock_ns()
    if _is_used:
        _is_used = False
        _rested_at = now
    elif now - _rested_at >= IDLE_NS:
        recycler_drop()


cdef void recycler_drop() noexcept:
    while _count != 0:
        Py_DECREF(_take().object)
