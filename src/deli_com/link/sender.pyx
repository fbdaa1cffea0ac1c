"""The sending half of an endpoint: values are encoded and appended to the logs of its hub.

A value takes one of three ways. `put_to_all` encodes it in place, into the log of all. `put` does the same
for types with policies, groups and single clients. A value of another thread, or one that is sent while
another value is being encoded, is encoded to bytes first and appended later (`append_encoded`).
"""

from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec, codec_encode
from deli_com.fanout.encoded cimport Encoded, encoded
from deli_com.fanout.follower cimport Audience, Follower, Owner
from deli_com.fanout.handoff cimport Handoff
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.lane cimport Lane
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DeliveryClass
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.log.arena cimport Arena, payload_size
from deli_com.log.log cimport Log
from deli_com.log.ring cimport Key
from deli_com.recording.tap cimport WAY_SENT
from deli_com.errors import BacklogFull, ConnectionClosed, EncodeError, MessageTooLarge
from deli_com.fanout.lane import lanes_for
from deli_com.recording.tap import ALONE

cdef enum:
    PRIVATE_BYTES = 1048576  # that may wait for one client alone before sending to it is refused

cdef str NOT_RUN = (
    "the event loop has not run since they were sent: `await server.send(value)`, or await anything"
)


cdef class Sender(Owner):
    """Encodes values of one type and appends them to the logs of a hub.

    Parameters
    ----------
    hub : Hub
    codec : TypeCodec or None
        Type of the values; None: there is nothing to send.
    slow_client : {"disconnect", "wait", "skip", "latest"}
        Policy of the types that name none.
    max_message_size : int
        Bytes of payload.
    name : str
        Name of the endpoint's class, for errors.
    """

    def __cinit__(
        self, Hub hub not None, TypeCodec codec, str slow_client, Py_ssize_t max_message_size, str name
    ):
        self.hub = hub
        self.log = hub.log
        self.arena = hub.arena
        self.home = hub.home
        self.limits = hub.limits
        self.followers = hub.followers
        self.max_message_size = self.unseen_size = max_message_size
        self.kept = set()
        self._name = name
        self._nested = []
        self.set_codec(codec, slow_client)

    cdef int set_codec(self, TypeCodec codec, str slow_client) except -1:
        # From now on values of this type are sent.
        self.codec = codec
        self.lanes = None if codec is None else lanes_for(codec, slow_client)
        self.has_latest = self.lanes is not None and any(
            [(<Lane>lane).kind == DELIVER_LATEST for lane in self.lanes.lanes])
        return 0

    cdef int put_to_all(self, object value) except -1:
        # Encodes and appends, where there are no policies to ask. On the loop's thread.
        cdef WriteCursor cur
        self.check_sendable()
        if self.arena.is_open:
            # User code that encoding ran (`__index__`, a finalizer) sends: appended behind the outer value.
            self._nested.append(self._encode(value, None, None))
            return 0
        if self.log.end == self.log.flushed.offset:
            self.hub.begin()
        self._write(&cur, value, None)
        self.messages_out += 1
        if len(self.followers) == 0:
            self.arena.abandon(&cur)
        else:
            self.hub.appended(self.log.commit(&cur))
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
        self.check_sendable()
        if self.arena.is_open:
            self._nested.append(self._encode(value, to, barred))
            return False
        if self.lanes is not None:
            lane = self.lanes.of(value)
            kind = lane.kind
            if kind == DELIVER_LATEST:
                key = self._key(log, lane, lane.key_of(value))
        self.hub.begin()
        if lane is not None and lane.max_age_ns:
            self.arena.now_ns = deli_com_clock_ns()  # that of the turn's first message is too old for it
        if self.tap is not None:
            self._addressee = to
        self._write(&cur, value, to if kind == DELIVER_RELIABLE else None)
        self.messages_out += 1
        if self._has_no_receivers(lane, to):
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
        arena.open(cur, self.codec.max_size)
        try:
            codec_encode(self.codec, cur, value)
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
        return self.refuse(to)

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

    cdef int refuse(self, Audience to) except -1:
        # A log is full: the log of this audience, or all logs together.
        self.hub.schedule()  # the turn in which laggards are judged
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
                self.kept.add(to)
            return self.hub.addressed(to, frame)
        if barred is not None:
            self.hub.exclude(barred)
        return self.hub.appended(frame)

    cdef bint _has_no_receivers(self, Lane lane, Audience to) noexcept:
        if _retains(lane, to):
            return False  # for clients that connect later
        return len(self.followers) == 0 if to is None else len(to.members) == 0

    cdef Key _key(self, Log log, Lane lane, object value):
        cdef Key key = log.keys.get(lane.index, value)
        if key is None and self.arena.stale_keys:
            self.hub.purge_keys()
            key = log.keys.get(lane.index, value)
        if key is None:
            self.refused_sends += 1
            raise BacklogFull(self.arena.keys, self.arena.max_keys, "keys are held")
        return key

    cdef int check_sendable(self) except -1:
        if self.ended is not None:
            raise type(self.ended)(*self.ended.args)
        if self.codec is None:
            raise TypeError(f"{self._name} sends nothing (its Up is None)")
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
        payload = self.codec.to_bytes(value)
        if len(payload) > self.max_message_size:
            raise MessageTooLarge(len(payload), self.max_message_size)
        return encoded(payload, lane, key, to, barred)

    cdef int put_from_any_thread(self, object value, Audience to, Follower barred) except -1:
        # In another thread it is encoded here, and appended in the loop's thread.
        self.check_sendable()
        if not self.home.is_elsewhere("send_nowait"):
            self.put(value, to, barred)
            return 0
        return self._hand_off(self._encode(value, to, barred))

    cdef int _hand_off(self, Encoded message) except -1:
        if self.handoff is None:
            self.handoff = Handoff(self, self.hub)
        return self.handoff.put(message)

    cdef int put_encoded(self, Encoded message) except -1:
        # Appends what was encoded before, now or behind the value that is being encoded.
        if self.arena.is_open:
            self._nested.append(message)
            return 0
        return self.append_encoded(message)

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
                self.refuse(ready.to)
        if self.tap is not None:
            self.tap.note(WAY_SENT, NULL, 0, ready.payload, _scope(ready.to))
        if self._has_no_receivers(lane, ready.to):
            self.messages_out += 1
            return 0
        log = self.log if ready.to is None else ready.to
        if lane is not None and lane.kind == DELIVER_LATEST:
            key = self._key(log, lane, ready.key)
        self.messages_out += 1
        self.hub.begin()
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
            self.hub.let_expire(log, lane.index, lane.max_age_ns, frame)
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

    cdef bint put_private(self, object value, Follower follower) except -1:
        # For one follower; from any thread. Its own queue is bounded, and the caller gets the error.
        cdef Encoded message
        if follower.hub is None:
            raise ConnectionClosed(None, "this client has left")
        self.check_sendable()
        if not self.home.is_elsewhere("peer.send_nowait"):
            return self.put(value, self._private(follower), None)
        message = self._encode(value, None, None)
        message.alone = follower
        return self._hand_off(message)

    cdef Audience _private(self, Follower follower):
        cdef Audience private = follower.private
        if private is None:
            private = self.hub.new_audience(None)
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
            self.kept.discard(log)
        if not any_lane:
            what = "no type" if type is None else f"{type!r} is not, or"
            raise TypeError(f"forget: {what} of what is sent has policy 'latest'")
        return found


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
