"""Makes a viewer's messages from the frames of the logs: a header of 13 bytes, and the payload unchanged.

::

    log of all      | frame: header, payload of a Pose | frame: header, payload of a Tick | ...
    to the viewer   | header, 1, subscription, time, the same payload |  (no subscription to Tick)

A subscription gets the messages that are appended from then on. If its class is retained, it first gets the
retained messages: a separate cursor reads the log from its head to the place where the subscription began,
and is dropped then. The cursor is tagged with the class, so it gives no other messages.
"""

import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.rewriter cimport Rewriter
from deli_com.ground.scalar cimport load_u32, store_u32, store_u64
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.link.connection cimport Connection
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport CONNECTION_OPEN
from deli_com.log.arena cimport LARGE_BYTES
from deli_com.log.framing cimport (
    FRAMING_WS_SERVER,
    HEADER_MAX,
    frame_head,
    frame_header_size,
    frame_header_write,
    frame_size,
)
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport Merge
from deli_com.log.ring cimport Position, Record

cdef enum:
    HEAD_BYTES = 13          # opcode, subscription, time
    MESSAGE_DATA = 1
    TEXT = 1                 # opcodes of RFC 6455 section 5.2
    BINARY = 2
    KEPT_BYTES = 262144      # a larger buffer is freed after use
    KEPT_TIMES = 65536


cdef class Times:
    """The times at which the messages of a log were sent, by stream offset.

    It holds the last 32,768 to 65,536 times. Older messages have the oldest of these times.
    """

    def __dealloc__(self):
        PyMem_RawFree(self._starts)
        PyMem_RawFree(self._times)

    cdef int add(self, uint64_t start, uint64_t at) except -1:
        # Frames that begin at `start` or later have this time, up to the next call.
        cdef Py_ssize_t room
        cdef void* grown
        if self._count and self._starts[self._count - 1] >= start:
            self._times[self._count - 1] = at  # nothing was appended
            return 0
        if self._count == KEPT_TIMES:
            self._count = KEPT_TIMES // 2
            memmove(self._starts, self._starts + self._count, <size_t>self._count * sizeof(uint64_t))
            memmove(self._times, self._times + self._count, <size_t>self._count * sizeof(uint64_t))
        if self._count == self._capacity:
            room = 2 * self._capacity or 64
            grown = PyMem_RawRealloc(self._starts, <size_t>room * sizeof(uint64_t))
            if grown != NULL:
                self._starts = <uint64_t*>grown
                grown = PyMem_RawRealloc(self._times, <size_t>room * sizeof(uint64_t))
            if grown == NULL:
                raise MemoryError("the times of messages")
            self._times = <uint64_t*>grown
            self._capacity = room
        self._starts[self._count] = start
        self._times[self._count] = at
        self._count += 1
        return 0

    cdef uint64_t at(self, uint64_t offset) noexcept:
        # Returns the time of the frame that begins there; 0 if it is not known.
        cdef Py_ssize_t low = 1, high = self._count, middle
        if self._count == 0:
            return 0
        while low < high:
            middle = (low + high) // 2
            if self._starts[middle] > offset:
                high = middle
            else:
                low = middle + 1
        return self._times[low - 1]

    def note(self, Endpoint endpoint not None, uint64_t at):
        """Set the time, in ns, of the messages that are sent to all from now on."""
        self.add(endpoint.log.end, at)


cdef class Wanted:
    """A viewer's subscriptions to one log."""

    def __cinit__(self, Log log not None, Py_ssize_t count):
        self.log = log
        self.wants = <Want*>PyMem_RawMalloc(<size_t>count * sizeof(Want))
        if self.wants == NULL:
            raise MemoryError("the subscriptions of a viewer")
        memset(self.wants, 0, <size_t>count * sizeof(Want))

    def __dealloc__(self):
        PyMem_RawFree(self.wants)


cdef class Heads(Rewriter):
    """Makes messages for one viewer.

    Parameters
    ----------
    endpoint : Endpoint
        The endpoint of the viewer.
    classes : int
        Variants of the type that is sent; 0 if it is not sealed.
    greeting : list of bytes
        Texts that are sent first.
    times : Times, optional
        The times of messages, if they differ from those of the log's records.
    """

    def __cinit__(self, Endpoint endpoint not None, Py_ssize_t classes, list greeting not None, Times times):
        self._is_sealed = classes > 0
        self._classes = max(1, classes)
        self._all = Wanted(endpoint.log, self._classes)
        self._greeting = greeting
        self._times = times
        self._epoch = <uint64_t>time.time_ns() - deli_com_clock_ns()
        self.news = {}
        self._retained = tuple([
            endpoint.sender.lanes is not None and bool(endpoint.sender.lanes.lanes[index].retain)
            for index in range(self._classes)
        ])

    def __dealloc__(self):
        PyMem_RawFree(self._buffer)

    cdef int begin(self, object transport) except -1:
        for text in self._greeting:
            self._size = 0
            self._frame(TEXT, PyBytes_GET_SIZE(<bytes>text))
            transport.write(PyBytes_FromStringAndSize(<char*>self._buffer, self._size) + text)
        self._greeting = None
        return 0

    # --- subscriptions -------------------------------------------------------------------

    def subscribe(self, Follower follower not None, Py_ssize_t index, uint32_t subscription):
        """Send messages of one class from now on, after the retained ones.

        Parameters
        ----------
        follower : Follower
            The viewer.
        index : int
            Index of the class.
        subscription : int
            The viewer's number of the subscription.
        """
        cdef Wanted wanted = self._all
        cdef Log log = wanted.log
        cdef Cursor* cursor
        cdef Position at
        if follower.hub is None:
            return
        if self._retained[index] and log.retained_keys:
            log.separate()
            at = log.head()
            follower._add_cursor(log, at, log.end)
            cursor = &follower.cursors[follower.cursor_count - 1]
            cursor.limit = log.end
            cursor.tag = <int>index + 1
            follower.hub.on_own_messages(follower)
        wanted.wants[index].is_wanted = True
        wanted.wants[index].subscription = subscription
        wanted.wants[index].since = log.end
        wanted.active += 1

    def unsubscribe(self, Follower follower not None, Py_ssize_t index):
        """Stop sending messages of that class."""
        cdef Wanted wanted = self._all
        if not wanted.wants[index].is_wanted:
            return
        wanted.wants[index].is_wanted = False
        wanted.active -= 1
        if follower.hub is not None:
            self._drop_snapshot(follower, index)

    cdef int _drop_snapshot(self, Follower follower, Py_ssize_t index) except -1:
        cdef PyObject* log = <PyObject*>self._all.log
        cdef int i
        for i in range(1, follower.cursor_count):
            if follower.cursors[i].log == log and follower.cursors[i].tag == <int>index + 1:
                follower._drop_cursor(i)
                return 0
        return 0

    # --- messages for the transport --------------------------------------------------------

    cdef list rewrite(self, Merge merge, Cursor* cursors):
        cdef:
            list made
            int k = 0
            Cursor* cursor
            Log log
            Wanted wanted
            Want* want
            Position at
            const char* data
            Py_ssize_t pos, size, here, left, head
            Py_ssize_t index
            uint64_t start
            bint is_snapshot
            bytes said
        self.total = 0
        self._size = 0
        self._pieces = []
        for news in self.news.values():
            said = <bytes>news
            self._frame(BINARY if said[0] < 32 else TEXT, PyBytes_GET_SIZE(said))  # opcodes of binary ones
            self._append(PyBytes_AS_STRING(said), PyBytes_GET_SIZE(said))
        self.news.clear()
        while k < merge.count:
            cursor = &cursors[merge.pieces[k].cursor]
            log = <Log>cursor.log
            is_snapshot = cursor.tag != 0
            wanted = self._wanted_in(log, cursor)
            at = cursor.at
            log.seek(&at, merge.pieces[k].start)
            data = <const char*>merge.vectors[k].iov_base
            size = <Py_ssize_t>merge.vectors[k].iov_len
            start = merge.pieces[k].start
            if (wanted is None or wanted.active == 0) and merge.pieces[k].ends_frame:
                k += 1
                continue
            pos = 0
            while pos < size:
                head = frame_size(log.arena.framing, <const uint8_t*>data + pos)
                left = head
                head = frame_head(log.arena.framing, head)
                left -= head
                want = NULL
                index = -1 if wanted is None else self._class_of(merge, k, pos + head, left)
                if 0 <= index < self._classes and wanted.wants[index].is_wanted:
                    want = &wanted.wants[index]
                    if is_snapshot:
                        if index != cursor.tag - 1:
                            want = NULL
                    elif log is wanted.log and start + <uint64_t>pos < want.since:
                        want = NULL
                if want != NULL:
                    self._head(
                        want.subscription,
                        self._time_of(log, &at, start + <uint64_t>pos, merge._fresh, is_snapshot), left)
                pos += head
                while True:
                    here = min(left, size - pos)
                    if want != NULL and here:
                        if here < LARGE_BYTES:
                            self._append(data + pos, here)
                        else:
                            self._flush()
                            self._pieces += log.pieces(
                                &cursor.at, start + <uint64_t>pos, start + <uint64_t>(pos + here))
                            self.total += here
                    pos += here
                    left -= here
                    if left == 0:
                        break
                    k += 1
                    data = <const char*>merge.vectors[k].iov_base
                    size = <Py_ssize_t>merge.vectors[k].iov_len
                    start = merge.pieces[k].start
                    pos = 0
            k += 1
        self._flush()
        made = self._pieces
        self._pieces = None
        if self._capacity > KEPT_BYTES:
            PyMem_RawFree(self._buffer)
            self._buffer = NULL
            self._capacity = 0
        return made

    cdef Py_ssize_t _class_of(self, Merge merge, int k, Py_ssize_t pos, Py_ssize_t payload) noexcept:
        # Returns the index of the class of a payload that begins at `pos` of piece `k` or later; -1: none.
        cdef char raw[4]
        cdef int i
        if not self._is_sealed:
            return 0
        if payload < 4:
            return -1
        if pos + 4 <= <Py_ssize_t>merge.vectors[k].iov_len:
            return <Py_ssize_t>load_u32(<const char*>merge.vectors[k].iov_base + pos)
        for i in range(4):
            while pos >= <Py_ssize_t>merge.vectors[k].iov_len:
                pos -= <Py_ssize_t>merge.vectors[k].iov_len
                k += 1
            raw[i] = (<const char*>merge.vectors[k].iov_base)[pos]
            pos += 1
        return <Py_ssize_t>load_u32(raw)

    cdef Wanted _wanted_in(self, Log log, Cursor* cursor):
        # Messages for this viewer alone arrive on the channels of messages for all. Groups have no channels.
        if log is self._all.log or (isinstance(log, Audience) and (<Audience>log).cap):
            return self._all
        return None

    cdef uint64_t _time_of(
        self, Log log, Position* at, uint64_t offset, bint is_fresh, bint is_snapshot
    ) noexcept:
        cdef Record* record
        cdef uint64_t found
        if self._times is not None and log is self._all.log:
            found = self._times.at(offset)
            if found:
                return found
        record = log._record(at.record)
        # A record may hold the frames of 10 ms; its time is that of the first. A viewer that is up to date
        # gets the present time.
        found = self._epoch + (
            log.arena.now_ns if is_fresh and record.number != record.last_number else record.born_ns)
        if is_snapshot:
            return found
        self._latest = max(self._latest, found)
        return self._latest

    cdef int _reserve(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room = self._size + size
        cdef void* grown
        if room <= self._capacity:
            return 0
        room = max(2 * self._capacity, max(room, 1024))
        grown = PyMem_RawRealloc(self._buffer, <size_t>room)
        if grown == NULL:
            raise MemoryError("messages for a viewer")
        self._buffer = <uint8_t*>grown
        self._capacity = room
        return 0

    cdef int _frame(self, int opcode, Py_ssize_t payload) except -1:
        cdef uint8_t* at
        self._reserve(HEADER_MAX)
        at = self._buffer + self._size
        frame_header_write(FRAMING_WS_SERVER, at, payload, 0)
        at[0] = <uint8_t>(0x80 | opcode)
        self._size += frame_header_size(FRAMING_WS_SERVER, payload)
        return 0

    cdef int _head(self, uint32_t subscription, uint64_t at, Py_ssize_t payload) except -1:
        cdef char* to
        self._frame(BINARY, payload + HEAD_BYTES)
        self._reserve(HEAD_BYTES)
        to = <char*>self._buffer + self._size
        to[0] = MESSAGE_DATA
        store_u32(to + 1, subscription)
        store_u64(to + 5, at)
        self._size += HEAD_BYTES
        return 0

    cdef int _append(self, const char* data, Py_ssize_t size) except -1:
        self._reserve(size)
        memcpy(self._buffer + self._size, data, <size_t>size)
        self._size += size
        return 0

    cdef int _flush(self) except -1:
        # Copied bytes are one object of the list.
        if self._size:
            self._pieces.append(PyBytes_FromStringAndSize(<char*>self._buffer, self._size))
            self.total += self._size
            self._size = 0
        return 0

    # --- texts that are not in the log -----------------------------------------------------

    cdef int tell(self, Follower follower, int opcode, bytes payload) except -1:
        # Written after the transport's buffer, which ends with a whole frame.
        if follower.hub is None or follower.transport.is_closing():
            return 0
        if follower.muted != NULL and follower.muted[0]:
            return 0
        self._size = 0
        self._frame(opcode, PyBytes_GET_SIZE(payload))
        follower.transport.write(PyBytes_FromStringAndSize(<char*>self._buffer, self._size) + payload)
        return 0

    def say(self, Follower follower not None, bytes payload not None):
        """Send a text, or a binary message, which begins with its opcode, unless the viewer does not read.

        Returns
        -------
        bool
            Whether it was sent.
        """
        if follower.writing_paused:
            return False
        self.tell(follower, BINARY if payload[0] < 32 else TEXT, payload)
        return True

    def say_surely(self, Follower follower not None, key, bytes payload not None):
        """Send a text now, or as soon as the viewer reads. Of several with one key, only the last is sent."""
        if not self.say(follower, payload):
            self.news[key] = payload


def keep_time(Endpoint endpoint not None):
    """Store the time of each retained message, also while no client is connected."""
    endpoint.hub.keep_time()


def begin_viewer(Connection viewer not None, Heads heads not None):
    """Serve a connection by these heads. It must not be open yet."""
    viewer.rewriter = heads


def deliver(Connection viewer not None, bytes data not None, Py_ssize_t start):
    """Receive the bytes from `start` on as a value of this viewer.

    Returns
    -------
    bool
        False if they do not decode, which is counted.
    """
    cdef Py_ssize_t before = viewer.undecodable
    if viewer.stage == CONNECTION_OPEN and start <= len(data):
        viewer.deliver(PyBytes_AS_STRING(data) + start, len(data) - start)
    return viewer.undecodable == before
