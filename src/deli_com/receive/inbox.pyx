"""Received values that wait: a ring, and the queue of those who wait for one.

A value stays in the ring until somebody takes it (`Recv`, in receive/recv.pyx); the future of a waiter
carries the wake-up only. So a cancelled waiter loses no value: the wake-up passes to the next one. Each value
goes to one waiter, in order of waiting.

A small value of plain fields (`wait_as_bytes`) waits as the bytes that came and is made when it is taken.
The memory of the value that the program dropped before is then still in the CPU cache and free lists, and a
waiting value takes at most 160 bytes.

Bounds: `max_bytes` on the wire and `max_count`. Past them, `push` still takes what one
read buffer holds, and the source is paused; before anybody has asked for a value there is
no point in pausing, so values past the bound are dropped and counted instead.
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
    FEW = 15           # places of a new ring, less one
    PLAIN_BYTES = 128  # of a value that waits as it came; larger ones are worth their own memory


cdef inline char* _plain_at(Inbox inbox, size_t place) noexcept:
    return inbox._plain + (place & inbox._mask) * inbox.plain_size


cdef inline PyObject* _made(Inbox inbox, Entry* oldest) except NULL:
    # What the oldest entry stands for, if it is plain. No code but the allocator's runs meanwhile. Numbers
    # may be followed by bytes that were not kept.
    return decode_plain(
        inbox._codec.reads, _plain_at(inbox, inbox._first), min(oldest.wire, inbox.plain_size))


cdef class Inbox:
    """A bounded queue of received values.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    codec : TypeCodec, optional
        Of the values; None where nothing is received, or all come as objects.
    max_bytes : int
        Bytes on the wire of the values held, at which the inbox is full.
    max_count : int
        Values held at which it is full.
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
        # True: the inbox is full, and the source should pause (`hold_back`).
        cdef Entry* entry = self._add(source, wire)
        if entry == NULL:
            return False
        Py_INCREF(value)
        entry.value = <PyObject*>value
        entry.is_error = is_error
        return self._added()

    cdef bint may_wait(self, const char* data, Py_ssize_t size) noexcept:
        # Whether `push_plain` takes this message; if not, whoever has it decodes it and calls `push`.
        if self._is_checked:
            return size <= self.plain_size and is_plain_value(self._codec.reads, data, size)
        return 0 < self.plain_size <= size

    cdef bint push_plain(self, object source, const char* data, Py_ssize_t size) except -1:
        # As `push`, for `size` bytes at `data`, which are copied: `may_wait` has said yes.
        cdef Entry* entry = self._add(source, size)
        if entry == NULL:
            return False
        entry.value = NULL
        entry.is_error = False
        memcpy(_plain_at(self, self._next - 1), data, min(size, self.plain_size))
        return self._added()

    cdef Entry* _add(self, object source, Py_ssize_t wire) except? NULL:
        # A new last entry, to be filled by the caller; NULL without an exception: nobody wants it.
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
        # To `mask` + 1 places, a power of two and enough for what is held.
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

    cdef int give_back(self) except -1:
        # Called now and then: memory of an inbox that stays empty goes, and what has failed is tried again.
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
        # `source` has paused reading; its `resume_reading()` is called once there is room.
        self._held_back.append(source)
        return 0

    cdef int _resume_sources(self) except -1:
        # What raises is told to the loop, and comes again with `give_back`: the caller has taken a value.
        cdef list sources = self._held_back
        self._held_back = []
        for source in sources:
            try:
                source.resume_reading()
            except Exception as error:
                self._held_back.append(source)
                self.loop.call_exception_handler(
                    {"message": "reading was not resumed; it is tried again", "exception": error})
        return 0

    cdef int _wake(self) except -1:
        # Wakes waiters while there are values that no woken waiter will take.
        # One that cannot be woken stays: the next value, or the next sweep, tries again.
        cdef Waiter waiter
        try:
            while self._waiting and (self._woken < self.count() or self._closed is not None):
                waiter = self._waiters[0]
                self._woken += waiter.end(None, False)
                self._waiters.popleft()
                self._waiting -= 1
        except Exception as error:
            self.loop.call_exception_handler(
                {"message": "a recv() was not woken; it is tried again", "exception": error})
        return 0

    cdef int _leave_queue(self, Waiter waiter) except -1:
        # A waiter goes without a value; what it was woken for goes to the next.
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
        # `_leave_queue` for a waiter that died in another thread.
        self._leave_queue(waiter)

    cdef bint may_take(self) except -1:
        # Whether whoever comes now takes a value. Waiters that are ahead come first, woken or not.
        return self._next != self._first and self._woken == 0 and self._waiting == 0

    cdef bint take(self, Entry* entry) except -1:
        # The oldest entry, with a value; the caller owns its references. There is one. True: it was no value,
        # and nothing else is left.
        entry[0] = self._ring[self._first & self._mask]
        if entry.value == NULL:
            entry.value = _made(self, entry)
        self._first += 1
        self.held_bytes -= entry.wire
        if self._held_back and self._has_room():
            self._resume_sources()
        return False

    cdef int take_more(self, list values, Py_ssize_t most) except -1:
        # Up to `most` values in all. Those of woken waiters stay; so does an error, for the next to raise.
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
            pass  # what was taken must not be lost; the next recv tells
        return 0

    cdef PyObject* take_at_once(self) except? NULL:
        # The oldest value, where nothing else is to be looked at, the common case. NULL without an
        # exception: something is.
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
        # When the oldest of what waits has come, by the system's clock; 0: nothing waits, or not for long.
        return self._aged_ns if self._first < self._aged else 0

    cdef dict shares(self):
        # Wire bytes held, by the source they came from.
        cdef dict shares = {}
        cdef size_t i
        cdef Entry* entry
        for i in range(self._first, self._next):
            entry = &self._ring[i & self._mask]
            source = <object>entry.source
            shares[source] = shares.get(source, 0) + entry.wire
        return shares

    cdef int replace_sources(self, object source) except -1:
        # All that is held came from this.
        cdef size_t i
        cdef Entry* entry
        cdef PyObject* before
        for i in range(self._first, self._next):
            entry = &self._ring[i & self._mask]
            before = entry.source
            Py_INCREF(source)
            entry.source = <PyObject*>source
            Py_XDECREF(before)  # the caller has another reference: nothing is freed here
        return 0

    cdef Py_ssize_t drop_from(self, object source) except -1:
        # Drops and counts what came from `source`; returns its wire bytes. The others keep their order.
        # A waiter that was woken for one of these waits anew.
        cdef list gone = []  # freed at the end: that may run code of the user's
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
        # What is held can still be taken; then every recv raises a copy of `error`.
        if self._closed is None:
            self._closed = error
            self._in_order = in_order
            self._held_back = []
            self._wake()
        return 0

    cdef object _ending(self):
        # A new exception each time: tracebacks must not pile up on one object.
        cause = self._closed
        error = type(cause)(*cause.args)
        error.__cause__ = cause.__cause__
        return error


# The ring is C memory: without these two, the collector would not see that a value left in the
# inbox holds its connection, which holds the endpoint, which holds the inbox.

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
