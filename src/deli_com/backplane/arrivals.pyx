"""`Shelf` puts messages of other nodes into an endpoint's log; `Arrivals` reads the batches of one node.

A batch is bytes from the network: its lengths are checked, and a malformed one raises ValueError.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy

from deli_com.backplane.outbox cimport (
    CONTINUES,
    FORGET,
    HEAD_BYTES,
    IN_GROUP,
    LEAVE,
    MORE,
    RECORD_BYTES,
    TO_ALL,
    TO_GROUP,
    Outbox,
)
from deli_com.fanout.encoded cimport encoded
from deli_com.fanout.follower cimport Audience
from deli_com.fanout.lane cimport Lane
from deli_com.ground.delivery_class cimport DELIVER_LATEST
from deli_com.ground.scalar cimport load_u32
from deli_com.link.endpoint cimport Endpoint
from deli_com.log.log cimport Log

from weakref import ref

from deli_com.errors import BacklogFull

cdef enum Outcome:
    DONE = 0
    LOST = 1       # the message cannot be appended
    NO_ROOM = 2    # ... not now
    MAX_NAMES = 10000


@cython.final
cdef class Shelf:
    """Puts the messages of other nodes into the log of an endpoint. It does not keep the endpoint alive.

    Parameters
    ----------
    endpoint : Endpoint
    outbox : Outbox
        The outbox of the endpoint, which must not send these messages again.
    """

    cdef object _endpoint            # weak
    cdef Outbox _outbox
    cdef dict _owners                # slot to (owner, key in the log)
    cdef dict _names                 # bytes to str
    cdef readonly Py_ssize_t conflicts
    cdef public object on_conflict   # (slot) -> None
    cdef public object on_lost       # (why) -> None

    def __cinit__(self, Endpoint endpoint not None, Outbox outbox not None):
        self._endpoint = ref(endpoint)
        self._outbox = outbox
        self._owners = {}
        self._names = {}

    def put(self, bytes payload not None, bytes name, owner):
        """Put a retained message, whatever is queued.

        Returns
        -------
        bool
            Whether it was put.
        """
        return self._put(payload, name, owner, None, 0, False) == DONE

    def slot(self, bytes payload not None, bytes name):
        """Return the slot of a message, that is, group, class and key; None if it supersedes nothing."""
        cdef Lane lane = self._outbox.lane_of(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        if lane is None:
            return None
        return self._outbox.slot_of(name, lane, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def owner(self, slot):
        """Return the node that writes a slot; None if no other node does."""
        cdef object found = self._owners.get(slot)
        return None if found is None else found[0]

    def is_known(self, slot):
        """Whether a message of the slot was received from another node, or sent by this one."""
        return slot in self._owners or slot in self._outbox.own

    def slots_of(self, owner):
        """The slots that a node writes."""
        return [slot for slot, (held, _) in self._owners.items() if held is owner]

    def disown(self, owner):
        """Note that a node is dead. Its messages stay."""
        for slot in self.slots_of(owner):
            self._owners[slot] = (None, self._owners[slot][1])

    def forget(self, slot):
        """Drop the newest message of a slot that another node writes."""
        cdef object found = self._owners.pop(slot, None)
        cdef Log log
        if found is not None:
            log = self._log(slot[0], False)
            if log is not None:
                self._forget(log, slot[1], found[1])

    def retained(self):
        """Return the retained messages for all and for groups.

        Returns
        -------
        list of (bytes, bytes or None)
            Payload, and the name of the group.
        """
        cdef Endpoint of = self._held()
        cdef list found = [(payload, None) for payload in of.log.retained_payloads()]
        cdef Audience audience
        for audience in list(of.sender.kept):
            name = self._outbox.name_of(audience.name)
            if name is not None:
                found += [(payload, name) for payload in audience.retained_payloads()]
        return found

    # --- private -------------------------------------------------------------------------------

    cdef Endpoint _held(self):
        cdef Endpoint found = self._endpoint()
        if found is None:
            raise ReferenceError("the server of this node was freed")
        return found

    cdef int _put(
        self, bytes payload, bytes name, object owner, dict touched, uint64_t sequence, bint is_bounded
    ) except -1:
        cdef Endpoint to = self._held()
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef const char* data = PyBytes_AS_STRING(payload)
        cdef Lane lane = None
        cdef Audience audience = None
        cdef tuple slot = None
        cdef object key = None
        cdef object known
        if to.sender.ended is not None or to.arena.is_open:
            return LOST if to.sender.ended is not None else NO_ROOM
        if size > to.max_message_size:
            return self._lose(f"its {size} bytes are over max_message_size")
        if is_bounded and not to.limits.room_for(size):
            return NO_ROOM
        if to.sender.lanes is not None:
            lane = self._outbox.lane_of(data, size)
            if lane is None:
                return self._lose("it is of no class")
            if lane.kind == DELIVER_LATEST:
                slot = self._outbox.slot_of(name, lane, data, size)
                if slot is None:
                    return self._lose("its key cannot be read")
                known = self._owners.get(slot)
                if slot in self._outbox.own:
                    self.conflicts += 1
                    if self.on_conflict is not None:
                        self.on_conflict(slot)
                if known is not None:
                    key = known[1]
                elif lane.key:
                    key = self._key(lane, payload)
                    if key is None:
                        return LOST
                if known is None or known[0] is not owner:
                    if known is None and len(self._owners) >= to.arena.max_keys:
                        self._drop_stale()
                    self._owners[slot] = (owner, key)
                if touched is not None:
                    touched[slot] = sequence
        if name is not None:
            audience = self._log(name, lane is not None and lane.retain)
            if audience is None:
                return DONE  # no client of this server is in the group
        return self._append(to, payload, lane, key, audience)

    cdef int _append(self, Endpoint to, bytes payload, Lane lane, object key, Audience audience) except -1:
        cdef object full = None
        self._outbox.is_deaf = True
        try:
            to.sender.append_encoded(encoded(payload, lane, key, audience, None))
        except BacklogFull as error:
            full = error
        finally:
            self._outbox.is_deaf = False
        return DONE if full is None else self._lose(full)

    cdef int _lose(self, object why) except -1:
        if self.on_lost is not None:
            self.on_lost(why)
        return LOST

    cdef object _key(self, Lane lane, bytes payload):
        # In the form that `send` uses, because the log has the keys of both.
        cdef object found = None
        try:
            found = lane.key_of(self._held().down.from_bytes(payload))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._lose(error)
        return found

    cdef int _drop_stale(self) except -1:
        # Drops slots whose key is no longer in the log.
        cdef Log log
        for slot, (owner, key) in list(self._owners.items()):
            log = self._log(slot[0], False)
            if log is None or slot[1] >= len(log.keys.tables()) or key not in log.keys.tables()[slot[1]]:
                del self._owners[slot]
        return 0

    cdef Log _log(self, bytes name, bint make):
        # The log of all clients, or of a group; None: this server has no such group.
        cdef object known
        cdef Audience audience
        cdef Endpoint of = self._held()
        if name is None:
            return of.log
        known = self._names.get(name)
        if known is None:
            try:
                known = name.decode()
            except UnicodeDecodeError:
                known = None
            if known is not None:
                if len(self._names) >= MAX_NAMES:
                    self._names.clear()
                self._names[name] = known
        audience = None if known is None else of._groups.get(known)
        if audience is None and make and known is not None:
            audience = of.hub.new_audience(known)
            of._groups[known] = audience
        return audience

    cdef int _forget(self, Log log, Py_ssize_t lane, object key) except -1:
        cdef Endpoint of = self._held()
        log.forget(lane, key)
        if log is not of.log and log.retained_keys == 0:
            of.sender.kept.discard(log)
        return 0

    cdef int _forget_like(self, bytes payload, bytes name) except -1:
        # Drops the key of this message.
        cdef object slot = self.slot(payload, name)
        cdef object known
        cdef Lane lane
        cdef Log log = self._log(name, False)
        if slot is None or log is None:
            return 0
        self._outbox.own.discard(slot)
        known = self._owners.pop(slot, None)
        lane = self._held().sender.lanes.lanes[slot[1]]
        if known is not None:
            self._forget(log, lane.index, known[1])
        else:
            key = self._key(lane, payload) if lane.key else None
            if key is not None or not lane.key:
                self._forget(log, lane.index, key)
        return 0


@cython.final
cdef class Arrivals:
    """The messages of one other node, in their order.

    Parameters
    ----------
    shelf : Shelf
    owner : object
        Identifies the node.
    """

    cdef Shelf _shelf
    cdef object _owner
    cdef readonly uint64_t expected   # the next sequence number
    cdef readonly Py_ssize_t received
    cdef readonly Py_ssize_t gaps     # messages that did not arrive, or could not be put
    cdef readonly Py_ssize_t duplicates
    cdef readonly bint has_left       # the node has said that it closes
    cdef public object reader         # TypeCodec that reads what this node writes; None: it writes our type
    cdef public bint is_refused       # its messages cannot be read: all are counted as gaps
    cdef public object touched        # slot to the sequence of its last message; None: not needed
    cdef uint64_t _joined_at          # earlier messages are not counted
    cdef uint64_t _drop               # messages of the current batch that were received before
    cdef bytearray _parts             # of the incomplete message; None: there is none

    def __cinit__(self, Shelf shelf not None, owner):
        self._shelf = shelf
        self._owner = owner

    def begin(self, uint64_t sequence):
        """Expect this message next."""
        self.expected = self._joined_at = sequence
        self._parts = None

    def read(self, bytes payload not None):
        """Convert a message to the type of this node; None if it cannot be read."""
        cdef object refused = None
        cdef bytes made = None
        try:
            made = self._shelf._held().down.to_bytes(self.reader.from_bytes(payload))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # raised by the codec, or by code of a class
            refused = error
        if refused is not None:
            self._shelf._lose(refused)
        return made

    def handle(self, bytes batch not None, Py_ssize_t at=0):
        """Put the messages of a batch.

        Parameters
        ----------
        batch : bytes
        at : int
            0, or the place where the last call for this batch has stopped.

        Returns
        -------
        int
            -1, or the place where it has stopped because the log has no room now.

        Raises
        ------
        ValueError
            The batch is malformed.
        """
        cdef const char* data = PyBytes_AS_STRING(batch)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(batch)
        cdef uint64_t first
        cdef uint16_t named
        cdef Py_ssize_t begin, length, outcome
        cdef int kind, flags
        cdef bytes name
        if at == 0:
            if size < HEAD_BYTES:
                raise ValueError(f"a batch of {size} bytes has no head")
            memcpy(&first, data + 20, 8)
            if first > self.expected:
                self.gaps += <Py_ssize_t>min(first - self.expected, <uint64_t>1 << 62)
                self.expected = first
                self._parts = None
            self._drop = self.expected - first
            at = HEAD_BYTES
        while at < size:
            if at + RECORD_BYTES > size:
                raise ValueError(f"a record is cut at byte {at} of {size}")
            kind, flags = <unsigned char>data[at], <unsigned char>data[at + 1]
            memcpy(&named, data + at + 2, 2)
            begin = at + 4 + named
            if begin + 4 > size:
                raise ValueError(f"a name of {named} bytes is cut at byte {at} of {size}")
            name = data[at + 4:at + 4 + named] if kind == TO_GROUP or flags & IN_GROUP else None
            length = <Py_ssize_t>load_u32(data + begin)
            begin += 4
            if length > size - begin:
                raise ValueError(f"a payload of {length} bytes is cut at byte {begin} of {size}")
            if kind == TO_ALL or kind == TO_GROUP or kind == FORGET:
                outcome = self._message(kind, flags, name, data + begin, length)
                if outcome == NO_ROOM:
                    return at
            elif kind == LEAVE:
                self.has_left = True
            at = begin + length
        return -1

    cdef int _message(self, int kind, int flags, bytes name, const char* data, Py_ssize_t size) except -1:
        cdef bytes payload
        cdef int outcome = LOST
        if flags & (MORE | CONTINUES):
            payload = self._part(flags, data, size)
            if flags & MORE:
                return DONE
        else:
            payload = data[:size]
            self._parts = None
        if self._drop:
            if self.expected - self._drop >= self._joined_at:
                self.duplicates += 1
            self._drop -= 1
            self._parts = None
            return DONE
        if payload is not None and not self.is_refused:
            outcome = self._deliver(kind, name, payload)
            if outcome == NO_ROOM:
                if flags & CONTINUES:
                    del self._parts[len(self._parts) - size + 4:]  # the batch is read again
                return NO_ROOM
        self._parts = None
        self.expected += 1
        if outcome == DONE:
            self.received += 1
        else:
            self.gaps += 1
        return DONE

    cdef bytes _part(self, int flags, const char* data, Py_ssize_t size):
        # Returns the whole message once its last part has come; None: parts are missing.
        if flags & CONTINUES:
            if size < 4 or self._parts is None or <Py_ssize_t>load_u32(data) != len(self._parts):
                self._parts = None
                return None
            data += 4
            size -= 4
        else:
            self._parts = bytearray()
        if len(self._parts) + size > self._shelf._held().max_message_size:
            self._parts = None
            return None
        self._parts += data[:size]
        return None if flags & MORE else bytes(self._parts)

    cdef int _deliver(self, int kind, bytes name, bytes payload) except -1:
        if self.reader is not None:
            payload = self.read(payload)
            if payload is None:
                return LOST
        if kind == FORGET:
            self._shelf._forget_like(payload, name)
            if self.touched is not None:
                self.touched[self._shelf.slot(payload, name)] = self.expected
            return DONE
        return self._shelf._put(payload, name, self._owner, self.touched, self.expected, True)
