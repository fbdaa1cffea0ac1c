# The broadcast log: framed messages, once, in one append-only stream of bytes.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from deli_com._cursor cimport WriteCursor
from deli_com._framing cimport Framing
from deli_com._net cimport iovec


cdef enum:
    SLAB_BYTES = 262144      # one slab; bench/fanout: 64 KiB costs more seals, 1 MiB leaves the L2 cache
    LARGE_BYTES = 32768      # a payload from here on is never in a slab
    SPARE_SLABS = 4          # recycled slabs kept for the next burst; more are freed


cdef struct Slab:
    Slab* next               # free list only
    char* data               # SLAB_BYTES, owned
    Py_ssize_t used          # bytes from `data` that hold frames
    Py_ssize_t live          # bytes of them that records still name


cdef struct Record:
    # One contiguous run of the stream: frames side by side in a slab, or one large body.
    uint64_t start           # stream offset of its first byte
    Py_ssize_t size
    const char* data         # borrowed from slab or body
    Slab* slab               # NULL for a body
    PyObject* body           # owned reference to exact bytes, NULL for a slab
    Py_ssize_t pins          # laggards whose cursor stands in it
    bint ends_frame          # its last byte is the last byte of a frame


cdef struct Position:
    uint64_t offset          # stream offset, always at a frame's first byte
    uint64_t record          # sequence number of the record that holds it (or ends at it)


cdef class Log:
    cdef readonly uint64_t end       # stream offset one past the last committed byte
    cdef readonly bint is_open       # a frame is being encoded: see `open`
    cdef readonly Py_ssize_t slabs   # allocated, spare ones included
    cdef Framing framing

    # --- appending -------------------------------------------------------------------
    cdef int open(self, WriteCursor* cur, Py_ssize_t max_size) except -1
    cdef Py_ssize_t payload_size(self, WriteCursor* cur) noexcept
    cdef Py_ssize_t commit(self, WriteCursor* cur) except -1
    cdef void abandon(self, WriteCursor* cur) noexcept
    cdef Py_ssize_t append(self, bytes payload) except -1

    # --- reading ---------------------------------------------------------------------
    cdef Position tail(self) noexcept
    cdef uint64_t head_offset(self) noexcept
    cdef Py_ssize_t retained(self) noexcept
    cdef int vectors(self, Position* at, uint64_t limit, iovec* iov, int room, Py_ssize_t* total) noexcept
    cdef uint64_t frame_end(self, Position* at, uint64_t offset) noexcept
    cdef uint64_t frames_within(self, Position* at, uint64_t limit, Py_ssize_t most) noexcept
    cdef list pieces(self, Position* at, uint64_t start, uint64_t end)
    cdef void seek(self, Position* at, uint64_t offset) noexcept

    # --- retention -------------------------------------------------------------------
    cdef void pin(self, Position* at) noexcept
    cdef void unpin(self, Position* at) noexcept
    cdef void move_pin(self, Position* at, uint64_t offset) noexcept
    cdef int trim(self, uint64_t limit) except -1

    # --- private ---------------------------------------------------------------------
    cdef Record* _ring               # capacity is a power of two; slot = sequence & mask
    cdef uint64_t _mask
    cdef uint64_t _first             # sequence number of the oldest record
    cdef uint64_t _next              # sequence number the next record gets
    cdef Py_ssize_t _pins_of_next    # pins that the record to come will start with
    cdef Slab* _current              # the slab that takes frames, or NULL
    cdef Slab* _spare
    cdef Py_ssize_t _spares
    cdef PyObject* _big              # owned bytes under construction, outgrown from the slab; or NULL
    cdef char* _payload              # where the open frame's payload starts
    cdef Py_ssize_t _room            # bytes kept for the open frame's header
    cdef bytes _keys                 # unspent random bytes for masking
    cdef Py_ssize_t _keys_at

    cdef Record* _record(self, uint64_t sequence) noexcept
    cdef int _take_slab(self) except -1
    cdef void _release_slab(self, Slab* slab) noexcept
    cdef int _add(
        self, const char* data, Py_ssize_t size, Slab* slab, PyObject* body, bint ends_frame
    ) except -1
    cdef int _outgrow(self, WriteCursor* cur, Py_ssize_t need) except -1
    cdef uint64_t _next_frame(self, Position* at) noexcept
    cdef unsigned int _mask_key(self) except? 0
    cdef int _reserve_records(self, Py_ssize_t count) except -1
