"""The bound on input that waits in memory, for all connections of an endpoint together (`max_inbound`).

Each connection adds what it keeps to one sum, so a read costs one comparison. Connections are looked
at one by one only when the sum and the inbox are over the bound.
"""

import logging

from cpython.object cimport PyObject

from deli_com.receive.inbox cimport Inbox

cdef enum:
    # The part of the bound that must be free after it was reached: before the next look at all
    # connections, the peers have to send at least so much.
    SPARE_PART = 16


cdef class InputQuota:
    """Limit on received bytes that wait for ``recv``.

    Parameters
    ----------
    limit : int
        Bytes.
    inbox : Inbox
    owner : Endpoint
        It has this. ``owner._connections()`` are the connections that count. Each has ``held`` (bytes),
        ``remote_addr``, ``_release_memory()``, ``_is_open()`` and ``_on_too_much(cause)``, which ends it.
    log : LogBudget
        Told of each client that is closed.
    """

    def __cinit__(self, Py_ssize_t limit, Inbox inbox not None, owner, log):
        self.limit = limit
        self.inbox = inbox
        self._owner = <PyObject*>owner
        self._log = log

    cdef int enforce(self) except -1:
        # First, memory is returned that only waits for more input. If that is not enough, the connections
        # that hold most are closed, and their values that nobody has received are dropped.
        cdef Py_ssize_t before = self.buffered + self.inbox.held_bytes
        cdef Py_ssize_t enough = self.limit - self.limit // SPARE_PART
        cdef dict shares
        cdef list connections = (<object>self._owner)._connections()
        for connection in connections:
            connection._release_memory()
        if self.buffered + self.inbox.held_bytes <= enough:
            return 0
        shares = self.inbox.shares()
        for connection in connections:
            shares[connection] = connection.held + <Py_ssize_t>shares.get(connection, 0)
        connections.sort(key=shares.__getitem__, reverse=True)
        for connection in connections:
            if self.buffered + self.inbox.held_bytes <= enough:
                break
            cause = (
                f"too much unreceived: {shares[connection]} bytes of this client, {before} of all, "
                f"limit {self.limit}"
            )
            is_open = connection._is_open()
            self.inbox.drop_from(connection)
            connection._on_too_much(cause)
            if is_open:
                self._log.log(logging.WARNING, "closing %s (1009): %s", connection.remote_addr, cause)
        return 0
