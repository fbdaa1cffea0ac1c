# Memory of large `bytes` that were received and dropped, kept to be filled again.

from cpython.object cimport PyObject

cdef enum:
    RECYCLED_BYTES = 768       # a `bytes` value of this size or more is looked after
    MOST_KEPT_BYTES = 33554432  # of all objects in the ring, whether the program still holds them or not
    MOST_KEPT = 1024           # objects
    MOST_LEAD = 32             # bytes before `Room.data` that an offered message may use; see `lead_limit`


# A new reference to a `bytes` of `size` bytes copied from `data`: one that the program dropped, or a new one.
# `size` is at least RECYCLED_BYTES. NULL: MemoryError is set.
cdef PyObject* recycled_bytes(const char* data, Py_ssize_t size) noexcept

# Memory of a `bytes` object that is no value yet. `data` may be written from 0 to `size`.
cdef struct Room:
    PyObject* object             # owned; NULL: there is none, or it has become a value
    char* data
    Py_ssize_t size              # bytes that it was made with
    # --- while it is offered ---
    char[MOST_LEAD] header       # of the object, as it was
    Py_ssize_t lead_size
    Py_ssize_t value_size

# How many bytes `offer_room` takes: those of the header of a `bytes` object, at most MOST_LEAD.
cdef Py_ssize_t lead_limit() noexcept

# Fills `room` with an object of at least `size` bytes, which is at least RECYCLED_BYTES: one that the program
# dropped, or a new one. False: MemoryError is set.
cdef bint take_room(Room* room, Py_ssize_t size) noexcept

# Puts `lead`, at most `lead_limit()` bytes, right before `room.data`, where the object's header is. From here
# to `withdraw_room`, the object must not be used, and the room must stay where it is. A `recycled_bytes` of
# `room.data` and `value_size` becomes this object meanwhile.
cdef void offer_room(Room* room, const char* lead, Py_ssize_t lead_size, Py_ssize_t value_size) noexcept

# Ends the offer. Whether the room is still there.
cdef bint withdraw_room(Room* room) noexcept

# Gives its memory back, to be filled by the next value.
cdef void drop_room(Room* room) noexcept

# Gives back the memory that was not needed for a second. Cheap; called at each sweep of an endpoint.
cdef void recycler_rest() noexcept

# Gives back all of that memory at once.
cdef void recycler_drop() noexcept
