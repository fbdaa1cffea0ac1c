# What one follower gets next, out of all the logs it reads, in one order.

from libc.stdint cimport uint64_t

from deli_com.ground.sockets cimport iovec
from deli_com.log.log cimport Cursor, Log, Span


cdef enum:
    VECTORS = 64             # vectors of one system call


cdef struct Piece:
    # What one vector holds.
    int cursor               # whose: 0 is the first
    uint64_t start           # stream offset in that cursor's log
    uint64_t end
    bint ends_frame
    bint reliable
    Py_ssize_t skipped       # frames skipped before it
    Py_ssize_t superseded


cdef struct Start:
    # Where a cursor stood: two followers with the same starts get the same.
    void* log
    uint64_t offset
    uint64_t floor
    uint64_t limit


cdef class Merge:
    cdef iovec vectors[VECTORS]
    cdef Piece pieces[VECTORS]
    cdef int count                   # of vectors, and of pieces
    cdef Py_ssize_t total            # bytes of them
    cdef bint is_whole               # there is nothing behind it
    cdef Py_ssize_t skipped          # frames that the last `advance` skipped, of class skip
    cdef Py_ssize_t superseded       # and of class latest

    cdef int make(
        self, Cursor* cursors, int count, uint64_t limit, bint fresh, uint64_t who, Py_ssize_t most
    ) except -1
    cdef bint fits(self, Cursor* cursors, int count, uint64_t limit, bint fresh, uint64_t who) noexcept
    cdef void forget(self) noexcept
    cdef void advance(self, Cursor* cursors, int pieces) noexcept
    cdef int first_loss(self) noexcept
    cdef void keep(self, int pieces) noexcept
    cdef int pass_first(self, Cursor* cursors, dict lanes) except -1
    cdef bint losses_behind(self, Cursor* cursors, dict lanes) except -1
    cdef int piece_at(self, Py_ssize_t offset) noexcept

    # --- private ---------------------------------------------------------------------
    cdef Cursor* _walk               # copies of the cursors, on their way
    cdef Span* _spans                # what comes next for each
    cdef bint* _has_span
    cdef Start* _starts
    cdef int _capacity
    cdef int _cursors                # of the plan that is kept; 0: no plan can be used again
    cdef uint64_t _limit
    cdef bint _fresh
    cdef bint _personal              # a frame in it, or next to it, is barred to some follower
    cdef uint64_t _who

    cdef int _reserve(self, int count) except -1
    cdef int _oldest(self, int count) noexcept
    cdef uint64_t _end_of(self, int i, bint has_whole, Py_ssize_t most) noexcept
    cdef bint _add(self, int i, uint64_t end) noexcept
    cdef bint _next_span(self, int i, uint64_t limit, bint fresh, uint64_t who) noexcept
