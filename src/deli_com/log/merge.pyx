"""What one follower gets next: frames of all the logs it reads, merged into one order.

A follower reads one log at the least, that of everybody; it may read those of groups, and
one of its own. Every frame has a number over all of them, and those of one record lie
side by side in that order, so merging compares records and not frames.

A plan is made of copies of the cursors and moves none of them: `advance` does, once the
system call has told how much it took. Followers that stand at the same places get the
same vectors: `fits` says so.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc

from deli_com.log.log cimport Cursor, Log, Span


cdef class Merge:
    """Vectors for one system call, and what each of them means."""

    def __dealloc__(self):
        PyMem_RawFree(self._walk)
        PyMem_RawFree(self._spans)
        PyMem_RawFree(self._has_span)
        PyMem_RawFree(self._starts)

    cdef int _reserve(self, int count) except -1:
        cdef void* grown
        cdef size_t room = <size_t>(2 * count)
        if count <= self._capacity:
            return 0
        grown = PyMem_RawRealloc(self._walk, room * sizeof(Cursor))
        if grown != NULL:
            self._walk = <Cursor*>grown
            grown = PyMem_RawRealloc(self._spans, room * sizeof(Span))
        if grown != NULL:
            self._spans = <Span*>grown
            grown = PyMem_RawRealloc(self._has_span, room * sizeof(bint))
        if grown != NULL:
            self._has_span = <bint*>grown
            grown = PyMem_RawRealloc(self._starts, room * sizeof(Start))
        if grown == NULL:
            raise MemoryError("the logs that one client reads")
        self._starts = <Start*>grown
        self._capacity = <int>room
        return 0

    cdef int make(
        self, Cursor* cursors, int count, uint64_t limit, bint fresh, uint64_t who, Py_ssize_t most
    ) except -1:
        # `limit` is for the first cursor's log. `most` bytes, or one frame if that is more; whole
        # frames, and as many as there are vectors for.
        cdef:
            int i
            int whole = 0
            Py_ssize_t whole_total = 0
            uint64_t end
            bint is_cut = False
        self._reserve(count)
        self.count = 0
        self.total = 0
        self._personal = False
        for i in range(count):
            self._walk[i] = cursors[i]
            self._starts[i].log = cursors[i].log
            self._starts[i].offset = cursors[i].at.offset
            self._starts[i].floor = cursors[i].floor
            self._starts[i].limit = cursors[i].limit
            self._has_span[i] = self._next_span(i, limit, fresh, who)
        i = self._oldest(count)
        while i >= 0:
            end = self._end_of(i, whole > 0, most) if self.count < VECTORS else 0
            if end == 0:
                is_cut = True
                break
            if self._add(i, end):
                whole = self.count
                whole_total = self.total
                self._has_span[i] = self._next_span(i, limit, fresh, who)
                i = self._oldest(count)
            else:  # the same log continues with the same frame
                self._has_span[i] = self._next_span(i, limit, fresh, who)
        self.count = whole
        self.total = whole_total
        self.is_whole = not is_cut
        self._cursors = count
        self._limit = limit
        self._fresh = fresh
        self._who = who
        return 0

    cdef int _oldest(self, int count) noexcept:
        # The cursor whose next frame was sent first; -1: there is nothing more.
        cdef int i
        cdef int found = -1
        for i in range(count):
            if self._has_span[i] and (found < 0 or self._spans[i].number < self._spans[found].number):
                found = i
        return found

    cdef uint64_t _end_of(self, int i, bint has_whole, Py_ssize_t most) noexcept:
        # Up to where the next span of a cursor is taken, 0 if it does not fit: of a run of frames what fits,
        # or one if there is nothing yet.
        cdef Cursor* walk = &self._walk[i]
        cdef Span* span = &self._spans[i]
        cdef uint64_t end
        if self.total + span.size <= most or not (span.many or has_whole):
            return span.end
        if not span.many or (has_whole and not span.ends_frame):
            return 0
        # (The last header of a run may belong to a body behind it.)
        end = min(span.end, (<Log>walk.log).frames_within(&walk.at, span.end, most - self.total))
        if has_whole and self.total + <Py_ssize_t>(end - walk.at.offset) > most:
            return 0
        return end

    cdef bint _add(self, int i, uint64_t end) noexcept:
        # A piece more, up to `end`. Whether it ends a frame.
        cdef Cursor* walk = &self._walk[i]
        cdef Span* span = &self._spans[i]
        cdef Piece* piece = &self.pieces[self.count]
        cdef Py_ssize_t size = span.size if end == span.end else <Py_ssize_t>(end - walk.at.offset)
        self.vectors[self.count].iov_base = <void*>span.data
        self.vectors[self.count].iov_len = <size_t>size
        piece.cursor = i
        piece.start = walk.at.offset
        piece.end = end
        piece.ends_frame = span.ends_frame or end < span.end
        piece.reliable = span.reliable
        piece.skipped = span.skipped
        piece.superseded = span.superseded
        self.count += 1
        self.total += size
        walk.at.offset = end
        return piece.ends_frame

    cdef bint _next_span(self, int i, uint64_t limit, bint fresh, uint64_t who) noexcept:
        cdef bint found = (<Log>self._walk[i].log).next_span(
            &self._walk[i], limit if i == 0 else <uint64_t>-1, fresh, who, &self._spans[i])
        self._personal = self._personal or self._spans[i].barred
        return found

    cdef bint fits(self, Cursor* cursors, int count, uint64_t limit, bint fresh, uint64_t who) noexcept:
        # Whether the plan that is kept is the one `make` would make for these cursors.
        cdef int i
        cdef Start* start
        if count != self._cursors or limit != self._limit or fresh != self._fresh:
            return False
        if self._personal and who != self._who:
            return False
        for i in range(count):
            start = &self._starts[i]
            if (
                <void*>cursors[i].log != start.log or cursors[i].at.offset != start.offset
                or cursors[i].floor != start.floor or cursors[i].limit != start.limit
            ):
                return False
        return True

    cdef void forget(self) noexcept:
        # The logs have changed: it must not be used again.
        self._cursors = 0

    cdef void advance(self, Cursor* cursors, int pieces) noexcept:
        # So many pieces went out: the cursors move, with all of a whole plan also over what is
        # not delivered behind it. `skipped` and `superseded` tell what they skipped.
        cdef int i
        cdef uint64_t end
        cdef bint is_all = self.is_whole and pieces == self.count
        self.skipped = 0
        self.superseded = 0
        for i in range(self._cursors):
            if is_all:
                self.skipped += self._spans[i].skipped
                self.superseded += self._spans[i].superseded
            else:
                self._walk[i].at.offset = self._starts[i].offset
        for i in range(pieces):
            self.skipped += self.pieces[i].skipped
            self.superseded += self.pieces[i].superseded
            if not is_all:
                self._walk[self.pieces[i].cursor].at.offset = self.pieces[i].end
        for i in range(self._cursors):
            end = self._walk[i].at.offset
            if end != cursors[i].at.offset:
                if cursors[i].pinned:
                    (<Log>cursors[i].log).move_pin(&cursors[i].at, end)
                else:
                    (<Log>cursors[i].log).seek(&cursors[i].at, end)

    # --- for followers that are told what they miss ----------------------------------------

    cdef int first_loss(self) noexcept:
        # Index of the first piece before which frames were skipped; -1: there is none.
        cdef int i
        for i in range(self.count):
            if self.pieces[i].skipped | self.pieces[i].superseded:
                return i
        return -1

    cdef void keep(self, int pieces) noexcept:
        # So many pieces only, which end with a frame.
        while self.count > pieces:
            self.count -= 1
            self.total -= <Py_ssize_t>self.vectors[self.count].iov_len
        self.is_whole = False

    cdef int pass_first(self, Cursor* cursors, dict lanes) except -1:
        # Moves the cursor over what is skipped before the first piece, and adds that to `lanes`.
        cdef Cursor* cursor = &cursors[self.pieces[0].cursor]
        cdef Log log = <Log>cursor.log
        log.missed_between(cursor, cursor.at.offset, self.pieces[0].start, self._fresh, lanes)
        if cursor.pinned:
            log.move_pin(&cursor.at, self.pieces[0].start)
        else:
            log.seek(&cursor.at, self.pieces[0].start)
        self.forget()
        return 0

    cdef bint losses_behind(self, Cursor* cursors, dict lanes) except -1:
        # Adds what is skipped behind the last piece to `lanes`; whether there is anything. `advance` of
        # a whole plan is to come.
        cdef bint found = False
        cdef uint64_t start
        cdef int i, k
        for i in range(self._cursors):
            if self._spans[i].skipped | self._spans[i].superseded:
                start = self._starts[i].offset
                for k in range(self.count):
                    if self.pieces[k].cursor == i:
                        start = self.pieces[k].end
                (<Log>self._walk[i].log).missed_between(
                    &cursors[i], start, self._walk[i].at.offset, self._fresh, lanes)
                found = True
        return found

    cdef int piece_at(self, Py_ssize_t offset) noexcept:
        # Index of the piece that holds this byte of the plan.
        cdef int i = 0
        while i < self.count - 1 and offset >= <Py_ssize_t>self.vectors[i].iov_len:
            offset -= <Py_ssize_t>self.vectors[i].iov_len
            i += 1
        return i
