"""The followers of the broadcast log, and when it is flushed.

A `Follower` is one receiver's place in the log. Those that are up to date are served
together: one vector of pointers, one system call each. One whose socket is full gets
exactly the rest of the frame that was cut, through its transport, and waits there::

              flush: all sent                    short write
    CURRENT ------------------> CURRENT  ------------------------> BLOCKED
       ^                                                              |  transport drained
       |  caught up                                                   v
       +------------------------------ READY <------------------------+

One with a bound on what is in flight (fanout/transit.pyx) is served by itself. It is BLOCKED, and held,
where as much is in flight as may be, until the peer has answered a marker.

Rules that all other code relies on:

1. A socket is written by our own system call only while its transport holds nothing
   (`writing_paused` is False), the owner has not muted it, and only from frame end to frame end:
   whatever else writes to the transport (PONG, CLOSE) finds a frame boundary.
2. A follower that is behind is READY, and a turn is scheduled, or BLOCKED, and the
   transport will call `on_writing_resumed`.
3. `flush_now` is not re-entrant. What transports call during it only marks followers.
4. One hub belongs to one thread: that of its loop.

A hub has rosters (followers by state), limits (which followers are too far behind) and a writer (writes to
one follower). `Owner` has the callbacks from these parts and from followers to the hub, and from the hub to
the endpoint, its owner. The hub borrows its owner.

Frames for a group or for one follower are in logs of their own. Before a round begins, the
followers that get such frames, or do not get some frame in the log of all, become READY. Each of
them is served separately, from a merge of its logs in one order (log/merge.pyx), up to the end of
the log. It joins the others again at the end of the round.
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
    Owner,
)
from deli_com.fanout.hub_check cimport check_hub
from deli_com.fanout.limits cimport Limits, report
from deli_com.fanout.rosters cimport Roster, Rosters
from deli_com.fanout.sweep cimport Sweep
from deli_com.fanout.transit_totals cimport TransitTotals
from deli_com.fanout.writer cimport Writer
from deli_com.ground.sockets cimport DELI_COM_HAVE_SENDMSG, deli_com_clock_ns, deli_com_sendv, iovec
from deli_com.ground.home cimport Home
from deli_com.log.arena cimport LARGE_BYTES
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport VECTORS
from deli_com.log.ring cimport NOWHERE, Position

cdef enum:
    # The next three: bench/settle.py, and its figures in docs/broadcast.md.
    EARLY_BYTES = 131072       # pending bytes that are flushed at once: half a slab
    EAGER_FOLLOWERS = 8        # so few are served at once ...
    EAGER_QUIET_NS = 100000    # ... when nothing was appended for this long
    SLICE_NS = 2000000         # the default of `slice_ns`

cdef bint CHECK = os.environ.get("DELI_COM_CHECK") == "1"


# What the loop calls. No bound methods are kept: each would be a reference cycle, and a closed hub
# would be freed only by the garbage collector. The loop keeps the owner, too, until then.

def _turn_of(Hub hub not None, kept):
    hub._turn()


def _sweep_of(Hub hub not None):
    return hub._on_sweep()


cdef class Hub(Owner):
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
        self.home = Home(loop)
        self.sweep = Sweep(loop, _sweep_of)
        self.sweep.interval = min(self.sweep.interval, progress_timeout / 4)
        self.rosters = Rosters(log, self.sweep)
        self.followers = self.rosters.followers
        self.limits = Limits(self.rosters, max_backlog, max_queued, progress_timeout)
        self.writer = Writer(self.rosters, self.limits)
        log.flushed = log.tail()
        log.passed = log.end
        log.skip_limit = max_backlog
        self.slice_ns = SLICE_NS
        self._dirty = []
        self._individual = []
        self.bounded = set()
        self.transit_totals = TransitTotals()
        self._audiences = WeakSet()

    cdef int join(self, Follower follower) except -1:
        # From here on it gets every message appended after this call, and before them the newest
        # of each key that is retained.
        cdef Position at = self.log.tail()
        cdef bint is_current
        if follower.state != FOLLOWER_GONE:
            raise RuntimeError("Hub.join: the follower has joined already")
        if not DELI_COM_HAVE_SENDMSG:
            follower.fd = -1
        self.start_sweep()
        if self.log.retained_keys:
            at = self.log.head()
        self.log.separate()
        follower._add_cursor(self.log, at, self.log.end)
        follower.hub = self
        self._last_id += 1
        follower.id = self._last_id
        follower.paced_mark = follower.sent_bytes()
        is_current = at.offset == self.log.end == self.log.flushed.offset
        try:
            self.followers.add(follower)
            self.timed = len(self.followers) + self.keeps_time
            if is_current and not self.rosters.in_round and not follower.writing_paused:
                self.rosters.put(follower, FOLLOWER_CURRENT)
            else:
                follower.is_fresh = True  # it gets all that comes from now on, superseded or not
                self.rosters.put(follower, FOLLOWER_BLOCKED if follower.writing_paused else FOLLOWER_READY)
                self.schedule()
        except BaseException:
            follower.leave()
            raise
        return 0

    # --- the owner -----------------------------------------------------------------------

    cdef int belong_to(self, Owner owner) except -1:
        # The owner calls `be_left` before it is freed.
        self._owner = <PyObject*>owner
        return 0

    cdef int be_left(self) noexcept:
        self._owner = NULL
        return 0

    cdef Owner kept(self):
        # What keeps the hub and its owner.
        return self if self._owner == NULL else <Owner>self._owner

    cdef int start_sweep(self) except -1:
        return self.sweep.start(self, self.kept())

    cdef int on_flushed(self) except -1:
        cdef Owner owner = self.kept()
        return 0 if owner is self else owner.on_flushed()

    cdef bint on_sweep(self) except -1:
        cdef Owner owner = self.kept()
        return False if owner is self else owner.on_sweep()

    # --- what followers and audiences tell ------------------------------------------------

    cdef int on_left(self, Follower follower) except -1:
        if self.rosters is None:
            return 0  # the garbage collector is freeing this hub
        self.rosters.remove(follower)
        self.followers.discard(follower)
        self.bounded.discard(follower)
        follower.is_bounded = follower.is_held = False
        self.timed = len(self.followers) + self.keeps_time
        # A sender may wait for this follower, and the records that it pinned can be freed.
        return self.schedule()

    cdef int on_writability(self, Follower follower) except -1:
        # Inside a flush that is only noted: rosters are being walked.
        if self.rosters is None:
            return 0
        if self._flushing:
            if follower is not self.writer.writing:
                self._must_place_all = True
            return 0
        self.rosters.place(follower)
        return self.schedule() if follower.state == FOLLOWER_READY else 0

    cdef int on_transit(self, Follower follower) except -1:
        if self.rosters is None or follower.state == FOLLOWER_GONE:
            return 0
        if follower.transit.in_force and not follower.transit.lifted:
            if not follower.is_bounded:
                self.bounded.add(follower)
                follower.is_bounded = True
        elif follower.is_bounded:
            self.bounded.discard(follower)
            follower.is_bounded = False
        if not follower.is_held or follower.transit.credit(follower.given_bytes) == 0:
            return 0
        follower.is_held = False
        return self.on_writability(follower)

    cdef int lift_bounds(self) except -1:
        # Nothing is bounded any more: this end is about to close.
        cdef Follower follower
        for follower in list(self.followers):
            if follower.transit is not None:
                follower.transit.lift()
                self.on_transit(follower)
        return 0

    cdef int keep_time(self) noexcept:
        # Frames get a time, also without followers.
        self.keeps_time = True
        self.timed = len(self.followers) + 1
        return 0

    cdef int on_own_messages(self, Follower follower) except -1:
        if follower.state == FOLLOWER_CURRENT:
            self._individual.append(follower)
            self.schedule()
        return 0

    cdef int _place_all(self) except -1:
        cdef Follower follower
        self._must_place_all = False
        for follower in self.followers:
            self.rosters.place(follower)
        return 0

    # --- appending ---------------------------------------------------------------------

    cdef void begin(self) noexcept:
        # Call before appending: the first frame of a turn asks the clock for all.
        if self.log.end == self.log.flushed.offset and self.timed and not self._dirty:
            self.arena.now_ns = deli_com_clock_ns()

    cdef int appended(self, Py_ssize_t frame) except -1:
        # A frame was appended to the log of all followers. Decides when it is sent.
        cdef Py_ssize_t pending = <Py_ssize_t>(self.log.end - self.log.flushed.offset) + self._aside
        if self._flushing:
            return self.schedule()
        if pending >= EARLY_BYTES or frame >= LARGE_BYTES:
            self.flush_now()
        elif pending == frame and self.rosters.current.count <= EAGER_FOLLOWERS:
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
        self._aside += frame
        if not audience.is_dirty:
            self._dirty.append(audience)
            audience.is_dirty = True
        if self._flushing:
            return self.schedule()
        if self._aside >= EARLY_BYTES or frame >= LARGE_BYTES:
            self.flush_now()
        elif is_first and len(audience.members) <= EAGER_FOLLOWERS:
            if self._is_quiet():
                return self._flush_at_once()
        return self.schedule()  # after a flush, too: laggards are judged in turns

    cdef int exclude(self, Follower follower) except -1:
        # The last frame in the log of all is not for it: no round may serve it that far.
        follower.excluded_until = self.log.end
        try:
            self._individual.append(follower)
        except MemoryError:
            self.limits.drop_broken(follower)  # the next round would give it what it must not get
            raise
        return 0

    cdef Audience new_audience(self, object name):
        # A log for some of the followers.
        cdef Audience audience = Audience("", self.arena, self, name)
        audience.skip_limit = self.limits.max_backlog
        self._audiences.add(audience)
        return audience

    cdef int schedule(self) except -1:
        # The flag comes last: where `call_soon` raises, the next caller tries again.
        if not self._scheduled:
            self.loop.call_soon(_turn_of, self, self.kept())
            self._scheduled = True
        return 0

    def _turn(self):
        self._scheduled = False
        self.rosters.turns += 1
        self.flush_now()

    # --- flushing ----------------------------------------------------------------------

    cdef int flush_now(self) except -1:
        # Sends for at most SLICE_NS. The next turn of the loop sends the rest.
        cdef bint done = False
        if self._flushing:
            return 0
        self._flushing = True
        try:
            done = self._flush()
        finally:
            self._flushing = False
            self.writer.forget()
            if self._must_place_all:
                self._place_all()
        if not done or self.rosters.ready.count:
            self.schedule()
        if self.rosters.ready.count or self.rosters.blocked.count:
            self.start_sweep()  # it runs, unless an exception has ended it
            self.limits.evict_too_far()
        if self.arena.is_sparse() and not self.arena.is_open:
            self._relocate()
        if CHECK:
            self._check()
        self.on_flushed()
        return 0

    cdef bint _flush(self) except -1:
        # True if every follower that can be served has got everything.
        cdef uint64_t deadline
        cdef bint done = True
        self.arena.now_ns = deli_com_clock_ns()
        deadline = self.arena.now_ns + self.slice_ns
        if not self.rosters.in_round:
            if self._dirty or self._individual or self.bounded:
                self._separate()
            if self.rosters.ready.count:
                done = self._serve_ready(deadline)
            if self._dirty and done:
                self._mark_audiences_flushed()
            self._served_all = done
            if self.log.end == self.log.flushed.offset:
                self.log.mark_flushed(self.log.end, done)
                return done and not self._dirty
            self.rosters.in_round = True
            self._round_end = self.log.end
            self._round_done = 0
            self._round_start += 1
        return self._go_round(deadline) and done and not self._dirty

    cdef int _separate(self) except -1:
        # A follower that gets a frame the others do not, or misses one that they get, is served separately.
        cdef Audience audience
        cdef Follower follower
        cdef list individual = self._individual
        self._individual = []
        self._aside = 0
        for audience in self._dirty:
            audience.marked = audience.end
            for follower in audience.members:
                # (Not followers that were served in an earlier slice, or a large group would never be done.)
                if follower.state == FOLLOWER_CURRENT and not follower.has_all_of(audience):
                    follower.is_fresh = True
                    self.rosters.put(follower, FOLLOWER_READY)
        for follower in individual:
            if follower is not None and follower.state == FOLLOWER_CURRENT:
                follower.is_fresh = True
                self.rosters.put(follower, FOLLOWER_READY)
        if self.log.end != self.log.flushed.offset:
            for follower in self.bounded:
                if follower.state == FOLLOWER_CURRENT:
                    follower.is_fresh = True
                    self.rosters.put(follower, FOLLOWER_READY)
        if self._is_aging:
            self._is_aging = False
            if self.log.expire(self.arena.now_ns, self.log.end) > self.log.flushed.offset:
                self._serve_all_alone()  # a round would send dead records, too
        return 0

    cdef int _serve_all_alone(self) except -1:
        cdef Follower follower
        for follower in self.followers:
            if follower.state == FOLLOWER_CURRENT:
                follower.is_fresh = True
                self.rosters.put(follower, FOLLOWER_READY)
        return 0

    cdef int let_expire(self, Log log, int lane, uint64_t age_ns, Py_ssize_t frame) except -1:
        # The frame that was appended last is left out once it is so old.
        log.let_expire(lane, age_ns, frame)
        if log is self.log and not self._is_aging:
            self._individual.append(None)
            self._is_aging = True
        return 0

    cdef int purge_keys(self) except -1:
        # Gives back the keys that no message has any more, of all logs.
        cdef Audience audience
        self.log.keys.purge()
        for audience in self._audiences:
            audience.keys.purge()
        return 0

    cdef int _mark_audiences_flushed(self) except -1:
        # All members that could be served have what was there when the flush began.
        cdef Audience audience
        cdef list dirty = [audience for audience in self._dirty if audience.end > audience.marked]
        for audience in self._dirty:
            audience.mark_flushed(audience.marked, True)
            audience.is_dirty = audience.end > audience.marked
        self._dirty = dirty
        return 0

    cdef bint _go_round(self, uint64_t deadline) except -1:
        cdef:
            iovec vectors[VECTORS]
            int count = 0
            Py_ssize_t total = 0
            Py_ssize_t sent
            Follower follower
            Roster* current = &self.rosters.current
            PyObject* item
        while self._round_done < current.count:
            item = current.items[(self._round_start + self._round_done) % current.count]
            if item == NULL:
                self._round_done += 1
                continue
            follower = <Follower>item
            if follower.muted != NULL and follower.muted[0]:
                self._round_done += 1
                follower.leave()  # something else has written CLOSE
                continue
            if follower.fd < 0:
                count = 0
                self.writer.write_through(follower, 1, self._round_end)
                self._round_done += 1  # not before: where that raises, it is this one's turn again
                continue
            if count == 0:
                count = self.log.vectors(&self.log.flushed, self._round_end, vectors, VECTORS, &total)
                # There are more records than vectors, so the round ends earlier for all followers.
                self._round_end = self.log.flushed.offset + <uint64_t>total
            sent = deli_com_sendv(follower.fd, vectors, count)
            self._round_done += 1
            if sent == total:
                follower.cursors.at.offset = self._round_end
                follower.given_bytes += <uint64_t>total
                self.writer.bytes_out += <uint64_t>total
            else:
                self.writer.stopped_short(follower, sent, True)
                count = 0  # a transport ran, so the vectors are built again
            if self._round_done & 15 == 0 and deli_com_clock_ns() > deadline:
                return False
        self._end_round()
        return self.log.end == self.log.flushed.offset

    cdef int _end_round(self) except -1:
        cdef Py_ssize_t i
        self.rosters.end_round()
        self.log.mark_flushed(self._round_end, self._served_all)
        i = self.rosters.ready.count
        while i > 0:  # backwards: taking one out moves only a follower that was looked at already
            i -= 1
            self._catch_up(<Follower>self.rosters.ready.items[i])
        return 0

    cdef int _catch_up(self, Follower follower) except -1:
        # A READY follower becomes CURRENT if it has all that the others have, and what is its own.
        cdef Cursor* cursor
        cdef Log log
        cdef int i
        if (
            follower.cursors.at.offset != self.log.flushed.offset
            or follower.excluded_until > self.log.flushed.offset
            or follower.cursors.floor > self.log.flushed.offset
        ):
            return 0
        for i in range(1, follower.cursor_count):
            cursor = &follower.cursors[i]
            if cursor.at.offset < min((<Log>cursor.log).end, cursor.limit):
                return 0
        follower.is_fresh = False
        self.rosters.put(follower, FOLLOWER_CURRENT)
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
        cdef Roster* ready = &self.rosters.ready
        cdef Py_ssize_t count = ready.count
        cdef Follower follower
        cdef list turn = [<Follower>ready.items[(self._ready_start + i) % count] for i in range(count)]
        cdef int served = 0
        for follower in turn:
            self._ready_start += 1
            if follower.state != FOLLOWER_READY:
                continue
            if follower.muted != NULL and follower.muted[0]:
                follower.leave()
                continue
            self.writer.serve(follower)
            if follower.state == FOLLOWER_READY:
                self._catch_up(follower)
                is_all = is_all and (not follower.is_fresh or follower.has_all())
            served += 1
            if served & 15 == 0 and deli_com_clock_ns() > deadline:
                return is_all and follower is turn[len(turn) - 1]
        return is_all

    cdef int _relocate(self) except -1:
        # At the end of a flush only: nothing points into slabs then.
        cdef Audience audience
        self.log.relocate()
        for audience in self._audiences:
            audience.relocate()
        return 0

    def _on_sweep(self):
        # True while a follower has to be watched.
        if self.limits.is_crowded():
            self.schedule()  # laggards are judged in a turn, and nothing else may call for one
        elif self.rosters.ready.count or self._dirty or self.log.end != self.log.flushed.offset:
            self.schedule()  # it is, unless a turn or its scheduling was ended by an exception
        self.limits.evict_overdue()
        for follower in list(self.followers):
            try:
                (<Follower>follower).on_sweep(self.sweep.clock)
            except Exception:
                report("the sweep of one follower failed")
        self.transit_totals.sum_up(self.followers)
        return self.on_sweep() or bool(self.followers)

    cdef bint is_drained(self) noexcept:
        # Whether nothing waits in this process for a follower.
        return (
            self.log.end == self.log.flushed.offset and not self._dirty
            and self.rosters.ready.count + self.rosters.blocked.count == 0
        )

    def _check(self):
        """Assert the invariants (DELI_COM_CHECK=1 runs this after every flush)."""
        check_hub(self)
