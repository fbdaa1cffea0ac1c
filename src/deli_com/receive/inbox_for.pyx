"""Which inbox a codec's values wait in, and what the garbage collector sees of one with policies."""

from cpython.object cimport PyObject

from deli_com._fastcodec cimport TypeCodec
from deli_com.ground.gc_slots cimport CollectedType, inquiry, traverseproc, visitproc
from deli_com.receive.held_memory cimport free_values
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.message_key cimport message_keys
from deli_com.receive.policy_inbox cimport PolicyInbox
from deli_com.receive.slots cimport Held


cdef Inbox inbox_for(
    object loop, TypeCodec codec, Py_ssize_t max_bytes, bint conflate, bint is_client
):
    cdef Inbox inbox
    if conflate and codec is not None and message_keys(codec) is not None:
        inbox = PolicyInbox(loop, codec, max_bytes=max_bytes)
    else:
        inbox = Inbox(loop, codec, max_bytes=max_bytes)
    inbox.is_client = is_client
    return inbox


# The waiting values are in C memory, as in `Inbox`.

cdef traverseproc _traverse_fields = (<CollectedType*>PolicyInbox).tp_traverse
cdef inquiry _clear_fields = (<CollectedType*>PolicyInbox).tp_clear


cdef int _policy_inbox_traverse(PyObject* self, visitproc visit, void* argument) noexcept:
    cdef Held* held = (<PolicyInbox>self)._first_held
    cdef int result
    while held != NULL:
        result = visit(held.value, argument) if held.value != NULL else 0
        if result == 0:
            result = visit(held.source, argument)
        if result != 0:
            return result
        held = held.after
    return _traverse_fields(self, visit, argument)


cdef int _policy_inbox_clear(PyObject* self) noexcept:
    cdef PolicyInbox inbox = <PolicyInbox>self
    cdef Held* held = inbox._first_held
    inbox._first_held = inbox._last_held = inbox._first_fixed = inbox._last_fixed = inbox._oldest_skip = NULL
    inbox._held = inbox._latest = 0
    inbox._is_fair = False
    inbox._is_dead = True  # its slots still point to them
    free_values(held)
    return _clear_fields(self)


(<CollectedType*>PolicyInbox).tp_traverse = _policy_inbox_traverse
(<CollectedType*>PolicyInbox).tp_clear = _policy_inbox_clear
