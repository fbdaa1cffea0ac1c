# An inbox for types with policies: it keeps the newest of each key, as the sender's log does.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.message_key cimport MessageKey, MessageKeys
from deli_com.receive.slots cimport Held, Slot, SlotTable


cdef class PolicyInbox(Inbox):
    # --- private ---------------------------------------------------------------------
    cdef MessageKeys _keys
    cdef SlotTable _slots
    cdef dict _lane_of                # class to lane, of classes that are not reliable
    cdef bint _is_always_plain
    cdef bint _is_never_plain
    cdef bint _is_dead                # the collector has cleared it
    cdef MessageKey _found            # by `may_wait`, for `push_plain`
    cdef Held* _first_held
    cdef Held* _last_held
    cdef Held* _first_fixed           # of those that keep their place: reliable ones, skip, errors
    cdef Held* _last_fixed
    cdef Held* _oldest_skip
    cdef Held* _spare                 # freed ones, by `after`
    cdef Py_ssize_t _spares
    cdef Py_ssize_t _held
    cdef Py_ssize_t _latest           # of them, those of policy latest
    cdef bint _is_fair                # they are taken by turns, not in order: some are of an earlier turn
    cdef uint64_t _latest_since       # turn in which there came to be any
    cdef uint64_t _number             # of the last arrival
    cdef uint64_t _turn
    cdef uint64_t _turn_ns
    cdef bint _is_marked              # `_on_turn` is on its way
    cdef uint64_t _taken_ns           # when the last value was taken
    cdef uint64_t _taken_turn         # and in which turn
    cdef int _refreshes               # turns for which what waits is not given out; 0: it is
    cdef uint64_t _refreshed          # `_number` in the last of them

    cdef bint _push_held(
        self, object source, PyObject* value, const char* data, Py_ssize_t size, bint is_error) except -1
    cdef bint _is_plain(self, const char* data, Py_ssize_t size) noexcept
    cdef void _link_fixed(self, Held* held) noexcept
    cdef int _link_latest(self, Slot* slot, Held* held) except -1
    cdef Held* _new(self, const char* data, Py_ssize_t size) except NULL
    cdef void _free(self, Held* held) noexcept
    cdef void _unlink(self, Held* held) noexcept
    cdef void _unlink_fixed(self, Held* held) noexcept
    cdef int _admit(self, Held* held) except -1
    cdef int _make_room_to_skip(self, Py_ssize_t size) except -1
    cdef Held* _chosen(self) noexcept
    cdef int _detach(self, Held* held) except -1
    cdef Held* _next_made(self) except? NULL
    cdef bint _make(self, Held* held) except -1
    cdef bint _refuse(self, Held* held) except -1
    cdef void _put_first(self, Held* held) noexcept
    cdef int _now(self) noexcept
    cdef bint _was_away(self) noexcept


# The inbox for what a codec reads: a plain one where its types have no policy.
cdef Inbox inbox_for(
    object loop, TypeCodec codec, Py_ssize_t max_bytes, bint conflate, bint is_client)
