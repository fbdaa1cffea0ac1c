# Memory of the broadcast logs of one endpoint: slabs that many logs share, and the frame being written.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.ground.cursor cimport WriteCursor
from deli_com.log.framing cimport Framing


cdef enum:
    SLAB_BYTES = 262144      # one slab; bench/settle.py: 128 KiB and 1 MiB are within 2 %
    LARGE_BYTES = 32768      # a payload from here on is never in a slab; chosen by the same bench
    SPARE_SLABS = 4          # recycled slabs kept for the next burst; more are freed
    SPARSE_PARTS = 4         # a sealed slab with less than one part in so many live may be moved out of
    SPARSE_SLACK = 1048576   # bytes of slabs beyond that proportion that are tolerated


cdef struct Slab:
    Slab* next               # free list only
    char* data               # SLAB_BYTES, owned
    Py_ssize_t used          # bytes from `data` that hold frames
    Py_ssize_t live          # bytes of them that records still name


cdef struct Frame:
    # A finished frame on its way into a log: up to three runs of bytes, in this order.
    char* start              # in `slab`: the header, and the payload where it is small
    Py_ssize_t in_slab
    Slab* slab
    PyObject* big            # owned bytes, or NULL: the payload, or what of it precedes `tail`
    PyObject* tail           # owned bytes, or NULL: a large last item, by reference
    Py_ssize_t size          # of all three


cdef class Arena:
    cdef readonly bint is_open       # a frame is being encoded: see `open`
    cdef readonly Py_ssize_t slabs   # allocated, spare ones included
    cdef readonly Py_ssize_t live    # bytes in slabs that records name: the sum of their `live`
    cdef Framing framing
    cdef uint64_t sequence           # number that the next frame gets: one order over all logs
    cdef uint64_t now_ns             # when the turn under way began, for the age of records

    # Bytes that the logs hold, bodies included:
    cdef Py_ssize_t held
    cdef Py_ssize_t reliable         # ... of reliable frames
    cdef Py_ssize_t newest           # ... of the newest frame of each key of policy latest
    cdef Py_ssize_t retained         # ... of those among them that `retain` keeps for clients that join later

    cdef readonly Py_ssize_t keys    # of latest-only types, in all logs
    cdef readonly Py_ssize_t stale_keys  # of them, those that hold no frame
    cdef public Py_ssize_t max_keys  # beyond it `KeyTable.get` makes no new one

    cdef int open(self, WriteCursor* cur, Py_ssize_t max_size) except -1
    cdef const char* payload(self) noexcept
    cdef int seal(self, WriteCursor* cur, Frame* frame) except -1
    cdef void abandon(self, WriteCursor* cur) noexcept
    cdef int outgrow(self, WriteCursor* cur, Py_ssize_t need) except -1

    cdef void drop(self, Slab* slab, Py_ssize_t size) noexcept
    cdef bint is_sparse(self) noexcept
    cdef bint is_worth_leaving(self, Slab* slab) noexcept
    cdef const char* move(self, const char* data, Py_ssize_t size, Slab** slab) except NULL

    # --- private ---------------------------------------------------------------------
    cdef Slab* _current              # the slab that takes frames, or NULL
    cdef Slab* _spare
    cdef Py_ssize_t _spares
    cdef PyObject* _big              # owned bytes under construction, outgrown from the slab; or NULL
    cdef char* _payload              # where the open frame's payload starts
    cdef Py_ssize_t _room            # bytes kept for the open frame's header
    cdef bytes _keys                 # unspent random bytes for masking
    cdef Py_ssize_t _keys_at

    cdef int _next_slab(self) except -1
    cdef void _release_slab(self, Slab* slab) noexcept
    cdef unsigned int _mask_key(self) except? 0


cdef extern from "Python.h":
    Py_ssize_t _size_of_bytes "PyBytes_GET_SIZE"(PyObject* value) noexcept nogil


cdef inline Py_ssize_t payload_size(Arena arena, WriteCursor* cur) noexcept:
    # Bytes of payload that `seal` would frame now.
    cdef Py_ssize_t size = cur.pos - arena._payload
    return size if cur.tail == NULL else size + _size_of_bytes(cur.tail)
