# cython: language_level=3
"""Exposes C-level parts of the core to tests: a follower without a connection, the log's cursors."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from deli_com.ground.cursor cimport WriteCursor, cursor_need
from deli_com.fanout.follower cimport FOLLOWER_BLOCKED, FOLLOWER_CURRENT, FOLLOWER_READY, Audience, Follower
from deli_com.fanout.hub cimport Hub
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_SKIP, DeliveryClass
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.policy_inbox cimport PolicyInbox
from deli_com.log.arena cimport payload_size
from deli_com.log.log cimport Log
from deli_com.ground.sockets cimport iovec
from deli_com.fanout.pacer cimport Pacer
from deli_com.log.ring cimport Key, Position, Record
from deli_com.receive.recv cimport NEXT_PAIR, NEXT_VALUE, RECV_MANY, RECV_PAIR, RECV_VALUE, recv_from_inbox

STATES = {FOLLOWER_CURRENT: "current", FOLLOWER_READY: "ready", FOLLOWER_BLOCKED: "blocked"}


cdef class ProbeFollower(Follower):
    """A follower that writes into a list. `too_slow` and `broken` record the calls of the hub."""

    cdef public list too_slow
    cdef public int broken
    cdef bint _muted

    def __init__(self, transport, int fd=-1):
        self.transport = transport
        self.fd = fd
        self.too_slow = []
        self.muted = &self._muted

    cdef int on_evicted(self, str cause, str detail) except -1:
        self.too_slow.append(detail)
        return 0

    cdef int on_broken(self) except -1:
        self.broken += 1
        return 0

    def join(self, Hub hub):
        hub.join(self)

    def leave_(self):
        self.leave()

    def pause_writing_(self):
        self.on_writing_paused()

    def resume_writing_(self):
        self.on_writing_resumed()

    def mute(self):
        self._muted = True

    @property
    def name_of_state(self):
        return STATES.get(self.state, "gone")

    @property
    def bytes_behind(self):
        return self.lag()

    def places(self):
        return [(self.cursors[i].at.offset, self.cursors[i].floor, self.cursors[i].limit, self.cursors[i].pinned) for i in range(self.cursor_count)], self.is_fresh, self.excluded_until

    @property
    def private_log(self):
        return self.private

    @property
    def lost(self):
        return self.skipped, self.superseded

    @property
    def is_paced(self):
        return self.paced


cdef class ProbeHub(Hub):
    """A hub of raw payloads."""

    cdef public object pacer
    cdef public int sweeps

    def append(self, bytes payload):
        """Append a payload; False if the log is at its limit."""
        if not self.limits.room_for(len(payload)):
            return False
        self.begin()
        self.appended(self.log.append(payload))
        return True

    def put(self, bytes payload, int kind, key, bint retain, Audience to=None, ProbeFollower barred=None):
        """Append as an endpoint does; False if the log is at its limit, or there is no room for the key."""
        cdef Log log = self.log if to is None else to
        cdef Key found = None
        if not self.limits.room_for(len(payload)):
            return False
        if kind == DELIVER_LATEST:
            found = log.keys.get(0, key)
            if found is None:
                return False
        self.begin()
        frame = log.append_as(payload, <DeliveryClass>kind, found, retain, 0 if barred is None else barred.id, 0)
        if to is not None:
            self.addressed(to, frame)
        else:
            if barred is not None:
                self.exclude(barred)
            self.appended(frame)
        return True

    def forget(self, key, Audience of=None):
        cdef Log log = self.log if of is None else of
        return log.forget(0, key)

    def group(self):
        return self.new_audience("group")

    def add(self, Audience group, ProbeFollower follower):
        group.add_member(follower)

    def discard(self, Audience group, ProbeFollower follower):
        group.discard_member(follower)

    def private(self, ProbeFollower follower):
        if follower.private is None:
            follower.private = self.new_audience(None)
            follower.private.add_member(follower)
        return follower.private

    def recount(self, list audiences):
        """Counters of the arena, and what its records hold."""
        cdef Log log
        cdef Record* record
        cdef uint64_t index
        held = reliable = newest = live = 0
        for log in [self.log, *audiences]:
            own = retained = skips = 0
            for index in range(log._first, log._next):
                record = log._record(index)
                if record.data == NULL:
                    continue
                own += record.size
                live += record.size if record.slab != NULL else 0
                reliable += record.size if record.kind == 0 else 0
                newest += record.size if record.kind == DELIVER_LATEST and not record.obsolete else 0
                skips += record.size if record.kind == DELIVER_SKIP else 0
                retained += record.retain and record.begins_frame and not record.obsolete
            said = log.held, log.retained_keys, log._skip_bytes
            assert (own, retained, skips) == said, f"{(own, retained, skips)} in records, {said} counted"
            held += own
        said = self.arena.held, self.arena.reliable, self.arena.newest, self.arena.live
        found = held, reliable, newest, live
        assert found == said, f"{found} in records, {said} counted"
        return held, newest

    def set_window(self, Py_ssize_t window, Audience of=None):
        cdef Log log = self.log if of is None else of
        log.skip_limit = window

    def places(self):
        return self.log.end, self.log.flushed.offset, self.log.passed, self.rosters.in_round, len(self._dirty), self.rosters.ready.count, self.rosters.current.count

    def records(self):
        return self.log._next - self.log._first

    def flush(self):
        self.flush_now()

    @property
    def drained(self):
        return self.is_drained()

    @property
    def retained(self):
        return self.log.queued_bytes()

    @property
    def count(self):
        return len(self.followers)

    def check(self):
        self._check()

    def pace(self, Py_ssize_t high_water):
        self.pacer = Pacer(self, high_water)
        return self.pacer

    def must_wait(self):
        return (<Pacer>self.pacer).must_wait(None, False)

    def wait(self):
        return (<Pacer>self.pacer).wait(None, False)

    cdef int on_flushed(self) except -1:
        if self.pacer is not None:
            (<Pacer>self.pacer).on_flushed()
        return 0

    cdef bint on_sweep(self) except -1:
        self.sweeps += 1
        return False


cdef class ProbeLog:
    """A log and its pinned positions, for comparison with a list of bytes."""

    cdef public Log log
    cdef dict _places

    def __init__(self, str framing="ws-server"):
        self.log = Log(framing)
        self._places = {}

    def append(self, bytes payload):
        return self.log.append(payload)

    def write(self, list parts, Py_ssize_t max_size=-1, bytes tail=None, bint commit=True):
        """Encode as a codec does: `parts` through the cursor, `tail` by reference if the cursor allows it."""
        cdef WriteCursor cur
        cdef bytes part
        self.log.arena.open(&cur, max_size)
        try:
            for part in parts:
                cursor_need(&cur, len(part))
                memcpy(cur.pos, PyBytes_AS_STRING(part), len(part))
                cur.pos += len(part)
            if tail is not None:
                if len(tail) >= cur.tail_min:
                    Py_INCREF(tail)
                    cur.tail = <PyObject*>tail
                else:
                    cursor_need(&cur, len(tail))
                    memcpy(cur.pos, PyBytes_AS_STRING(tail), len(tail))
                    cur.pos += len(tail)
            size = payload_size(self.log.arena, &cur)
        except BaseException:
            self.log.arena.abandon(&cur)
            raise
        if not commit:
            self.log.arena.abandon(&cur)
            return size
        self.log.commit(&cur)
        return size

    def open_twice(self):
        cdef WriteCursor cur, other
        self.log.arena.open(&cur, 10)
        try:
            self.log.arena.open(&other, 10)
        finally:
            self.log.arena.abandon(&cur)

    cdef Position _place(self, object name) except *:
        cdef Position at
        at.offset, at.record, at.pinned = self._places[name]
        return at

    def pin(self, name, offset=None):
        cdef Position at = self.log.tail()
        if offset is not None:
            at.offset = offset
            at.record = 0
        self.log.pin(&at)
        self._places[name] = (at.offset, at.record, at.pinned)

    def unpin(self, name):
        cdef Position at = self._place(name)
        self.log.unpin(&at)
        del self._places[name]

    def move(self, name, offset):
        cdef Position at = self._place(name)
        self.log.move_pin(&at, offset)
        self._places[name] = (at.offset, at.record, at.pinned)

    def read(self, name, limit, int room=64):
        """The bytes that `vectors` describes."""
        cdef iovec vectors[64]
        cdef Py_ssize_t total = 0
        cdef Position at = self._place(name)
        cdef int count = self.log.vectors(&at, limit, vectors, room, &total)
        data = b"".join([(<char*>vectors[i].iov_base)[:vectors[i].iov_len] for i in range(count)])
        assert len(data) == total
        return data

    def frame_end(self, name, offset):
        cdef Position at = self._place(name)
        return self.log.frame_end(&at, offset)

    def frames_within(self, name, limit, most):
        cdef Position at = self._place(name)
        return self.log.frames_within(&at, limit, most)

    def pieces(self, name, start, end):
        cdef Position at = self._place(name)
        return self.log.pieces(&at, start, end)

    def trim(self, limit):
        self.log.trim(limit)

    @property
    def end(self):
        return self.log.end

    @property
    def head(self):
        return self.log.head_offset()


cdef class ProbePolicyInbox(PolicyInbox):
    """An inbox with policies, which a test fills and closes directly."""

    def push_(self, value, source=None, Py_ssize_t wire=1, bint is_error=False):
        """Returns True if the source should pause."""
        return self.push(source, value, wire, is_error)

    def push_plain_(self, bytes data not None, source=None):
        """The same for undecoded bytes; None if they may not wait undecoded."""
        cdef const char* start = data
        if not self.may_wait(start, len(data)):
            return None
        return self.push_plain(source, start, len(data))

    def as_client(self):
        self.is_client = True
        return self

    def drop_from_(self, source):
        return self.drop_from(source)

    def sweep_(self):
        self.sweep()

    def recv(self):
        return recv_from_inbox(self, RECV_VALUE, 1)

    def recv_from(self):
        return recv_from_inbox(self, RECV_PAIR, 1)

    def recv_many(self, Py_ssize_t most):
        return recv_from_inbox(self, RECV_MANY, most)

    def hold_back_(self, source):
        self.hold_back(source)

    def close_(self, error, bint in_order):
        self.close(error, in_order)

    @property
    def held(self):
        return self.count()

    @property
    def slots(self):
        """Number of known keys, and of those without a waiting value."""
        return self._slots.count, self._slots.idle


cdef class ProbeInbox(Inbox):
    """An inbox that a test fills and closes directly."""

    def push_(self, value, source=None, Py_ssize_t wire=1, bint is_error=False):
        """Returns True if the source should pause."""
        return self.push(source, value, wire, is_error)

    def push_plain_(self, bytes data not None, source=None):
        """The same for undecoded bytes; None if they may not wait undecoded."""
        cdef const char* start = data
        if not self.may_wait(start, len(data)):
            return None
        return self.push_plain(source, start, len(data))

    def drop_from_(self, source):
        """Its wire bytes."""
        return self.drop_from(source)

    def sweep_(self):
        self.sweep()

    @property
    def places(self):
        return self._mask + 1

    def recv(self):
        return recv_from_inbox(self, RECV_VALUE, 1)

    def recv_from(self):
        return recv_from_inbox(self, RECV_PAIR, 1)

    def recv_many(self, Py_ssize_t most):
        return recv_from_inbox(self, RECV_MANY, most)

    def next_value(self):
        return recv_from_inbox(self, NEXT_VALUE, 1)

    def next_pair(self):
        return recv_from_inbox(self, NEXT_PAIR, 1)

    def hold_back_(self, source):
        self.hold_back(source)

    def close_(self, error, bint in_order):
        self.close(error, in_order)

    @property
    def held(self):
        return self.count()
