"""Memory of large `bytes` that were received and dropped, filled again by the next ones.

A fresh allocation of 64 KiB or more costs a page fault for each 4 KiB, because the C library returns such
memory to the system. These faults cost more than the copy. So the decoder keeps a reference to each large
`bytes` that it gives out. Once the program has dropped an object, that reference is the only one. Then the
object is filled with the next value.

::

    _given   in the order of giving out. Both ends are looked at: programs drop values mostly in the order of
             receiving, or soon. What the program still holds when the ring is full leaves it.
    _idle    found to be dropped. The last one found is the next to be filled: its memory is the warmest.

All of this happens with the GIL held.

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
    LOOKS = 4              # at the newest given objects, and at idle ones, for one value
    IDLE_NS = 1000000000   # without a value filled, before all memory is given back

cdef struct Kept:
    PyObject* object       # owned
    Py_ssize_t room        # bytes that it was made with

cdef struct Ring:
    Kept[MOST_KEPT] kept
    Py_ssize_t first       # the oldest, an index below MOST_KEPT
    Py_ssize_t count

cdef Ring _given
cdef Ring _idle
cdef Py_ssize_t _bytes = 0       # of the rooms of both, altogether
cdef Py_ssize_t _least_idle = 0  # objects that were idle all the time since the last rest
cdef bint _is_used = False       # since the last rest
cdef uint64_t _rested_at = 0
cdef Room* _offered = NULL       # borrowed, while a message is decoded in it


cdef PyObject* recycled_bytes(const char* data, Py_ssize_t size) noexcept:
    cdef Room room
    if _offered != NULL and data == _offered.data and size == _offered.value_size:
        return _accept(_offered)
    if not take_room(&room, size):
        return NULL
    refit(room.object, size)
    memcpy(room.data, data, size)
    return _give(&room)


cdef Py_ssize_t lead_limit() noexcept:
    return min(<Py_ssize_t>MOST_LEAD, HEADER_BYTES)


cdef bint take_room(Room* room, Py_ssize_t size) noexcept:
    cdef Kept* kept
    cdef int look
    global _is_used, _bytes, _least_idle
    _is_used = True
    _find_dropped()
    for look in range(LOOKS):
        if look == _idle.count:
            break
        kept = _at(&_idle, _idle.count - 1 - look)
        if size <= kept.room and kept.room - size <= size // 2:
            room.object = kept.object
            room.size = kept.room
            room.data = PyBytes_AS_STRING(room.object)
            kept[0] = _at(&_idle, _idle.count - 1)[0]
            _idle.count -= 1
            _bytes -= room.size
            _least_idle = min(_least_idle, _idle.count)
            return True
    room.object = PyBytes_FromStringAndSize(NULL, size)
    if room.object == NULL:
        return False
    room.size = size
    room.data = PyBytes_AS_STRING(room.object)
    return True


cdef void _find_dropped() noexcept:
    # All of the oldest, up to one that the program holds, and those among the newest few.
    cdef Py_ssize_t place, after
    cdef Kept kept
    while _given.count != 0 and is_alone(_given.kept[_given.first].object):
        _push(&_idle, _shift(&_given))
    place = _given.count
    while place > 0 and place > _given.count - LOOKS:
        place -= 1
        kept = _at(&_given, place)[0]
        if is_alone(kept.object):
            for after in range(place + 1, _given.count):
                _at(&_given, after - 1)[0] = _at(&_given, after)[0]
            _given.count -= 1
            _push(&_idle, kept)


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
    global _offered
    _offered = NULL
    memcpy(room.data - room.lead_size, room.header, room.lead_size)
    refit(room.object, room.value_size)
    return _give(room)


cdef PyObject* _give(Room* room) noexcept:
    # The object as a value, with a reference for the program.
    cdef PyObject* value = room.object
    Py_INCREF(value)
    _keep(&_given, room)
    return value


cdef void drop_room(Room* room) noexcept:
    if room.object != NULL:
        _keep(&_idle, room)


cdef void _keep(Ring* ring, Room* room) noexcept:
    # Takes over the room's reference, as the newest of the ring, or drops it.
    global _bytes
    cdef Kept kept
    kept.object = room.object
    kept.room = room.size
    room.object = NULL
    _bytes += kept.room
    if kept.room > MOST_KEPT_BYTES // 2:
        _free(kept)
        return
    _make_place()
    _push(ring, kept)


cdef void _make_place() noexcept:
    # For one more object, whose bytes are counted already. What was dropped longest ago goes first, then what
    # was given out longest ago.
    global _least_idle
    while _given.count + _idle.count == MOST_KEPT or _bytes > MOST_KEPT_BYTES:
        if _idle.count != 0:
            _free(_shift(&_idle))
            _least_idle = min(_least_idle, _idle.count)
        else:
            _free(_shift(&_given))


cdef inline Kept* _at(Ring* ring, Py_ssize_t place) noexcept:
    return &ring.kept[(ring.first + place) % MOST_KEPT]


cdef inline void _push(Ring* ring, Kept kept) noexcept:
    ring.count += 1
    _at(ring, ring.count - 1)[0] = kept


cdef inline Kept _shift(Ring* ring) noexcept:
    cdef Kept kept = ring.kept[ring.first]
    ring.first = (ring.first + 1) % MOST_KEPT
    ring.count -= 1
    return kept


cdef void _free(Kept kept) noexcept:
    global _bytes
    _bytes -= kept.room
    Py_DECREF(kept.object)


cdef void recycler_rest() noexcept:
    cdef uint64_t now
    global _is_used, _rested_at, _least_idle
    if _given.count + _idle.count == 0:
        return
    now = deli_com_clock_ns()
    if now - _rested_at < IDLE_NS:
        return
    if not _is_used:
        recycler_drop()
    while _least_idle > 0:
        _least_idle -= 1
        _free(_shift(&_idle))
    _least_idle = _idle.count
    _is_used = False
    _rested_at = now


cdef void recycler_drop() noexcept:
    global _least_idle
    while _given.count != 0:
        _free(_shift(&_given))
    while _idle.count != 0:
        _free(_shift(&_idle))
    _least_idle = 0
