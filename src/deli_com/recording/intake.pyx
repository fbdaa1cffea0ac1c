"""Where messages of a recording go until its thread writes them.

Whoever sends fills a chunk; the thread takes full ones, and a part-filled one that is old enough. Both run
with the GIL, and `take` runs no Python code but what an allocation may cause: a flag is lock enough.
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
    CHUNK_BYTES = 1048576    # a chunk of this size is handed over
    SPARE_CHUNKS = 2


@cython.final
cdef class Intake:
    """Takes messages; gives chunks.

    Parameters
    ----------
    limit : int
        Bytes that may wait to be written. Beyond it messages are left out and counted.
    wake : callable
        Called, in whatever thread sends, when a chunk is full.
    """

    def __init__(self, Py_ssize_t limit, wake):
        self.limit = limit
        self.chunk_bytes = CHUNK_BYTES
        self.wake = wake
        self.chunk = Chunk()
        self.spare = []
        self.full = deque()
        self.gaps = {}
        # Times of one recording never go back, whatever is done to the system's clock meanwhile.
        self.epoch = <uint64_t>time.time_ns() - deli_com_clock_ns()

    def now(self):
        """The time that a message taken now would get, ns since the epoch."""
        return self.moment()

    def set_chunk_bytes(self, Py_ssize_t size):
        """Hand over chunks of this size."""
        self.chunk_bytes = size

    def add(self, uint16_t channel, payload not None, at=None):
        """Take one message that was sent now, or at this time: `take` for Python.

        Raises
        ------
        BacklogFull
            There is no room, and `raises` is set.
        """
        cdef Py_buffer view
        cdef uint64_t when = 0 if at is None else at
        if PyBytes_CheckExact(payload):
            self.take(when, channel, NULL, 0, payload)
            return
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            self.take(when, channel, <const char*>view.buf, view.len, None)
        finally:
            PyBuffer_Release(&view)

    cdef uint64_t moment(self) noexcept:
        return self.epoch + deli_com_clock_ns()

    cdef int take(
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
        # Chunks are in the order of their messages: sequence numbers go on in the next one.
        cdef Chunk fresh = self.spare.pop() if self.spare else Chunk()
        fresh.follow(self.chunk)
        self.full.append(self.chunk)
        self.waiting += self.chunk.size
        self.chunk = fresh
        return 0

    # --- what the thread calls ------------------------------------------------------------------------

    def next_chunk(self, bint part_filled):
        """The oldest chunk to write, or None.

        Parameters
        ----------
        part_filled : bool
            Whether one will do that is not full yet.
        """
        if part_filled and not self.full and self.chunk.count and not self.is_busy:
            self._hand_over()
        return self.full.popleft() if self.full else None

    def give_back(self, Chunk chunk not None):
        """A chunk is written, or lost: its bytes no longer wait."""
        self.waiting -= chunk.size
        chunk.clear()
        if len(self.spare) < SPARE_CHUNKS:
            self.spare.append(chunk)

    def lose(self, Chunk chunk not None):
        """A chunk could not be written: its messages count as left out."""
        self.left_out += chunk.count
        self.give_back(chunk)

    def take_gaps(self):
        """What was left out since the last call: channel -> [messages, time of the first, of the last]."""
        cdef dict gaps = self.gaps
        self.gaps = {}
        return gaps

    def close(self):
        """Take nothing from now on."""
        self.is_closed = True
