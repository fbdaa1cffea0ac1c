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

Frames for a group or for one follower lie in logs of their own. Before a round begins,
followers that such frames are for, and those that a frame in the log of all is not for,
become READY: each is served alone, with what is for it merged into one order (log/merge.pyx),
up to the end of the log, and joins the others again at the end of the round.
"""

import os
from weakref import WeakSet

from cpython.object cimport PyObject

from deli_com.fanout.construction cimport check_new
from deli_com.fanout.follower cimport (
    FOLLOWER_BLOCKED,
    FOLLOWER_CURRENT,
    FOLLOWER_GONE,
    FOLLOWER_READY,
    Audience,
    Follower,
)
from deli_com.fanout.hub_check cimport check_hub
from deli_com.fanout.sweep cimport Sweep
from deli_com.ground.sockets cimport (
    DELI_COM_BROKEN,
    DELI_COM_HAVE_SENDMSG,
    deli_com_clock_ns,
    deli_com_sendv,
    iovec,
)
from deli_com.ground.home cimport Home
from deli_com.log.arena cimport LARGE_BYTES
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport VECTORS, Piece, Merge
from deli_com.log.ring cimport NOWHERE, Position

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    # The next three: bench/settle.py, and its figures in docs/broadcast.md.
    EARLY_BYTES = 131072       # pending bytes that are flushed at once: half a slab
    EAGER_FOLLOWERS = 8        # so few are served at once ...
    EAGER_QUIET_NS = 100000    # ... when nothing was appended for this long
    SLICE_NS = 2000000         # `slice_ns`, unless somebody sets it
    THROUGH_BYTES = 65536      # frames written together through a transport

cdef bint CHECK = os.environ.get("DELI_COM_CHECK") == "1"


# What the loop calls. No bound methods are kept: each would be a reference cycle, and a closed hub
# would be freed only by the garbage collector.

def _turn_of(Hub hub not None):
    hub._turn()


def _sweep_of(Hub hub not None):
    return hub._on_sweep()


cdef class Hub(Bounds):
    """The followers of one log, flushed together.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop whose thread owns the hub.
    log : Log
        Where messages are appended; call `appended` after each.
    max_backlog : int
        Bytes of queued frames after a follower's place at which it is too slow. One frame
        never exceeds it by itself. Checked only after the loop has run since the follower fell behind.
    max_queued : int
        Bytes that the log may hold; `room_for` says whether a frame still goes in.
    progress_timeout : float
        Seconds in which a follower that is behind must take a byte.
    """

    def __cinit__(self, *args, **options):
        check_new(type(self), len(args) > 1 and isinstance(args[1], Log))

    def __init__(
        self, loop, Log log not None, *,
        Py_ssize_t max_backlog=16 << 20, Py_ssize_t max_queued=64 << 20, double progress_timeout=10.0,
    ):
        self.loop = loop
        self.log = log
        self.arena = log.arena
        self.max_backlog = max_backlog
        self.max_queued = max_queued
        self.progress_timeout = progress_timeout
        self.home = Home(loop)
        self.log.flushed = log.tail()
        self.log.passed = log.end
        log.skip_limit = max_backlog
        self._plan = Merge()
        self.slice_ns = SLICE_NS
        self._dirty = []
        self._apart = []
        self._audiences = WeakSet()
        self.sweep = Sweep(loop, _sweep_of)
        self.sweep.interval = min(self.sweep.interval, progress_timeout / 4)

    cdef int join(self, Follower follower) except -1:
        # From here on it gets every message appended after this call, and before them the newest
        # of each key that is retained.
        cdef Position at = self.log.tail()
        cdef bint is_current
        if follower.state != FOLLOWER_GONE:
            raise RuntimeError("Hub.join: the follower has joined already")
        if not DELI_COM_HAVE_SENDMSG:
            follower.fd = -1
        self.sweep.start(self)
        if self.log.retained_keys:
            at = self.log.head()
        self.log.wall()
        follower._add_cursor(self.log, at, self.log.end)
        follower.hub = self
        self._last_id += 1
        follower.id = self._last_id
        follower.paced_mark = follower.sent_bytes()
        is_current = at.offset == self.log.end == self.log.flushed.offset
        if is_current and not self._in_round and not follower.choked:
            self._put(follower, FOLLOWER_CURRENT)
        else:
            follower.is_fresh = True  # it gets all that comes from now on, superseded or not
            self._put(follower, FOLLOWER_BLOCKED if follower.choked else FOLLOWER_READY)
            self.schedule()
        self.followers.add(follower)
        return 0

    cdef int let_go(self, Follower follower) except -1:
        self._take_out(follower)
        self.followers.discard(follower)
        # Somebody may wait for just this one; and records it pinned may go.
        return self.schedule()

    cdef int settle_soon(self, Follower follower) except -1:
        # `choked` changed. Inside a flush that is only noted: rosters are being walked.
        if self._flushing:
            if follower is not self._writing:
                self._unsettled = True
            return 0
        self._settle(follower)
        return self.schedule() if follower.state == FOLLOWER_READY else 0

    # --- appending ---------------------------------------------------------------------

    cdef void begin(self) noexcept:
        # Call before appending: the first frame of a turn asks the clock for all of them.
        if self.log.end == self.log.flushed.offset and len(self.followers) and not self._dirty:
            self.arena.now_ns = deli_com_clock_ns()

    cdef int appended(self, Py_ssize_t frame) except -1:
        # A frame was appended to the log of all: decides when it goes out.
        cdef Py_ssize_t pending = <Py_ssize_t>(self.log.end - self.log.flushed.offset) + self._aside
        if self._flushing:
            return self.schedule()
        if pending >= EARLY_BYTES or frame >= LARGE_BYTES:
            self.flush_now()
        elif pending == frame and self.current.count <= EAGER_FOLLOWERS:
            # With frames pending already the line is not quiet.
            if self._is_quiet():
                return self._flush_at_once()
        if not self._scheduled and pending:
            self.schedule()
        return 0

    cdef bint _is_quiet(self) noexcept:
        cdef bint is_quiet = self.arena.now_ns - self._last_append_ns > EAGER_QUIET_NS
        self._last_append_ns = self.arena.now_ns
        return is_quiet

    cdef int _flush_at_once(self) except -1:
        # Time spent flushing does not count as quiet: otherwise, after a long flush, the rest of a burst
        # would go out frame by frame.
        self.flush_now()
        self._last_append_ns = deli_com_clock_ns()
        return 0

    cdef int addressed(self, Audience audience, Py_ssize_t frame) except -1:
        # A frame was appended to the log of an audience: the same.
        cdef bint is_first = self._aside == 0 and self.log.end == self.log.flushed.offset
        if not audience.is_dirty:
            audience.is_dirty = True
            self._dirty.append(audience)
        self._aside += frame
        if self._flushing:
            return self.schedule()
        if self._aside >= EARLY_BYTES or frame >= LARGE_BYTES:
            self.flush_now()
        elif is_first and len(audience.members) <= EAGER_FOLLOWERS:
            if self._is_quiet():
                return self._flush_at_once()
        return self.schedule()  # after a flush, too: laggards are judged in turns

    cdef int set_apart(self, Follower follower) except -1:
        # The last frame in the log of all is not for it: no round may serve it that far.
        follower.apart_until = self.log.end
        self._apart.append(follower)
        return 0

    cdef int fall_in(self, Follower follower) except -1:
        if follower.state == FOLLOWER_CURRENT:
            self._apart.append(follower)
            self.schedule()
        return 0

    cdef Audience new_audience(self, object name):
        # A log for some of the followers.
        cdef Audience audience = Audience("", self.arena, self, name)
        audience.skip_limit = self.max_backlog
        self._audiences.add(audience)
        return audience

    cdef int schedule(self) except -1:
        # The flag comes last: where `call_soon` raises, the next caller tries again. One turn too many
        # costs nothing.
        if not self._scheduled:
            self.loop.call_soon(_turn_of, self)
            self._scheduled = True
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
            self._plan.forget()
            if self._unsettled:
                self._settle_all()
        if not done or self.ready.count:
            self.schedule()
        if self.ready.count or self.blocked.count:
            self.sweep.start(self)  # it runs, unless an exception has ended it
            self._judge()
        if self.arena.is_sparse() and not self.arena.is_open:
            self._relocate()
        if CHECK:
            self._check()
        self.on_flushed()
        return 0

    cdef bint _flush(self) except -1:
        # True if every follower that can be served has everything.
        cdef uint64_t deadline
        cdef bint done = True
        self.arena.now_ns = deli_com_clock_ns()
        deadline = self.arena.now_ns + self.slice_ns
        if not self._in_round:
            if self._dirty or self._apart:
                self._take_apart()
            if self.ready.count:
                done = self._serve_ready(deadline)
            if self._dirty and done:
                self._settle_audiences()
            self._served_all = done
            if self.log.end == self.log.flushed.offset:
                self.log.settle(self.log.end, done)
                return done and not self._dirty
            self._in_round = True
            self._round_end = self.log.end
            self._round_done = 0
            self._round_start += 1
        return self._go_round(deadline) and done and not self._dirty

    cdef int _take_apart(self) except -1:
        # Whoever a frame is for, or not for, that the others do or do not get, is served alone.
        cdef Audience audience
        cdef Follower follower
        cdef list apart = self._apart
        self._apart = []
        self._aside = 0
        for audience in self._dirty:
            audience.marked = audience.end
            for follower in audience.members:
                # (Not who was served in an earlier slice: a large group would never be done.)
                if follower.state == FOLLOWER_CURRENT and not follower.has_all_of(audience):
                    follower.is_fresh = True
                    self._put(follower, FOLLOWER_READY)
        for follower in apart:
            if follower.state == FOLLOWER_CURRENT:
                follower.is_fresh = True
                self._put(follower, FOLLOWER_READY)
        return 0

    cdef int _settle_audiences(self) except -1:
        # All members that could be served have what was there when the flush began.
        cdef Audience audience
        cdef list dirty = self._dirty
        self._dirty = []
        for audience in dirty:
            audience.settle(audience.marked, True)
            audience.is_dirty = audience.end > audience.marked
            if audience.is_dirty:
                self._dirty.append(audience)
        return 0

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
                self._write_through(follower, 1, self._round_end)
                continue
            if count == 0:
                count = self.log.vectors(&self.log.flushed, self._round_end, vectors, VECTORS, &total)
                # More records than vectors: the round ends earlier, for everybody alike.
                self._round_end = self.log.flushed.offset + <uint64_t>total
            sent = deli_com_sendv(follower.fd, vectors, count)
            if sent == total:
                follower.cursors.at.offset = self._round_end
                follower.given_bytes += <uint64_t>total
                self.bytes_out += <uint64_t>total
            else:
                self._cut_in_round(follower, sent)
                count = 0  # a transport ran: describe the stream anew
            if self._round_done & 15 == 0 and deli_com_clock_ns() > deadline:
                return False
        self._end_round()
        return self.log.end == self.log.flushed.offset

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
        self.log.settle(self._round_end, self._served_all)
        i = self.ready.count
        while i > 0:  # backwards: taking one out moves only a follower that was looked at already
            i -= 1
            self._catch_up(<Follower>self.ready.items[i])
        return 0

    cdef int _catch_up(self, Follower follower) except -1:
        # A READY follower becomes CURRENT if it has all that the others have, and what is its own.
        cdef Cursor* cursor
        cdef Log log
        cdef int i
        if (
            follower.cursors.at.offset != self.log.flushed.offset
            or follower.apart_until > self.log.flushed.offset
            or follower.cursors.floor > self.log.flushed.offset
        ):
            return 0
        for i in range(1, follower.cursor_count):
            cursor = &follower.cursors[i]
            if cursor.at.offset < min((<Log>cursor.log).end, cursor.limit):
                return 0
        follower.is_fresh = False
        self._put(follower, FOLLOWER_CURRENT)
        for i in range(follower.cursor_count - 1, 0, -1):
            log = <Log>follower.cursors[i].log
            if follower.cursors[i].limit != <uint64_t>NOWHERE:
                follower._drop_cursor(i)
            else:
                log.trim(log.flushed.offset)
        return 0

    cdef bint _serve_ready(self, uint64_t deadline) except -1:
        # Each by itself. True if those of them that were up to date are so again.
        cdef bint is_all = True
        cdef Py_ssize_t i
        cdef Py_ssize_t count = self.ready.count
        cdef Follower follower
        cdef list turn = [<Follower>self.ready.items[(self._ready_start + i) % count] for i in range(count)]
        cdef int served = 0
        for follower in turn:
            self._ready_start += 1
            if follower.state != FOLLOWER_READY:
                continue
            if follower.muted != NULL and follower.muted[0]:
                follower.leave()
                continue
            self._serve_alone(follower)
            if follower.state == FOLLOWER_READY:
                self._catch_up(follower)
                is_all = is_all and (not follower.is_fresh or follower.has_all())
            served += 1
            if served & 15 == 0 and deli_com_clock_ns() > deadline:
                return is_all and follower is turn[len(turn) - 1]
        return is_all

    cdef int _serve_alone(self, Follower follower) except -1:
        # One with nothing of its own goes as far as the others are; the round takes it on.
        cdef Merge plan = self._plan
        cdef uint64_t limit = <uint64_t>NOWHERE
        cdef Py_ssize_t sent
        cdef Py_ssize_t given = 0
        if not follower.is_fresh and follower.cursor_count == 1:
            limit = max(self.log.flushed.offset, min(follower.apart_until, self.log.end))
        if follower.fd < 0:
            return self._write_through(follower, follower.cursor_count, limit)
        while True:
            if not plan.fits(follower.cursors, follower.cursor_count, limit, follower.is_fresh, follower.id):
                plan.make(
                    follower.cursors, follower.cursor_count, limit, follower.is_fresh, follower.id,
                    PY_SSIZE_T_MAX)
            if follower.missed is not None and self._tell_missed(follower):
                if follower.state == FOLLOWER_READY:
                    continue
                return 0  # that has filled its transport
            if plan.count:
                sent = deli_com_sendv(follower.fd, plan.vectors, plan.count)
                if sent != plan.total:
                    return self._cut_alone(follower, sent)
                self._gave(follower, sent)
            if self._advance(follower, plan.count):
                self._hand_over(follower, [])
            given += plan.total
            if plan.is_whole or given >= THROUGH_BYTES:
                return 0  # or there is more than so many vectors hold: it waits for its next turn

    cdef bint _advance(self, Follower follower, int pieces) except -1:
        # So many pieces of the plan are the follower's now. True: tell it what it misses behind them.
        cdef Merge plan = self._plan
        cdef Log log
        cdef int i
        cdef bint tells = (
            follower.missed is not None and plan.is_whole and pieces == plan.count
            and plan.losses_behind(follower.cursors, follower.missed))
        plan.advance(follower.cursors, pieces)
        self._missed(follower, plan.skipped, plan.superseded)
        for i in range(1, follower.cursor_count):
            log = <Log>follower.cursors[i].log
            log.trim(log.flushed.offset)
        return tells

    cdef bint _tell_missed(self, Follower follower) except -1:
        # Whether the follower was told what it misses before the plan, which is to be made anew. What it
        # misses later in the plan comes first then, after less of it.
        cdef Merge plan = self._plan
        cdef int first = plan.first_loss()
        if first > 0:
            plan.keep(first)
        if first != 0:
            return False
        self._missed(follower, plan.pieces[0].skipped, plan.pieces[0].superseded)
        plan.pass_first(follower.cursors, follower.missed)
        self._hand_over(follower, [])
        return True

    cdef int _cut_in_round(self, Follower follower, Py_ssize_t sent) except -1:
        # `sent` bytes went out, fewer than were offered. The transport gets the rest of the frame
        # that was cut. A cut at a frame's end hands over the whole next frame: with nothing in the
        # transport no event would ever come.
        cdef Log log = self.log
        cdef Position at = log.flushed
        cdef uint64_t start, end
        cdef list pieces
        if sent == DELI_COM_BROKEN:
            return self._broken(follower)
        start = at.offset + <uint64_t>(sent if sent > 0 else 0)
        end = log.frame_end(&at, start + 1)
        pieces = log.pieces(&at, start, end)
        self._gave(follower, <Py_ssize_t>(end - at.offset))
        log.seek(&at, start)
        follower.holds_reliable = log.is_reliable(&at)
        log.seek(&at, end)
        follower.cursors.at = at
        self._put(follower, FOLLOWER_READY)
        return self._hand_over(follower, pieces)

    cdef int _cut_alone(self, Follower follower, Py_ssize_t sent) except -1:
        # The same for the plan of one follower.
        cdef Merge plan = self._plan
        cdef Cursor* cursor
        cdef Log log
        cdef Position at
        cdef Py_ssize_t before = 0
        cdef int i, first, cut
        cdef uint64_t start, end
        cdef list pieces
        if sent == DELI_COM_BROKEN:
            return self._broken(follower)
        sent = max(sent, 0)
        cut = plan.piece_at(sent)
        for i in range(cut):
            before += <Py_ssize_t>plan.vectors[i].iov_len
        first = cut
        while first > 0 and not plan.pieces[first - 1].ends_frame:
            first -= 1  # the frame that is cut begins here
        self._advance(follower, first)
        for i in range(first, cut + 1):
            self._missed(follower, plan.pieces[i].skipped, plan.pieces[i].superseded)
        cursor = &follower.cursors[plan.pieces[cut].cursor]
        log = <Log>cursor.log
        at = cursor.at
        at.offset = plan.pieces[first].start
        start = plan.pieces[cut].start + <uint64_t>(sent - before)
        end = log.frame_end(&at, start + 1)
        pieces = log.pieces(&at, start, end)
        self._gave(follower, sent + <Py_ssize_t>(end - start))
        log.move_pin(&cursor.at, end)
        follower.is_fresh = False
        follower.holds_reliable = plan.pieces[cut].reliable
        plan.forget()
        return self._hand_over(follower, pieces)

    cdef int _write_through(self, Follower follower, int cursors, uint64_t limit) except -1:
        # TLS, and platforms without sendmsg: whole frames, at least one, up to THROUGH_BYTES
        # together, for as long as the transport takes them. A follower in the round reads the log
        # of all only, which is its first cursor.
        cdef Merge plan = self._plan
        cdef Piece* piece
        cdef Cursor* cursor
        cdef list pieces
        cdef bint is_fresh, tells
        cdef int i
        while not follower.choked and follower.state != FOLLOWER_GONE:
            is_fresh = follower.is_fresh or follower.state == FOLLOWER_CURRENT
            plan.make(follower.cursors, cursors, limit, is_fresh, follower.id, THROUGH_BYTES)
            if follower.missed is not None and self._tell_missed(follower):
                continue
            pieces = []
            follower.holds_reliable = False
            for i in range(plan.count):
                piece = &plan.pieces[i]
                follower.holds_reliable = follower.holds_reliable or piece.reliable
                cursor = &follower.cursors[piece.cursor]
                pieces += (<Log>cursor.log).pieces(&cursor.at, piece.start, piece.end)
            self._gave(follower, plan.total)
            tells = self._advance(follower, plan.count)
            plan.forget()
            if pieces:
                self._hand_over(follower, pieces)
            if tells and follower.state != FOLLOWER_GONE:
                self._hand_over(follower, [])
            if not pieces:
                return 0
        return 0

    cdef int _hand_over(self, Follower follower, list pieces) except -1:
        # Writes through the transport, then sees whether it holds anything. No pieces: tells what it misses.
        self._writing = follower
        try:
            if len(pieces) == 1:
                follower.transport.write(pieces[0])
            elif pieces:
                follower.transport.writelines(pieces)
            else:
                follower.on_missed()
        except Exception:
            self._report("the transport of a follower failed to write")
            return self._broken(follower)
        finally:
            self._writing = None
        return self._settle(follower) if follower.state != FOLLOWER_GONE else 0

    cdef int _relocate(self) except -1:
        # At the end of a flush only: nothing points into slabs then.
        cdef Audience audience
        self.log.relocate()
        for audience in self._audiences:
            audience.relocate()
        return 0

    def _on_sweep(self):
        # True while there is somebody to watch.
        if self.arena.reliable > self.max_backlog:
            self.schedule()  # laggards are judged in a turn, and nothing else may call for one
        elif self.ready.count or self._dirty or self.log.end != self.log.flushed.offset:
            self.schedule()  # it is, unless a turn or its scheduling was ended by an exception
        self._progress()
        for follower in list(self.followers):
            try:
                (<Follower>follower).on_sweep(self.sweep.clock)
            except Exception:
                self._report("the sweep of one follower failed")
        return self.on_sweep() or bool(self.followers)

    cdef bint is_drained(self) noexcept:
        # Nothing waits for anybody in this process.
        return (
            self.log.end == self.log.flushed.offset and not self._dirty
            and self.ready.count + self.blocked.count == 0
        )

    cdef int take(self, object message) except -1:
        return 0  # an `Encoded` of another thread is to be appended

    cdef int on_flushed(self) except -1:
        return 0  # a flush has ended; followers may have caught up or gone

    cdef bint on_sweep(self) except -1:
        return False  # the clock has moved; True to be called again though nobody follows

    def _check(self):
        """Assert the invariants (DELI_COM_CHECK=1 runs this after every flush)."""
        check_hub(self)
