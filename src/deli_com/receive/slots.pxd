# The keys of values that wait in an inbox, and whose turn it is.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef enum:
    KEY_BYTES = 24            # of a key that is kept within its slot
    NO_PLACE = -1


cdef struct Held:
    # A value that waits, in `PolicyInbox`.
    Held* before              # all that wait, in order of arrival
    Held* after
    Held* next_fixed          # of those that keep their place: the next one
    Held* previous_fixed
    Held* next_of_key         # of the same key; they have all come in one turn, but for the time of a push
    Slot* slot                # NULL: it keeps its place
    PyObject* value           # owned; an exception to raise where `is_error`. NULL: still bytes
    PyObject* source          # owned; the connection it came over
    char* data                # owned
    Py_ssize_t room           # bytes allocated there
    Py_ssize_t wire           # bytes it took on the wire; those at `data`, where there is no value yet
    uint64_t number           # order of arrival
    uint64_t turn             # of the loop, in which it came
    uint64_t came_ns          # when that was
    int lane
    bint is_skip              # of policy skip
    bint is_error


cdef struct Slot:
    Slot* next                # in the same bucket
    Slot* older               # of those for which nothing waits: the one that became so before
    Slot* newer
    Held* first               # values that wait
    Held* last
    PyObject* source          # borrowed, to compare
    uint64_t hash
    uint64_t since            # when it was taken last, or else first came, in ticks of the table
    Py_ssize_t place          # in the heap
    Py_ssize_t size           # of the key
    char* key                 # `own`, or owned
    int lane
    bint is_idle
    char own[KEY_BYTES]


cdef class SlotTable:
    cdef readonly Py_ssize_t count         # slots in all
    cdef readonly Py_ssize_t idle          # of them, those for which nothing waits
    cdef Slot** heap                       # whose turn it is first: the least `since`
    cdef Py_ssize_t heaped

    # The slot of a key; a new one where there is none. It is not idle.
    cdef Slot* get(self, PyObject* source, int lane, const char* key, Py_ssize_t size) except NULL
    cdef void taken(self, Slot* slot) noexcept
    cdef void rest(self, Slot* slot) noexcept           # nothing waits for it
    cdef int enter(self, Slot* slot) except -1          # into the heap
    cdef void leave(self, Slot* slot) noexcept          # the heap
    cdef void forget_idle(self, Py_ssize_t most) noexcept

    # --- private ---
    cdef Slot** _buckets
    cdef Py_ssize_t _mask
    cdef uint64_t _tick
    cdef Slot* _oldest                     # idle
    cdef Slot* _newest
    cdef Py_ssize_t _heap_room
    cdef int _grow(self) except -1
    cdef void _unlink_idle(self, Slot* slot) noexcept
    cdef void _drop(self, Slot* slot) noexcept
    cdef void _sift_up(self, Py_ssize_t at) noexcept
    cdef void _sift_down(self, Py_ssize_t at) noexcept
