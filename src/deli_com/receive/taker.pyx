"""Threads that receive: they take from an inbox which an event loop of another thread fills.

There is no second queue, and a value needs no turn of the loop. The inbox is compiled code that holds the
GIL, so no other thread can interrupt it. So a thread takes an entry out of it as the loop's thread would. It
decodes the value afterwards, from an entry that it owns by then. Entries that are not taken still belong to
the inbox: newer values replace them, and they count for its limit.

A thread that finds nothing waits in the inbox's queue, as a coroutine does, with a `Bell` instead of a
future. Ringing it wakes that thread, and needs no turn of the loop either. The loop only resumes reading once
there is room again.
"""

import threading
from time import monotonic

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.math cimport INFINITY
from libc.string cimport memcmp, memcpy

from deli_com._fastcodec cimport codec_decode
from deli_com.coding.decode cimport decode_plain
from deli_com.ground.waiter cimport Waiter
from deli_com.receive.inbox cimport Entry, Inbox
from deli_com.receive.policy_inbox cimport PolicyInbox
from deli_com.receive.slots cimport Held

cdef enum:
    PLAIN_BYTES = 128      # maximum of `plain_size`
    MOST_KEYS = 65536      # whose newest value is remembered after it was taken

cdef double GLANCE_S = 0.5  # a Ctrl-C right before a wait does not wake the thread, so no wait is longer
cdef object new_lock = threading.Lock


cdef class Bell(Waiter):
    """A `Waiter` for a thread."""

    def __cinit__(self, loop):
        self.lock = new_lock()
        self.lock.acquire()

    cdef bint end(self, object result, bint is_error) except -1:
        if self._is_done:
            return False
        self._is_done = True
        self.lock.release()
        return True


cdef class Taker:
    """Receives from one inbox, in any thread.

    Parameters
    ----------
    inbox : Inbox
    remembers : bool
        Keep the last value of each key that was taken, for `latest`.
    """

    def __cinit__(self, Inbox inbox not None, bint remembers=False):
        self.inbox = inbox
        self._newest = {} if remembers and isinstance(inbox, PolicyInbox) else None

    def recv(self, timeout=None):
        """Wait for one value, for at most `timeout` seconds; then raise TimeoutError."""
        cdef double deadline = _deadline(timeout)
        self._wait(timeout, deadline)
        return self._value(timeout, deadline)

    def recv_from(self, timeout=None):
        """Like `recv`; returns the connection that the value came over, and the value."""
        cdef Entry entry
        cdef double deadline = _deadline(timeout)
        while True:
            self._wait(timeout, deadline)
            if not self._take(&entry):
                continue
            value = <object>entry.value
            source = <object>entry.source
            Py_DECREF(value)
            Py_DECREF(source)
            if entry.is_error:
                raise value
            return source, value

    def recv_many(self, Py_ssize_t most, timeout=None):
        """Wait for one value; return a list of the available values, at most `most`."""
        cdef Inbox inbox = self.inbox
        cdef Entry entry
        cdef double deadline = _deadline(timeout)
        self._wait(timeout, deadline)
        cdef list values = [self._value(timeout, deadline)]
        try:
            while len(values) < most and inbox.count() > inbox._woken and not self._is_error_next():
                if not self._take(&entry):
                    break
                value = <object>entry.value
                Py_DECREF(value)
                Py_XDECREF(entry.source)
                values.append(value)
        except MemoryError:
            pass  # the values taken so far must not be lost; the next call raises the error again
        return values

    def __iter__(self):
        return self

    def __next__(self):
        try:
            self._wait(None, INFINITY)
            return self._value(None, INFINITY)
        except ConnectionError:
            if self.inbox._closed is not None and self.inbox._in_order:
                raise StopIteration from None
            raise

    def has_values(self):
        """Whether a value waits that no woken waiter is about to take."""
        return self.inbox.count() > self.inbox._woken

    def latest(self, int lane, bytes key not None, timeout=None):
        """Wait until there is a value of this key. Return the newest, which stays in the inbox for `recv`.

        Parameters
        ----------
        lane : int
            Index of its class.
        key : bytes
            The key's fields as they are on the wire.
        timeout : float, optional
        """
        cdef PolicyInbox inbox = <PolicyInbox?>self.inbox
        cdef double deadline = _deadline(timeout)
        cdef Bell bell
        inbox.home.check_process("latest")
        inbox.wanted = True
        found = self._look_up(lane, key)
        while found is None:
            bell = Bell(inbox.loop)
            inbox.watch(bell)  # before the next look, so that no arrival is missed
            try:
                found = self._look_up(lane, key)
                if found is None:
                    self._await_arrival(bell, timeout, deadline)
            finally:
                inbox.unwatch(bell)
        return found[0]

    cdef int _await_arrival(self, Bell bell, object timeout, double deadline) except -1:
        cdef Inbox inbox = self.inbox
        cdef double now = monotonic()
        if inbox._closed is not None:
            _let_exit()
            raise inbox._ending()
        if now >= deadline:
            raise TimeoutError(f"no value of this key within {timeout} s")
        bell.lock.acquire(True, min(GLANCE_S, deadline - now))
        PyErr_CheckSignals()
        return 0

    def _look_up(self, int lane, bytes key):
        # (value,), or None. The newest value of a key is the last one that waits, else the one taken last.
        cdef Held* held = (<PolicyInbox>self.inbox)._last_held
        cdef bytes data
        while held != NULL:
            if (
                held.slot != NULL and held.lane == lane and held.slot.size == PyBytes_GET_SIZE(key)
                and memcmp(held.slot.key, PyBytes_AS_STRING(key), held.slot.size) == 0
            ):
                if held.value != NULL:
                    return (None,) if held.is_error else (<object>held.value,)
                data = PyBytes_FromStringAndSize(held.data, held.wire)
                return (codec_decode(self.inbox._codec, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)),)
            held = held.before
        if self._newest is not None and (lane, key) in self._newest:
            return (self._newest[lane, key],)
        return None

    # --- private ---

    cdef bint _wait(self, object timeout, double deadline) except -1:
        # Returns once there is an entry for this thread. The caller takes it before it releases the GIL.
        cdef Inbox inbox = self.inbox
        cdef Bell bell
        inbox.home.check_process("recv")
        inbox.wanted = True
        if inbox.count() > 0 and inbox._woken == 0 and inbox._waiting == 0:
            return True
        while True:
            if inbox._closed is not None and inbox.count() <= inbox._woken:
                _let_exit()
                raise inbox._ending()
            bell = Bell(inbox.loop)
            inbox._waiters.append(bell)
            inbox._waiting += 1
            inbox._wake()  # there may be more values than waiters ahead of this one
            if not self._ring_in(bell, deadline):
                raise TimeoutError(f"no value within {timeout} s")
            inbox._woken -= 1
            if inbox.count() > 0:
                return True

    cdef int _ring_in(self, Bell bell, double deadline) except -1:
        # False: the time is over, and the bell was removed from the queue.
        cdef double left = GLANCE_S
        try:
            while not bell._is_done:
                if deadline != INFINITY:
                    left = min(GLANCE_S, deadline - monotonic())
                PyErr_CheckSignals()
                if left > 0:
                    bell.lock.acquire(True, left)
                elif not bell._is_done:
                    self.inbox._leave_queue(bell)
                    return False
        except BaseException:  # Ctrl-C: the value that it was woken for goes to the next waiter
            self.inbox._leave_queue(bell)
            raise
        return True

    cdef object _value(self, object timeout, double deadline):
        cdef Entry entry
        while not self._take(&entry):
            self._wait(timeout, deadline)
        value = <object>entry.value
        Py_DECREF(value)
        Py_XDECREF(entry.source)
        if entry.is_error:
            raise value
        return value

    def _is_error_next(self):
        cdef Held* held
        cdef Inbox inbox = self.inbox
        if isinstance(inbox, PolicyInbox):
            if (<PolicyInbox>inbox)._has_ages:
                (<PolicyInbox>inbox)._skip_aged()
            held = (<PolicyInbox>inbox)._chosen()
            return held != NULL and held.is_error
        return inbox._ring[inbox._first & inbox._mask].is_error

    cdef bint _take(self, Entry* entry) except -1:
        # False: no entry gave a value. The caller owns the references in `entry`.
        cdef Inbox inbox = self.inbox
        cdef char plain[PLAIN_BYTES]
        cdef Py_ssize_t size
        if isinstance(inbox, PolicyInbox):
            return self._take_held(<PolicyInbox>inbox, entry)
        if inbox.count() == 0:
            return False
        entry[0] = inbox._ring[inbox._first & inbox._mask]
        size = min(entry.wire, inbox.plain_size)
        if entry.value == NULL:
            memcpy(plain, inbox._plain + (inbox._first & inbox._mask) * inbox.plain_size, size)
        inbox._first += 1
        inbox.held_bytes -= entry.wire
        # From here on other threads may run.
        if entry.value == NULL:
            try:
                entry.value = decode_plain(inbox._codec.reads, plain, size)
            except BaseException:
                Py_XDECREF(entry.source)
                raise
        if inbox._held_back:
            self._look_for_room()
        return True

    cdef bint _take_held(self, PolicyInbox inbox, Entry* entry) except -1:
        cdef Held* held
        cdef bytes key = None
        cdef int lane
        while True:
            if inbox._has_ages:
                inbox._skip_aged()
            held = inbox._chosen()
            if held == NULL:
                return False
            lane = held.lane
            if self._newest is not None and held.slot != NULL:
                key = PyBytes_FromStringAndSize(held.slot.key, held.slot.size)
            inbox._detach(held)
            # From here on other threads may run.
            if held.value != NULL or inbox._make(held):
                break
            key = None
        entry.value = held.value
        entry.source = held.source
        entry.wire = held.wire
        entry.is_error = held.is_error
        held.value = NULL
        held.source = NULL
        inbox._memory.free(held)
        if key is not None and not entry.is_error:
            self._remember(inbox, lane, key, entry.value)
        if inbox._held_back:
            self._look_for_room()
        return True

    cdef int _remember(self, PolicyInbox inbox, int lane, bytes key, PyObject* value) except -1:
        cdef dict newest = self._newest
        place = (lane, key)
        newest.pop(place, None)  # so that the dict is ordered by the time of taking
        newest[place] = <object>value
        if len(newest) > MOST_KEYS:
            try:
                del newest[next(iter(newest))]
            except (KeyError, RuntimeError):
                pass  # another thread has changed the dict
        return inbox.tell_watchers()  # a thread that looked meanwhile has found the value nowhere

    cdef int _look_for_room(self) except -1:
        # If there is room, reading is resumed on the loop's thread.
        if self._is_asked or not self.inbox._has_room():
            return 0
        try:
            self._is_asked = True
            self.inbox.loop.call_soon_threadsafe(self._go_on_reading)
        except RuntimeError:
            pass  # the loop has ended
        except BaseException:
            self._is_asked = False  # the next take asks again
            raise
        return 0

    def _go_on_reading(self):
        self._is_asked = False
        if self.inbox._held_back and self.inbox._has_room():
            self.inbox._resume_sources()


cdef double _deadline(object timeout) except? -1:
    return INFINITY if timeout is None else <double>monotonic() + <double>timeout


cdef int _sleep(double seconds) except -1:
    # Releases the GIL. A Ctrl-C ends it.
    lock = new_lock()
    lock.acquire()
    lock.acquire(True, seconds)
    PyErr_CheckSignals()
    return 0


def exits():
    """Note that the interpreter exits. Daemon threads that wait then no longer raise `ConnectionClosed`.

    Their tracebacks would be printed at exit, where no program can handle them.
    """
    global _exits
    _exits = True


cdef bint _exits = False


cdef int _let_exit() except -1:
    while _exits and threading.current_thread().daemon:
        _sleep(3600)
    return 0
