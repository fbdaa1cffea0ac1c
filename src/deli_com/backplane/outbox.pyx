"""`Outbox`: what one node sends to the others, as batches of records.

While the backplane is connected, a message is copied into the open batch. While it is not, or more than
`THROUGH_BYTES` of batches wait, messages wait by the policies of their classes, as for a client that is
behind: a newer message of a key supersedes an older one, the oldest of policy skip are dropped, and past
``max_backlog`` all reliable ones are dropped. Dropped reliable messages use numbers, so other nodes count
them.
"""

from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from deli_com.fanout.lane cimport Lane
from deli_com.ground.delivery_class cimport (
    DELIVER_LATEST,
    DELIVER_RELIABLE,
    DELIVER_SKIP,
)
from deli_com.ground.scalar cimport load_u32
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.link.endpoint cimport Endpoint
from deli_com.receive.message_key cimport MessageKey, message_keys
from deli_com.recording.tap cimport WAY_SENT, Way

from deli_com.recording.tap import ALONE
from deli_com.types.instance import RecordType, record_spec

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** bytes, Py_ssize_t size) except -1
    void Py_INCREF(object o)

cdef enum:
    THROUGH_BYTES = 4 << 20   # of batches that wait before messages wait by policy
    LEAST_ROOM = 4096
    MANY_DEAD = 1024          # items without a payload that are kept


@cython.final
@cython.freelist(64)
cdef class Waiting:
    """A message that waits by its policy."""


@cython.final
cdef class Outbox(Hearer):
    """Collects every message of an endpoint in batches.

    Parameters
    ----------
    endpoint : Endpoint
        The server whose values are sent.
    node : bytes
        The 16 bytes of this node's id.
    max_backlog : int
        Bytes of reliable messages, and of policy skip, that may wait.
    wake : callable
        ``()`` is called when there is something to take.
    """

    def __cinit__(self, Endpoint endpoint not None, bytes node not None, Py_ssize_t max_backlog, wake):
        codec = endpoint.down
        spec = record_spec(codec.type) if isinstance(codec.type, RecordType) else None
        self._is_sealed = spec is not None and spec.sealed
        self._lanes = endpoint.sender.lanes
        self._keys = message_keys(codec)
        self._max_slots = endpoint.arena.max_keys
        self._wake = wake
        self._head = b"dlb1" + node + bytes(8) + bytes.fromhex(codec.schema.hash)
        if len(self._head) != HEAD_BYTES:
            raise ValueError(f"the id of a node has 16 bytes, not {len(node)}")
        self.max_backlog = max_backlog
        self.own = set()
        self._names = {}
        self._ready = deque()
        self._waiting = deque()
        self._skips = deque()
        self._latest = {}
        self._most = 1 << 20
        self._is_away = self._holds = True

    def __dealloc__(self):
        Py_XDECREF(self._batch)

    # --- messages of the server --------------------------------------------------------------

    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1:
        cdef bytes name = None
        cdef bytes whole = None
        cdef Lane lane = None
        cdef tuple slot = None
        if self.is_deaf or way != WAY_SENT or scope is ALONE:
            return 0
        if scope is not None:
            name = self.name_of(scope)
            if name is None:
                return 0
        if self._lanes is not None or self._holds:
            if tail is not None and (self._holds or size < 4 or self._keys is not None):
                whole = payload[:size] + tail if size else tail
                payload, size, tail = PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), None
            lane = self.lane_of(payload, size)
            if lane is not None and lane.kind == DELIVER_LATEST:
                slot = self.slot_of(name, lane, payload, size)
                if slot is not None and slot not in self.own and len(self.own) < self._max_slots:
                    self.own.add(slot)
            if self._holds:
                if whole is None:
                    whole = payload[:size]
                self._keep(TO_ALL if name is None else TO_GROUP, 0, name, whole, lane, slot)
                return self._tell()
        self._add(TO_ALL if name is None else TO_GROUP, 0, name, payload, size, tail)
        return self._tell()

    cdef int forgets(self, bytes payload, object scope) except -1:
        cdef bytes name = None
        cdef Lane lane
        cdef tuple slot = None
        cdef int flags = 0
        if self.is_deaf or scope is ALONE:
            return 0
        if scope is not None:
            name = self.name_of(scope)
            if name is None:
                return 0
            flags = IN_GROUP
        lane = self.lane_of(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        if lane is not None:
            slot = self.slot_of(name, lane, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        self.own.discard(slot)
        if self._holds:
            item = self._latest.get(slot)
            if item is not None:
                self._drop(item)
                self.superseded += 1
            self._keep(FORGET, flags, name, payload, None, None)
        else:
            self._add(FORGET, flags, name, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), None)
        return self._tell()

    cdef bytes name_of(self, object scope):
        # Returns the name of a group as bytes; None: the group's messages are not passed on.
        cdef object found = self._names.get(scope, ALONE)
        cdef bytes name = None
        if found is not ALONE:
            return found
        if isinstance(scope, str):
            try:
                name = str.encode(scope)
            except UnicodeEncodeError:
                pass
        if name is not None and len(name) > 65535:
            name = None
        if len(self._names) > 10000:
            self._names.clear()
        self._names[scope] = name
        return name

    cdef Lane lane_of(self, const char* payload, Py_ssize_t size):
        # Returns None if the message is reliable, or its class is unknown.
        cdef uint32_t index = 0
        if self._lanes is None:
            return None
        if self._is_sealed:
            if size < 4:
                return None
            index = load_u32(payload)
        if index >= <uint32_t>len(self._lanes.lanes):
            return None
        return <Lane>self._lanes.lanes[index]

    cdef tuple slot_of(self, bytes name, Lane lane, const char* payload, Py_ssize_t size):
        # Returns what a message of policy latest supersedes. None: another policy, or its key is unreadable.
        cdef MessageKey found
        if lane.kind != DELIVER_LATEST:
            return None
        if not lane.key:
            return name, lane.index, b""
        if self._keys is None or not self._keys.find(payload, size, &found):
            return None
        return name, lane.index, found.data[:found.size]

    cdef int _tell(self) except -1:
        if not self._is_told and not self._is_away:
            self._is_told = True
            self._wake()
        return 0

    # --- batches -----------------------------------------------------------------------------

    cdef int _begin(self, Py_ssize_t wanted) except -1:
        cdef Py_ssize_t room = min(max(LEAST_ROOM, self._usual, HEAD_BYTES + wanted), self._most)
        cdef bytes batch = PyBytes_FromStringAndSize(NULL, room)
        cdef char* data = PyBytes_AS_STRING(batch)
        memcpy(data, PyBytes_AS_STRING(self._head), HEAD_BYTES)
        memcpy(data + 20, &self.sequence, 8)
        self._size = HEAD_BYTES
        self._room = room
        Py_INCREF(batch)
        self._batch = <PyObject*>batch
        return 0

    cdef char* _make_room(self, Py_ssize_t wanted) except NULL:
        # Returns memory for so many bytes, which fit into a batch.
        cdef PyObject* batch
        cdef Py_ssize_t room
        if self._batch != NULL and self._size + wanted > self._most:
            self._finish()
        if self._batch == NULL:
            self._begin(wanted)
        if self._size + wanted > self._room:
            room = min(self._most, max(2 * self._room, self._size + wanted))
            batch = self._batch
            self._batch = NULL  # a failed resize frees it
            _PyBytes_Resize(&batch, room)
            self._batch = batch
            self._room = room
        return PyBytes_AS_STRING(<bytes>self._batch) + self._size

    cdef int _finish(self) except -1:
        # Ends the open batch.
        cdef PyObject* batch = self._batch
        if batch == NULL:
            return 0
        self._batch = NULL
        self._usual = self._size
        if self._size != self._room:
            _PyBytes_Resize(&batch, self._size)
        try:
            self._ready.append(<object>batch)
            self._ready_bytes += self._size
        finally:
            Py_XDECREF(batch)
        return 0

    cdef int _add(
        self, int kind, int flags, bytes name, const char* payload, Py_ssize_t size, bytes tail
    ) except -1:
        # Writes one message, in one record or several.
        cdef Py_ssize_t whole = size + (0 if tail is None else PyBytes_GET_SIZE(tail))
        cdef Py_ssize_t head = HEAD_BYTES + RECORD_BYTES + (0 if name is None else PyBytes_GET_SIZE(name))
        if head + whole <= self._most:
            self._record(kind, flags, name, -1, payload, size, tail)
        else:
            self._add_parts(kind, flags, name, payload[:size] + tail if tail is not None else payload[:size])
        self.sequence += 1
        if self._ready_bytes + self._size > THROUGH_BYTES and not self._holds:
            self._finish()
            if self._ready_bytes > THROUGH_BYTES:
                self._holds = True
        return 0

    cdef int _add_parts(self, int kind, int flags, bytes name, bytes payload) except -1:
        cdef const char* data = PyBytes_AS_STRING(payload)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef Py_ssize_t head = HEAD_BYTES + RECORD_BYTES + 4 + (0 if name is None else PyBytes_GET_SIZE(name))
        cdef Py_ssize_t room = max(1, self._most - head)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t part
        self._finish()
        while at < size:
            part = min(room, size - at)
            self._record(
                kind, flags | (MORE if at + part < size else 0) | (CONTINUES if at else 0), name,
                at if at else -1, data + at, part, None)
            self._finish()
            at += part
        return 0

    cdef int _record(
        self, int kind, int flags, bytes name, Py_ssize_t before, const char* payload, Py_ssize_t size,
        bytes tail
    ) except -1:
        cdef Py_ssize_t more = 0 if tail is None else PyBytes_GET_SIZE(tail)
        cdef Py_ssize_t named = 0 if name is None else PyBytes_GET_SIZE(name)
        cdef Py_ssize_t offset = 4 if before >= 0 else 0
        cdef Py_ssize_t wanted = RECORD_BYTES + named + offset + size + more
        cdef char* to = self._make_room(wanted)
        cdef uint16_t short_size = <uint16_t>named
        cdef uint32_t length = <uint32_t>(offset + size + more)
        cdef uint32_t came = <uint32_t>before
        to[0] = <char>kind
        to[1] = <char>flags
        memcpy(to + 2, &short_size, 2)
        to += 4
        if named:
            memcpy(to, PyBytes_AS_STRING(name), named)
            to += named
        memcpy(to, &length, 4)
        to += 4
        if offset:
            memcpy(to, &came, 4)
            to += 4
        if size:
            memcpy(to, payload, size)
        if more:
            memcpy(to + size, PyBytes_AS_STRING(tail), more)
        self._size += wanted
        return 0

    # --- what waits --------------------------------------------------------------------------

    cdef int _keep(self, int kind, int flags, bytes name, bytes payload, Lane lane, tuple slot) except -1:
        cdef Waiting item = Waiting.__new__(Waiting)
        cdef Waiting old
        cdef Py_ssize_t size = len(payload)
        item.kind, item.flags, item.name, item.payload, item.slot = kind, flags, name, payload, slot
        item.policy = DELIVER_RELIABLE if lane is None else lane.kind
        if item.policy == DELIVER_LATEST and slot is None:
            item.policy = DELIVER_RELIABLE  # its key cannot be read: bytes of another program
        if lane is not None and lane.max_age_ns:
            item.due_ns = deli_com_clock_ns() + lane.max_age_ns
        if item.policy == DELIVER_LATEST:
            old = self._latest.get(slot)
            if old is not None:
                self._drop(old)
                self.superseded += 1
            self._latest[slot] = item
        elif item.policy == DELIVER_SKIP:
            while self._skips and self._skip_bytes + size > self.max_backlog:
                old = self._skips.popleft()
                if old.payload is not None:
                    self._drop(old)
                    self.skipped += 1
            self._skips.append(item)
            self._skip_bytes += size
        else:
            if self._reliable_bytes and self._reliable_bytes + size > self.max_backlog:
                self._drop_reliable()
            self._reliable_bytes += size
        self._waiting.append(item)
        self.waiting_bytes += size
        if self._dead > MANY_DEAD and 2 * self._dead > len(self._waiting):
            self._compact()
        return 0

    cdef int _drop(self, Waiting item) except -1:
        # Drops one item.
        cdef Py_ssize_t size = PyBytes_GET_SIZE(item.payload)
        item.payload = None
        self.waiting_bytes -= size
        self._dead += 1
        if item.policy == DELIVER_LATEST:
            self._latest.pop(item.slot, None)
        elif item.policy == DELIVER_SKIP:
            self._skip_bytes -= size
        else:
            self._reliable_bytes -= size
        return 0

    cdef int _drop_reliable(self) except -1:
        # Drops all waiting reliable messages. Other nodes see a gap, and request the retained values.
        cdef Waiting item
        cdef Py_ssize_t count = 0
        self._finish()
        for item in self._waiting:
            if item.payload is not None and item.policy != DELIVER_LATEST and item.policy != DELIVER_SKIP:
                self._drop(item)
                count += 1
        self.sequence += <uint64_t>count
        self.lost += count
        return self._compact()

    cdef int _compact(self) except -1:
        self._waiting = deque([item for item in self._waiting if (<Waiting>item).payload is not None])
        self._skips = deque([item for item in self._skips if (<Waiting>item).payload is not None])
        self._dead = 0
        return 0

    cdef int _refill(self) except -1:
        # Moves waiting messages into batches. If none are left, new messages go into batches directly.
        cdef Waiting item
        cdef bytes payload
        cdef uint64_t now = deli_com_clock_ns()
        while self._waiting and self._ready_bytes < THROUGH_BYTES // 2:
            item = self._waiting.popleft()
            payload = item.payload
            if payload is None:
                self._dead -= 1
                continue
            self._drop(item)
            self._dead -= 1
            if item.due_ns and item.due_ns < now:
                self.skipped += 1
                continue
            self._add(item.kind, item.flags, item.name, PyBytes_AS_STRING(payload), len(payload), None)
        if not self._waiting:
            self._skips.clear()
            self._holds = False
        return 0

    # --- for the sending task -----------------------------------------------------------------

    def resize(self, Py_ssize_t most):
        """Set the bytes that a batch may have; ValueError for fewer than 1,024."""
        if most < 1024:
            raise ValueError(f"max_payload of a backplane is 1024 bytes or more, not {most}")
        self._finish()
        self._most = most

    def hold(self, bint is_away):
        """Set whether the backplane is away. Messages wait meanwhile."""
        self._is_away = is_away
        if is_away:
            self._finish()
            self._holds = True
        elif self._ready or self._batch != NULL or self._waiting:
            self._is_told = True
            self._wake()

    def queued_bytes(self):
        """Bytes that have not been taken."""
        return self._ready_bytes + (self._size if self._batch != NULL else 0) + self.waiting_bytes

    def take(self):
        """Remove and return the next batch; None: there is none."""
        cdef bytes batch = None
        if self._is_away:
            self._is_told = False
            return None
        if not self._ready and self._holds:
            self._refill()
        if not self._ready:
            self._finish()
        if self._ready:
            batch = self._ready.popleft()
            self._ready_bytes -= PyBytes_GET_SIZE(batch)
        else:
            self._is_told = False
        return batch

    def put_back(self, bytes batch not None):
        """Put back a batch that could not be sent; it is the next one."""
        self._ready.appendleft(batch)
        self._ready_bytes += PyBytes_GET_SIZE(batch)

    def is_empty(self):
        """Whether nothing is left to take."""
        return not self._ready and self._batch == NULL and not self._waiting

    def cut(self):
        """Finish the open batch; return the sequence of the next one."""
        self._finish()
        return self.sequence
