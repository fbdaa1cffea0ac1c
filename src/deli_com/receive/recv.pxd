# Takes received values for the tasks that await them.

from deli_com.ground.waiter cimport Waiter
from deli_com.receive.inbox cimport Inbox


cdef enum RecvMode:
    RECV_VALUE               # recv: a value
    RECV_PAIR                # recv_from: (source, value)
    RECV_MANY                # recv_many: a list of values
    NEXT_VALUE               # async for: like recv, but ends without an error after a normal close
    NEXT_PAIR                # async for over (source, value) pairs


cdef class Recv:
    cdef Inbox _inbox
    cdef RecvMode _mode
    cdef Py_ssize_t _most                 # limit on the values of one recv_many
    cdef Waiter _waiter                   # while waiting
    cdef int _state

    cdef object _step(self)
    cdef object _value(self)
    cdef object _awaited(self)
    cdef int _give_up(self) except -1


# A coroutine object that takes from `inbox`. It marks the inbox as wanted.
cdef Recv recv_from_inbox(Inbox inbox, RecvMode mode, Py_ssize_t most)
