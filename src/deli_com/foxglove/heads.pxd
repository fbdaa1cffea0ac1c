# Converts frames of the logs to messages of Foxglove's protocol, with the same payload.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.rewriter cimport Rewriter
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport Merge
from deli_com.log.ring cimport Position


cdef struct Want:
    # A viewer's subscription to one class in one log.
    bint is_wanted
    uint32_t subscription    # the viewer's own number for it
    uint64_t since           # stream offset; earlier messages come by a snapshot, or not at all


cdef class Times:
    # The times at which messages of a replay were sent. They differ from those of the log's records.
    cdef uint64_t* _starts       # stream offsets from which a time applies, ascending; owned
    cdef uint64_t* _times        # ns since the epoch; owned
    cdef Py_ssize_t _count
    cdef Py_ssize_t _capacity

    cdef int add(self, uint64_t start, uint64_t at) except -1
    cdef uint64_t at(self, uint64_t offset) noexcept


cdef class Wanted:
    # A viewer's subscriptions to one log.
    cdef readonly Log log
    cdef Want* wants             # by class; owned
    cdef readonly Py_ssize_t active  # subscriptions


cdef class Heads(Rewriter):
    cdef Py_ssize_t _classes     # of the type; 1 where it is not sealed
    cdef bint _is_sealed         # payloads begin with the index of their class
    cdef tuple _retained         # by class: whether a subscription begins with retained values
    cdef Wanted _all             # of the log of all
    cdef Times _times            # of the log of all; None: a message has the time of its record
    cdef list _greeting
    cdef uint64_t _latest        # ns since the epoch, of the last message: times do not go back
    cdef uint64_t _epoch         # ns since the epoch at which the system's steady clock was 0
    cdef dict news               # sent as soon as the viewer reads: key -> text or binary message

    # --- the messages that are being made ---
    cdef list _pieces
    cdef uint8_t* _buffer        # owned
    cdef Py_ssize_t _size
    cdef Py_ssize_t _capacity

    cdef int tell(self, Follower follower, int opcode, bytes payload) except -1

    # --- private ---
    cdef Py_ssize_t _class_of(self, Merge merge, int k, Py_ssize_t pos, Py_ssize_t payload) noexcept
    cdef Wanted _wanted_in(self, Log log, Cursor* cursor)
    cdef uint64_t _time_of(
        self, Log log, Position* at, uint64_t offset, bint is_fresh, bint is_snapshot
    ) noexcept
    cdef int _reserve(self, Py_ssize_t size) except -1
    cdef int _frame(self, int opcode, Py_ssize_t payload) except -1
    cdef int _head(self, uint32_t subscription, uint64_t at, Py_ssize_t payload) except -1
    cdef int _append(self, const char* data, Py_ssize_t size) except -1
    cdef int _flush(self) except -1
    cdef int _drop_snapshot(self, Follower follower, Py_ssize_t index) except -1
