"""Passes the messages of an endpoint to listeners, as payloads without frames.

An endpoint has a `Tap` while it has a listener. A recording is a `Sink`. It knows the channel of each class,
and puts payloads into an intake. Other listeners subclass `Hearer`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int32_t

from deli_com.ground.scalar cimport load_u32
from deli_com.recording.intake cimport Intake

from deli_com.errors import BacklogFull


class _Alone:
    def __repr__(self):
        return "ALONE"


ALONE = _Alone()  # the scope of messages to one client


cdef class Hearer:
    """Gets the messages of an endpoint."""

    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1:
        return 0

    cdef int forgets(self, bytes payload, object scope) except -1:
        return 0


@cython.final
cdef class Sink(Hearer):
    """One recording of an endpoint.

    Parameters
    ----------
    intake : Intake
        The queue for payloads.
    channel_of : callable
        ``(way, variant, scope)`` gives the channel. Way 0 is sent, 1 is received. The variant is an index; it
        is 0 if the type is not sealed. Called once for each combination.
    sent, received : int
        Number of variants of the type of each way; 0 if it is not sealed.
    """

    def __cinit__(self, Intake intake not None, channel_of, Py_ssize_t sent, Py_ssize_t received):
        cdef Py_ssize_t way, i
        self.intake = intake
        self._channel_of = channel_of
        self._others = {}
        for way in range(2):
            count = received if way else sent
            self._sealed[way] = count > 0
            self._variants[way] = max(1, count)
            self._to_all[way] = <int32_t*>PyMem_Malloc(<size_t>self._variants[way] * sizeof(int32_t))
            if self._to_all[way] == NULL:
                raise MemoryError
            for i in range(self._variants[way]):
                self._to_all[way][i] = -1

    def __dealloc__(self):
        PyMem_Free(self._to_all[0])
        PyMem_Free(self._to_all[1])

    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1:
        cdef Py_ssize_t variant = 0
        cdef int channel = -1
        if self._sealed[<int>way]:
            if size >= 4:
                variant = <Py_ssize_t>load_u32(payload)
            elif tail is not None and PyBytes_GET_SIZE(tail) >= 4:
                variant = <Py_ssize_t>load_u32(PyBytes_AS_STRING(tail))
            if variant >= self._variants[<int>way]:
                return 0  # a variant of a newer writer, which this file cannot name
        if scope is None:
            channel = self._to_all[<int>way][variant]
        if channel < 0:
            channel = self._channel(way, variant, scope)
        return self.intake.add_message(0, <unsigned short>channel, payload, size, tail)

    cdef int _channel(self, Way way, Py_ssize_t variant, object scope) except -1:
        cdef object key = (<int>way, variant, scope)
        cdef object found = self._others.get(key)
        if found is None:
            found = self._others[key] = self._channel_of(<int>way, variant, scope)
        if scope is None:
            self._to_all[<int>way][variant] = found
        return found


@cython.final
cdef class Tap:
    """Passes each message to all listeners.

    Parameters
    ----------
    sinks : tuple of Hearer
        Listeners that may refuse a message come first.
    """

    def __cinit__(self, tuple sinks not None):
        self.sinks = sinks

    cdef int note(self, Way way, const char* payload, Py_ssize_t size, bytes tail, object scope) except -1:
        cdef tuple sinks = self.sinks  # a sink may call Python code, which may change them
        cdef Py_ssize_t i
        if way == WAY_SENT:
            for i in range(PyTuple_GET_SIZE(sinks)):
                (<Hearer>PyTuple_GET_ITEM(sinks, i)).note(way, payload, size, tail, scope)
            return 0
        for i in range(PyTuple_GET_SIZE(sinks)):
            try:
                (<Hearer>PyTuple_GET_ITEM(sinks, i)).note(way, payload, size, tail, scope)
            except BacklogFull:
                pass  # a received message is dropped: its sender is the peer
        return 0

    cdef int forgets(self, bytes payload, object scope) except -1:
        for listener in self.sinks:
            (<Hearer>listener).forgets(payload, scope)
        return 0
