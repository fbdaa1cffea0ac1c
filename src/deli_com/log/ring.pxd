# The records of a broadcast log: which memory holds which part of its stream.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from deli_com.ground.delivery_class cimport DeliveryClass
from deli_com.log.arena cimport Arena, Frame, Slab


cdef enum:
    NOWHERE = -1             # as uint64_t: an offset that no stream reaches
    SEVERAL_LANES = -1
    AGED_LANE = 1 << 24      # in the lane of a dead record: it was too old


cdef struct Record:
    # One contiguous run of the stream: reliable frames side by side in a slab, one frame of
    # another class, or one large body. Dead: the memory is gone, the bytes count all the same.
    uint64_t start           # stream offset of its first byte
    Py_ssize_t size
    const char* data         # borrowed from slab or body; NULL once dead
    Slab* slab               # NULL for a body, and once dead
    PyObject* body           # owned reference to exact bytes, NULL for a slab, and once dead
    Py_ssize_t pins          # laggards whose cursor stands in it
    uint64_t number          # of its first frame, in the order over all logs of the arena
    uint64_t last_number     # of its last frame
    uint64_t reliable        # bytes of reliable frames before it, in this log
    uint64_t born_ns         # when its first frame was appended
    uint64_t barred          # id of the follower that must not get it; 0: none
    PyObject* key            # owned `Key`, on the first record of a latest-only frame; else NULL
    uint32_t skipped         # frames of class skip in it that have died
    uint32_t superseded      # frames of class latest in it that have died
    int lane                 # of a frame that is not reliable; SEVERAL_LANES: see Records._several
    uint8_t kind             # DeliveryClass
    bint begins_frame
    bint ends_frame          # its last byte is the last byte of a frame
    bint obsolete            # superseded, but not flushed yet: dies at the end of the flush
    bint separate            # a cursor's floor may be where it begins: it is not joined to what is before
    bint retain              # kept for clients that join later, while it is the newest


cdef struct Position:
    uint64_t offset          # stream offset, always at a frame's first byte
    uint64_t record          # index of the record that holds it, or of one before
    uint64_t pinned          # stream offset in the record pinned for it; the end of the log: it is to come


cdef class Key:
    # One key of one type, in one log.
    cdef object value
    cdef uint64_t start      # where its newest frame begins; NOWHERE: none is held
    cdef uint64_t record     # index of its record, or of one before


cdef class Records:
    cdef readonly uint64_t end       # stream offset one past the last committed byte
    cdef readonly Arena arena        # shared with the other logs of an endpoint
    cdef readonly Py_ssize_t held    # bytes of live records
    cdef readonly Py_ssize_t reliable  # ... of reliable frames
    cdef readonly Py_ssize_t retained_keys  # frames that `retain` keeps for clients that join later
    cdef Position flushed            # followers that the round serves have everything before this
    cdef uint64_t reliable_end       # bytes of reliable frames ever appended

    cdef uint64_t head_offset(self) noexcept
    cdef void seek(self, Position* at, uint64_t offset) noexcept

    # --- for the log ------------------------------------------------------------------
    cdef Record* _ring               # capacity is a power of two; slot = index & mask
    cdef uint64_t _mask
    cdef uint64_t _first             # index of the oldest record
    cdef uint64_t _next              # index that the next record gets
    cdef uint64_t _trimmed           # records before this index are dead, or retained
    cdef bint _next_is_separate      # of the record to come
    cdef Py_ssize_t _early_pins      # pins on records before `_trimmed`: nothing is trimmed meanwhile
    cdef Py_ssize_t _pins_of_next    # pins that the record to come will start with
    cdef Py_ssize_t _skip_bytes      # of live skip frames
    cdef dict _several               # of dead records that became one: start -> lane -> frames that have died

    cdef Record* _record(self, uint64_t index) noexcept
    cdef uint64_t _search(self, uint64_t offset) noexcept
    cdef uint64_t _find(self, uint64_t start, uint64_t hint) noexcept
    cdef void _add_frame(self, Frame* frame, DeliveryClass kind, uint64_t barred) noexcept
    cdef void _add(
        self, Frame* frame, const char* data, Py_ssize_t size, Slab* slab, PyObject* body, bint ends_frame,
        DeliveryClass kind, uint64_t barred
    ) noexcept
    cdef bint _join(self, Record* record, Record* after) noexcept
    cdef int _count_dead(self, Record* record, dict lanes) except -1
    cdef int _reserve_records(self, Py_ssize_t count) except -1
    cdef void _compact(self) noexcept
    cdef void _free(self, Record* record) noexcept
    cdef void _kill(self, uint64_t index) noexcept
    cdef void _kill_aged(self, uint64_t index) noexcept
    cdef void _free_frame(self, uint64_t index) noexcept
