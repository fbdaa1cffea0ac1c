# Values with the peers that they are from, for `async for`.

from deli_com.receive.inbox cimport Inbox


cdef class Pairs:
    cdef Inbox _inbox
