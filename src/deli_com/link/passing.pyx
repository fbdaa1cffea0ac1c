"""`Passing`: puts the messages that one endpoint receives into the log of another, without decoding them.

::

    down = Passing(holds=True, told=...)     for a connection to a server: without room, messages wait
    up = Passing(from_anyone=True, ...)      for clients: without room, messages are dropped and counted
    pass_through(endpoint, down)             before the endpoint's first connection
    down.open(server)                        from now on messages go to the log of `server`

If the type is sealed, the leading index gives the class of a message. For classes of policy latest, the bytes
of the key fields are the key. So a log has keys of `Passing` or of `send`, but not of both.
"""

from libc.stdint cimport uint64_t
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from deli_com._fastcodec cimport TypeCodec
from deli_com.fanout.aside cimport put_aside
from deli_com.fanout.encoded cimport Encoded, encoded
from deli_com.fanout.follower cimport Follower
from deli_com.fanout.lane cimport Lane
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE
from deli_com.ground.scalar cimport load_u32
from deli_com.link.connection cimport Connection
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport CONNECTION_OPEN
from deli_com.link.speaker cimport Speaker
from deli_com.log.log cimport Log
from deli_com.receive.message_key cimport MessageKey, message_keys
from deli_com.receive.passage cimport Passage

from deli_com.errors import BacklogFull
from deli_com.types.instance import RecordType, record_spec

cdef enum:
    MAX_TEXTS = 256             # control texts that may wait for one peer
    TEXTS_AT_ONCE = 32          # control texts that are handled before the event loop goes on

cdef double AGAIN_S = 0.001  # between two checks for room


cdef class Passing(Passage):
    """Passes what one endpoint receives on to another.

    Parameters
    ----------
    holds : bool
        Without room, messages wait, and reading from their connection pauses. False: they are dropped and
        counted.
    from_anyone : bool
        Peers that announce no schema are assumed to send the endpoint's type.
    max_queued : int
        Bytes that the other endpoint may have queued. Used if `holds` is False.
    told : callable, optional
        ``(control)`` is called with each `Live` and `Gap` of the other end.
    """

    def __init__(
        self, *, bint holds=False, bint from_anyone=False, Py_ssize_t max_queued=8 << 20, told=None
    ):
        self.holds = holds
        self.from_anyone = from_anyone
        self.max_queued = max_queued
        self._told = told
        self._held = []
        self._paused = []
        self._ends = []

    def open(self, Endpoint target not None, only=None):
        """Pass messages to this endpoint from now on. They are of the type that it sends.

        Parameters
        ----------
        target : Endpoint
        only : iterable of int, optional
            Indices of the classes that are passed on. Messages of other classes are dropped.
        """
        cdef TypeCodec codec = target.down
        spec = record_spec(codec.type) if isinstance(codec.type, RecordType) else None
        self._is_sealed = spec is not None and spec.sealed
        self._keys = message_keys(codec) if target.sender.has_latest else None
        self._only = None if only is None else frozenset(only)
        self._ends = []
        self.target = target
        self._go_on()

    def close(self):
        """Pass no more messages. They wait, or are dropped."""
        self.target = self.also = self._touched = None
        self._ends = []

    def drop_held(self):
        """Drop the waiting messages, and count them as lost: their type is no longer sent."""
        self.lost += sum([1 for held in self._held if type(held) is bytes])
        self._held = []

    def drop(self):
        """End. The waiting messages are lost, and no callback is called any more."""
        self.close()
        self.drop_held()
        self._told = self._on_full = None
        self._resume()

    def open_also(self, Endpoint also not None, on_full):
        """Pass messages to a second endpoint, too, until it has no room. Then `on_full` is called."""
        self.also = also
        self._on_full = on_full

    def close_also(self):
        """Pass no more messages to the second endpoint."""
        self.also = self._on_full = None

    def put(self, bytes payload not None):
        """Pass one message on. Returns False if it was lost."""
        cdef Py_ssize_t lost = self.lost
        if self.target is None or not self._put(payload):
            self.lost += 1
        return self.lost == lost

    def put_also(self, bytes payload not None):
        """Pass one message on to the second endpoint alone."""
        if self.also is not None:
            self._to_also(payload, self._index_of(payload))

    def count_unsent(self, Connection link not None):
        """Count the messages as lost that an ended connection has not sent."""
        cdef uint64_t sent
        if self.target is None or not self._ends:
            return
        sent = self.target.log.end - <uint64_t>min(link.queued_bytes, <Py_ssize_t>self.target.log.end)
        self.lost += sum([1 for end in self._ends if <uint64_t>end > sent])
        self._ends = []

    # --- messages that arrive ------------------------------------------------------------

    cdef int handle(self, object link, const char* data, Py_ssize_t size) except -1:
        cdef bytes payload = data[:size]
        if self.holds:
            if self.target is None or self._held or not self._put(payload):
                self._hold(link, payload)
        elif self.target is None or not self._put(payload):
            self.lost += 1
        return 0

    cdef int hear(self, object link, object told) except -1:
        if self._told is None:
            return 0
        if self._held or self._texts >= TEXTS_AT_ONCE:
            return self._hold(link, told)  # in its order among the messages
        self._texts += 1
        self._told(told)
        return self._later() if self.target is not None else 0

    cdef bint _put(self, bytes payload) except -1:
        # False: there is no room.
        cdef Endpoint to = self.target
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef Py_ssize_t index = 0
        cdef Encoded message
        if to.sender.ended is not None:
            return False
        if to.sender.lanes is not None or self._only is not None:
            index = self._index_of(payload)
            if index >= 0 and self._only is not None and index not in self._only:
                return True
        message = self._message(to, payload, index)
        if message is None:
            self.undecodable += 1
            return True
        if size > to.max_message_size:
            self.lost += 1
            return True
        if not self.holds:
            if len(to.followers) == 0 or to.log.queued_bytes() + size > self.max_queued:
                return False
            if self._ends and to.hub.is_drained():
                self._ends = []
        if not to.limits.room_for(size):
            return False
        self._append(to, message)
        if self._touched is not None and message.lane is not None and message.lane.retain:
            self._touched.add((message.lane.index, message.key))
        if self.also is not None:
            self._to_also(payload, index)
        return True

    cdef Py_ssize_t _index_of(self, bytes payload) noexcept:
        # The index of a message's class; -1: it is too short to have one.
        if not self._is_sealed:
            return 0
        return <Py_ssize_t>load_u32(PyBytes_AS_STRING(payload)) if PyBytes_GET_SIZE(payload) >= 4 else -1

    cdef Encoded _message(self, Endpoint to, bytes payload, Py_ssize_t index):
        # The message as `to` sends it, by the policy of its class; None: its class or key cannot be read.
        cdef Lane lane = None
        cdef object key = None
        cdef MessageKey found
        if index < 0:
            return None
        if to.sender.lanes is not None:
            if index >= len(to.sender.lanes.lanes):
                return None
            lane = to.sender.lanes.lanes[index]
            if lane.kind == DELIVER_LATEST and lane.key:
                if not self._keys.find(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), &found):
                    return None
                key = found.data[:found.size]
        return encoded(payload, lane, key, None, None)

    cdef int _append(self, Endpoint to, Encoded message) except -1:
        cdef object full = None
        try:
            to.sender.put_encoded(message)
        except BacklogFull as error:  # one key too many
            full = error
        if full is not None:
            self.lost += 1
            if not self._warned:
                self._warned = True
                to.logger.warning("a message is lost: %s (further ones are only counted)", full)
            return 0
        self.passed += 1
        if not self.holds and not to.hub.is_drained():
            self._ends.append(to.log.end)
        return 0

    cdef int _to_also(self, bytes payload, Py_ssize_t index) except -1:
        # Both endpoints send the same type, so the indices of classes are the same.
        cdef Endpoint to = self.also
        cdef Encoded message = self._message(to, payload, index)
        if message is None:
            return 0
        cdef bint has_room = to.sender.ended is None and to.limits.room_for(PyBytes_GET_SIZE(payload))
        try:
            if has_room:
                to.sender.append_encoded(message)
        except BacklogFull:
            has_room = False
        if has_room:
            return 0
        on_full = self._on_full
        self.close_also()
        if on_full is not None:
            on_full()
        return 0

    # --- messages that wait --------------------------------------------------------------

    cdef int _hold(self, object link, object what) except -1:
        cdef Connection connection = link
        self._held.append(what)
        if not connection.reading_paused and connection.stage == CONNECTION_OPEN:
            self._paused.append(connection)
            connection.reading_paused = True
            connection.transport.pause_reading()
        return self._later() if self.target is not None else 0

    cdef int _later(self) except -1:
        if not self._is_scheduled:
            self.target.loop.call_later(AGAIN_S, self._try_again)
            self._is_scheduled = True
        return 0

    def _try_again(self):
        self._is_scheduled = False
        self._go_on()

    def _go_on(self):
        # Passes on waiting messages, in their order, while there is room. Then reading resumes.
        cdef Py_ssize_t done = 0
        cdef list held = self._held
        self._texts = 0
        while done < len(held):
            told = held[done]
            if type(told) is not bytes:
                if self._texts >= TEXTS_AT_ONCE:
                    break
                done += 1
                self._texts += 1
                if self._told is not None:
                    self._told(told)
            elif self.target is None or not self._put(told):
                break
            else:
                done += 1
        del held[:done]
        if held:
            if self.target is not None:
                self._later()
        else:
            self._resume()

    def _resume(self):
        paused, self._paused = self._paused, []
        for link in paused:
            link.resume_reading()

    # --- retained messages ---------------------------------------------------------------

    def begin_resend(self):
        """The server sends its retained messages again: note their keys from now on."""
        self._touched = set()

    def end_resend(self):
        """Forget retained messages whose key has not arrived since `begin_resend`. Returns their number."""
        cdef Log log
        cdef Py_ssize_t count = 0
        touched, self._touched = self._touched, None
        if touched is None or self.target is None or self.target.sender.lanes is None:
            return 0
        log = self.target.log
        for index, table in enumerate(log.keys.tables()):
            if not (<Lane>self.target.sender.lanes.lanes[index]).retain:
                continue
            for value in list(<dict>table):
                if (index, value) not in touched:
                    count += bool(log.forget(index, value))
        return count


# --- endpoints --------------------------------------------------------------------------------


def pass_through(Endpoint endpoint not None, Passage passage not None):
    """Pass what `endpoint` receives to `passage`, undecoded. Call it before the first connection."""
    endpoint.passage = passage


def send_as(Endpoint endpoint not None, TypeCodec codec):
    """Set the type that `endpoint` sends. No message of the former type may still be queued."""
    cdef Log log = endpoint.log
    for lane, table in enumerate(log.keys.tables()):
        for value in list(<dict>table):
            log.forget(lane, value)
    endpoint.down = codec
    endpoint.sender.set_codec(codec, "disconnect")


def tell(Endpoint endpoint not None, bytes text not None, Follower follower=None):
    """Send a control text to every peer that has announced a schema, or to one, after earlier messages."""
    endpoint.hub.flush_now()
    for peer in ([follower] if follower is not None else list(endpoint.followers)):
        if isinstance(peer, Speaker):
            _tell_one(endpoint, peer, text)


cdef int _tell_one(Endpoint endpoint, Speaker peer, bytes text) except -1:
    if peer.agreement is None or peer.stage != CONNECTION_OPEN:
        return 0
    if peer.is_behind():
        if peer.cursor_count > MAX_TEXTS:  # each is a log of its own, and all of them are merged
            return peer.on_evicted("too slow", f"over {<int>MAX_TEXTS} control texts wait for it")
        return put_aside(endpoint.hub, peer, text)
    return peer.say(text)


def tell_missed(Endpoint endpoint not None, str name not None, object count, bytes text not None):
    """Report missing messages of one class to all peers. They are added to the messages that a peer missed
    itself. If the class has no such count, `text` is sent.
    """
    cdef Lane lane = None
    cdef Lane each
    cdef Speaker peer
    if endpoint.sender.lanes is not None:
        for each in endpoint.sender.lanes.lanes:
            if each.kind == DELIVER_RELIABLE or not isinstance(each.type, RecordType):
                continue
            if each.type.__name__ == name:
                lane = each
    for follower in list(endpoint.followers):
        if not isinstance(follower, Speaker):
            continue
        peer = follower
        if lane is None or peer.missed is None:
            _tell_one(endpoint, peer, text)
        else:
            peer.missed[lane.index] = peer.missed.get(lane.index, 0) + count
            peer.on_missed()
