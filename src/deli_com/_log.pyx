"""The broadcast log: every message framed once, in one append-only stream of bytes.

A stream offset is a 64-bit count of bytes since the log began. Records tile the stream
without gaps; each names the memory that holds its part::

    stream   0 ............ 5,120 ......... 5,154 ................ 1,053,740 ....
    records  [ frames in slab | header in slab ][ body: one bytes object ][ frames in slab
                                               (32 KiB and more, by reference)

Appending costs the same for any number of readers. A reader is a `Position`; one that is
behind pins the record it stands in, and `trim` frees what nobody pins and everybody has.
Pointers that `vectors` hands out are good until the next call of any method here.

No sockets, no event loop and no reader's state live in this file.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from deli_com._framing cimport (
    FRAMING_TCP,
    FRAMING_WS_CLIENT,
    FRAMING_WS_SERVER,
    HEADER_MAX,
    frame_header_size,
    frame_header_write,
    frame_mask,
    frame_size,
)

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t newsize) except -1
    PyObject* PyBytes_FromStringAndSize_ "PyBytes_FromStringAndSize"(char* data, Py_ssize_t size) except NULL
    char* PyBytes_AS_STRING_ "PyBytes_AS_STRING"(PyObject* object) nogil
    Py_ssize_t PyBytes_GET_SIZE_ "PyBytes_GET_SIZE"(PyObject* object) nogil


cdef int _grow(WriteCursor* cur, Py_ssize_t need) except -1:
    return (<Log>cur.owner)._outgrow(cur, need)


cdef class Log:
    """An append-only stream of frames.

    Parameters
    ----------
    framing : {"ws-server", "ws-client", "tcp"}
        How each message is framed. ``"ws-client"`` masks, so such a log has one reader.

    Notes
    -----
    1. Between `open` and `commit` or `abandon` the caller may write through the cursor only;
       `append` and a second `open` raise `RuntimeError`. Reading and trimming stay legal.
    2. A `Position` kept over calls is pinned, or the caller never trims beyond it.
    """

    def __cinit__(self, str framing="ws-server"):
        self._ring = NULL
        self._current = NULL
        self._spare = NULL
        self._big = NULL
        names = {"ws-server": FRAMING_WS_SERVER, "ws-client": FRAMING_WS_CLIENT, "tcp": FRAMING_TCP}
        if framing not in names:
            raise ValueError(f"framing {framing!r} is none of {', '.join(names)}")
        self.framing = names[framing]
        self._ring = <Record*>PyMem_RawMalloc(16 * sizeof(Record))
        if self._ring == NULL:
            raise MemoryError("broadcast log")
        self._mask = 15
        self._keys = b""

    def __dealloc__(self):
        cdef Slab* slab
        cdef Record* record
        if self._ring != NULL:
            while self._first < self._next:
                record = self._record(self._first)
                if record.slab != NULL:
                    record.slab.live -= record.size
                    if record.slab.live == 0 and record.slab != self._current:
                        self._release_slab(record.slab)
                else:
                    Py_XDECREF(record.body)
                self._first += 1
            PyMem_RawFree(self._ring)
            self._ring = NULL
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

    # --- appending -------------------------------------------------------------------

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
            self._take_slab()
            slab = self._current
        # Two bytes of header hold for payloads below 126; a wrong guess costs one memmove.
        self._room = frame_header_size(self.framing, 0 if room < 126 else 126)
        self._payload = slab.data + slab.used + self._room
        cur.pos = self._payload
        cur.end = self._payload + room
        cur.grow = _grow
        cur.owner = <void*>self
        cur.tail = NULL
        # A masked payload is written anew anyway: nothing to gain from a reference.
        cur.tail_min = PY_SSIZE_T_MAX if self.framing == FRAMING_WS_CLIENT else LARGE_BYTES
        self.is_open = True
        return 0

    cdef int _outgrow(self, WriteCursor* cur, Py_ssize_t need) except -1:
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

    cdef Py_ssize_t payload_size(self, WriteCursor* cur) noexcept:
        # Bytes of payload that `commit` would frame now.
        cdef Py_ssize_t size = cur.pos - self._payload
        if cur.tail != NULL:
            size += PyBytes_GET_SIZE_(cur.tail)
        return size

    cdef Py_ssize_t commit(self, WriteCursor* cur) except -1:
        # Frames what was written and makes it part of the stream. Returns the frame's size in
        # bytes. Takes over `cur.tail`. On MemoryError the frame is abandoned.
        cdef:
            Slab* slab = self._current
            char* start = slab.data + slab.used
            Py_ssize_t used = cur.pos - self._payload
            Py_ssize_t payload = self.payload_size(cur)
            Py_ssize_t header = frame_header_size(self.framing, payload)
            Py_ssize_t in_slab = header
            uint32_t mask = 0
            PyObject* big
        try:
            self._reserve_records(3)
            if self.framing == FRAMING_WS_CLIENT:
                mask = self._mask_key()
            if self._big != NULL:
                if PyBytes_GET_SIZE_(self._big) != used:
                    _PyBytes_Resize(&self._big, used)
                    self._payload = PyBytes_AS_STRING_(self._big)
        except BaseException:
            self.abandon(cur)
            raise
        # Nothing fails from here on.
        self.is_open = False
        if self._big == NULL:
            if header != self._room:
                memmove(start + header, self._payload, used)
            in_slab += used
        frame_header_write(self.framing, <uint8_t*>start, payload, mask)
        if self.framing == FRAMING_WS_CLIENT:
            frame_mask(<uint8_t*>(self._payload if self._big != NULL else start + header), used, mask)
        slab.used += in_slab
        self._add(start, in_slab, slab, NULL, self._big == NULL and cur.tail == NULL)
        if self._big != NULL:
            big = self._big
            self._big = NULL
            self._add(PyBytes_AS_STRING_(big), used, NULL, big, cur.tail == NULL)
        if cur.tail != NULL:
            self._add(PyBytes_AS_STRING_(cur.tail), PyBytes_GET_SIZE_(cur.tail), NULL, cur.tail, True)
            cur.tail = NULL
        return header + payload

    cdef void abandon(self, WriteCursor* cur) noexcept:
        # Drops the open frame; the stream is as it was before `open`.
        Py_XDECREF(cur.tail)
        cur.tail = NULL
        Py_XDECREF(self._big)
        self._big = NULL
        self.is_open = False

    cdef Py_ssize_t append(self, bytes payload) except -1:
        # Frames a payload that is encoded already. A large one is kept by reference.
        cdef WriteCursor cur
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        self.open(&cur, size)
        if size >= cur.tail_min:
            Py_INCREF(payload)
            cur.tail = <PyObject*>payload
            return self.commit(&cur)
        if cur.end - cur.pos < size:
            try:
                self._outgrow(&cur, size)
            except BaseException:
                self.abandon(&cur)
                raise
        memcpy(cur.pos, PyBytes_AS_STRING(payload), size)
        cur.pos += size
        return self.commit(&cur)

    cdef unsigned int _mask_key(self) except? 0:
        # RFC 6455 section 5.3 wants unpredictable keys: the kernel's random bytes, 4 KiB a call.
        cdef uint32_t key
        if self._keys_at + 4 > PyBytes_GET_SIZE(self._keys):
            self._keys = os.urandom(4096)
            self._keys_at = 0
        memcpy(&key, PyBytes_AS_STRING(self._keys) + self._keys_at, 4)
        self._keys_at += 4
        return key

    # --- records and slabs -----------------------------------------------------------

    cdef Record* _record(self, uint64_t sequence) noexcept:
        return &self._ring[sequence & self._mask]

    cdef int _reserve_records(self, Py_ssize_t count) except -1:
        # Room for `count` more records, so that what follows cannot fail.
        cdef uint64_t held = self._next - self._first
        cdef uint64_t mask
        cdef uint64_t sequence
        cdef Record* ring
        if held + <uint64_t>count <= self._mask + 1:
            return 0
        mask = 2 * self._mask + 1
        ring = <Record*>PyMem_RawMalloc((mask + 1) * sizeof(Record))
        if ring == NULL:
            raise MemoryError("records of the broadcast log")
        for sequence in range(self._first, self._next):
            ring[sequence & mask] = self._ring[sequence & self._mask]
        PyMem_RawFree(self._ring)
        self._ring = ring
        self._mask = mask
        return 0

    cdef int _add(
        self, const char* data, Py_ssize_t size, Slab* slab, PyObject* body, bint ends_frame
    ) except -1:
        # Owns `body` from here on. The caller has reserved the record.
        cdef Record* record
        if slab != NULL:
            slab.live += size
            if self._next > self._first:
                record = self._record(self._next - 1)
                if record.slab == slab and record.data + record.size == data:
                    record.size += size
                    record.ends_frame = ends_frame
                    self.end += size
                    return 0
        record = self._record(self._next)
        record.start = self.end
        record.size = size
        record.data = data
        record.slab = slab
        record.body = body
        record.pins = self._pins_of_next
        self._pins_of_next = 0
        record.ends_frame = ends_frame
        self._next += 1
        self.end += size
        return 0

    cdef int _take_slab(self) except -1:
        # A fresh current slab. The old one is sealed: it goes when its last record does.
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
        # A current slab with nothing live was rewound by `open`, so the old one has records.
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

    # --- reading ---------------------------------------------------------------------

    cdef Position tail(self) noexcept:
        # Where the next frame will start.
        cdef Position at
        at.offset = self.end
        at.record = self._next - 1 if self._next > self._first else self._next
        return at

    cdef uint64_t head_offset(self) noexcept:
        return self._record(self._first).start if self._first < self._next else self.end

    cdef Py_ssize_t retained(self) noexcept:
        # Bytes of the stream that are still held.
        return <Py_ssize_t>(self.end - self.head_offset())

    cdef void seek(self, Position* at, uint64_t offset) noexcept:
        # Moves a position forward to `offset`, a frame's first byte or the end of the log.
        cdef Record* record
        at.offset = offset
        if at.record < self._first:
            at.record = self._first
        while at.record + 1 < self._next:
            record = self._record(at.record)
            if offset < record.start + <uint64_t>record.size:
                return
            at.record += 1

    cdef int vectors(self, Position* at, uint64_t limit, iovec* iov, int room, Py_ssize_t* total) noexcept:
        # Describes the stream from `at` to `limit`, a frame's end, in at most `room` vectors.
        # Where `room` is short it stops at the last record that ends a frame (a frame has three
        # records at most, so `room` is 3 or more). Returns the count; `total` gets the bytes.
        cdef:
            Position walk = at[0]
            uint64_t offset = at.offset
            Record* record
            Py_ssize_t skip, size
            int count = 0
            int whole = 0
            Py_ssize_t described = 0
        total[0] = 0
        self.seek(&walk, offset)
        while offset < limit and count < room:
            record = self._record(walk.record)
            skip = <Py_ssize_t>(offset - record.start)
            size = min(record.size - skip, <Py_ssize_t>(limit - offset))
            if size > 0:
                iov[count].iov_base = <void*>(record.data + skip)
                iov[count].iov_len = <size_t>size
                count += 1
                offset += size
                described += size
            if record.ends_frame or offset == limit:
                whole = count
                total[0] = described
            walk.record += 1
        return whole

    cdef uint64_t _next_frame(self, Position* at) noexcept:
        # Moves `at` over one frame; returns the offset where it ends. Headers lie whole in one record.
        cdef Record* record
        self.seek(at, at.offset)
        record = self._record(at.record)
        at.offset += frame_size(self.framing, <const uint8_t*>record.data + (at.offset - record.start))
        return at.offset

    cdef uint64_t frame_end(self, Position* at, uint64_t offset) noexcept:
        # The first frame end after `at` that is not before `offset`. There is a frame at `at`.
        cdef Position walk = at[0]
        cdef Record* record
        self.seek(&walk, walk.offset)
        while True:
            record = self._record(walk.record)
            if record.ends_frame and record.start + <uint64_t>record.size < offset:
                self.seek(&walk, record.start + <uint64_t>record.size)  # no need to look inside
            elif self._next_frame(&walk) >= offset:
                return walk.offset

    cdef uint64_t frames_within(self, Position* at, uint64_t limit, Py_ssize_t most) noexcept:
        # The end of as many whole frames after `at` as fit in `most` bytes, one at the least,
        # none beyond `limit`, itself a frame's end.
        cdef Position walk = at[0]
        cdef uint64_t end
        if limit - at.offset <= <uint64_t>most:
            return limit
        end = self._next_frame(&walk)
        while end < limit and self._next_frame(&walk) - at.offset <= <uint64_t>most:
            end = walk.offset
        return end

    cdef list pieces(self, Position* at, uint64_t start, uint64_t end):
        # The bytes [start, end) as objects that a transport may keep: copies of what lies in
        # slabs, the body itself (or a view of it) where it is large. `at` is at or before `start`.
        cdef:
            list found = []
            Position walk = at[0]
            Record* record
            Py_ssize_t skip, size
            object body
        while start < end:
            self.seek(&walk, start)
            record = self._record(walk.record)
            skip = <Py_ssize_t>(start - record.start)
            size = min(record.size - skip, <Py_ssize_t>(end - start))
            if record.slab != NULL or size < LARGE_BYTES:
                found.append(PyBytes_FromStringAndSize(record.data + skip, size))
            else:
                body = <object>record.body
                found.append(body if size == record.size else memoryview(body)[skip:skip + size])
            start += size
        return found

    # --- retention -------------------------------------------------------------------

    cdef void pin(self, Position* at) noexcept:
        # Keeps everything from `at` on, until `unpin` of the same position.
        self.seek(at, at.offset)
        if at.record < self._next:
            self._record(at.record).pins += 1
        else:
            self._pins_of_next += 1

    cdef void unpin(self, Position* at) noexcept:
        if at.record < self._next:
            self._record(at.record).pins -= 1
        else:
            self._pins_of_next -= 1

    cdef void move_pin(self, Position* at, uint64_t offset) noexcept:
        # Moves a pinned position forward to `offset`, a frame's first byte or the end.
        self.unpin(at)
        at.offset = offset
        self.pin(at)

    cdef int trim(self, uint64_t limit) except -1:
        # Frees records that end at or before `limit`, oldest first, up to one that is pinned.
        cdef Record* record
        while self._first < self._next:
            record = self._record(self._first)
            if record.pins != 0 or record.start + <uint64_t>record.size > limit:
                return 0
            self._first += 1
            if record.slab != NULL:
                record.slab.live -= record.size
                if record.slab.live == 0 and record.slab != self._current:
                    self._release_slab(record.slab)
            else:
                Py_DECREF(<object>record.body)
        return 0
