# Takes values out of an inbox in threads other than the loop's.

from cpython.object cimport PyObject

from deli_com.ground.waiter cimport Waiter
from deli_com.receive.inbox cimport Entry, Inbox
from deli_com.receive.policy_inbox cimport PolicyInbox


cdef class Bell(Waiter):
    # The entry of a waiting thread in the inbox's queue of waiters.
    cdef object lock               # held until it rings


cdef class Taker:
    cdef readonly Inbox inbox
    # --- private ---
    cdef bint _is_asked            # `_go_on_reading` is scheduled on the loop
    cdef dict _newest              # (lane, bytes of the key) -> the value taken last; None: none are kept

    cdef int _await_arrival(self, Bell bell, object timeout, double deadline) except -1
    cdef bint _wait(self, object timeout, double deadline) except -1
    cdef int _ring_in(self, Bell bell, double deadline) except -1
    cdef bint _take(self, Entry* entry) except -1
    cdef bint _take_held(self, PolicyInbox inbox, Entry* entry) except -1
    cdef object _value(self, object timeout, double deadline)
    cdef int _look_for_room(self) except -1
    cdef int _remember(self, PolicyInbox inbox, int lane, bytes key, PyObject* value) except -1
