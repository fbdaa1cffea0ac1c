"""Memory of large `bytes` that were received and dropped, filled again by the next ones.

A fresh allocation of 64 KiB or more costs a page fault for each 4 KiB, because the C library returns such
memory to the system. These faults cost more than the copy. So the decoder keeps a reference to each large
`bytes` that it gives out. Once the program has dropped an object, that reference is the only one. Then the
object is filled with the next value.

The ring is in the order of giving out. Only its oldest objects are looked at, because programs drop
values mostly in the order of receiving. An object that the program still holds when the ring is full leaves
it, and belongs to the program alone from then on. All of this happens with the GIL held.

A link may read a message straight into a `Room`: an object of the ring, or a new one, that is no value yet.
While the message is decoded, the room is offered. If the message ends with a `bytes` whose data begins where
the room's does, then the room becomes that value, and nothing is copied. What comes before that data in the
message lies in the header of the object meanwhile.
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
    Py_ssize_t HEADER_BYTES "offsetof(PyBytesObject, ob_sval)"
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
cdef Room* _offered = NULL     # borrowed, while a message is decoded in it


cdef PyObject* recycled_bytes(const char* data, Py_ssize_t size) noexcept:
    cdef Room room
    if _offered != NULL and data == _offered.data and size == _offered.value_size:
        return _accept(_offered)
    if not take_room(&room, size):
        return NULL
    refit(room.object, size)
    memcpy(room.data, data, size)
    if room.size <= MOST_KEPT_BYTES // 2:
        _keep(room.object, room.size)
    return room.object


cdef Py_ssize_t lead_limit() noexcept:
    return min(<Py_ssize_t>MOST_LEAD, HEADER_BYTES)


cdef bint take_room(Room* room, Py_ssize_t size) noexcept:
    cdef Kept kept
    cdef int _look
    global _is_used
    _is_used = True
    room.object = NULL
    for _look in range(LOOKS):
        if _count == 0 or not is_alone(_ring[_first].object):
            break
        kept = _take()
        if size <= kept.room and kept.room - size <= size // 2:
            room.object = kept.object
            room.size = kept.room
            break
        Py_DECREF(kept.object)  # of another size than what comes now
    if room.object == NULL:
        room.object = PyBytes_FromStringAndSize(NULL, size)
        if room.object == NULL:
            return False
        room.size = size
    room.data = PyBytes_AS_STRING(room.object)
    return True


cdef void offer_room(Room* room, const char* lead, Py_ssize_t lead_size, Py_ssize_t value_size) noexcept:
    global _offered
    memcpy(room.header, room.data - lead_size, lead_size)
    memcpy(room.data - lead_size, lead, lead_size)
    room.lead_size = lead_size
    room.value_size = value_size
    _offered = room


cdef bint withdraw_room(Room* room) noexcept:
    # Another thread may have offered a room since: its message is copied then.
    global _offered
    _offered = NULL
    if room.object == NULL:
        return False
    memcpy(room.data - room.lead_size, room.header, room.lead_size)
    return True


cdef PyObject* _accept(Room* room) noexcept:
    cdef PyObject* value = room.object
    global _offered
    _offered = NULL
    memcpy(room.data - room.lead_size, room.header, room.lead_size)
    refit(value, room.value_size)
    room.object = NULL
    if room.size <= MOST_KEPT_BYTES // 2:
        _keep(value, room.size)
    return value


cdef void drop_room(Room* room) noexcept:
    # The next one to be filled, as its memory is the warmest.
    global _first, _count, _bytes
    cdef PyObject* object = room.object
    room.object = NULL
    if object == NULL:
        return
    if room.size > MOST_KEPT_BYTES // 2 or _count == MOST_KEPT or _bytes + room.size > MOST_KEPT_BYTES:
        Py_DECREF(object)
        return
    _first = (_first + MOST_KEPT - 1) % MOST_KEPT
    _ring[_first].object = object
    _ring[_first].room = room.size
    _count += 1
    _bytes += room.size


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
