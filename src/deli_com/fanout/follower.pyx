"""One receiver of the broadcast logs, and the logs that are for some receivers only.

A follower reads the log of all, and those of the audiences it is a member of: groups, and
one of its own for what is sent to it alone. It has a cursor in each. The connection behind
it overrides the ``on_`` methods.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.object cimport PyObject

from deli_com.log.log cimport Cursor, Log
from deli_com.log.ring cimport NOWHERE, Position


cdef class Owner:
    """The owner of an endpoint's parts, as the parts see it."""

    cdef int on_writability(self, Follower follower) except -1:
        return 0  # `writing_paused` has changed

    cdef int on_left(self, Follower follower) except -1:
        return 0  # it takes itself off the logs

    cdef int on_own_messages(self, Follower follower) except -1:
        return 0  # messages wait for it that the others do not get

    cdef int on_transit(self, Follower follower) except -1:
        return 0  # what may be in flight to it has changed

    cdef int append_encoded(self, object message) except -1:
        return 0  # an `Encoded` of another thread is to be appended

    cdef int on_flushed(self) except -1:
        return 0  # a flush has ended; followers may have caught up or gone

    cdef bint on_sweep(self) except -1:
        return False  # the clock has moved; True: call again even if there is no follower


cdef class Audience(Log):
    """A log for some of the followers of a hub."""

    def __init__(self, framing, arena, Owner owner, name=None):
        self.owner = owner
        self.name = name
        self.members = set()

    cdef bint has_room(self, Py_ssize_t frame) noexcept:
        # Whether a reliable frame of so many bytes may be appended. Into an empty log it always may.
        return self.cap == 0 or self.reliable == 0 or self.reliable + frame <= self.cap

    cdef int add_member(self, Follower follower) except -1:
        # From here on it gets every frame appended to this log, after what is retained in it.
        cdef Position at = self.tail()
        cdef int i
        if follower in self.members:
            return 0
        if self.retained_keys:
            at = self.head()
            for i in range(1, follower.cursor_count):
                # It was a member until now, and still gets what was retained then.
                if follower.cursors[i].log == <PyObject*>self and follower.cursors[i].limit > at.offset:
                    at.offset = follower.cursors[i].limit
        self.members.add(follower)
        try:
            self.separate()
            follower._add_cursor(self, at, self.end)
        except BaseException:
            self.members.discard(follower)
            raise
        if at.offset < self.end:
            self.owner.on_own_messages(follower)
        return 0

    cdef int discard_member(self, Follower follower) except -1:
        # It gets what was appended before, and nothing after.
        cdef int i
        if follower not in self.members:
            return 0
        self.members.discard(follower)
        for i in range(1, follower.cursor_count):
            if follower.cursors[i].log == <PyObject*>self and follower.cursors[i].limit == <uint64_t>NOWHERE:
                follower.cursors[i].limit = self.end
                if follower.cursors[i].at.offset == self.end:
                    follower._drop_cursor(i)
                elif follower.state == FOLLOWER_CURRENT:
                    self.owner.on_own_messages(follower)  # its last frames wait, and it is no member any more
                return 0
        return 0


cdef class Follower:
    """One receiver of the logs of a hub."""

    def __cinit__(self):
        self.fd = -1
        self.socket = -1
        self.muted = NULL
        self.state = FOLLOWER_GONE
        self.paced = True
        self.audiences = []

    def __dealloc__(self):
        PyMem_RawFree(self.cursors)

    cdef bint is_behind(self) noexcept:
        return self.state == FOLLOWER_READY or self.state == FOLLOWER_BLOCKED

    cdef bint has_all(self) noexcept:
        # Whether everything for it has been given to the kernel or the transport.
        cdef int i
        if self.hub is None:
            return False
        for i in range(self.cursor_count):
            if self.cursors[i].at.offset < min((<Log>self.cursors[i].log).end, self.cursors[i].limit):
                return False
        return True

    cdef bint has_all_of(self, Audience audience) noexcept:
        # The same for one audience that it is a member of.
        cdef int i
        for i in range(1, self.cursor_count):
            if self.cursors[i].log == <PyObject*>audience and self.cursors[i].at.offset < audience.end:
                return False
        return True

    cdef uint64_t sent_bytes(self) except? 0:
        # Bytes for it that have left this process, ever.
        cdef uint64_t waiting = 0
        if self.writing_paused:
            waiting = self.transport.get_write_buffer_size()
        return self.given_bytes - waiting if waiting < self.given_bytes else 0

    cdef Py_ssize_t lag(self) noexcept:
        # Bytes of whole reliable frames that it has yet to be given.
        cdef Py_ssize_t bytes_behind = 0
        cdef Cursor left
        cdef int i
        if self.hub is None or not self.is_behind():
            return 0
        for i in range(self.cursor_count):
            bytes_behind += (<Log>self.cursors[i].log).reliable_after(&self.cursors[i])
            if self.cursors[i].limit != <uint64_t>NOWHERE:
                left = self.cursors[i]
                left.at.offset = left.limit
                bytes_behind -= (<Log>left.log).reliable_after(&left)
        return bytes_behind

    cdef bint _is_alone(self, Py_ssize_t lag) noexcept:
        # Whether so many bytes of lag are one single frame.
        cdef int i
        for i in range(self.cursor_count):
            if (<Log>self.cursors[i].log).first_reliable(&self.cursors[i]) == lag:
                return True
        return False

    cdef int on_writing_paused(self) except -1:
        # The transport holds bytes now.
        self.writing_paused = True
        return self.hub.on_writability(self) if self.hub is not None else 0

    cdef int on_writing_resumed(self) except -1:
        # The transport holds nothing any more.
        self.writing_paused = False
        return self.hub.on_writability(self) if self.hub is not None else 0

    cdef int leave(self) except -1:
        # Removes it from the logs. Idempotent. After this nothing is written to its fd.
        cdef Owner hub = self.hub
        cdef Log log
        if hub is None:
            return 0
        try:
            return hub.on_left(self)
        finally:  # it has let go, and may have failed to schedule a turn
            self.hub = None
            self.muted = NULL
            for log in self.audiences:
                if isinstance(log, Audience):
                    (<Audience>log).members.discard(self)
                log.trim(log.flushed.offset)
            self.audiences.clear()
            self.cursor_count = 0
            self.private = None

    # --- cursors -----------------------------------------------------------------------

    cdef int _add_cursor(self, Log log, Position at, uint64_t floor) except -1:
        cdef Cursor* grown
        cdef Cursor* cursor
        grown = <Cursor*>PyMem_RawRealloc(
            self.cursors, <size_t>(self.cursor_count + 1) * sizeof(Cursor))
        if grown == NULL:
            raise MemoryError("the logs that one client reads")
        self.cursors = grown
        if self.cursor_count:
            self.audiences.append(log)
        cursor = &self.cursors[self.cursor_count]
        cursor.log = <PyObject*>log
        cursor.at = at
        cursor.floor = floor
        cursor.limit = <uint64_t>NOWHERE
        cursor.tag = 0
        cursor.pinned = False
        self.cursor_count += 1
        if self.is_behind():
            log.pin(&cursor.at)
            cursor.pinned = True
        return 0

    cdef int _drop_cursor(self, int i) except -1:
        # Removes the cursor of an audience that it has left, once it has got everything from it.
        cdef Log log = <Log>self.cursors[i].log
        if self.cursors[i].pinned:
            log.unpin(&self.cursors[i].at)
        log.trim(log.flushed.offset)
        self.cursor_count -= 1
        while i < self.cursor_count:
            self.cursors[i] = self.cursors[i + 1]
            i += 1
        # `audiences` has no entry for the log of all, and an audience may be in it twice.
        for i in range(len(self.audiences)):
            if self.audiences[i] is log:
                del self.audiences[i]
                break
        return 0

    cdef int _pin_all(self) noexcept:
        cdef int i
        for i in range(self.cursor_count):
            (<Log>self.cursors[i].log).pin(&self.cursors[i].at)
            self.cursors[i].pinned = True
        return 0

    cdef int _unpin_all(self) noexcept:
        cdef int i
        for i in range(self.cursor_count):
            (<Log>self.cursors[i].log).unpin(&self.cursors[i].at)
            self.cursors[i].pinned = False
        return 0

    # --- for the owner of the connection to override -----------------------------------

    cdef int on_evicted(self, str cause, str detail) except -1:
        # It has left because of `cause`: "too slow" or "no progress". The owner closes the connection.
        return 0

    cdef int on_sweep(self, double clock) except -1:
        return 0  # the hub's clock has moved, in seconds

    cdef int on_missed(self) except -1:
        return 0  # `missed` has more, and what comes behind it has not been sent; may write to the transport

    cdef int on_mark_due(self) except -1:
        return 0  # a marker goes behind what it was given; may write to the transport

    cdef str of_transit(self):
        return ""  # what is known of its transit, for the text of an error; begins with a comma

    cdef int on_broken(self) except -1:
        return 0  # it has left because its socket failed; the owner aborts the connection
