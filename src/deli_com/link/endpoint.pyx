"""An endpoint: values of one type go out to every follower, values of another come in.

Server and client façades subclass this, so `send_nowait` and `recv` reach compiled code
without a Python frame. A client is an endpoint with one follower and masked framing.
"""

import math
from collections.abc import Coroutine
from logging import getLogger
from weakref import WeakValueDictionary

cimport cython
from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

from deli_com._fastcodec cimport TypeCodec, codec_encode
from deli_com.coding.recycler cimport recycler_drop, recycler_rest
from deli_com.fanout.encoded cimport Encoded, encoded
from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.handoff cimport Handoff
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.lane cimport Lane
from deli_com.fanout.pacer cimport Paced, Pacer
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DeliveryClass
from deli_com.ground.home cimport at_home
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.ground.watchers cimport Watchers
from deli_com.log.arena cimport Arena, payload_size
from deli_com.log.log cimport Log
from deli_com.log.ring cimport Key
from deli_com.receive.pairs cimport Pairs
from deli_com.receive.inbox_for cimport inbox_for
from deli_com.receive.quota cimport InputQuota
from deli_com.recording.tap cimport WAY_SENT
from deli_com.receive.recv cimport NEXT_VALUE, RECV_MANY, RECV_PAIR, RECV_VALUE, Recv, recv_from_inbox
from deli_com.fanout.lane import lanes_for
from deli_com.errors import BacklogFull, ConnectionClosed, EncodeError, MessageTooLarge
from deli_com.net.log_budget import LogBudget
from deli_com.recording.tap import ALONE

cdef enum:
    PRIVATE_BYTES = 1048576  # that may wait for one client alone before sending to it is refused
    INBOX_BYTES = 16 << 20   # on the wire, of values that wait to be received

cdef str NOT_RUN = (
    "the event loop has not run since they were sent: `await server.send(value)`, or await anything"
)
cdef double LEAST_SWEEP_S = 0.05  # for short times in transit

Coroutine.register(Paced)
Coroutine.register(Recv)


cdef class Endpoint(Hub):
    """A typed hub with an inbox.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    log : Log
        Its framing is the transport's.
    down : TypeCodec or None
        Type of the values sent; None: there is nothing to send.
    up : TypeCodec or None
        Type of the values received; None discards what arrives.
    is_client : bool
        The endpoint ends with its one connection, and an undecodable message is
        raised by ``recv``.
    max_message_size : int
        Bytes of payload, both ways.
    max_inbound : int
        Limit on received bytes waiting for ``recv``, all clients together. Beyond it, the client that holds
        most is closed (1009) and its values are dropped.
    max_inbox : int
        Bytes of values waiting for ``recv``, past which reading pauses.
    conflate : bool
        Values that wait for ``recv`` follow the policies of their types.
    close_timeout : float
        Seconds that a closed connection lingers for its peer.
    ping_interval, ping_timeout : float or None
        Seconds of silence after which a peer is asked for a sign of life, and that it then
        has. None: never.
    max_transit : float or None
        Seconds that messages of policy latest and skip may wait between this end and a peer. None: no
        bound, and no PINGs but those for a sign of life.
    slow_client : {"disconnect", "wait", "skip", "latest"}
        Policy of the types that name none.
    max_keys : int
        Keys of policy latest, over all types and groups.
    """

    def __init__(
        self, loop, Log log, TypeCodec down, TypeCodec up, *,
        bint is_client=False, Py_ssize_t max_message_size=64 << 20, double close_timeout=2.0,
        ping_interval=20.0, ping_timeout=20.0, max_transit=0.5, str slow_client="disconnect",
        Py_ssize_t max_keys=1 << 16, Py_ssize_t max_inbound=PY_SSIZE_T_MAX, Py_ssize_t max_inbox=INBOX_BYTES,
        bint conflate=True, **limits,
    ):
        Hub.__init__(self, loop, log, **limits)
        self.down = down
        self.up = up
        self.is_client = is_client
        self.max_message_size = max_message_size
        self.close_timeout = close_timeout
        never = ping_interval is None or ping_timeout is None
        self.ping_interval = math.inf if never else ping_interval
        self.ping_timeout = math.inf if never else ping_timeout
        self.max_transit = math.inf if max_transit is None else max_transit
        self.sweep.interval = min(
            self.sweep.interval, self.ping_interval / 4, self.ping_timeout / 4,
            max(LEAST_SWEEP_S, self.max_transit / 2))
        # Half: pausing comes before closing.
        self.inbox = inbox_for(loop, up, min(max_inbox, max_inbound // 2), conflate, is_client)
        self.quota = InputQuota(max_inbound, self.inbox, self, LogBudget(getLogger("deli_com.server")))
        self.pacer = Pacer(self)
        self.logger = getLogger("deli_com.client" if is_client else "deli_com.server")
        self.closing = set()
        self.closed = {}
        self.lanes = None if down is None else lanes_for(down, slow_client)
        self.has_latest = self.lanes is not None and any(
            (<Lane>lane).kind == DELIVER_LATEST for lane in self.lanes.lanes)
        self.arena.max_keys = max_keys
        self.unseen_size = max_message_size
        self._groups = WeakValueDictionary()
        self._kept = set()
        self.watchers = Watchers(self.loop)
        self._nested = []

    @classmethod
    def __class_getitem__(cls, parameters):
        """Let subclasses be written ``class Name(Endpoint[Down, Up])``; type checkers see a generic class."""
        return cls

    @cython.binding(False)
    @cython.embedsignature(True)
    def send_nowait(self, value, /, *, Follower except_=None):
        """Queue `value` for every client connected now, and return. Legal from any thread.

        From the loop's thread it never waits. Another thread waits, for 10 s at most, while the
        hand-over to the loop is full (16 MiB or 65,536 messages); order is kept for each thread.

        Parameters
        ----------
        value : Down
        except_ : Peer, optional
            A client that does not get it.

        Raises
        ------
        EncodeError, MessageTooLarge
            `value` is not of the type, or too large.
        BacklogFull
            Clients are behind and the log is full within this turn of the loop; or ``max_keys`` keys are held
            already.
        ConnectionClosed
            This end is closed.
        """
        if not at_home(self.home):
            self.put_from_any_thread(value, None, except_)
        elif self.lanes is None and except_ is None:
            self.put_to_all(value)
        else:
            self.put(value, None, except_)

    @cython.binding(False)
    @cython.embedsignature(True)
    def send(self, value, /, *, Follower except_=None):
        """Queue `value` as `send_nowait` does; await the result to keep the clients' pace.

        The errors of `send_nowait` come from the call, not from awaiting.
        """
        self.home.check("send")
        return Paced(self.pacer, None, self.put(value, None, except_))

    def flush(self):
        """Send queued messages now, as far as the sockets accept them."""
        self.home.check("flush")
        self.flush_now()

    def client_count(self):
        """Return the number of connected clients."""
        self.home.check_process("client_count")
        return len(self.followers)

    cdef int put_to_all(self, object value) except -1:
        # Encodes and appends, where there are no policies to ask. On the loop's thread.
        cdef WriteCursor cur
        self._check_sendable()
        if self.arena.is_open:
            # User code that encoding ran (`__index__`, a finalizer) sends: appended behind the outer value.
            self._nested.append(self._encode(value, None, None))
            return 0
        if self.log.end == self.log.flushed.offset:
            self.begin()
        self._write(&cur, value, None)
        self.messages_out += 1
        if len(self.followers) == 0:
            self.arena.abandon(&cur)
        else:
            self.appended(self.log.commit(&cur))
        if self._nested:
            self._append_deferred()
        return 0

    cdef bint put(self, object value, Audience to, Follower barred) except -1:
        # The same, for all or `to` some, by the value's policy. True if the sender has to wait for all.
        cdef WriteCursor cur
        cdef Log log = self.log if to is None else to
        cdef Lane lane = None
        cdef Key key = None
        cdef DeliveryClass kind = DELIVER_RELIABLE
        cdef Py_ssize_t frame
        if self.lanes is None and to is None and barred is None:
            self.put_to_all(value)
            return False
        self._check_sendable()
        if self.arena.is_open:
            self._nested.append(self._encode(value, to, barred))
            return False
        if self.lanes is not None:
            lane = self.lanes.of(value)
            kind = lane.kind
            if kind == DELIVER_LATEST:
                key = self._key(log, lane, lane.key_of(value))
        self.begin()
        if lane is not None and lane.max_age_ns:
            self.arena.now_ns = deli_com_clock_ns()  # that of the turn's first message is too old for it
        if self.tap is not None:
            self._addressee = to
        self._write(&cur, value, to if kind == DELIVER_RELIABLE else None)
        self.messages_out += 1
        if self._is_for_nobody(lane, to):
            self.arena.abandon(&cur)
        else:
            frame = log.commit_as(
                &cur, kind, key, _retains(lane, to), 0 if barred is None else barred.id,
                0 if lane is None else lane.index)
            if lane is not None and lane.max_age_ns:
                self._age(log, lane, frame)
            self._after(frame, to, barred)
        if self._nested:
            self._append_deferred()
        return lane is not None and lane.waits

    cdef int _write(self, WriteCursor* cur, object value, Audience bounded) except -1:
        # Opens a frame and encodes into it; abandoned if this raises. `bounded`: its own limit counts, or
        # None.
        cdef Arena arena = self.arena
        cdef Py_ssize_t payload
        arena.open(cur, self.down.max_size)
        try:
            codec_encode(self.down, cur, value)
            payload = payload_size(arena, cur)
            if not self.limits.room_for(payload):
                self._no_room(payload, None)
            if bounded is not None and not bounded.has_room(payload):
                self._no_room(payload, bounded)
            if payload > self.unseen_size:  # too large, or a tap looks at every payload
                self._look(cur, payload)
        except BaseException:
            self._addressee = None
            arena.abandon(cur)
            if self._nested:
                self._append_deferred()
            raise
        return 0

    cdef int _no_room(self, Py_ssize_t payload, Audience to) except -1:
        if payload > self.max_message_size:
            raise MessageTooLarge(payload, self.max_message_size)
        return self._refuse(to)

    cdef int _look(self, WriteCursor* cur, Py_ssize_t payload) except -1:
        cdef const char* begin = self.arena.payload()
        cdef object scope = _scope(self._addressee)
        self._addressee = None
        if payload > self.max_message_size:
            raise MessageTooLarge(payload, self.max_message_size)
        if self.tap is not None:
            tail = None if cur.tail == NULL else <bytes>cur.tail
            self.tap.note(WAY_SENT, begin, cur.pos - begin, tail, scope)
        return 0

    cdef int _refuse(self, Audience to) except -1:
        # A log is full: the log of this audience, or all logs together.
        self.schedule()  # the turn in which laggards are judged
        self.refused_sends += 1
        if to is not None:
            raise BacklogFull(to.reliable, to.cap, "bytes are queued", _known_of(to.members))
        known = _known_of(self.followers)
        raise BacklogFull(
            self.log.queued_bytes(), self.limits.max_queued, "bytes are queued",
            (f"{known}; " if known else "") + NOT_RUN,
        )

    cdef int _after(self, Py_ssize_t frame, Audience to, Follower barred) except -1:
        # A frame of so many bytes was committed.
        if to is not None:
            if to.retained_keys:
                self._kept.add(to)
            return self.addressed(to, frame)
        if barred is not None:
            self.exclude(barred)
        return self.appended(frame)

    cdef bint _is_for_nobody(self, Lane lane, Audience to) noexcept:
        if _retains(lane, to):
            return False  # for those who come
        return len(self.followers) == 0 if to is None else len(to.members) == 0

    cdef Key _key(self, Log log, Lane lane, object value):
        cdef Key key = log.keys.get(lane.index, value)
        if key is None and self.arena.stale_keys:
            for other in [self.log, *self._audiences]:
                (<Log>other).keys.purge()
            key = log.keys.get(lane.index, value)
        if key is None:
            self.refused_sends += 1
            raise BacklogFull(self.arena.keys, self.arena.max_keys, "keys are held")
        return key

    cdef int _check_sendable(self) except -1:
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)
        if self.down is None:
            raise TypeError(f"{type(self).__name__} sends nothing (its Up is None)")
        return 0

    cdef Encoded _encode(self, object value, Audience to, Follower barred):
        # Legal in any thread, and while a frame is open.
        cdef Lane lane = None
        cdef object key = None
        cdef bytes payload
        if self.lanes is not None:
            lane = self.lanes.of(value)
            if lane.kind == DELIVER_LATEST:
                key = lane.key_of(value)
        payload = self.down.to_bytes(value)
        if len(payload) > self.max_message_size:
            raise MessageTooLarge(len(payload), self.max_message_size)
        return encoded(payload, lane, key, to, barred)

    cdef int put_from_any_thread(self, object value, Audience to, Follower barred) except -1:
        # In another thread it is encoded here, and appended in the loop's thread.
        self._check_sendable()
        if not self.home.is_elsewhere("send_nowait"):
            self.put(value, to, barred)
            return 0
        return self._hand_off(self._encode(value, to, barred))

    cdef int _hand_off(self, Encoded message) except -1:
        if self.handoff is None:
            self.handoff = Handoff(self)
        return self.handoff.put(message)

    cdef int append_encoded(self, object message) except -1:
        # Appends what was encoded before. BacklogFull: one key too many.
        cdef Encoded ready = message
        cdef Log log
        cdef Key key = None
        cdef uint64_t barred = 0 if ready.barred is None else ready.barred.id
        cdef Lane lane = ready.lane
        cdef Py_ssize_t frame
        if ready.alone is not None:
            if ready.alone.hub is None:
                return 0  # it has left meanwhile
            ready.to = self._private(ready.alone)
            if (lane is None or lane.kind == DELIVER_RELIABLE) and not ready.to.has_room(len(ready.payload)):
                self._refuse(ready.to)
        if self.tap is not None:
            self.tap.note(WAY_SENT, NULL, 0, ready.payload, _scope(ready.to))
        if self._is_for_nobody(lane, ready.to):
            self.messages_out += 1
            return 0
        log = self.log if ready.to is None else ready.to
        if lane is not None and lane.kind == DELIVER_LATEST:
            key = self._key(log, lane, ready.key)
        self.messages_out += 1
        self.begin()
        if lane is not None and lane.max_age_ns:
            self.arena.now_ns = deli_com_clock_ns()
        frame = log.append_as(
            ready.payload, DELIVER_RELIABLE if lane is None else lane.kind, key,
            _retains(lane, ready.to), barred, 0 if lane is None else lane.index)
        if lane is not None and lane.max_age_ns:
            self._age(log, lane, frame)
        return self._after(frame, ready.to, ready.barred)

    cdef int _age(self, Log log, Lane lane, Py_ssize_t frame) except -1:
        # The message that was appended last grows too old.
        try:
            self.let_expire(log, lane.index, lane.max_age_ns, frame)
        except MemoryError:
            pass  # it is sent, whatever its age
        return 0

    cdef int _append_deferred(self) except -1:
        # Messages that could not be appended for lack of memory stay in order. The next send appends them.
        while self._nested:
            message = self._nested.pop(0)
            try:
                self.append_encoded(message)
            except MemoryError:
                self._nested.insert(0, message)
                raise
        return 0

    cdef object paced(self, object scope, bint waits):
        return Paced(self.pacer, scope, waits)

    cdef bint put_private(self, object value, Follower follower) except -1:
        # For one follower; from any thread. Its own queue is bounded, and the caller gets the error.
        cdef Encoded message
        if follower.hub is None:
            raise ConnectionClosed(None, "this client has left")
        self._check_sendable()
        if not self.home.is_elsewhere("peer.send_nowait"):
            return self.put(value, self._private(follower), None)
        message = self._encode(value, None, None)
        message.alone = follower
        return self._hand_off(message)

    cdef Audience _private(self, Follower follower):
        cdef Audience private = follower.private
        if private is None:
            private = self.new_audience(None)
            private.cap = PRIVATE_BYTES
            private.skip_limit = PRIVATE_BYTES
            private.add_member(follower)
            follower.private = private
        return private

    cdef bint forget_key(self, Log log, object key, object type) except -1:
        cdef Lane lane
        cdef bint found = False
        cdef bint any_lane = False
        self.home.check("forget")
        if self.lanes is not None:
            for lane in self.lanes.lanes:
                if lane.kind != DELIVER_LATEST or (type is not None and lane.type is not type):
                    continue
                any_lane = True
                try:
                    value = lane.key_from(key)
                except (EncodeError, TypeError):
                    if type is not None:
                        raise
                else:  # else a key of another type's form
                    if self.tap is not None and (newest := log.newest(lane.index, value)) is not None:
                        self.tap.forgets(newest, None if log is self.log else _scope(log))
                    found = log.forget(lane.index, value) or found
        if log is not self.log and log.retained_keys == 0:
            self._kept.discard(log)
        if not any_lane:
            what = "no type" if type is None else f"{type!r} is not, or"
            raise TypeError(f"forget: {what} of what is sent has policy 'latest'")
        return found

    def forget(self, key=None, /, type=None):
        """Drop the newest message of a key: clients that connect later, or are behind, do not get it any
        more.

        Parameters
        ----------
        key : object
            Value of the key field; a tuple where there are several, None where there is no key.
        type : type, optional
            The class of the key, where several classes of policy latest are sent. None: all classes that have
            such a key.

        Returns
        -------
        bool
            Whether there was one.
        """
        return self.forget_key(self.log, key, type)

    # --- receiving -----------------------------------------------------------------------

    cdef int check_receiving(self) except -1:
        if self.up is None:
            raise TypeError(f"{type(self).__name__} is push only (its Up is None): nothing can be received")
        return 0

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv(self):
        """Wait for one value from any client."""
        if self.up is None:
            self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_VALUE, 1)

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv_from(self):
        """Wait for one value; returns ``(peer, value)``."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_PAIR, 1)

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv_many(self, Py_ssize_t max, /):
        """Wait for one value; returns a list of the available values, at most `max`."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_MANY, max)

    def __aiter__(self):
        self.check_receiving()
        return self

    def __anext__(self):
        return recv_from_inbox(self.inbox, NEXT_VALUE, 1)

    def with_peer(self):
        """Iterate over ``(peer, value)``: ``async for peer, value in server.with_peer()``."""
        self.check_receiving()
        return Pairs(self.inbox)

    # --- state ---------------------------------------------------------------------------

    cdef int on_flushed(self) except -1:
        self.pacer.on_flushed()
        if not self.watchers.is_empty():
            self.watchers.changed()
        return 0

    cdef bint on_sweep(self) except -1:
        self.inbox.give_back()
        if self.handoff is not None:
            self.handoff.heal()
        self.pacer.heal()
        for connection in list(self.closing):
            connection.sweep(self.sweep.clock)
        while self.stuck is not None:
            self.stuck = self.stuck.free_transport()
        if self._ended is not None and self._has_waiters():
            self._wake_all()
        if self.followers or self.closing:
            recycler_rest()
            return bool(self.closing)
        recycler_drop()  # the last sweep until a client connects
        return False

    cdef int end(self, object error, bint in_order) except -1:
        # Ends sending. Receivers get what has arrived, then `error`. Idempotent.
        if self._ended is None:
            self._ended = error
            recycler_drop()
            try:
                self.inbox.close(error, in_order)
                if self.handoff is not None:
                    self.handoff.end(error)
            finally:
                self._wake_all()
        return 0

    cdef int _wake_all(self) except -1:
        # Called after the end. The sweep calls again if a task could not be woken.
        try:
            self.inbox.give_back()
            self.pacer.release()
            self.watchers.changed()
        finally:
            if self._has_waiters():
                self.sweep.start(self)
        return 0

    cdef bint _has_waiters(self) noexcept:
        return self.inbox.has_waiters() or self.pacer.has_waiters() or not self.watchers.is_empty()

    def _end(self, error, in_order):
        self.end(error, in_order)

    def _raise_if_ended(self):
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)

    def _is_ended(self):
        return self._ended is not None

    def _lift_bounds(self):
        """Let the sockets take what they take: this end is about to close."""
        self.lift_bounds()

    def _is_drained(self):
        return self.is_drained() and (self.handoff is None or self.handoff.is_empty())

    def _must_pace(self):
        """Whether so much is queued that a thread which sends should await `_pace`. Legal from any thread."""
        cdef Py_ssize_t queued = self.log.queued_bytes()
        if self.handoff is not None:
            queued += self.handoff.held_bytes
        return queued > self.pacer.high_water

    def _pace(self):
        """What `send` returns, for a message that is queued already."""
        self.home.check("send")
        return Paced(self.pacer)

    def stats(self):
        """Return counters, and what is held now, as `ServerStats`. Legal from any thread."""
        self.home.check_process("stats")
        from deli_com.link.figures import figures_of  # which takes this class

        return figures_of(self)

    def _turned_away(self):
        return {}  # a server counts the handshakes that it refuses

    def _connections(self):
        """Every connection that is open or lingers."""
        return [*self.followers, *self.closing]

    def _is_foreign(self):
        # Whether this object was copied into a forked child.
        return self.home is not None and self.home.is_foreign

    def _check_home(self, what):
        self.home.check(what)

    def _check_running(self, what):
        self.home.check_running(what)


cdef inline object _scope(Audience to):
    # (A group may be called None.)
    return None if to is None else ALONE if to.cap or to.name is None else to.name


cdef str _known_of(set followers):
    # What is known of the transit to the only one.
    cdef Follower follower
    if len(followers) != 1:
        return ""
    (follower,) = followers
    return follower.of_transit()[2:]


cdef inline bint _retains(Lane lane, Audience to) noexcept:
    # No client joins the log of one client, so nothing is retained in it for later ones.
    return lane is not None and lane.retain and (to is None or to.cap == 0)
