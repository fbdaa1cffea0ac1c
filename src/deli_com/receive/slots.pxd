# The keys of the values that wait in an inbox, and the order in which keys take turns.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef enum:
    KEY_BYTES = 24            # most bytes of a key that is stored in its slot
    NO_PLACE = -1


cdef struct Held:
    # A waiting value in `PolicyInbox`.
    Held* before              # list of all waiting values, in order of arrival
    Held* after
    Held* next_fixed          # list of values that keep their place
    Held* previous_fixed
    Held* next_of_key         # list of the same key; all arrived in one turn, except during a push
    Slot* slot                # NULL: the value keeps its place
    PyObject* value           # owned; an exception to raise if `is_error`. NULL: not decoded yet
    PyObject* source          # owned; the connection that received it
    char* data                # owned
    Py_ssize_t room           # bytes allocated at `data`
    Py_ssize_t wire           # bytes on the wire; valid bytes at `data` while `value` is NULL
    uint64_t number           # order of arrival
    uint64_t turn             # loop turn of its arrival
    uint64_t came_ns          # time of its arrival
    uint64_t due_ns           # when it is too old; 0: never
    int lane
    bint is_skip              # has policy skip
    bint is_error


cdef struct Slot:
    Slot* next                # list of the same bucket
    Slot* older               # list of idle slots: the one that became idle before
    Slot* newer
    Held* first               # list of its waiting values
    Held* last
    PyObject* source          # borrowed, only compared
    uint64_t hash
    uint64_t since            # tick of the last take, or of its first arrival
    Py_ssize_t place          # index in the heap, or NO_PLACE
    Py_ssize_t size           # bytes of the key
    char* key                 # points to `own`, or is owned memory
    int lane
    bint is_idle
    char own[KEY_BYTES]


cdef class SlotTable:
    cdef readonly Py_ssize_t count         # number of slots
    cdef readonly Py_ssize_t idle          # number of slots without a waiting value
    cdef Slot** heap                       # slots whose turn may be next; least `since` first
    cdef Py_ssize_t heaped

    # The slot of a key, made if there is none. It is not idle.
    cdef Slot* get(self, PyObject* source, int lane, const char* key, Py_ssize_t size) except NULL
    cdef void taken(self, Slot* slot) noexcept
    cdef void rest(self, Slot* slot) noexcept           # marks it idle: no value waits
    cdef int enter(self, Slot* slot) except -1          # adds it to the heap
    cdef void leave(self, Slot* slot) noexcept          # removes it from the heap
    cdef void forget_idle(self, Py_ssize_t most) noexcept

    # --- private ---
    cdef Slot** _buckets
    cdef Py_ssize_t _mask
    cdef uint64_t _tick
    cdef Slot* _oldest                     # list of idle slots, least recent first
    cdef Slot* _newest
    cdef Py_ssize_t _heap_room
    cdef int _grow(self) except -1
    cdef void _unlink_idle(self, Slot* slot) noexcept
    cdef void _drop(self, Slot* slot) noexcept
    cdef void _sift_up(self, Py_ssize_t at) noexcept
    cdef void _sift_down(self, Py_ssize_t at) noexcept
