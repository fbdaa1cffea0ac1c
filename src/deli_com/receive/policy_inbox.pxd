# An inbox for types with policies. It keeps the newest value of each key, as the sender's log does.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.ground.waiter cimport Waiter
from deli_com.receive.held_memory cimport HeldMemory
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.message_key cimport MessageKey, MessageKeys
from deli_com.receive.slots cimport Held, Slot, SlotTable


cdef class PolicyInbox(Inbox):
    # --- private ---------------------------------------------------------------------
    cdef MessageKeys _keys
    cdef SlotTable _slots
    cdef HeldMemory _memory
    cdef dict _lane_of                # class -> lane, for classes with policy latest or skip
    cdef bint _is_always_plain
    cdef bint _is_never_plain
    cdef bint _has_ages               # some class has a `max_age`
    cdef bint _is_dead                # the collector has cleared it
    cdef MessageKey _found            # by `may_wait`, for `push_plain`
    cdef Held* _first_held
    cdef Held* _last_held
    cdef Held* _first_fixed           # list of values that keep their place: reliable, skip, errors
    cdef Held* _last_fixed
    cdef Held* _oldest_skip
    cdef Py_ssize_t _held
    cdef Py_ssize_t _latest           # number of those with policy latest
    cdef bint _is_fair                # latest values are taken in turns by key, not in order of arrival
    cdef uint64_t _latest_since       # loop turn since which there are latest values
    cdef uint64_t _number             # number of the last arrival
    cdef uint64_t _turn
    cdef uint64_t _turn_ns
    cdef bint _is_marked              # `_on_turn` is scheduled
    cdef uint64_t _taken_ns           # when the last value was taken
    cdef uint64_t _taken_turn         # loop turn in which the last value was taken
    cdef int _refreshes               # loop turns for which taking has been suspended; 0: not suspended
    cdef uint64_t _refreshed          # `_number` in the last of these turns
    cdef list _watchers               # Waiters that end at the next arrival and take no value; None: none

    cdef int watch(self, Waiter watcher) except -1
    cdef int unwatch(self, Waiter watcher) except -1
    cdef int tell_watchers(self) except -1
    cdef bint _push_held(
        self, object source, PyObject* value, const char* data, Py_ssize_t size, bint is_error) except -1
    cdef bint _is_plain(self, const char* data, Py_ssize_t size) noexcept
    cdef void _link_fixed(self, Held* held) noexcept
    cdef int _link_latest(self, Slot* slot, Held* held) except -1
    cdef void _unlink(self, Held* held) noexcept
    cdef void _unlink_fixed(self, Held* held) noexcept
    cdef int _admit(self, Held* held) except -1
    cdef int _make_room_to_skip(self, Py_ssize_t size) except -1
    cdef int _drop_aged(self, uint64_t now) except -1
    cdef int _skip_aged(self) except -1
    cdef Held* _chosen(self) noexcept
    cdef int _detach(self, Held* held) except -1
    cdef Held* _next_made(self) except? NULL
    cdef bint _make(self, Held* held) except -1
    cdef bint _refuse(self, Held* held) except -1
    cdef void _put_first(self, Held* held) noexcept
    cdef int _now(self) noexcept
    cdef bint _was_away(self) noexcept
