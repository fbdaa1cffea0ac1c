"""An inbox that applies the delivery policies of the values that it receives.

::

    in order of arrival    P1 P2 | R | P3 P1' | S R | P2'        R reliable, S skip, P latest, by key

Reliable values and values of policy skip keep their places. A newer value of policy latest replaces the
waiting one of its key, wherever that is, and goes to the end of the queue. So it never overtakes a value that
keeps its place. The values before the first one that keeps its place may be taken next. Among them the keys
take turns: first comes the key that was not taken for longest. In order of arrival, a program that is slower
than the stream would get the first key again and again.

A value is replaced only by one that arrived in a later turn of the event loop. No turn counts as ended while
a woken waiter has not taken its value. So a program that keeps up gets every value, in the order of arrival.

A value that may be replaced waits as bytes. `message_key` reads its key, and it is decoded when taken.

A value of a class with `max_age` is left out once it has waited for so long.

A program that computes for long without awaiting would get old values, while newer ones wait in the kernel.
So if more than `AWAY_NS` have passed since the last take in the same turn, the loop reads first, until no
more arrives.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec, codec_decode
from deli_com.coding.decode cimport decode_plain
from deli_com.coding.wait_as_bytes cimport NOT_PLAIN, PLAIN_ALWAYS, is_plain_value, plainness
from deli_com.errors import DecodeError
from deli_com.ground.delivery_class cimport DELIVER_LATEST, DELIVER_RELIABLE, DELIVER_SKIP
from deli_com.ground.home cimport at_home
from deli_com.ground.sockets cimport deli_com_clock_ns
from deli_com.ground.waiter cimport Waiter
from deli_com.receive.held_memory cimport HeldMemory, free_values
from deli_com.receive.inbox cimport Entry, Inbox
from deli_com.receive.message_key cimport message_keys
from deli_com.receive.slots cimport NO_PLACE, Held, Slot, SlotTable
from deli_com.types.instance import record_spec

cdef enum:
    AWAY_NS = 10000000      # time between two takes in one turn, after which the loop reads first
    REFRESH_LEAST = 2       # turns until the kernel's data is surely read; the first may precede the read
    REFRESH_MOST = 50
    PLAIN_BYTES = 256

cdef extern from *:
    "static int dc_reraise_late(void) { return -1; }"
    int _reraise "dc_reraise_late"() except -1
    void C_XINCREF "Py_XINCREF"(PyObject* value) noexcept

# `codec_decode` as C sees it: a new reference, or NULL with the exception set.
ctypedef PyObject* (*DecodeFunction)(TypeCodec, const char*, Py_ssize_t) noexcept
cdef DecodeFunction _decode = <DecodeFunction><void*>codec_decode


cdef class PolicyInbox(Inbox):
    """An `Inbox` for values of which some have a policy; made by `inbox_for`."""

    def __cinit__(self, loop, TypeCodec codec not None, **bounds):
        self._keys = message_keys(codec)
        if self._keys is None:
            raise TypeError(f"no class of {codec.type!r} has a policy that drops values")
        self._slots = SlotTable()
        self._memory = HeldMemory()
        spec = record_spec(codec.type)
        classes = spec.variants.values() if spec.sealed else [codec.type]
        self._lane_of = {
            cls: lane for lane, cls in enumerate(classes)
            if record_spec(cls).delivery.policy in ("latest", "skip")
            or record_spec(cls).delivery.max_age is not None
        }
        self._has_ages = self._keys.has_ages
        self._is_always_plain = plainness(codec.reads) == PLAIN_ALWAYS
        self._is_never_plain = plainness(codec.reads) == NOT_PLAIN
        self.plain_size = max(self.plain_size, 1)  # so that `may_wait` is asked of every message
        self._turn = 1

    def __dealloc__(self):
        free_values(self._first_held)
        self._first_held = NULL

    cdef Py_ssize_t count(self) noexcept:
        return self._held

    # --- what comes ----------------------------------------------------------------------

    cdef bint may_wait(self, const char* data, Py_ssize_t size) noexcept:
        if self._is_dead or not self._keys.find(data, size, &self._found):
            return False
        return self._found.kind != DELIVER_RELIABLE or self._is_plain(data, size)

    cdef bint _is_plain(self, const char* data, Py_ssize_t size) noexcept:
        # Whether decoding it can neither fail nor run the user's code.
        if size > PLAIN_BYTES:
            return False  # the check would take too long
        if self._is_always_plain:
            return self._codec.min_size <= size
        return not self._is_never_plain and is_plain_value(self._codec.reads, data, size)

    cdef bint push_plain(self, object source, const char* data, Py_ssize_t size) except -1:
        return self._push_held(source, NULL, data, size, False)

    cdef bint push(self, object source, object value, Py_ssize_t wire, bint is_error) except -1:
        cdef bytes data
        self._found.kind = DELIVER_RELIABLE
        self._found.max_age_ns = 0
        if not is_error and type(value) in self._lane_of:
            # The value was converted from another writer's schema. The key is that of the value as this end
            # writes it.
            data = self._codec.to_bytes(value)
            self._keys.find(data, len(data), &self._found)
        return self._push_held(source, <PyObject*>value, NULL, wire, is_error)

    cdef bint _push_held(
        self, object source, PyObject* value, const char* data, Py_ssize_t size, bint is_error
    ) except -1:
        # Adds a value, or bytes that are copied. `_found` has its policy and key.
        cdef Slot* slot = NULL
        cdef Held* held
        if self._closed is not None or self._is_dead:
            return False
        if not self._is_marked:
            self._turn_ns = deli_com_clock_ns()
        if self._has_ages:
            self._drop_aged(self._turn_ns)
        if self._found.kind == DELIVER_LATEST:
            slot = self._slots.get(<PyObject*>source, self._found.lane, self._found.data, self._found.size)
            while slot.first != NULL and slot.first.turn != self._turn:
                held = slot.first
                slot.first = held.next_of_key
                self._unlink(held)
                self._latest -= 1
                self.superseded += 1
                self._memory.free(held)
        elif self._found.kind == DELIVER_SKIP:
            self._make_room_to_skip(size)
        if not self.wanted and self.is_full():
            self.dropped += 1
            if slot != NULL and slot.first == NULL:
                self._slots.rest(slot)
            return False
        try:
            held = self._memory.new(data, size)
        except MemoryError:
            if slot != NULL and slot.first == NULL:
                self._slots.rest(slot)
            raise
        Py_INCREF(source)
        held.source = <PyObject*>source
        C_XINCREF(value)
        held.value = value
        held.is_error = is_error
        held.is_skip = self._found.kind == DELIVER_SKIP
        held.wire = size
        held.turn = self._turn
        held.came_ns = self._turn_ns
        held.due_ns = self._turn_ns + self._found.max_age_ns if self._found.max_age_ns else 0
        held.lane = self._found.lane
        held.slot = slot
        self._number += 1
        held.number = self._number
        held.before = self._last_held
        if self._last_held != NULL:
            self._last_held.after = held
        else:
            self._first_held = held
        self._last_held = held
        self._held += 1
        self.held_bytes += size
        if slot == NULL:
            self._link_fixed(held)
        else:
            self._link_latest(slot, held)
        if self._waiting:
            self._wake()
        if self._watchers is not None:
            self.tell_watchers()
        if not self._is_marked:
            self.loop.call_soon(self._on_turn)
            self._is_marked = True  # last, so that the next value retries if call_soon raises
        return self.wanted and self.is_full()

    cdef void _link_fixed(self, Held* held) noexcept:
        held.previous_fixed = self._last_fixed
        if self._last_fixed != NULL:
            self._last_fixed.next_fixed = held
        else:
            self._first_fixed = held
        self._last_fixed = held
        if held.is_skip and self._oldest_skip == NULL:
            self._oldest_skip = held

    cdef int _link_latest(self, Slot* slot, Held* held) except -1:
        cdef bint may_be_next
        if slot.first == NULL:
            slot.first = held
        else:
            slot.last.next_of_key = held
        slot.last = held
        if self._latest == 0:
            self._is_fair = False
            self._latest_since = self._turn
        self._latest += 1
        if not self._is_fair and self._latest_since != self._turn:
            self._is_fair = True
            self._admit(self._first_held)
            return 0
        may_be_next = self._is_fair and (
            self._first_fixed == NULL or slot.first.number < self._first_fixed.number)
        if may_be_next:
            if slot.place == NO_PLACE:
                self._slots.enter(slot)
        elif slot.place != NO_PLACE:
            self._slots.leave(slot)
        return 0

    cdef int _make_room_to_skip(self, Py_ssize_t size) except -1:
        # Past half of the limits, the oldest values of policy skip are dropped. The newest always stays.
        cdef Held* held
        while self._oldest_skip != NULL and (
            2 * (self.held_bytes + size) > self.max_bytes or 2 * (self._held + 1) > self.max_count
        ):
            held = self._oldest_skip
            self._detach(held)
            self.skipped += 1
            self._memory.free(held)
        return 0

    cdef int _drop_aged(self, uint64_t now) except -1:
        # The first ones that are too old: a program that takes none for long leaves room for what is new.
        cdef Held* held = self._first_held
        while held != NULL and held.due_ns != 0 and held.due_ns <= now:
            self._detach(held)
            self.skipped += 1
            self._memory.free(held)
            held = self._first_held
        return 0

    cdef int _skip_aged(self) except -1:
        # Those to be taken next that are too old.
        cdef Held* held = self._chosen()
        cdef uint64_t now = deli_com_clock_ns()
        while held != NULL and held.due_ns != 0 and held.due_ns <= now:
            self._detach(held)
            self.skipped += 1
            self._memory.free(held)
            held = self._chosen()
        return 0

    def _on_turn(self):
        # Runs one turn after the first arrival of this turn.
        self._is_marked = False
        if self._woken == 0:
            self._turn += 1

    # --- the lists -----------------------------------------------------------------------

    cdef void _unlink(self, Held* held) noexcept:
        if held.before != NULL:
            held.before.after = held.after
        else:
            self._first_held = held.after
        if held.after != NULL:
            held.after.before = held.before
        else:
            self._last_held = held.before
        self._held -= 1
        self.held_bytes -= held.wire

    cdef void _unlink_fixed(self, Held* held) noexcept:
        cdef Held* skip
        if held == self._oldest_skip:
            skip = held.next_fixed
            while skip != NULL and not skip.is_skip:
                skip = skip.next_fixed
            self._oldest_skip = skip
        if held.previous_fixed != NULL:
            held.previous_fixed.next_fixed = held.next_fixed
        else:
            self._first_fixed = held.next_fixed
        if held.next_fixed != NULL:
            held.next_fixed.previous_fixed = held.previous_fixed
        else:
            self._last_fixed = held.previous_fixed

    cdef int _admit(self, Held* held) except -1:
        # Allows the values from here up to the next one that keeps its place to be taken next.
        while held != NULL and held.slot != NULL:
            if held.slot.place == NO_PLACE:
                self._slots.enter(held.slot)
            held = held.after
        return 0

    cdef int _detach(self, Held* held) except -1:
        # Removes a value, the first of its key, from all lists: it was taken, or is dropped.
        cdef Slot* slot = held.slot
        cdef Held* following = held.after
        cdef bint was_first_fixed = held == self._first_fixed
        self._unlink(held)
        if slot == NULL:
            self._unlink_fixed(held)
            if was_first_fixed and self._is_fair:
                self._admit(following)
            return 0
        self._latest -= 1
        slot.first = held.next_of_key
        self._slots.taken(slot)
        if slot.first == NULL:
            self._slots.rest(slot)
        elif slot.place != NO_PLACE and self._first_fixed != NULL and (
            slot.first.number > self._first_fixed.number
        ):
            self._slots.leave(slot)
        if self._latest == 0:
            self._is_fair = False
        return 0

    cdef void _put_first(self, Held* held) noexcept:
        # Puts a value back in front of all others. From now on it keeps its place.
        while self._slots.heaped:
            self._slots.leave(self._slots.heap[0])
        self._is_fair = False
        held.slot = NULL
        held.is_skip = False
        held.number = 0
        held.before = NULL
        held.after = self._first_held
        if self._first_held != NULL:
            self._first_held.before = held
        else:
            self._last_held = held
        self._first_held = held
        held.previous_fixed = NULL
        held.next_fixed = self._first_fixed
        if self._first_fixed != NULL:
            self._first_fixed.previous_fixed = held
        else:
            self._last_fixed = held
        self._first_fixed = held
        self._held += 1
        self.held_bytes += held.wire

    # --- what is taken -------------------------------------------------------------------

    cdef Held* _chosen(self) noexcept:
        # The value to take next.
        cdef Held* held = self._first_held
        if held == NULL or held.slot == NULL or not self._is_fair:
            return held
        return self._slots.heap[0].first

    cdef Held* _next_made(self) except? NULL:
        # Takes the next value, decoded; the caller frees it. NULL without an exception: none is left.
        cdef Held* held
        while True:
            if self._has_ages:
                self._skip_aged()
            held = self._chosen()
            if held == NULL:
                return NULL
            self._detach(held)
            if held.value != NULL or self._make(held):
                return held

    cdef bint _make(self, Held* held) except -1:
        # Returns False if it failed to decode; then it is freed.
        held.value = _decode(self._codec, held.data, held.wire)
        return held.value != NULL or self._refuse(held)

    cdef bint _refuse(self, Held* held) except -1:
        # Handles the exception that the decoder has set.
        try:
            _reraise()
        except MemoryError:
            self._put_first(held)
            raise
        except DecodeError as problem:
            error = problem
        except (KeyboardInterrupt, SystemExit):
            self._memory.free(held)
            raise
        except BaseException as cause:
            error = DecodeError(f"{type(cause).__name__} while the value was made: {cause}")
            error.__cause__ = cause
        if self.is_client:
            self.undecodable += 1
            Py_INCREF(error)
            held.value = <PyObject*>error
            held.is_error = True
            return True
        source = <object>held.source
        size = held.wire
        self._memory.free(held)
        source._refused(error, size)
        return False

    cdef inline int _now(self) noexcept:
        self._taken_ns = deli_com_clock_ns()
        self._taken_turn = self._turn
        return 0

    cdef bint take(self, Entry* entry) except -1:
        cdef Held* held = self._next_made()
        if held != NULL:
            entry.value = held.value
            entry.source = held.source
            entry.wire = held.wire
            entry.is_error = held.is_error
            held.value = NULL
            held.source = NULL
            self._memory.free(held)
            self._now()
        if self._held_back and self._has_room():
            self._resume_sources()
        return held == NULL

    cdef int take_more(self, list values, Py_ssize_t most) except -1:
        cdef Held* held
        try:
            if self._has_ages:
                self._skip_aged()
            while len(values) < most and self._held > self._woken and not self._chosen().is_error:
                held = self._next_made()
                if held == NULL:
                    break
                if held.is_error:
                    self._put_first(held)
                    break
                value = <object>held.value
                values.append(value)
                self._memory.free(held)
        except MemoryError:
            pass  # the values taken so far must not be lost; the next recv raises
        self._now()
        if self._held_back and self._has_room():
            self._resume_sources()
        return 0

    cdef PyObject* take_at_once(self) except? NULL:
        cdef Held* held
        cdef PyObject* value
        if (
            self._held == 0 or self._woken or self._waiting or self._held_back or not at_home(self.home)
        ):
            return NULL
        if self._has_ages:
            self._skip_aged()
        held = self._chosen()
        if held == NULL or held.is_error or self._was_away():
            return NULL
        if held.value == NULL:
            if not self._is_plain(held.data, held.wire):
                return NULL
            held.value = decode_plain(self._codec.reads, held.data, held.wire)
        self._detach(held)
        value = held.value
        held.value = NULL
        self._memory.free(held)
        self._now()
        return value

    cdef bint may_take(self) except -1:
        if self._has_ages:
            self._skip_aged()
            if self._held_back and self._has_room():
                self._resume_sources()
        if self._held == 0 or self._woken or self._waiting:
            return False
        if self._closed is None and self._was_away():
            self._refreshes = 1
            self._refreshed = self._number
            self.loop.call_soon(self._on_refresh)
            return False
        return True

    cdef bint _was_away(self) noexcept:
        # Whether the program has blocked the loop since it took the last value.
        return (
            self._taken_turn == self._turn and self._taken_ns != 0
            and deli_com_clock_ns() - self._taken_ns > AWAY_NS
        )

    def _on_refresh(self):
        # Runs after a turn of the loop. Reading continues until nothing more arrives.
        cdef Py_ssize_t turns = self._refreshes
        cdef bint goes_on = (
            turns < REFRESH_LEAST or self._number != self._refreshed and turns < REFRESH_MOST)
        self._refreshes = 0  # stays 0 unless the next turn is scheduled
        try:
            if self._closed is None and goes_on:
                self._refreshed = self._number
                self.loop.call_soon(self._on_refresh)
                self._refreshes = turns + 1
        finally:
            if not self._refreshes:
                self._taken_turn = 0
                self._wake()

    cdef int _wake(self) except -1:
        return 0 if self._refreshes else Inbox._wake(self)

    # --- watchers ------------------------------------------------------------------------

    cdef int watch(self, Waiter watcher) except -1:
        # Ends it at the next arrival, or when the inbox is closed.
        if self._watchers is None:
            self._watchers = []
        self._watchers.append(watcher)
        return 0

    cdef int unwatch(self, Waiter watcher) except -1:
        if self._watchers is not None and watcher in self._watchers:
            self._watchers.remove(watcher)
        return 0

    cdef int tell_watchers(self) except -1:
        cdef list watchers = self._watchers
        cdef Waiter watcher
        self._watchers = None
        if watchers is not None:
            for watcher in watchers:
                watcher.end(None, False)
        return 0

    cdef int close(self, object error, bint in_order) except -1:
        Inbox.close(self, error, in_order)
        return self.tell_watchers()

    # --- everything else -----------------------------------------------------------------

    cdef uint64_t oldest_ns(self) noexcept:
        return 0 if self._first_held == NULL else self._first_held.came_ns

    cdef int sweep(self) except -1:
        if self._has_ages and self._woken == 0:
            self._drop_aged(deli_com_clock_ns())
        if self._held_back and self._has_room():
            self._resume_sources()
        if self._held == 0 and self._number == self._seen and not self._is_dead:
            self._slots.forget_idle(0)
            self._memory.drop_spares()
        self._seen = self._number
        return 0

    cdef dict shares(self):
        cdef dict shares = {}
        cdef Held* held = self._first_held
        while held != NULL:
            source = <object>held.source
            shares[source] = shares.get(source, 0) + held.wire
            held = held.after
        return shares

    cdef int replace_sources(self, object source) except -1:
        cdef Held* held = self._first_held
        cdef PyObject* before
        while held != NULL:
            before = held.source
            Py_INCREF(source)
            held.source = <PyObject*>source
            Py_XDECREF(before)  # the caller holds another reference, so nothing is freed here
            held = held.after
        return 0

    cdef Py_ssize_t drop_from(self, object source) except -1:
        cdef Held* held = self._first_held
        cdef Held* following
        cdef Held* gone = NULL
        cdef Py_ssize_t wire = 0
        while held != NULL:
            following = held.after
            if held.source == <PyObject*>source:
                wire += held.wire
                self._unlink(held)
                if held.slot == NULL:
                    self._unlink_fixed(held)
                else:  # all values of its key are from this source
                    self._latest -= 1
                    held.slot.first = held.next_of_key
                    if held.slot.first == NULL:
                        self._slots.rest(held.slot)
                self.dropped += 1
                held.after = gone
                gone = held
            held = following
        if self._latest == 0:
            self._is_fair = False
        elif self._is_fair:
            self._admit(self._first_held)
        while gone != NULL:
            following = gone.after
            self._memory.free(gone)
            gone = following
        if self._held_back and self._has_room():
            self._resume_sources()
        return wire
