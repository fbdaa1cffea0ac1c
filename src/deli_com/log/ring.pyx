"""The records of a broadcast log: what memory holds each part of the stream.

Records tile the stream without gaps, in a ring. A dead one keeps its place and loses its
memory; runs of dead ones become one when the ring is full, so that there are never more
of them than of live ones and readers.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DELIVER_SKIP
from deli_com.log.arena cimport Arena, Frame

cdef extern from "Python.h":
    char* PyBytes_AS_STRING_ "PyBytes_AS_STRING"(PyObject* object) nogil
    Py_ssize_t PyBytes_GET_SIZE_ "PyBytes_GET_SIZE"(PyObject* object) nogil

cdef enum:
    STEPS = 4                # records looked at one by one before a binary search
    AGE_NS = 10000000        # frames so far apart are not one record: it has one age


cdef class Key:
    """A key of a latest-only type: its value, and where its newest frame is."""


@cython.no_gc_clear  # its end gives bytes back to the arena, so that must live as long
cdef class Records:
    """The ring of records of one log.

    Parameters
    ----------
    framing, arena
        As for `Log`.
    """

    def __cinit__(self, str framing="ws-server", Arena arena=None, *_):
        self._ring = NULL
        self.arena = Arena(framing) if arena is None else arena
        self._ring = <Record*>PyMem_RawMalloc(8 * sizeof(Record))
        if self._ring == NULL:
            raise MemoryError("broadcast log")
        self._mask = 7
        self._several = {}

    def __dealloc__(self):
        cdef Record* record
        if self._ring != NULL:
            while self._first < self._next:
                record = self._record(self._first)
                if record.data != NULL:
                    self._free(record)
                self._first += 1
            PyMem_RawFree(self._ring)
            self._ring = NULL

    cdef Record* _record(self, uint64_t index) noexcept:
        return &self._ring[index & self._mask]

    cdef uint64_t _search(self, uint64_t offset) noexcept:
        # Index of the last record that begins at or before `offset`. There are records.
        cdef uint64_t low = self._first
        cdef uint64_t high = self._next
        cdef uint64_t middle
        while low + 1 < high:
            middle = low + (high - low) // 2
            if self._record(middle).start <= offset:
                low = middle
            else:
                high = middle
        return low

    cdef uint64_t _find(self, uint64_t start, uint64_t hint) noexcept:
        # Index of the record that begins at `start`. There is one.
        if self._first <= hint < self._next and self._record(hint).start == start:
            return hint
        return self._search(start)

    cdef int _reserve_records(self, Py_ssize_t count) except -1:
        # Room for `count` more records, so that what follows cannot fail.
        cdef uint64_t mask
        cdef uint64_t index
        cdef Record* ring
        if self._next - self._first + <uint64_t>count <= self._mask + 1:
            return 0
        self._compact()
        if 2 * (self._next - self._first + <uint64_t>count) <= self._mask + 1:
            return 0
        mask = 2 * self._mask + 1
        ring = <Record*>PyMem_RawMalloc((mask + 1) * sizeof(Record))
        if ring == NULL:
            raise MemoryError("records of the broadcast log")
        for index in range(self._first, self._next):
            ring[index & mask] = self._ring[index & self._mask]
        PyMem_RawFree(self._ring)
        self._ring = ring
        self._mask = mask
        return 0

    cdef void _compact(self) noexcept:
        # Makes one record of each run of dead ones, if no cursor is in them or between them. (A cursor
        # counts what it has missed up to its position.) The records left move up to the end of the
        # ring, so an index kept somewhere then names its record or one before it.
        cdef bint is_boundary
        cdef uint64_t source = self._next
        cdef uint64_t target = self._next
        cdef uint64_t trimmed = self._next
        cdef Record* record
        cdef Record* after = NULL
        while source > self._first:
            source -= 1
            record = self._record(source)
            is_boundary = after != NULL and (
                after.start == self.flushed.offset
                or after.separate and (source >= self._trimmed or self._early_pins != 0)
            )
            if after != NULL and not is_boundary and record.data == NULL and record.pins == 0 \
                    and after.data == NULL and after.pins == 0 and self._join(record, after):
                after.separate = record.separate
                after.start = record.start
                after.size += record.size
                after.number = record.number
                after.reliable = record.reliable
                after.begins_frame = record.begins_frame
                after.skipped += record.skipped
                after.superseded += record.superseded
            else:
                target -= 1
                after = self._record(target)
                if target != source:
                    after[0] = record[0]
                    if after.key != NULL and (<Key>after.key).start == after.start:
                        (<Key>after.key).record = target  # else each key would be searched for
            if source == self._trimmed:
                trimmed = target
        self._first = target
        self._trimmed = trimmed

    cdef bint _join(self, Record* record, Record* after) noexcept:
        # Two dead records are about to become one: whose frames have died in both. False: no memory for it.
        cdef dict lanes
        cdef uint64_t start
        cdef bint is_noted = False
        if record.skipped + record.superseded == 0 and after.lane != SEVERAL_LANES:
            return True
        if after.skipped + after.superseded == 0:
            after.lane = record.lane
            return True
        if record.lane == after.lane and after.lane != SEVERAL_LANES:
            return True
        try:
            lanes = {}
            self._count_dead(after, lanes)
            self._count_dead(record, lanes)
            for start in [start for start in self._several if start < self.head_offset()]:
                del self._several[start]  # trimmed meanwhile
            self._several[record.start] = lanes
            self._several.pop(after.start, None)
            after.lane = SEVERAL_LANES
            is_noted = True
        except MemoryError:
            pass
        return is_noted

    cdef int _count_dead(self, Record* record, dict lanes) except -1:
        # Adds the frames that have died in a dead record to `lanes`.
        cdef Py_ssize_t count = record.skipped + record.superseded
        if count == 0:
            return 0
        if record.lane != SEVERAL_LANES:
            lanes[record.lane] = lanes.get(record.lane, 0) + count
            return 0
        for lane, number in self._several[record.start].items():
            lanes[lane] = lanes.get(lane, 0) + number
        return 0

    cdef void _add_frame(self, Frame* frame, DeliveryClass kind, uint64_t barred) noexcept:
        # Owns what the frame owns from here on. The caller has reserved three records.
        cdef bint is_small = frame.big == NULL and frame.tail == NULL
        self._add(frame, frame.start, frame.in_slab, frame.slab, NULL, is_small, kind, barred)
        if frame.big != NULL:
            self._add(
                frame, PyBytes_AS_STRING_(frame.big), PyBytes_GET_SIZE_(frame.big), NULL, frame.big,
                frame.tail == NULL, kind, barred)
        if frame.tail != NULL:
            self._add(
                frame, PyBytes_AS_STRING_(frame.tail), PyBytes_GET_SIZE_(frame.tail), NULL, frame.tail, True,
                kind, barred)
        self.arena.sequence += 1

    cdef void _add(
        self, Frame* frame, const char* data, Py_ssize_t size, Slab* slab, PyObject* body, bint ends_frame,
        DeliveryClass kind, uint64_t barred
    ) noexcept:
        # One run of bytes of a frame.
        cdef Arena arena = self.arena
        cdef Record* record
        arena.held += size
        self.held += size
        if slab != NULL:
            slab.live += size
            arena.live += size
        if kind == DELIVER_RELIABLE:
            arena.reliable += size
            self.reliable += size
            self.reliable_end += <uint64_t>size
            if slab != NULL and barred == 0 and self._next > self._first:
                record = &self._ring[(self._next - 1) & self._mask]
                if (
                    record.slab == slab and record.data + record.size == data
                    and record.kind == DELIVER_RELIABLE and record.barred == 0
                    and record.last_number + 1 == arena.sequence and record.ends_frame
                    and arena.now_ns - record.born_ns < AGE_NS
                ):
                    record.pins += self._pins_of_next
                    self._pins_of_next = 0
                    record.size += size
                    record.ends_frame = ends_frame
                    record.last_number = arena.sequence
                    self.end += <uint64_t>size
                    return
        elif kind == DELIVER_SKIP:
            self._skip_bytes += size
        elif kind == DELIVER_LATEST:
            arena.newest += size
        record = self._record(self._next)
        record.start = self.end
        record.size = size
        record.data = data
        record.slab = slab
        record.body = body
        record.pins = self._pins_of_next
        record.number = arena.sequence
        record.last_number = arena.sequence
        record.reliable = self.reliable_end - (<uint64_t>size if kind == DELIVER_RELIABLE else 0)
        record.born_ns = arena.now_ns
        record.barred = barred
        record.key = NULL
        record.skipped = 0
        record.superseded = 0
        record.kind = <uint8_t>kind
        record.begins_frame = data == frame.start
        record.ends_frame = ends_frame
        record.obsolete = False
        record.separate = self._next_is_separate
        self._next_is_separate = False
        record.retain = False
        self._pins_of_next = 0
        self._next += 1
        self.end += <uint64_t>size

    cdef void _free(self, Record* record) noexcept:
        # Gives the memory of a live record back; it is dead then. Runs no Python code: bodies are
        # exact bytes, keys hold what is hashable.
        cdef Arena arena = self.arena
        cdef Key key
        arena.held -= record.size
        self.held -= record.size
        if record.kind == DELIVER_RELIABLE:
            arena.reliable -= record.size
            self.reliable -= record.size
        elif record.kind == DELIVER_SKIP:
            self._skip_bytes -= record.size
        elif record.kind == DELIVER_LATEST and not record.obsolete:
            arena.newest -= record.size
            if record.retain:
                arena.retained -= record.size
                self.retained_keys -= record.begins_frame
        record.data = NULL
        if record.slab != NULL:
            arena.drop(record.slab, record.size)
            record.slab = NULL
        else:
            Py_DECREF(<object>record.body)
            record.body = NULL
        if record.key != NULL:
            key = <Key>record.key
            if key.start == record.start:
                key.start = <uint64_t>NOWHERE
                arena.stale_keys += 1
            record.key = NULL
            Py_DECREF(key)

    cdef void _kill(self, uint64_t index) noexcept:
        # The frame that begins in this record dies: laggards pass over it.
        cdef Record* record = self._record(index)
        if record.kind == DELIVER_SKIP:
            record.skipped = 1
        else:
            record.superseded = 1
        self._free_frame(index)

    cdef void _kill_aged(self, uint64_t index) noexcept:
        # The same of a frame that is too old.
        cdef Record* record = self._record(index)
        record.skipped = 1
        record.lane |= AGED_LANE
        self._free_frame(index)

    cdef void _free_frame(self, uint64_t index) noexcept:
        cdef Record* record
        while True:
            record = self._record(index)
            self._free(record)
            if record.ends_frame:
                return
            index += 1

    # --- places -----------------------------------------------------------------------

    cdef uint64_t head_offset(self) noexcept:
        return self._record(self._first).start if self._first < self._next else self.end

    cdef void seek(self, Position* at, uint64_t offset) noexcept:
        # Moves a position forward to `offset`, a frame's first byte or the end of the log.
        cdef Record* record
        cdef int steps = 0
        at.offset = offset
        if at.record < self._first:
            at.record = self._first
        while at.record + 1 < self._next:
            record = self._record(at.record)
            if offset < record.start + <uint64_t>record.size:
                return
            at.record += 1
            steps += 1
            if steps == STEPS:
                at.record = self._search(offset)
                return
