"""Who follows the broadcast log: flushing, laggards, limits.

A `Follower` is one receiver's place in the log. Those that are up to date are served
together: one vector of pointers, one system call each. One whose socket is full gets
exactly the rest of the frame that was cut, through its transport, and waits there::

              flush: all sent                    short write
    CURRENT ------------------> CURRENT  ------------------------> BLOCKED
       ^                                                              |  transport drained
       |  caught up                                                   v
       +------------------------------ READY <------------------------+

Rules that everything else rests on:

1. A socket is written by our own system call only while its transport holds nothing
   (`choked` is False), the owner has not muted it, and only from frame end to frame end:
   whatever else writes to the transport (PONG, CLOSE) finds a frame boundary.
2. A follower that is behind is READY, and a turn is scheduled, or BLOCKED, and the
   transport will call `unchoke`.
3. `flush_now` is not re-entrant. What transports call during it only marks followers.
4. One hub belongs to one thread: that of its loop.
"""

import os
from logging import getLogger

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.pythread cimport PyThread_get_thread_ident

from deli_com._log cimport LARGE_BYTES
from deli_com._net cimport (
    DELI_COM_BROKEN,
    DELI_COM_HAVE_SENDMSG,
    deli_com_clock_ns,
    deli_com_sendv,
    deli_com_tcp_info,
)
from deli_com._sweep cimport Sweep

cdef enum:
    EARLY_BYTES = 131072       # pending bytes that are flushed at once: half a slab
    EAGER_FOLLOWERS = 8        # so few are served at once ...
    EAGER_QUIET_NS = 100000    # ... when nothing was appended for this long
    SLICE_NS = 2000000         # a flush that takes longer lets the loop run
    THROUGH_BYTES = 65536      # frames written together through a transport

cdef bint CHECK = os.environ.get("DELI_COM_CHECK") == "1"
cdef object logger = getLogger("deli_com.hub")


cdef class Follower:
    """One receiver of a log; the connection behind it overrides the ``on_`` methods."""

    def __cinit__(self):
        self.fd = -1
        self.socket = -1
        self.muted = NULL
        self.state = FOLLOWER_GONE
        self.paced = True

    cdef bint is_behind(self) noexcept:
        return self.state == FOLLOWER_READY or self.state == FOLLOWER_BLOCKED

    cdef uint64_t sent_offset(self) except? 0:
        # Stream offset up to which bytes have left this process.
        cdef uint64_t held = 0
        if self.choked:
            held = self.transport.get_write_buffer_size()
        return self.at.offset - held if held < self.at.offset else 0

    cdef Py_ssize_t lag(self) noexcept:
        # Bytes of whole frames that it has yet to be given.
        if self.hub is None or not self.is_behind():
            return 0
        return <Py_ssize_t>(self.hub.log.end - self.at.offset)

    cdef int choke(self) except -1:
        # The transport holds bytes now (its pause_writing).
        self.choked = True
        if self.hub is not None:
            self.hub._settle_soon(self)
        return 0

    cdef int unchoke(self) except -1:
        # The transport holds nothing any more (its resume_writing).
        self.choked = False
        if self.hub is not None:
            self.hub._settle_soon(self)
        return 0

    cdef int leave(self) except -1:
        # Takes it off the log. Idempotent. Nothing is written to its fd from here on.
        cdef Hub hub = self.hub
        if hub is None:
            return 0
        hub._take_out(self)
        self.hub = None
        self.muted = NULL
        hub.followers.discard(self)
        # Somebody may wait for just this one; and records it pinned may go.
        hub.schedule()
        return 0

    cdef int on_too_slow(self, str cause) except -1:
        # It has left because of `cause`; the owner closes the connection.
        return 0

    cdef int on_sweep(self, double clock) except -1:
        return 0  # the hub's clock has moved, in seconds

    cdef int on_broken(self) except -1:
        return 0  # it has left because its socket failed; the owner aborts the connection


cdef class Hub:
    """The followers of one log, flushed together.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop whose thread owns the hub.
    log : Log
        Where messages are appended; call `appended` after each.
    max_backlog : int
        Bytes of queued frames after a follower's place at which it is too slow. One frame
        alone never is. Judged only after the loop has run since it fell behind.
    max_retained : int
        Bytes that the log may hold; `room_for` says whether a frame still goes in.
    progress_timeout : float
        Seconds in which a follower that is behind must take a byte.
    """

    def __cinit__(self):
        self.followers = set()

    def __init__(
        self, loop, Log log not None, *,
        Py_ssize_t max_backlog=16 << 20, Py_ssize_t max_retained=64 << 20, double progress_timeout=10.0,
    ):
        self.loop = loop
        self.log = log
        self.max_backlog = max_backlog
        self.max_retained = max_retained
        self.progress_timeout = progress_timeout
        self._thread = PyThread_get_thread_ident()
        self._flushed = log.tail()
        self._turn_callback = self._turn
        self.sweep = Sweep(loop, self._on_sweep)
        self.sweep.interval = min(self.sweep.interval, progress_timeout / 4)

    def __dealloc__(self):
        PyMem_RawFree(self.current.items)
        PyMem_RawFree(self.ready.items)
        PyMem_RawFree(self.blocked.items)

    cdef int check_thread(self, str what) except -1:
        if PyThread_get_thread_ident() != self._thread:
            raise RuntimeError(
                f"{what} was called from thread {PyThread_get_thread_ident()}, but its event loop "
                f"runs in thread {self._thread}; use loop.call_soon_threadsafe"
            )
        return 0

    # --- rosters -----------------------------------------------------------------------

    cdef Roster* _roster(self, FollowerState state) noexcept:
        if state == FOLLOWER_CURRENT:
            return &self.current
        if state == FOLLOWER_READY:
            return &self.ready
        return &self.blocked

    cdef int _put(self, Follower follower, FollowerState state) except -1:
        # Moves a follower into the roster of `state`. Whoever is behind holds a pin; the
        # caller has set `at` (and its record is right if the follower becomes a laggard).
        cdef Roster* roster = self._roster(state)
        cdef Py_ssize_t capacity
        cdef PyObject** items
        if follower.state == state:
            return 0
        if roster.count == roster.capacity:
            capacity = max(16, 2 * roster.capacity)
            items = <PyObject**>PyMem_RawRealloc(roster.items, capacity * sizeof(PyObject*))
            if items == NULL:
                raise MemoryError("followers")
            roster.items = items
            roster.capacity = capacity
        cdef bint was_behind = follower.is_behind()
        if follower.state != FOLLOWER_GONE:
            self._vacate(follower)
        follower.state = state
        follower.slot = roster.count
        roster.items[roster.count] = <PyObject*>follower
        roster.count += 1
        if follower.is_behind():
            if not was_behind:
                self.log.pin(&follower.at)
                follower.behind_turn = self.turns
                follower.behind_since = self.sweep.clock
                follower.progress_at = self.sweep.clock
                follower.progress_sent = 0
        elif was_behind:
            self.log.unpin(&follower.at)
        return 0

    cdef int _vacate(self, Follower follower) noexcept:
        cdef Roster* roster = self._roster(follower.state)
        cdef Follower last
        if self._in_round and follower.state == FOLLOWER_CURRENT:
            roster.items[follower.slot] = NULL  # the round counts by index: closed when it ends
            self._holes += 1
            return 0
        roster.count -= 1
        if follower.slot != roster.count:
            last = <Follower>roster.items[roster.count]
            last.slot = follower.slot
            roster.items[follower.slot] = <PyObject*>last
        return 0

    cdef void _take_out(self, Follower follower) noexcept:
        if follower.state == FOLLOWER_GONE:
            return
        if follower.is_behind():
            self.log.unpin(&follower.at)
        self._vacate(follower)
        follower.state = FOLLOWER_GONE

    cdef int join(self, Follower follower) except -1:
        # From here on it gets every message appended after this call.
        if follower.state != FOLLOWER_GONE:
            raise RuntimeError("Hub.join: the follower has joined already")
        if not DELI_COM_HAVE_SENDMSG:
            follower.fd = -1
        self.sweep.start()
        follower.hub = self
        follower.at = self.log.tail()
        follower.paced_mark = follower.at.offset
        if follower.at.offset == self._flushed.offset and not self._in_round and not follower.choked:
            self._put(follower, FOLLOWER_CURRENT)
        else:
            self._put(follower, FOLLOWER_BLOCKED if follower.choked else FOLLOWER_READY)
            self.schedule()
        self.followers.add(follower)
        return 0

    cdef int _settle_soon(self, Follower follower) except -1:
        # `choked` changed. Inside a flush that is only noted: rosters are being walked.
        if self._flushing:
            if follower is not self._writing:
                self._unsettled = True
            return 0
        self._settle(follower)
        return self.schedule() if follower.state == FOLLOWER_READY else 0

    cdef int _settle_all(self) except -1:
        cdef Follower follower
        self._unsettled = False
        for follower in self.followers:
            self._settle(follower)
        return 0

    cdef int _settle(self, Follower follower) except -1:
        # Puts a follower where its transport says it belongs.
        if follower.state == FOLLOWER_CURRENT:
            if follower.choked:
                follower.at.record = self._flushed.record
                self._put(follower, FOLLOWER_BLOCKED)
        else:
            self._put(follower, FOLLOWER_BLOCKED if follower.choked else FOLLOWER_READY)
        return 0

    # --- appending ---------------------------------------------------------------------

    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept:
        # Nonzero if a frame of so many bytes may be appended now. Alone it always may.
        cdef Py_ssize_t retained = self.log.retained()
        return retained == 0 or frame <= self.max_retained - retained

    cdef int appended(self, Py_ssize_t frame) except -1:
        # A frame was appended: decides when it goes out.
        cdef uint64_t now
        cdef Py_ssize_t pending = <Py_ssize_t>(self.log.end - self._flushed.offset)
        if self._flushing:
            return self.schedule()
        if pending >= EARLY_BYTES or frame >= LARGE_BYTES:
            self.flush_now()
        elif pending == frame and self.current.count <= EAGER_FOLLOWERS:
            # With frames pending already the line is not quiet: no need to ask the clock.
            now = deli_com_clock_ns()
            if now - self._last_append_ns > EAGER_QUIET_NS:
                self._last_append_ns = now
                return self.flush_now()
            self._last_append_ns = now
        if not self._scheduled and pending:
            self.schedule()
        return 0

    cdef int schedule(self) except -1:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn_callback)
        return 0

    def _turn(self):
        self._scheduled = False
        self.turns += 1
        self.flush_now()

    # --- flushing ----------------------------------------------------------------------

    cdef int flush_now(self) except -1:
        # Sends what it can, for at most SLICE_NS; the rest goes on in the next turn.
        cdef bint done = False
        if self._flushing:
            return 0
        self._flushing = True
        try:
            done = self._flush()
        finally:
            self._flushing = False
            if self._unsettled:
                self._settle_all()
        if not done or self.ready.count:
            self.schedule()
        if self.ready.count or self.blocked.count:
            self._judge()
        if CHECK:
            self._check()
        self.on_flushed()
        return 0

    cdef bint _flush(self) except -1:
        # True if every follower that can be served has everything.
        cdef uint64_t deadline = deli_com_clock_ns() + SLICE_NS
        if not self._in_round:
            if self.ready.count:
                self._serve_ready()
            if self.log.end == self._flushed.offset:
                self.log.trim(self._flushed.offset)
                return True
            self._in_round = True
            self._round_end = self.log.end
            self._round_done = 0
            self._round_start += 1
        return self._go_round(deadline)

    cdef bint _go_round(self, uint64_t deadline) except -1:
        cdef:
            iovec vectors[VECTORS]
            int count = 0
            Py_ssize_t total = 0
            Py_ssize_t sent
            Follower follower
            PyObject* item
        while self._round_done < self.current.count:
            item = self.current.items[(self._round_start + self._round_done) % self.current.count]
            self._round_done += 1
            if item == NULL:
                continue
            follower = <Follower>item
            if follower.muted != NULL and follower.muted[0]:
                follower.leave()  # something else has written CLOSE
                continue
            if follower.fd < 0:
                count = 0
                self._write_through(follower, self._round_end)
                continue
            if count == 0:
                count = self.log.vectors(&self._flushed, self._round_end, vectors, VECTORS, &total)
                # More records than vectors: the round ends earlier, for everybody alike.
                self._round_end = self._flushed.offset + <uint64_t>total
            sent = deli_com_sendv(follower.fd, vectors, count)
            if sent == total:
                follower.at.offset = self._round_end
            else:
                self._fell_short(follower, &self._flushed, sent)
                count = 0  # a transport ran: describe the stream anew
            if self._round_done & 15 == 0 and deli_com_clock_ns() > deadline:
                return False
        self._end_round()
        return self.log.end == self._flushed.offset

    cdef int _end_round(self) except -1:
        cdef Py_ssize_t i, kept
        cdef Follower follower
        self._in_round = False
        if self._holes:
            kept = 0
            for i in range(self.current.count):
                if self.current.items[i] != NULL:
                    follower = <Follower>self.current.items[i]
                    follower.slot = kept
                    self.current.items[kept] = <PyObject*>follower
                    kept += 1
            self.current.count = kept
            self._holes = 0
        self.log.seek(&self._flushed, self._round_end)
        self.log.trim(self._round_end)
        return 0

    cdef int _serve_ready(self) except -1:
        # Laggards whose transports are empty, up to where the group stands. Backwards:
        # taking one out moves only a follower that was looked at already.
        cdef Py_ssize_t i = self.ready.count
        cdef Follower follower
        while i > 0:
            i -= 1
            if i >= self.ready.count:
                continue
            follower = <Follower>self.ready.items[i]
            if follower.muted != NULL and follower.muted[0]:
                follower.leave()
                continue
            if follower.at.offset < self._flushed.offset:
                if follower.fd < 0:
                    self._write_through(follower, self._flushed.offset)
                else:
                    self._serve_alone(follower, self._flushed.offset)
            if follower.state == FOLLOWER_READY and follower.at.offset == self._flushed.offset:
                self._put(follower, FOLLOWER_CURRENT)
        return 0

    cdef int _serve_alone(self, Follower follower, uint64_t limit) except -1:
        cdef iovec vectors[VECTORS]
        cdef Py_ssize_t total = 0
        cdef Py_ssize_t sent
        cdef int count = self.log.vectors(&follower.at, limit, vectors, VECTORS, &total)
        sent = deli_com_sendv(follower.fd, vectors, count)
        if sent == total:
            self.log.move_pin(&follower.at, follower.at.offset + <uint64_t>total)
            return 0
        return self._fell_short(follower, &follower.at, sent)

    cdef int _fell_short(self, Follower follower, Position* base, Py_ssize_t sent) except -1:
        # `sent` bytes from `base` went out, fewer than were offered. The transport gets the rest
        # of the frame that was cut. A cut at a frame's end hands over the whole next frame: with
        # nothing in the transport no event would ever come.
        cdef uint64_t start, end
        cdef list pieces
        cdef Position behind = base[0]
        if sent == DELI_COM_BROKEN:
            return self._broken(follower)
        start = behind.offset + <uint64_t>(sent if sent > 0 else 0)
        end = self.log.frame_end(&behind, start + 1)
        pieces = self.log.pieces(&behind, start, end)
        if follower.is_behind():
            self.log.move_pin(&follower.at, end)
        else:
            self.log.seek(&behind, end)
            follower.at = behind
            self._put(follower, FOLLOWER_READY)
        return self._hand_over(follower, pieces)

    cdef int _hand_over(self, Follower follower, list pieces) except -1:
        # Writes through the transport, then sees whether it holds anything.
        if CHECK:
            assert pieces, "Hub: an empty hand-over brings no event"
        self._writing = follower
        try:
            if len(pieces) == 1:
                follower.transport.write(pieces[0])
            else:
                follower.transport.writelines(pieces)
        except Exception:
            self._report("the transport of a follower failed to write")
            return self._broken(follower)
        finally:
            self._writing = None
        return self._settle(follower) if follower.state != FOLLOWER_GONE else 0

    cdef int _write_through(self, Follower follower, uint64_t limit) except -1:
        # TLS, and platforms without sendmsg: whole frames, at least one, up to THROUGH_BYTES
        # together, for as long as the transport takes them.
        cdef uint64_t end
        cdef list pieces
        cdef Position at
        while not follower.choked and follower.state != FOLLOWER_GONE and follower.at.offset < limit:
            at = follower.at
            if follower.state == FOLLOWER_CURRENT:
                at.record = self._flushed.record
            end = self.log.frames_within(&at, limit, THROUGH_BYTES)
            pieces = self.log.pieces(&at, at.offset, end)
            if follower.is_behind():
                self.log.move_pin(&follower.at, end)
            else:
                follower.at.offset = end
            self._hand_over(follower, pieces)
        return 0

    cdef int _broken(self, Follower follower) except -1:
        follower.leave()
        try:
            return follower.on_broken()
        except Exception:
            return self._report("dropping a broken follower failed")

    # --- limits ------------------------------------------------------------------------

    cdef list laggards(self):
        cdef Py_ssize_t i
        return [<Follower>self.blocked.items[i] for i in range(self.blocked.count)] + [
            <Follower>self.ready.items[i] for i in range(self.ready.count)
        ]

    cdef int _judge(self) except -1:
        # Closes who is more than max_backlog behind. Nobody is while the log holds less.
        cdef Follower follower
        cdef Py_ssize_t lag
        if self.log.retained() <= self.max_backlog:
            return 0
        for follower in self.laggards():
            lag = follower.lag()  # 0 where a log handler of a cut-off before has cut this one off, too
            if lag <= self.max_backlog or self.turns <= follower.behind_turn + 1:
                continue
            if self.log.frames_within(&follower.at, self.log.end, 0) == self.log.end:
                continue  # one frame alone
            self._cut_off(
                follower,
                f"too slow: {lag} bytes queued, limit {self.max_backlog}, "
                f"behind for {self.sweep.now() - follower.behind_since:.1f} s",
            )
        return self.log.trim(self._flushed.offset)  # what they held is free at once

    cdef int _cut_off(self, Follower follower, str cause) except -1:
        follower.leave()
        try:
            return follower.on_too_slow(cause)
        except Exception:
            return self._report("closing a slow follower failed")

    def _on_sweep(self):
        # True while there is somebody to watch.
        if self.log.retained() > self.max_backlog:
            self.schedule()  # laggards are judged in a turn, and nothing else may call for one
        self._progress()
        for follower in list(self.followers):
            try:
                (<Follower>follower).on_sweep(self.sweep.clock)
            except Exception:
                self._report("the sweep of one follower failed")
        return self.on_sweep() or bool(self.followers)

    cdef int _progress(self) except -1:
        # A laggard must move bytes: out of the transport, or over the wire as its kernel says.
        cdef Follower follower
        cdef uint64_t sent, acked
        for follower in self.laggards():
            if follower.hub is None:  # a log handler has cut it off, too
                continue
            sent = follower.sent_offset()
            acked = deli_com_tcp_info(follower.socket).bytes_acked if follower.socket >= 0 else 0
            if sent != follower.progress_sent or acked != follower.progress_acked:
                follower.progress_sent = sent
                follower.progress_acked = acked
                follower.progress_at = self.sweep.clock
            elif self.sweep.clock - follower.progress_at >= self.progress_timeout:
                self._cut_off(
                    follower,
                    f"no progress for {self.sweep.clock - follower.progress_at:.1f} s "
                    f"with {self.log.end - sent} bytes queued",
                )
        return 0

    cdef bint is_drained(self) noexcept:
        # Nothing waits for anybody in this process.
        return self.log.end == self._flushed.offset and self.ready.count + self.blocked.count == 0

    cdef int on_flushed(self) except -1:
        return 0  # a flush has ended; followers may have caught up or gone

    cdef bint on_sweep(self) except -1:
        return False  # the clock has moved; True to be called again though nobody follows

    cdef int _report(self, str what) except -1:
        # Errors that belong to one follower must not stop the flush for the others.
        logger.exception(what)
        return 0

    def _check(self):
        """Assert the invariants (DELI_COM_CHECK=1 runs this after every flush)."""
        cdef Follower follower
        cdef Roster* roster
        cdef Py_ssize_t found = 0
        for state in (FOLLOWER_CURRENT, FOLLOWER_READY, FOLLOWER_BLOCKED):
            roster = self._roster(state)
            for i in range(roster.count):
                if roster.items[i] == NULL:
                    assert state == FOLLOWER_CURRENT and self._in_round, "Hub: hole outside a round"
                    continue
                follower = <Follower>roster.items[i]
                found += 1
                assert follower.state == state and follower.slot == i, "Hub: follower in the wrong roster"
                assert self.log.head_offset() <= follower.at.offset, "Hub: its place was freed"
                if state == FOLLOWER_BLOCKED:
                    assert follower.choked, "Hub: blocked, but no event will come"
                elif state == FOLLOWER_READY:
                    assert self._scheduled, "Hub: ready, but no turn is scheduled"
                elif not self._in_round:
                    assert follower.at.offset == self._flushed.offset, "Hub: current, but not up to date"
        assert found == len(self.followers), "Hub: rosters and followers differ"
