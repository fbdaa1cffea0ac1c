# Values with the peers that sent them, for `async for`.

from deli_com.receive.inbox cimport Inbox


cdef class Pairs:
    cdef Inbox _inbox
