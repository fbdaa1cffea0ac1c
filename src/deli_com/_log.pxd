# The broadcast log: framed messages for one audience, once, in one append-only stream of bytes.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from deli_com._arena cimport Arena, Frame, Slab
from deli_com._cursor cimport WriteCursor
from deli_com._lane cimport DeliveryClass
from deli_com._net cimport iovec


cdef enum:
    NOWHERE = -1             # as uint64_t: an offset that no stream reaches


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
    uint8_t kind             # DeliveryClass
    bint begins_frame
    bint ends_frame          # its last byte is the last byte of a frame
    bint doomed              # superseded, but not flushed yet: dies at the end of the flush
    bint retain              # kept for those who join later, as long as it is the newest


cdef struct Position:
    uint64_t offset          # stream offset, always at a frame's first byte
    uint64_t record          # index of the record that holds it, or of one before
    uint64_t pinned          # stream offset where the record begins that is pinned for it


cdef struct Cursor:
    # One follower's place in one log.
    Position at
    PyObject* log            # borrowed: the follower owns it
    uint64_t floor           # where it joined: of what is before, only retained frames are for it
    uint64_t limit           # where it left; NOWHERE: it has not
    bint pinned


cdef struct Span:
    # What comes next for one cursor, as far as it lies in one record.
    const char* data
    Py_ssize_t size
    uint64_t end             # stream offset behind it
    uint64_t number          # of the frame, or of the first in its record
    bint ends_frame
    bint many                # may hold several frames
    Py_ssize_t skipped       # frames passed over to come here, of class skip
    Py_ssize_t superseded    # and of class latest
    bint barred              # it, or one passed over, is barred to some follower


cdef class Key:
    # One key of one type, in one log.
    cdef object value
    cdef uint64_t start      # where its newest frame begins; NOWHERE: none is held
    cdef uint64_t record     # index of its record, or of one before


cdef class Log:
    cdef readonly uint64_t end       # stream offset one past the last committed byte
    cdef readonly Arena arena        # shared with the other logs of an endpoint
    cdef readonly Py_ssize_t held    # bytes of live records
    cdef readonly Py_ssize_t reliable  # ... of reliable frames
    cdef readonly Py_ssize_t retained_keys  # frames kept for those who join later
    cdef Position flushed            # what everybody has who is up to date
    cdef Py_ssize_t skip_limit       # bytes of skip frames kept for laggards
    cdef uint64_t reliable_end       # bytes of reliable frames ever appended

    # --- appending -------------------------------------------------------------------
    cdef Py_ssize_t commit(self, WriteCursor* cur) except -1
    cdef Py_ssize_t commit_as(
        self, WriteCursor* cur, DeliveryClass kind, Key key, bint retain, uint64_t barred
    ) except -1
    cdef Py_ssize_t append(self, bytes payload) except -1
    cdef Py_ssize_t append_as(
        self, bytes payload, DeliveryClass kind, Key key, bint retain, uint64_t barred
    ) except -1
    cdef Key key(self, Py_ssize_t lane, object value)
    cdef bint forget(self, Py_ssize_t lane, object value) except -1

    # --- reading ---------------------------------------------------------------------
    cdef Position tail(self) noexcept
    cdef Position head(self) noexcept
    cdef uint64_t head_offset(self) noexcept
    cdef uint64_t oldest_ns(self) noexcept
    cdef Py_ssize_t retained(self) noexcept
    cdef Py_ssize_t reliable_after(self, Cursor* cursor) noexcept
    cdef Py_ssize_t first_reliable(self, Cursor* cursor) noexcept
    cdef int vectors(self, Position* at, uint64_t limit, iovec* iov, int room, Py_ssize_t* total) noexcept
    cdef bint next_span(self, Cursor* cursor, uint64_t limit, bint fresh, uint64_t who, Span* span) noexcept
    cdef uint64_t frame_end(self, Position* at, uint64_t offset) noexcept
    cdef uint64_t frames_within(self, Position* at, uint64_t limit, Py_ssize_t most) noexcept
    cdef list pieces(self, Position* at, uint64_t start, uint64_t end)
    cdef void seek(self, Position* at, uint64_t offset) noexcept

    # --- retention -------------------------------------------------------------------
    cdef void pin(self, Position* at) noexcept
    cdef void unpin(self, Position* at) noexcept
    cdef void move_pin(self, Position* at, uint64_t offset) noexcept
    cdef int settle(self, uint64_t offset) except -1
    cdef int trim(self, uint64_t limit) except -1
    cdef int relocate(self) except -1

    # --- private ---------------------------------------------------------------------
    cdef Record* _ring               # capacity is a power of two; slot = index & mask
    cdef uint64_t _mask
    cdef uint64_t _first             # index of the oldest record
    cdef uint64_t _next              # index that the next record gets
    cdef uint64_t _trimmed           # records before this index are dead, or retained
    cdef Py_ssize_t _early_pins      # pins on records before that: nothing is trimmed meanwhile
    cdef Py_ssize_t _pins_of_next    # pins that the record to come will start with
    cdef Py_ssize_t _skip_bytes      # of live skip frames
    cdef uint64_t _skip_at           # no live skip frame is in a record before this index
    cdef list _tables                # by lane: dict of key value to Key
    cdef list _doomed                # Keys' former frames: start offsets, in no order

    cdef Record* _record(self, uint64_t index) noexcept
    cdef uint64_t _search(self, uint64_t offset) noexcept
    cdef uint64_t _find(self, uint64_t start, uint64_t hint) noexcept
    cdef void _add(
        self, Frame* frame, const char* data, Py_ssize_t size, Slab* slab, PyObject* body, bint ends_frame,
        DeliveryClass kind, uint64_t barred
    ) noexcept
    cdef uint64_t _next_frame(self, Position* at) noexcept
    cdef int _reserve_records(self, Py_ssize_t count) except -1
    cdef void _compact(self) noexcept
    cdef void _free(self, Record* record) noexcept
    cdef void _kill(self, uint64_t index) noexcept
    cdef void _retire(self, Key key) noexcept
    cdef void _drop_skips(self) noexcept
    cdef Py_ssize_t _frame_bytes(self, uint64_t index) noexcept
