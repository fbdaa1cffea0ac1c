"""The queue of received values: a ring, and a queue of waiters.

A value stays in the ring until the program takes it (`Recv`, in receive/recv.pyx). The future of a waiter
only carries the wake-up. So a cancelled waiter loses no value: the wake-up passes to the next waiter. Each
value goes to one waiter, in the order of waiting.

A small value of plain fields (`wait_as_bytes`) waits as bytes, and is decoded when it is taken. Then the
memory of the value that the program has just freed is still in the CPU cache and the free lists. A waiting
value takes at most 160 bytes.

Limits: `max_bytes` on the wire and `max_count`. Past them, `push` still accepts the rest of one read buffer,
and the source pauses reading. Before the first `recv` call the source is not paused; values past the limit
are dropped and counted instead.
"""

from collections import deque

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memmove

from deli_com.coding.decode cimport decode_plain
from deli_com.coding.wait_as_bytes cimport NOT_PLAIN, PLAIN_IF_VALID, Plainness, is_plain_value, plainness
from deli_com.ground.gc_slots cimport CollectedType, inquiry, traverseproc, visitproc
from deli_com.ground.home cimport Home, at_home
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.ground.waiter cimport Waiter

cdef enum:
    FEW = 15           # entries of a new ring, minus one
    PLAIN_BYTES = 128  # most bytes of a value that waits undecoded; larger ones get their own memory


cdef inline char* _plain_at(Inbox inbox, size_t place) noexcept:
    return inbox._plain + (place & inbox._mask) * inbox.plain_size


cdef inline PyObject* _made(Inbox inbox, Entry* oldest) except NULL:
    # Decodes the oldest entry, which is plain. Only the allocator's code runs meanwhile. Bytes after a value
    # of numbers are not kept.
    return decode_plain(
        inbox._codec.reads, _plain_at(inbox, inbox._first), min(oldest.wire, inbox.plain_size))


cdef class Inbox:
    """A bounded queue of received values.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    codec : TypeCodec, optional
        Codec of the values; None if nothing is received, or if all values are pushed as objects.
    max_bytes : int
        Limit on the wire bytes of the waiting values, at which the inbox is full.
    max_count : int
        Limit on the number of waiting values, at which the inbox is full.
    """

    def __cinit__(
        self, loop, TypeCodec codec=None, *, Py_ssize_t max_bytes=16 << 20, Py_ssize_t max_count=1 << 16
    ):
        self.loop = loop
        self.home = Home(loop)
        self.max_bytes = max_bytes
        self.max_count = max_count
        self._waiters = deque()
        self._held_back = []
        self._codec = codec
        cdef Plainness kind = NOT_PLAIN if codec is None else plainness(codec.reads)
        if kind != NOT_PLAIN and codec.min_size <= PLAIN_BYTES:
            self._is_checked = kind == PLAIN_IF_VALID
            if not self._is_checked:
                self.plain_size = codec.min_size
            elif codec.max_size < 0:
                self.plain_size = PLAIN_BYTES
            else:
                self.plain_size = min(PLAIN_BYTES, codec.max_size)
        self._resize(FEW)

    def __dealloc__(self):
        cdef Entry entry
        while self._ring != NULL and self._first < self._next:
            entry = self._ring[self._first & self._mask]
            self._first += 1
            Py_XDECREF(entry.value)
            Py_XDECREF(entry.source)
        PyMem_RawFree(self._plain)
        PyMem_RawFree(self._ring)
        self._ring = NULL

    cdef Py_ssize_t count(self) noexcept:
        return <Py_ssize_t>(self._next - self._first)

    cdef bint is_full(self) noexcept:
        return self.held_bytes >= self.max_bytes or self.count() >= self.max_count

    cdef bint push(self, object source, object value, Py_ssize_t wire, bint is_error) except -1:
        # Returns True if the inbox is full, and the source should pause reading (`hold_back`).
        cdef Entry* entry = self._add(source, wire)
        if entry == NULL:
            return False
        Py_INCREF(value)
        entry.value = <PyObject*>value
        entry.is_error = is_error
        return self._added()

    cdef bint may_wait(self, const char* data, Py_ssize_t size) noexcept:
        # Whether `push_plain` accepts this message. If not, the caller decodes it and calls `push`.
        if self._is_checked:
            return size <= self.plain_size and is_plain_value(self._codec.reads, data, size)
        return 0 < self.plain_size <= size

    cdef bint push_plain(self, object source, const char* data, Py_ssize_t size) except -1:
        # As `push`, for `size` bytes at `data`, which are copied. `may_wait` must have returned True.
        cdef Entry* entry = self._add(source, size)
        if entry == NULL:
            return False
        entry.value = NULL
        entry.is_error = False
        memcpy(_plain_at(self, self._next - 1), data, min(size, self.plain_size))
        return self._added()

    cdef Entry* _add(self, object source, Py_ssize_t wire) except? NULL:
        # Adds a last entry, for the caller to fill. NULL without an exception: the value is dropped.
        cdef Entry* entry
        if self._closed is not None:
            return NULL
        if not self.wanted and self.is_full():
            self.dropped += 1
            return NULL
        if self._next - self._first > self._mask:
            self._resize(2 * self._mask + 1)
        entry = &self._ring[self._next & self._mask]
        Py_INCREF(source)
        entry.source = <PyObject*>source
        entry.wire = wire
        self._next += 1
        self.held_bytes += wire
        return entry

    cdef inline bint _added(self) except -1:
        if self._waiting:
            self._wake()
        return self.wanted and self.is_full()

    cdef int _resize(self, size_t mask) except -1:
        # Resizes to `mask` + 1 entries, a power of two that is large enough for the waiting values.
        cdef size_t i
        cdef Py_ssize_t size = self.plain_size
        cdef char* plain = <char*>PyMem_RawMalloc((mask + 1) * size)
        cdef Entry* ring = <Entry*>PyMem_RawMalloc((mask + 1) * sizeof(Entry))
        if ring == NULL or plain == NULL:
            PyMem_RawFree(ring)
            PyMem_RawFree(plain)
            raise MemoryError("inbox")
        for i in range(self._first, self._next):
            ring[i & mask] = self._ring[i & self._mask]
            memcpy(plain + (i & mask) * size, _plain_at(self, i), size)
        PyMem_RawFree(self._plain)
        PyMem_RawFree(self._ring)
        self._plain = plain
        self._ring = ring
        self._mask = mask
        return 0

    cdef int sweep(self) except -1:
        # Called periodically: frees the memory of an inbox that stays empty, and retries what has failed.
        if self._waiting:
            self._wake()
        if self._held_back and self._has_room():
            self._resume_sources()
        if self._mask > FEW and self._next == self._seen and self.count() == 0:
            self._resize(FEW)
        self._seen = self._next
        if self._first >= self._aged:
            self._aged = self._next
            self._aged_ns = deli_com_clock_ns()
        return 0

    cdef int hold_back(self, object source) except -1:
        # `source` has paused reading. Its `resume_reading()` is called once there is room.
        self._held_back.append(source)
        return 0

    cdef int _resume_sources(self) except -1:
        # An error goes to the loop's handler, and `sweep` retries: the caller has already taken a value.
        cdef list sources = self._held_back
        self._held_back = []
        for source in sources:
            try:
                source.resume_reading()
            except Exception as error:
                self._held_back.append(source)
                self.loop.call_exception_handler(
                    {"message": "reading was not resumed; it will be retried", "exception": error})
        return 0

    cdef int _wake(self) except -1:
        # Wakes waiters while there are values that no woken waiter will take.
        # If waking fails, the waiter stays in the queue. The next value or the next sweep retries.
        cdef Waiter waiter
        try:
            while self._waiting and (self._woken < self.count() or self._closed is not None):
                waiter = self._waiters[0]
                self._woken += waiter.end(None, False)
                self._waiters.popleft()
                self._waiting -= 1
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": "a recv() was not woken; it will be retried", "exception": error})
        return 0

    cdef int _leave_queue(self, Waiter waiter) except -1:
        # Removes a waiter that takes no value. If it was woken, the wake-up passes to the next.
        if waiter.is_done() and not waiter.cancelled():
            self._woken -= 1
            self._wake()
            return 0
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass
        else:
            self._waiting -= 1
        return 0

    def _left(self, Waiter waiter not None):
        # `_leave_queue` for a waiter that was freed in another thread.
        self._leave_queue(waiter)

    cdef bint may_take(self) except -1:
        # Whether a new call may take a value. Earlier waiters come first, woken or not.
        return self._next != self._first and self._woken == 0 and self._waiting == 0

    cdef bint take(self, Entry* entry) except -1:
        # Takes the oldest entry, decoded; the caller owns its references. There must be one. Returns True if
        # it failed to decode and no other value is left (`PolicyInbox` only).
        entry[0] = self._ring[self._first & self._mask]
        if entry.value == NULL:
            entry.value = _made(self, entry)
        self._first += 1
        self.held_bytes -= entry.wire
        if self._held_back and self._has_room():
            self._resume_sources()
        return False

    cdef int take_more(self, list values, Py_ssize_t most) except -1:
        # Takes until there are `most` values. Values for woken waiters stay, and so does an error, for the
        # next call.
        cdef Entry entry
        try:
            while (
                len(values) < most and self._next - self._first > <size_t>self._woken
                and not self._ring[self._first & self._mask].is_error
            ):
                self.take(&entry)
                value = <object>entry.value
                Py_DECREF(value)
                Py_XDECREF(entry.source)
                values.append(value)
        except MemoryError:
            pass  # the values taken so far must not be lost; the next recv raises
        return 0

    cdef PyObject* take_at_once(self) except? NULL:
        # The common case: takes the oldest value if nothing else needs attention. NULL without an exception:
        # the caller must use the general path.
        cdef Entry entry
        if (
            self._next == self._first or self._woken or self._waiting or self._held_back
            or not at_home(self.home)
        ):
            return NULL
        entry = self._ring[self._first & self._mask]
        if entry.is_error:
            return NULL
        if entry.value == NULL:
            entry.value = _made(self, &entry)
        self._first += 1
        self.held_bytes -= entry.wire
        Py_XDECREF(entry.source)
        return entry.value

    cdef uint64_t oldest_ns(self) noexcept:
        # A time (monotonic clock) before which the oldest waiting value arrived; 0: nothing waits, or not for
        # long.
        return self._aged_ns if self._first < self._aged else 0

    cdef dict shares(self):
        # Wire bytes of the waiting values, by source.
        cdef dict shares = {}
        cdef size_t i
        cdef Entry* entry
        for i in range(self._first, self._next):
            entry = &self._ring[i & self._mask]
            source = <object>entry.source
            shares[source] = shares.get(source, 0) + entry.wire
        return shares

    cdef int replace_sources(self, object source) except -1:
        # Makes `source` the source of all waiting values.
        cdef size_t i
        cdef Entry* entry
        cdef PyObject* before
        for i in range(self._first, self._next):
            entry = &self._ring[i & self._mask]
            before = entry.source
            Py_INCREF(source)
            entry.source = <PyObject*>source
            Py_XDECREF(before)  # the caller holds another reference, so nothing is freed here
        return 0

    cdef Py_ssize_t drop_from(self, object source) except -1:
        # Drops and counts the values from `source`, and returns their wire bytes. The others keep their
        # order. A waiter that was woken for one of them waits again.
        cdef list gone = []  # freed at the end, because that may run the user's code
        cdef size_t i
        cdef size_t kept = self._first
        cdef Py_ssize_t wire = 0
        cdef Entry entry
        for i in range(self._first, self._next):
            entry = self._ring[i & self._mask]
            if entry.source == <PyObject*>source and entry.value != NULL:
                gone.append(<object>entry.value)
        for i in range(self._first, self._next):
            entry = self._ring[i & self._mask]
            if entry.source == <PyObject*>source:
                wire += entry.wire
                Py_XDECREF(entry.value)
                Py_XDECREF(entry.source)
            else:
                self._ring[kept & self._mask] = entry
                memmove(_plain_at(self, kept), _plain_at(self, i), self.plain_size)
                kept += 1
        self.dropped += self._next - kept
        self._next = kept
        self.held_bytes -= wire
        if self._held_back and self._has_room():
            self._resume_sources()
        return wire

    cdef bint has_waiters(self) noexcept:
        return self._waiting != 0

    cdef bint _has_room(self) noexcept:
        return 2 * self.held_bytes <= self.max_bytes and 2 * self.count() <= self.max_count

    cdef int close(self, object error, bint in_order) except -1:
        # Waiting values can still be taken. After that, every recv raises a copy of `error`.
        if self._closed is None:
            self._closed = error
            self._in_order = in_order
            self._held_back = []
            self._wake()
        return 0

    cdef object _ending(self):
        # A new exception each time, because tracebacks would accumulate on a shared one.
        cause = self._closed
        error = type(cause)(*cause.args)
        error.__cause__ = cause.__cause__
        return error


# The ring is C memory. Without these two functions the collector would not see the cycle inbox, value,
# connection, endpoint, inbox.

cdef traverseproc _traverse_fields = (<CollectedType*>Inbox).tp_traverse
cdef inquiry _clear_fields = (<CollectedType*>Inbox).tp_clear


cdef int _inbox_traverse(PyObject* self, visitproc visit, void* argument) noexcept:
    cdef Entry* ring = (<Inbox>self)._ring
    cdef size_t mask = (<Inbox>self)._mask
    cdef size_t last = (<Inbox>self)._next
    cdef size_t i = (<Inbox>self)._first
    cdef int result
    while ring != NULL and i < last:
        result = visit(ring[i & mask].value, argument) if ring[i & mask].value != NULL else 0
        if result == 0:
            result = visit(ring[i & mask].source, argument)
        if result != 0:
            return result
        i += 1
    return _traverse_fields(self, visit, argument)


cdef int _inbox_clear(PyObject* self) noexcept:
    cdef Entry entry
    while (<Inbox>self)._first < (<Inbox>self)._next:
        entry = (<Inbox>self)._ring[(<Inbox>self)._first & (<Inbox>self)._mask]
        (<Inbox>self)._first += 1
        Py_XDECREF(entry.value)
        Py_XDECREF(entry.source)
    return _clear_fields(self)


(<CollectedType*>Inbox).tp_traverse = _inbox_traverse
(<CollectedType*>Inbox).tp_clear = _inbox_clear
