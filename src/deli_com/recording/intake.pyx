"""The queue of a recording: messages wait here until the writer thread writes them.

The sender fills a chunk. The thread takes full chunks, and at intervals one that is not full. Both hold the
GIL, and `add_message` runs no Python code except what an allocation may cause. So a flag is enough as a lock.
"""

cimport cython

import time
from collections import deque

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t, uint64_t

from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.recording.chunk cimport MESSAGE_HEAD, Chunk

from deli_com.errors import BacklogFull

cdef enum:
    CHUNK_BYTES = 1048576    # a chunk that has reached this size is handed over
    SPARE_CHUNKS = 2


@cython.final
cdef class Intake:
    """Takes messages and gives chunks.

    Parameters
    ----------
    limit : int
        Limit on the bytes that wait to be written. Past it, messages are left out and counted.
    wake : callable
        Called when a chunk is full, in the thread that sends.
    """

    def __init__(self, Py_ssize_t limit, wake):
        self.limit = limit
        self.chunk_bytes = CHUNK_BYTES
        self.wake = wake
        self.chunk = Chunk()
        self.spare = []
        self.full = deque()
        self.gaps = {}
        # The monotonic clock: times of one recording never go back, even if the system's clock is set.
        self.epoch = <uint64_t>time.time_ns() - deli_com_clock_ns()

    def now(self):
        """The time that a message would get now, in ns since the epoch."""
        return self.moment()

    def set_chunk_bytes(self, Py_ssize_t size):
        """Set the size at which chunks are handed over."""
        self.chunk_bytes = size

    def add(self, uint16_t channel, payload not None, at=None):
        """Add one message that was sent now, or at the given time. This is `add_message` for Python callers.

        Raises
        ------
        BacklogFull
            The limit is reached, and `raises` is set.
        """
        cdef Py_buffer view
        cdef uint64_t when = 0 if at is None else at
        if PyBytes_CheckExact(payload):
            self.add_message(when, channel, NULL, 0, payload)
            return
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            self.add_message(when, channel, <const char*>view.buf, view.len, None)
        finally:
            PyBuffer_Release(&view)

    cdef uint64_t moment(self) noexcept:
        return self.epoch + deli_com_clock_ns()

    cdef int add_message(
        self, uint64_t at, uint16_t channel, const char* payload, Py_ssize_t size, bytes tail
    ) except -1:
        cdef Py_ssize_t whole = size if tail is None else size + PyBytes_GET_SIZE(tail)
        if self.is_closed:
            return 0
        if at == 0:
            at = self.epoch + deli_com_clock_ns()
        if self.waiting + self.chunk.size + MESSAGE_HEAD + whole > self.limit:
            return self._leave_out(channel, at, whole)
        self.is_busy = True
        try:
            self.chunk.add_message(channel, at, payload, size, tail)
        finally:
            self.is_busy = False
        self.messages += 1
        self.bytes += whole
        if self.chunk.size >= self.chunk_bytes:
            self._hand_over()
            self.wake()
        return 0

    cdef int _leave_out(self, uint16_t channel, uint64_t at, Py_ssize_t size) except -1:
        cdef list gap
        if self.raises:
            raise BacklogFull(
                self.waiting + self.chunk.size + MESSAGE_HEAD + size,
                self.limit,
                "bytes would wait to be recorded",
            )
        self.left_out += 1
        gap = self.gaps.get(channel)
        if gap is None:
            self.gaps[channel] = [1, at, at]
        else:
            gap[0] += 1
            gap[2] = at
        return 0

    cdef int _hand_over(self) except -1:
        # The next chunk continues the sequence numbers, because chunks keep the order of messages.
        cdef Chunk fresh = self.spare.pop() if self.spare else Chunk()
        fresh.follow(self.chunk)
        self.full.append(self.chunk)
        self.waiting += self.chunk.size
        self.chunk = fresh
        return 0

    # --- for the writer thread -------------------------------------------------------------------------

    def next_chunk(self, bint part_filled):
        """The oldest chunk to write, or None.

        Parameters
        ----------
        part_filled : bool
            Whether a chunk that is not full may be given.
        """
        if part_filled and not self.full and self.chunk.count and not self.is_busy:
            self._hand_over()
        return self.full.popleft() if self.full else None

    def give_back(self, Chunk chunk not None):
        """Return a chunk that is written or lost. Its bytes no longer count as waiting."""
        self.waiting -= chunk.size
        chunk.clear()
        if len(self.spare) < SPARE_CHUNKS:
            self.spare.append(chunk)

    def lose(self, Chunk chunk not None):
        """Return a chunk that could not be written. Its messages count as left out."""
        self.left_out += chunk.count
        self.give_back(chunk)

    def take_gaps(self):
        """The messages left out since the last call: channel -> [messages, first time, last time]."""
        cdef dict gaps = self.gaps
        self.gaps = {}
        return gaps

    def close(self):
        """Drop all further messages."""
        self.is_closed = True
