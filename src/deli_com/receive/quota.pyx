"""The limit on received data in memory, for all connections of an endpoint together (`max_inbound`).

Each connection adds the bytes that it holds to one sum, so a read costs one comparison. Only when the sum and
the inbox exceed the limit are the connections examined one by one.
"""

import logging

from cpython.object cimport PyObject

from deli_com.receive.inbox cimport Inbox

cdef enum:
    # The fraction of the limit that must be free after it was exceeded. So the peers must send at least that
    # much before all connections are examined again.
    SPARE_PART = 16


cdef class InputQuota:
    """Limit on received bytes that wait for ``recv``.

    Parameters
    ----------
    limit : int
        Limit in bytes.
    inbox : Inbox
    owner : Endpoint
        The endpoint, which owns this. ``owner._connections()`` are the connections that count. Each has
        ``held`` (bytes), ``remote_addr``, ``_release_memory()``, ``_is_open()`` and ``_on_too_much(cause)``,
        which closes it.
    log : LogBudget
        Logs each client that is closed.
    """

    def __cinit__(self, Py_ssize_t limit, Inbox inbox not None, owner, log):
        self.limit = limit
        self.inbox = inbox
        self._owner = <PyObject*>owner
        self._log = log

    cdef int enforce(self) except -1:
        # First the connections free memory that only waits for more input. If that is not enough, the
        # connections that hold most are closed, and their waiting values are dropped.
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
