"""A queue of messages from other threads to the loop's thread.

The calling thread encodes and queues the payload's `bytes`. The log keeps a large payload by
reference. The queue is bounded. If it is full, the caller waits, without the GIL, until the loop
has appended messages. It gets `BacklogFull` if the loop appends nothing for `PATIENCE_SECONDS`.
The loop is woken only once for any number of waiting messages.

All fields but `_room` are touched with the GIL held and no Python code in between.
"""

from collections import deque
from threading import Condition

from cpython.object cimport PyObject

from deli_com.fanout.encoded cimport Encoded
from deli_com.fanout.follower cimport Owner
from deli_com.fanout.hub cimport Hub
from deli_com.errors import BacklogFull

cdef enum:
    MAX_BYTES = 16777216     # that may wait; a single message may be larger
    MAX_MESSAGES = 65536
    DRAIN_BYTES = 1048576    # taken in one turn of the loop, so that it stays responsive

cdef double PATIENCE_SECONDS = 10.0


cdef class Handoff:
    """A bounded queue into one hub.

    Parameters
    ----------
    owner : Owner
        It has this and the hub, and takes what was put, in the order of the calls.
    hub : Hub
    """

    def __cinit__(self, Owner owner not None, Hub hub not None):
        self._owner = <PyObject*>owner
        self._hub = <PyObject*>hub
        self._queue = deque()
        self._room = Condition()

    cdef bint _is_full(self, Py_ssize_t more) noexcept:
        cdef Py_ssize_t count = len(self._queue)
        return count > 0 and (self.held_bytes + more > MAX_BYTES or count >= MAX_MESSAGES)

    cdef int put(self, Encoded message) except -1:
        # Called by any thread but the loop's.
        cdef Py_ssize_t size = len(message.payload)
        if self._is_full(size):
            with self._room:
                if not self._room.wait_for(
                    lambda: self._ended is not None or not self._is_full(size), PATIENCE_SECONDS
                ):
                    raise BacklogFull(self.held_bytes, MAX_BYTES)
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)
        # The flag comes last: where waking the loop raises, the message waits, and the next to come wakes it.
        self._queue.append(message)
        self.held_bytes += size
        if not self._scheduled:
            self._scheduled = True
            try:
                (<Hub>self._hub).loop.call_soon_threadsafe(_drain_of, self, <Owner>self._owner)
            except BaseException:
                self._scheduled = False
                raise
        return 0

    def _drain(self):
        # Runs on the loop's thread. After an exception the rest of the queue is drained later.
        try:
            self._drain_some()
        finally:
            self._go_on()

    cdef int _drain_some(self) except -1:
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t size
        cdef Encoded message
        while self._queue and taken < DRAIN_BYTES:
            message = self._queue[0]
            size = len(message.payload)
            if not (<Hub>self._hub).limits.room_for(size):
                (<Hub>self._hub).schedule()  # the turn in which laggards are judged
                break  # the log is at its bound: clients lag, so the threads wait
            self._queue.popleft()
            self.held_bytes -= size
            taken += size
            try:
                (<Owner>self._owner).append_encoded(message)
            except BacklogFull:
                pass  # too many keys, or one client's queue is full; the sending thread has already gone on
        return 0

    cdef int _go_on(self) except -1:
        self._scheduled = False
        if self._queue:
            (<Hub>self._hub).loop.call_soon(_drain_of, self, <Owner>self._owner)
            self._scheduled = True
        else:
            (<Hub>self._hub).schedule()  # a close may wait for this queue
        with self._room:
            self._room.notify_all()
        return 0

    cdef int heal(self) except -1:
        # Called periodically. Drains what waits if waking the loop has raised.
        return self._go_on() if self._queue and not self._scheduled else 0

    cdef bint is_empty(self) noexcept:
        return len(self._queue) == 0

    cdef int end(self, object error) except -1:
        # No more messages are accepted. Waiting threads get the error.
        self._ended = error
        with self._room:
            self._room.notify_all()
        return 0


def _drain_of(Handoff handoff not None, owner):
    # `owner` is kept by the loop.
    handoff._drain()
