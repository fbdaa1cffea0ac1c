"""Values with the peers that sent them."""

from deli_com.receive.inbox cimport Inbox
from deli_com.receive.recv cimport NEXT_PAIR, recv_from_inbox


cdef class Pairs:
    """The asynchronous iterator of `Endpoint.with_peer`. It shares the endpoint's inbox."""

    def __cinit__(self, Inbox inbox not None):
        self._inbox = inbox

    def __aiter__(self):
        return self

    def __anext__(self):
        return recv_from_inbox(self._inbox, NEXT_PAIR, 1)
