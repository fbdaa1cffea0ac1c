# The broadcast log: framed messages for one audience, once, in one append-only stream of bytes.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.delivery_class cimport DeliveryClass
from deli_com.ground.sockets cimport iovec
from deli_com.log.ages cimport Ages
from deli_com.log.arena cimport Arena
from deli_com.log.log_keys cimport KeyTable
from deli_com.log.ring cimport Key, Position, Record, Records


cdef struct Cursor:
    # One follower's place in one log.
    Position at
    PyObject* log            # borrowed: the follower owns it
    uint64_t floor           # where it joined: of what is before, only retained frames are for it
    uint64_t limit           # where it left; NOWHERE: it has not
    bint pinned
    int tag                  # the follower's own; 0 unless it sets it


cdef struct Span:
    # What comes next for one cursor, as far as it lies in one record.
    const char* data
    Py_ssize_t size
    uint64_t end             # stream offset behind it
    uint64_t number          # of the frame, or of the first in its record
    bint ends_frame
    bint many                # may hold several frames
    bint reliable
    Py_ssize_t skipped       # frames skipped to come here, of class skip
    Py_ssize_t superseded    # and of class latest
    bint barred              # it, or one skipped, is barred to some follower


cdef class Log(Records):
    cdef uint64_t passed             # CURRENT followers have what is before; superseded ones there are freed
    cdef Py_ssize_t skip_limit       # bytes of skip frames kept for laggards
    cdef KeyTable keys               # of policy latest
    cdef Ages ages                   # of frames with a `max_age`; None until the first

    # --- appending -------------------------------------------------------------------
    cdef Py_ssize_t commit(self, WriteCursor* cur) except -1
    cdef Py_ssize_t commit_as(
        self, WriteCursor* cur, DeliveryClass kind, Key key, bint retain, uint64_t barred, int lane
    ) except -1
    cdef Py_ssize_t append(self, bytes payload) except -1
    cdef Py_ssize_t append_as(
        self, bytes payload, DeliveryClass kind, Key key, bint retain, uint64_t barred, int lane
    ) except -1
    cdef bint forget(self, Py_ssize_t lane, object value) except -1
    cdef int let_expire(self, int lane, uint64_t age_ns, Py_ssize_t frame) except -1
    cdef uint64_t expire(self, uint64_t now_ns, uint64_t before) except? 0

    # --- reading ---------------------------------------------------------------------
    cdef Position tail(self) noexcept
    cdef Position head(self) noexcept
    cdef void separate(self) noexcept
    cdef uint64_t oldest_ns(self) noexcept
    cdef bint is_reliable(self, Position* at) noexcept
    cdef Py_ssize_t queued_bytes(self) noexcept
    cdef Py_ssize_t reliable_after(self, Cursor* cursor) noexcept
    cdef Py_ssize_t first_reliable(self, Cursor* cursor) noexcept
    cdef int vectors(self, Position* at, uint64_t limit, iovec* iov, int room, Py_ssize_t* total) noexcept
    cdef bint next_span(self, Cursor* cursor, uint64_t limit, bint fresh, uint64_t who, Span* span) noexcept
    cdef int missed_between(
        self, Cursor* cursor, uint64_t start, uint64_t end, bint fresh, dict lanes) except -1
    cdef uint64_t frame_end(self, Position* at, uint64_t offset) noexcept
    cdef uint64_t frames_within(self, Position* at, uint64_t limit, Py_ssize_t most) noexcept
    cdef list pieces(self, Position* at, uint64_t start, uint64_t end)
    cdef list retained_payloads(self)
    cdef bytes newest(self, Py_ssize_t lane, object value)

    # --- retention -------------------------------------------------------------------
    cdef void pin(self, Position* at) noexcept
    cdef void unpin(self, Position* at) noexcept
    cdef void move_pin(self, Position* at, uint64_t offset) noexcept
    cdef int mark_flushed(self, uint64_t offset, bint is_all) except -1
    cdef int trim(self, uint64_t limit) except -1
    cdef int relocate(self) except -1

    # --- private ---------------------------------------------------------------------
    cdef uint64_t _skip_at           # no live skip frame is in a record before this index
    cdef list _obsolete              # Keys' former frames: start offsets, in no order

    cdef bytes _retained(self, Key key)
    cdef uint64_t _next_frame(self, Position* at) noexcept
    cdef void _retire(self, Key key) noexcept
    cdef void _drop_skips(self) noexcept
    cdef Py_ssize_t _frame_bytes(self, uint64_t index) noexcept
