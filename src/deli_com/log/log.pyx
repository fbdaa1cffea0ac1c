"""The broadcast log: every message framed once, in one append-only stream of bytes.

A stream offset is a 64-bit count of bytes since the log began. Records tile the stream
without gaps; each names the memory that holds its part::

    stream   0 ............ 5,120 ......... 5,154 ................ 1,053,740 ....
    records  [ frames in slab | header in slab ][ body: one bytes object ][ frames in slab
                                               (32 KiB and more, by reference)

Appending costs the same for any number of readers. A reader is a `Position`; one that is
behind pins the record it stands in. `trim` frees records that all have got and none pins.
Pointers that `vectors` and `next_span` hand out are good until the next call of a method
here that appends, marks as flushed, trims or relocates.

The log is compacted for followers that are behind. A frame of class latest is dropped when a newer
one of its key comes. The oldest frames of class skip are dropped when they have more than `skip_limit`
bytes. Followers that are up to date get every frame: a frame that is superseded before it was flushed
to all of them is only obsolete, and is dropped after that flush. The record of a dropped frame is dead: it
keeps its place in the stream, and its memory is freed. Runs of dead records are merged when the ring of
records is full, so there are never more of them than of live ones and readers.

This file has no sockets, no event loop and no state of readers.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DELIVER_SKIP
from deli_com.log.ages cimport Ages
from deli_com.log.arena cimport LARGE_BYTES, Frame
from deli_com.log.framing cimport frame_head, frame_size
from deli_com.log.log_keys cimport KeyTable
from deli_com.log.ring cimport NOWHERE, Key, Position, Record, Records

cdef enum:
    LOOK_RECORDS = 64        # that `oldest_ns` looks at

cdef class Log(Records):
    """An append-only stream of frames.

    Parameters
    ----------
    framing : {"ws-server", "ws-client", "tcp"}
        How each message is framed; see `Arena`. Not asked for where an arena is given.
    arena : Arena, optional
        Memory shared with other logs; one of its own otherwise.

    Notes
    -----
    1. While a frame is open in the arena, `append` raises `RuntimeError`, and relocating
       does nothing. Reading and trimming stay legal.
    2. A `Position` kept over calls is pinned, or the caller never trims beyond it.
    """

    def __cinit__(self, *_):
        self.skip_limit = 16 << 20
        self.keys = KeyTable(self.arena)
        self._obsolete = []

    @property
    def slabs(self):
        """Slabs allocated, spare ones included."""
        return self.arena.slabs

    # --- appending -------------------------------------------------------------------

    cdef Py_ssize_t commit(self, WriteCursor* cur) except -1:
        # Frames what was written and appends it to the stream, as a reliable frame for all.
        # Returns the frame's size in bytes. On MemoryError the frame is abandoned.
        cdef Frame frame
        try:
            self._reserve_records(3)
        except BaseException:
            self.arena.abandon(cur)
            raise
        self.arena.seal(cur, &frame)
        self._add_frame(&frame, DELIVER_RELIABLE, 0)
        return frame.size

    cdef Py_ssize_t commit_as(
        self, WriteCursor* cur, DeliveryClass kind, Key key, bint retain, uint64_t barred, int lane
    ) except -1:
        # Like `append`, for any class. `key` is of this log if the class is latest, `lane` of its type.
        cdef Frame frame
        cdef uint64_t index
        cdef Record* record
        cdef bint is_unflushed = False
        try:
            self._reserve_records(3)
            if key is not None and key.start != <uint64_t>NOWHERE:
                is_unflushed = key.start >= self.passed
            if is_unflushed:
                self._obsolete.append(key.start)
        except BaseException:
            self.arena.abandon(cur)
            raise
        try:
            self.arena.seal(cur, &frame)
        except BaseException:
            if is_unflushed:
                self._obsolete.pop()
            raise
        # Nothing can fail after this point.
        if key is not None:
            self._retire(key)
        index = self._next
        self._add_frame(&frame, kind, barred)
        if kind == DELIVER_RELIABLE:
            return frame.size
        record = self._record(index)
        record.lane = lane
        if kind == DELIVER_SKIP:
            self._drop_skips()
        if kind != DELIVER_LATEST:
            return frame.size
        Py_INCREF(key)
        record.key = <PyObject*>key
        key.start = record.start
        key.record = index
        self.arena.stale_keys -= 1
        if retain:
            self.retained_keys += 1
            while index < self._next:
                record = self._record(index)
                record.retain = True
                self.arena.retained += record.size
                index += 1
        return frame.size

    cdef Py_ssize_t append(self, bytes payload) except -1:
        # Frames a payload that is encoded already. A large one is kept by reference.
        return self.append_as(payload, DELIVER_RELIABLE, None, False, 0, 0)

    cdef Py_ssize_t append_as(
        self, bytes payload, DeliveryClass kind, Key key, bint retain, uint64_t barred, int lane
    ) except -1:
        cdef WriteCursor cur
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        self.arena.open(&cur, size)
        if size >= cur.tail_min:
            Py_INCREF(payload)
            cur.tail = <PyObject*>payload
            return self.commit_as(&cur, kind, key, retain, barred, lane)
        if cur.end - cur.pos < size:
            try:
                self.arena.outgrow(&cur, size)
            except BaseException:
                self.arena.abandon(&cur)
                raise
        memcpy(cur.pos, PyBytes_AS_STRING(payload), size)
        cur.pos += size
        return self.commit_as(&cur, kind, key, retain, barred, lane)

    cdef bint forget(self, Py_ssize_t lane, object value) except -1:
        # Drops the newest frame of a key. Laggards, and followers that join, no longer get it.
        cdef Key key
        if self.arena.is_open:
            raise RuntimeError("forget was called while a value was being encoded")
        key = self.keys.pop(lane, value)
        if key is None or key.start == <uint64_t>NOWHERE:
            return False
        if key.start >= self.passed:
            self._obsolete.append(key.start)
        self._retire(key)
        self.arena.stale_keys -= 1
        return True

    # --- what grows too old ------------------------------------------------------------

    cdef int let_expire(self, int lane, uint64_t age_ns, Py_ssize_t frame) except -1:
        # The last frame, of so many bytes and not reliable, is left out once it is so old.
        if self.ages is None:
            self.ages = Ages()
        self.ages.note(lane, self.arena.now_ns + age_ns, self.end - <uint64_t>frame)
        self.expire(self.arena.now_ns, self.passed)
        return self.ages.forget_dead(lane, self)

    cdef uint64_t expire(self, uint64_t now_ns, uint64_t before) except? 0:
        # Frames that begin before `before` and are too old die. Returns where the last of them begins, plus
        # 1; or 0, if none has died.
        cdef uint64_t index
        cdef uint64_t last = 0
        cdef Record* record
        cdef uint64_t start = self.ages.take_due(now_ns, before)
        while start != <uint64_t>NOWHERE:
            if self.head_offset() <= start < self.end:
                index = self._search(start)
                record = self._record(index)
                if record.start == start and record.data != NULL:  # else superseded, or everybody has it
                    if record.obsolete and start in self._obsolete:
                        self._obsolete.remove(start)
                    self._kill_aged(index)
                    last = max(last, start + 1)
            start = self.ages.take_due(now_ns, before)
        return last

    cdef void _retire(self, Key key) noexcept:
        # The newest frame of a key, if it has one, is no longer the newest. If it was not flushed yet,
        # the caller has noted it in `_obsolete`.
        cdef uint64_t index
        cdef uint64_t start = key.start
        cdef Record* record
        if start == <uint64_t>NOWHERE:
            return
        index = self._find(start, key.record)
        key.start = <uint64_t>NOWHERE
        self.arena.stale_keys += 1
        if start < self.passed:
            self._kill(index)
            return
        while True:
            record = self._record(index)
            record.obsolete = True
            self.arena.newest -= record.size
            if record.retain:
                self.arena.retained -= record.size
                self.retained_keys -= record.begins_frame
            if record.ends_frame:
                return
            index += 1

    cdef void _drop_skips(self) noexcept:
        # Of the skip frames that were flushed, the oldest die while there are too many bytes; the
        # newest frame stays, however large it is.
        cdef Record* record
        if self._skip_at < self._first:
            self._skip_at = self._first
        while self._skip_bytes > self.skip_limit and self._skip_at < self._next:
            record = self._record(self._skip_at)
            if record.start >= self.passed:
                return
            if record.data != NULL and record.kind == DELIVER_SKIP and record.begins_frame:
                if self._frame_bytes(self._skip_at) == self._skip_bytes:
                    return
                self._kill(self._skip_at)
            self._skip_at += 1

    cdef Py_ssize_t _frame_bytes(self, uint64_t index) noexcept:
        # Of the one frame that begins in this record.
        cdef Py_ssize_t size = self._record(index).size
        while not self._record(index).ends_frame:
            index += 1
            size += self._record(index).size
        return size

    # --- reading ---------------------------------------------------------------------

    cdef Position tail(self) noexcept:
        # Where the next frame will start.
        cdef Position at
        at.offset = self.end
        at.record = self._next - 1 if self._next > self._first else self._next
        at.pinned = 0
        return at

    cdef Position head(self) noexcept:
        # The oldest position.
        cdef Position at
        at.offset = self.head_offset()
        at.record = self._first
        at.pinned = 0
        return at

    cdef void separate(self) noexcept:
        # A cursor gets its floor at the end of the log: what it has missed is counted from there.
        self._next_is_separate = True

    cdef uint64_t oldest_ns(self) noexcept:
        # When the oldest frame that still waits for a follower was appended; 0 if none waits.
        cdef uint64_t index = self._trimmed
        cdef int steps = 0
        # After so many dead records, the age of the last of them is close enough.
        while index < self._next and self._record(index).data == NULL and steps < LOOK_RECORDS:
            index += 1
            steps += 1
        return self._record(index).born_ns if index < self._next else 0

    cdef bint is_reliable(self, Position* at) noexcept:
        # Whether the frame there is. There is one.
        cdef Position walk = at[0]
        self.seek(&walk, walk.offset)
        return self._record(walk.record).kind == DELIVER_RELIABLE

    cdef Py_ssize_t queued_bytes(self) noexcept:
        # Bytes that wait for readers, in all logs of the arena: all but the newest frame of each key.
        return self.arena.held - self.arena.newest

    cdef Py_ssize_t reliable_after(self, Cursor* cursor) noexcept:
        # Bytes of reliable frames that the cursor has before it.
        cdef Position walk = cursor.at
        cdef Record* record
        cdef uint64_t before
        self.seek(&walk, max(cursor.at.offset, cursor.floor))
        if walk.record >= self._next:
            return 0
        record = self._record(walk.record)
        before = record.reliable
        if record.data == NULL:  # dead: no follower gets it; it may be several records merged into one
            before = self.reliable_end
            if walk.record + 1 < self._next:
                before = self._record(walk.record + 1).reliable
        elif record.kind == DELIVER_RELIABLE:
            before += walk.offset - record.start
        return <Py_ssize_t>(self.reliable_end - before)

    cdef Py_ssize_t first_reliable(self, Cursor* cursor) noexcept:
        # Size of the next reliable frame at or after the cursor, 0 if there is none.
        cdef Position walk = cursor.at
        cdef Record* record
        cdef uint64_t start
        self.seek(&walk, max(cursor.at.offset, cursor.floor))
        while walk.offset < self.end:
            self.seek(&walk, walk.offset)
            record = self._record(walk.record)
            if record.data != NULL and record.kind == DELIVER_RELIABLE:
                start = walk.offset
                return <Py_ssize_t>(self._next_frame(&walk) - start)
            walk.offset = record.start + <uint64_t>record.size
        return 0

    cdef int vectors(self, Position* at, uint64_t limit, iovec* iov, int room, Py_ssize_t* total) noexcept:
        # Describes the stream from `at` to `limit`, a frame's end, in at most `room` vectors;
        # nothing in there is dead. Where `room` is short it stops at the last record that ends a
        # frame (a frame has three records at most, so `room` is 3 or more). Returns the count;
        # `total` gets the bytes.
        cdef:
            Position walk = at[0]
            uint64_t offset = at.offset
            Record* record
            const char* data
            const char* behind = NULL
            Py_ssize_t skip, size
            int count = 0
            int whole = 0
            Py_ssize_t described = 0
        total[0] = 0
        self.seek(&walk, offset)
        while offset < limit:
            record = self._record(walk.record)
            skip = <Py_ssize_t>(offset - record.start)
            size = min(record.size - skip, <Py_ssize_t>(limit - offset))
            if size > 0:
                data = record.data + skip
                if data == behind and record.slab != NULL:
                    iov[count - 1].iov_len += <size_t>size  # another class, the same slab
                else:
                    if count == room:
                        break
                    iov[count].iov_base = <void*>data
                    iov[count].iov_len = <size_t>size
                    count += 1
                behind = data + size
                offset += <uint64_t>size
                described += size
            if record.ends_frame or offset == limit:
                whole = count
                total[0] = described
            walk.record += 1
        return whole

    cdef bint next_span(self, Cursor* cursor, uint64_t limit, bint fresh, uint64_t who, Span* span) noexcept:
        # Finds what the follower `who` gets next. Moves the cursor to its first byte, past frames that
        # the follower does not get. `fresh`: it was up to date before, so it gets obsolete frames too.
        # False: there is nothing before `limit`, and the cursor is at `limit`.
        cdef Record* record
        cdef uint64_t stop, offset
        cdef Position* at = &cursor.at
        span.skipped = 0
        span.superseded = 0
        span.barred = False
        limit = min(min(limit, cursor.limit), self.end)
        while at.offset < limit:
            self.seek(at, at.offset)
            record = self._record(at.record)
            stop = record.start + <uint64_t>record.size
            offset = at.offset
            span.barred = span.barred or record.barred != 0
            if record.data == NULL:
                if record.start >= cursor.floor:
                    span.skipped += record.skipped
                    span.superseded += record.superseded
                at.offset = min(stop, limit)
            elif offset < cursor.floor and not (record.retain and not record.obsolete):
                at.offset = min(min(stop, cursor.floor), limit)
            elif record.obsolete and not fresh:
                span.superseded += record.begins_frame
                at.offset = min(stop, limit)
            elif record.barred != 0 and record.barred == who:
                at.offset = min(stop, limit)
            else:
                span.data = record.data + (offset - record.start)
                span.end = min(stop, limit)
                span.size = <Py_ssize_t>(span.end - offset)
                span.number = record.number
                span.ends_frame = record.ends_frame or stop > limit
                span.many = record.last_number != record.number
                span.reliable = record.kind == DELIVER_RELIABLE
                return True
        return False

    cdef int missed_between(
        self, Cursor* cursor, uint64_t start, uint64_t end, bint fresh, dict lanes
    ) except -1:
        # Adds to `lanes` the frames that `next_span` skips from `start` to `end`, by lane. They were
        # skipped just now: the records are there.
        cdef Position at
        cdef Record* record
        at.offset = start
        at.record = cursor.at.record
        while at.offset < end:
            self.seek(&at, at.offset)
            record = self._record(at.record)
            if record.data == NULL:
                if record.start >= cursor.floor:
                    self._count_dead(record, lanes)
            elif record.obsolete and not fresh and at.offset >= cursor.floor and record.begins_frame:
                lanes[record.lane] = lanes.get(record.lane, 0) + 1
            at.offset = record.start + <uint64_t>record.size
        return 0

    cdef uint64_t _next_frame(self, Position* at) noexcept:
        # Moves `at` over one frame; returns the offset where it ends. Headers lie whole in one record.
        cdef Record* record
        self.seek(at, at.offset)
        record = self._record(at.record)
        if record.data == NULL:
            while not record.ends_frame:
                at.record += 1
                record = self._record(at.record)
            at.offset = record.start + <uint64_t>record.size
            return at.offset
        at.offset += <uint64_t>frame_size(
            self.arena.framing, <const uint8_t*>record.data + (at.offset - record.start))
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
            else:
                self.seek(&walk, walk.offset)

    cdef uint64_t frames_within(self, Position* at, uint64_t limit, Py_ssize_t most) noexcept:
        # The end of as many whole frames after `at` as fit in `most` bytes, one at the least,
        # none beyond `limit`, itself a frame's end.
        cdef Position walk = at[0]
        cdef uint64_t end
        if limit - at.offset <= <uint64_t>max(most, 0):
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
            start += <uint64_t>size
        return found

    cdef list retained_payloads(self):
        # Returns the newest message of every retained key, as bytes, in the order of lanes and keys. Not for
        # a masked log.
        cdef list found = []
        cdef Key key
        for table in self.keys.tables():
            for key in list((<dict>table).values()):
                payload = self._retained(key)
                if payload is not None:
                    found.append(payload)
        return found

    cdef bytes newest(self, Py_ssize_t lane, object value):
        # Returns the retained message of one key; None if there is none.
        if lane >= len(self.keys.tables()):
            return None
        key = (<dict>self.keys.tables()[lane]).get(value)
        return None if key is None else self._retained(key)

    cdef bytes _retained(self, Key key):
        cdef Position at, behind
        cdef uint64_t start = key.start
        if start == <uint64_t>NOWHERE or not self._record(self._find(start, key.record)).retain:
            return None
        at.offset, at.record, at.pinned = start, key.record, 0
        self.seek(&at, start)
        behind = at
        frame = b"".join(self.pieces(&at, start, self._next_frame(&behind)))
        return frame[frame_head(self.arena.framing, len(frame)):]

    # --- retention -------------------------------------------------------------------

    cdef void pin(self, Position* at) noexcept:
        # Keeps everything from `at` on, until `unpin` of the same position. At the end that is the
        # record to come, and nothing of what there is.
        cdef Record* record
        self.seek(at, at.offset)
        if at.offset == self.end:
            at.pinned = self.end
            self._pins_of_next += 1
            return
        record = self._record(at.record)
        record.pins += 1
        at.pinned = record.start
        if at.record < self._trimmed:
            self._early_pins += 1

    cdef void unpin(self, Position* at) noexcept:
        cdef uint64_t index
        if at.pinned == self.end:
            self._pins_of_next -= 1  # no record has come since
            return
        index = self._find(at.pinned, at.record)
        self._record(index).pins -= 1
        if index < self._trimmed:
            self._early_pins -= 1

    cdef void move_pin(self, Position* at, uint64_t offset) noexcept:
        # Moves a pinned position forward to `offset`, a frame's first byte or the end.
        self.unpin(at)
        at.offset = offset
        self.pin(at)

    cdef int mark_flushed(self, uint64_t offset, bint is_all) except -1:
        # A flush has come to `offset`. `is_all`: every follower that is up to date has everything
        # before it, also those that are served separately. Obsolete frames kept for them are freed.
        cdef uint64_t start
        cdef list obsolete
        self.seek(&self.flushed, offset)
        if is_all:
            self.passed = offset
            if self._obsolete:
                obsolete = self._obsolete
                self._obsolete = []
                for start in obsolete:
                    if start < offset:
                        self._kill(self._find(start, self._first))
                    else:
                        self._obsolete.append(start)
            if self._skip_bytes > self.skip_limit:
                self._drop_skips()
        return self.trim(offset)

    cdef int trim(self, uint64_t limit) except -1:
        # Frees records that end at or before `limit`, oldest first, up to one that is pinned.
        # What is retained stays, and what is obsolete until `mark_flushed`; both are skipped once.
        cdef Record* record
        if self._early_pins == 0:
            while self._trimmed < self._next:
                record = self._record(self._trimmed)
                if record.pins != 0 or record.start + <uint64_t>record.size > limit:
                    break
                if record.data != NULL and not record.obsolete and not record.retain:
                    self._free(record)
                self._trimmed += 1
        while self._first < self._trimmed:
            record = self._record(self._first)
            if record.data != NULL or record.pins != 0:
                break
            self._first += 1
        return 0

    cdef int relocate(self) except -1:
        # Moves what is live out of slabs that hold little else. No frame is open.
        cdef uint64_t index = self._first
        cdef Record* record
        while index < self._next:
            record = self._record(index)
            if record.slab != NULL and self.arena.is_worth_leaving(record.slab):
                record.data = self.arena.move(record.data, record.size, &record.slab)
            index += 1
        return 0
