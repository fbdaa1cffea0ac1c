"""Memory that broadcast logs share: slabs of frames, and the frame that is being written.

An endpoint has one arena and a log for each audience (all peers, a group, one peer). A
frame is encoded in place, into the current slab, before it is known which log gets it; a
payload of 32 KiB and more is never in a slab, but one exact `bytes` of its own.

A sealed slab is recycled when the last record that names a part of it goes. One small
frame that is kept for long would hold a whole slab: `move` copies such a frame into the
current slab once less than a quarter of the old one is live.
"""

import os

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from deli_com.log.framing cimport (
    FRAMING_TCP,
    FRAMING_WS_CLIENT,
    FRAMING_WS_SERVER,
    HEADER_MAX,
    frame_header_size,
    frame_header_write,
    frame_mask,
)

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t newsize) except -1
    PyObject* PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(char* data, Py_ssize_t size) except NULL
    char* PyBytes_AS_STRING_ "PyBytes_AS_STRING"(PyObject* object) nogil
    Py_ssize_t PyBytes_GET_SIZE_ "PyBytes_GET_SIZE"(PyObject* object) nogil
    char* PyBytes_AS_STRING(bytes data) nogil
    Py_ssize_t PyBytes_GET_SIZE(bytes data) nogil


cdef int _grow(WriteCursor* cur, Py_ssize_t need) except -1:
    return (<Arena>cur.owner).outgrow(cur, need)


cdef class Arena:
    """Slabs, and at most one open frame.

    Parameters
    ----------
    framing : {"ws-server", "ws-client", "tcp"}
        How each message is framed. ``"ws-client"`` masks, so its frames have one reader.

    Notes
    -----
    Between `open` and `seal` or `abandon` the caller may write through the cursor only; a
    second `open` raises `RuntimeError`. Dropping what records held stays legal.
    """

    def __cinit__(self, str framing="ws-server"):
        names = {"ws-server": FRAMING_WS_SERVER, "ws-client": FRAMING_WS_CLIENT, "tcp": FRAMING_TCP}
        if framing not in names:
            raise ValueError(f"framing {framing!r} is none of {', '.join(names)}")
        self.framing = names[framing]
        self._keys = b""
        self.max_keys = 65536

    def __dealloc__(self):
        # Its logs hold references to it, so they have been freed, and nothing is live.
        cdef Slab* slab
        if self._current != NULL:
            self._release_slab(self._current)
            self._current = NULL
        while self._spare != NULL:
            slab = self._spare
            self._spare = slab.next
            PyMem_RawFree(slab.data)
            PyMem_RawFree(slab)
        Py_XDECREF(self._big)
        self._big = NULL

    # --- the open frame --------------------------------------------------------------

    cdef int open(self, WriteCursor* cur, Py_ssize_t max_size) except -1:
        # Starts a frame: `cur` gets room in the current slab. `max_size` is the most bytes the
        # payload can take, -1 where unbounded; it only decides how much room must be left.
        cdef Py_ssize_t room = LARGE_BYTES if max_size < 0 or max_size > LARGE_BYTES else max_size
        cdef Slab* slab = self._current
        if self.is_open:
            raise RuntimeError("Log.open: a frame is open")
        if slab != NULL and slab.live == 0:
            slab.used = 0  # drained: the same warm bytes again
        if slab == NULL or SLAB_BYTES - slab.used < room + HEADER_MAX:
            self._next_slab()
            slab = self._current
        # Two bytes of header hold for payloads below 126; a wrong guess costs one memmove.
        self._room = frame_header_size(self.framing, 0 if room < 126 else 126)
        self._payload = slab.data + slab.used + self._room
        cur.pos = self._payload
        cur.end = self._payload + room
        cur.grow = _grow
        cur.owner = <void*>self
        cur.tail = NULL
        # A masked payload is rewritten anyway, so a reference saves nothing.
        cur.tail_min = PY_SSIZE_T_MAX if self.framing == FRAMING_WS_CLIENT else LARGE_BYTES
        self.is_open = True
        return 0

    cdef int outgrow(self, WriteCursor* cur, Py_ssize_t need) except -1:
        # The payload leaves the slab for a bytes object of its own, or that object grows.
        # One large item asks once, so its object is made in the right size at once.
        cdef Py_ssize_t used = cur.pos - self._payload
        cdef Py_ssize_t size
        if need > PY_SSIZE_T_MAX - used:
            raise MemoryError("message")
        size = max(used + need, 2 * used)
        cdef PyObject* big
        if self._big == NULL:
            big = PyBytes_FromStringAndSize_(NULL, size)
            memcpy(PyBytes_AS_STRING_(big), self._payload, used)
            self._big = big
        else:
            _PyBytes_Resize(&self._big, size)  # on failure _big is NULL and the old object is gone
        self._payload = PyBytes_AS_STRING_(self._big)
        cur.pos = self._payload + used
        cur.end = self._payload + size
        return 0

    cdef const char* payload(self) noexcept:
        # Where the open frame's payload begins. It ends at `cur.pos` and continues in `cur.tail`.
        return self._payload

    cdef int seal(self, WriteCursor* cur, Frame* frame) except -1:
        # Writes header and mask. Takes over `cur.tail`; the caller owns what `frame` owns, and
        # gives it to a log at once. On MemoryError the frame is abandoned.
        cdef:
            Slab* slab = self._current
            char* start = slab.data + slab.used
            Py_ssize_t used = cur.pos - self._payload
            Py_ssize_t payload = payload_size(self, cur)
            Py_ssize_t header = frame_header_size(self.framing, payload)
            uint32_t mask = 0
        try:
            if self.framing == FRAMING_WS_CLIENT:
                mask = self._mask_key()
            if self._big != NULL and PyBytes_GET_SIZE_(self._big) != used:
                _PyBytes_Resize(&self._big, used)
                self._payload = PyBytes_AS_STRING_(self._big)
        except BaseException:
            self.abandon(cur)
            raise
        # Nothing can fail after this point.
        self.is_open = False
        frame.in_slab = header
        if self._big == NULL:
            if header != self._room:
                memmove(start + header, self._payload, used)
            frame.in_slab += used
        frame_header_write(self.framing, <uint8_t*>start, payload, mask)
        if self.framing == FRAMING_WS_CLIENT:
            frame_mask(<uint8_t*>(self._payload if self._big != NULL else start + header), used, mask)
        slab.used += frame.in_slab
        frame.start = start
        frame.slab = slab
        frame.big = self._big
        frame.tail = cur.tail
        frame.size = header + payload
        self._big = NULL
        cur.tail = NULL
        return 0

    cdef void abandon(self, WriteCursor* cur) noexcept:
        # Drops the open frame and restores the state before `open`.
        Py_XDECREF(cur.tail)
        cur.tail = NULL
        Py_XDECREF(self._big)
        self._big = NULL
        self.is_open = False

    cdef unsigned int _mask_key(self) except? 0:
        # RFC 6455 section 5.3 wants unpredictable keys: the kernel's random bytes, 4 KiB a call.
        cdef uint32_t key
        if self._keys_at + 4 > PyBytes_GET_SIZE(self._keys):
            self._keys = os.urandom(4096)
            self._keys_at = 0
        memcpy(&key, PyBytes_AS_STRING(self._keys) + self._keys_at, 4)
        self._keys_at += 4
        return key

    # --- slabs -----------------------------------------------------------------------

    cdef void drop(self, Slab* slab, Py_ssize_t size) noexcept:
        # A record that used so many bytes of `slab` was freed.
        slab.live -= size
        self.live -= size
        if slab.live == 0 and slab != self._current:
            self._release_slab(slab)

    cdef int _next_slab(self) except -1:
        # A fresh current slab. The old one is sealed, and is released with its last record.
        cdef Slab* slab = self._spare
        if slab != NULL:
            self._spare = slab.next
            self._spares -= 1
        else:
            slab = <Slab*>PyMem_RawMalloc(sizeof(Slab))
            if slab == NULL:
                raise MemoryError("slab of the broadcast log")
            slab.data = <char*>PyMem_RawMalloc(SLAB_BYTES)
            if slab.data == NULL:
                PyMem_RawFree(slab)
                raise MemoryError("slab of the broadcast log")
            self.slabs += 1
        slab.next = NULL
        slab.used = 0
        slab.live = 0
        # The old one has records. Otherwise `open` and `move` would have used it further.
        self._current = slab
        return 0

    cdef void _release_slab(self, Slab* slab) noexcept:
        if self._spares < SPARE_SLABS:
            slab.next = self._spare
            self._spare = slab
            self._spares += 1
        else:
            PyMem_RawFree(slab.data)
            PyMem_RawFree(slab)
            self.slabs -= 1

    # --- moving ----------------------------------------------------------------------

    cdef bint is_sparse(self) noexcept:
        # Whether so little of the slabs is live that moving frames out of them saves memory.
        return (self.slabs - self._spares) * <Py_ssize_t>SLAB_BYTES > SPARSE_PARTS * self.live + SPARSE_SLACK

    cdef bint is_worth_leaving(self, Slab* slab) noexcept:
        return slab != self._current and SPARSE_PARTS * slab.live < SLAB_BYTES

    cdef const char* move(self, const char* data, Py_ssize_t size, Slab** slab) except NULL:
        # Copies a record's bytes out of `slab[0]` into the current slab. No frame is open.
        cdef Slab* old = slab[0]
        cdef Slab* new = self._current
        cdef char* copy
        if new.live == 0:
            new.used = 0
        if SLAB_BYTES - new.used < size:
            self._next_slab()
            new = self._current
        copy = new.data + new.used
        memcpy(copy, data, size)
        new.used += size
        new.live += size
        self.live += size
        self.drop(old, size)
        slab[0] = new
        return copy
