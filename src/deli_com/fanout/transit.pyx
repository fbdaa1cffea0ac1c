"""What lies between this end and a peer, and how much may: arithmetic only.

A socket's state tells of the next machine, which may be a proxy with megabytes of buffer. A marker is
something that the peer itself answers, in order: a PING, or a text over TCP. What was given between a
marker and its answer was in flight::

    given ------------------------------------------------> bytes
      confirmed          marker         marker       now
      |------------------ in flight ------------------|

The least round trip is that of the path. What a marker takes beyond it is queueing. Once queueing has
exceeded the target, a bound is in force: the rate times (least round trip + target).

The rate is the largest of the last 10 s. A sample is a lower limit of it where nothing waited, or where the
bound held the peer, so that such a sample can only raise it. Where more waited than the target allows, the
path was never idle, and the sample is the rate, whether or not the bound held the peer. It replaces those
from before its time.

The least round trip must not be one with queueing. As long as no marker was sent with nothing in flight, a
round trip over the target may all be queueing, and brings the bound, too. Then, and when queueing stays over
the target for long though the bound is in force, the peer is given nothing until all is confirmed. The next
marker is sent before anything else.
"""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    MARK_BYTES = 65536         # after which a marker is due where no bound is in force ...
    MARK_NS = 200000000        # ... and after this time: a sweep each 250 ms looks
    IDLE_BYTES = 16384         # since the last marker: a peer that was given no more did not wait
    EARLY_MARKS = 4            # unanswered at most, of a peer that has answered none yet
    LEAST_MARK_BYTES = 4096    # after which one is due where a bound is in force
    LEAST_BOUND = 16384
    FIRST_BOUND = 65536        # where no rate is known
    SAMPLE_NS = 100000000      # samples of less time are of bursts
    SECOND_NS = 1000000000
    GRACE_BYTES = 65536        # ahead of a marker, that add nothing to the time that it has

cdef uint64_t RELEASE_NS = 30 * <uint64_t>SECOND_NS  # after which a bound that has held nobody ends
cdef uint64_t ANEW_NS = 15 * <uint64_t>SECOND_NS     # of too much queueing: then the least is seen again


@cython.final
cdef class Transit:
    """The markers of one connection, what they have told, and the bound that follows.

    Parameters
    ----------
    target_ns : int
        How long bytes may wait on their way, beyond the least round trip.
    given : int
        Bytes that the peer was given before, of which nothing will be known.
    """

    def __cinit__(self, uint64_t target_ns, uint64_t given=0):
        self.target_ns = target_ns
        self.confirmed = self._marked = given
        self._marks = &self._only
        self._room = 1

    def __dealloc__(self):
        if self._marks != &self._only:
            free(self._marks)
        free(self._fastest)

    cdef Mark* _mark_at(self, int i) noexcept:
        return &self._marks[(self._first + i) % self._room]

    cdef bint _has_room(self) noexcept:
        # An idle connection has one marker at a time, and thousands of them are idle.
        cdef Mark* marks
        if self._count < self._room:
            return True
        if self._room == MARKS:
            return False
        marks = <Mark*>malloc(MARKS * sizeof(Mark))
        if marks is NULL:
            return False
        marks[0] = self._only
        self._marks, self._room, self._first = marks, MARKS, 0
        return True

    # --- markers -------------------------------------------------------------------------

    cpdef bint is_due(self, uint64_t given, uint64_t now_ns) noexcept:
        """Whether a marker is due, of a peer that was given so many bytes. Called at each sweep."""
        if given - self._marked < IDLE_BYTES:
            self._idle_ns = now_ns
        if self._count == MARKS or (self._count >= EARLY_MARKS and not self.answers):
            return False
        if self.in_force and not self.suspended and not self.lifted:
            return given - self._marked >= max(self.bound // 4, <uint64_t>LEAST_MARK_BYTES)
        return given - self._marked >= MARK_BYTES and now_ns - self._marked_ns >= MARK_NS

    cpdef bint ends_unmarked(self, uint64_t given) noexcept:
        """Whether bytes were given after the last marker that is not answered yet."""
        return given > (self._mark_at(self._count - 1).offset if self._count else self.confirmed)

    cpdef int mark(self, uint64_t token, uint64_t given, uint64_t now_ns) noexcept:
        """A marker is sent behind so many bytes."""
        cdef Mark* mark
        if not self._has_room():
            self._count -= 1  # the newest: this one stands for it
        mark = self._mark_at(self._count)
        mark.token = token
        mark.offset = given
        mark.sent_ns = now_ns
        mark.seen = self.confirmed
        if self._count and self._mark_at(self._count - 1).seen == self.confirmed:
            mark.seen_ns = self._mark_at(self._count - 1).seen_ns
        else:
            mark.seen_ns = max(self._confirmed_ns, self._idle_ns)
            if given == self.confirmed or not mark.seen_ns:
                mark.seen_ns = now_ns
        mark.counts = not self.suspended
        self._count += 1
        self._marked = given
        self._marked_ns = now_ns
        return 0

    cpdef bint answer(self, uint64_t token, uint64_t now_ns) noexcept:
        """The peer has answered a marker, and with it all before. False: there is no such marker."""
        cdef Mark* mark
        cdef int i
        for i in range(self._count):
            mark = self._mark_at(i)
            if mark.token == token:
                break
        else:
            return False
        if mark.counts and not self.suspended:
            self._measure(mark, now_ns)
        self.answers = True
        self.confirmed = max(self.confirmed, mark.offset)
        self._confirmed_ns = now_ns
        self._first = (self._first + i + 1) % self._room
        self._count -= i + 1
        self._held = False
        return True

    # --- what they tell ------------------------------------------------------------------

    cdef int _measure(self, Mark* mark, uint64_t now_ns) noexcept:
        cdef uint64_t took = max(now_ns - mark.sent_ns, <uint64_t>1) if now_ns > mark.sent_ns else 1
        cdef bint is_clean = mark.offset == mark.seen
        if is_clean and not self._is_clean:
            self._is_clean = True
            self.least_ns = took
        elif self.least_ns == 0 or took < self.least_ns:
            self.least_ns = took
        self.round_trip_ns = took
        self.queueing_ns = took - self.least_ns
        if self.queueing_ns <= self.target_ns:
            self._fine_ns = now_ns
        if not is_clean:
            self._sample(mark, now_ns)
        if self.queueing_ns > self.target_ns or (not self._is_clean and took > self.target_ns):
            self._enforce(now_ns)
        if self.in_force:
            self._adjust(mark, now_ns)
        return 0

    cdef int _sample(self, Mark* mark, uint64_t now_ns) noexcept:
        # What was in flight when the marker was sent has been read since the peer's last answer before that.
        cdef uint64_t took = max(now_ns - mark.seen_ns, <uint64_t>SAMPLE_NS)
        cdef double rate = <double>(mark.offset - mark.seen) * 1e9 / <double>took
        cdef uint64_t second = now_ns // SECOND_NS + 1
        cdef uint64_t last
        cdef int slot = <int>(second % RATES)
        cdef int i
        cdef Fastest* one
        if rate <= self.rate and self.queueing_ns <= self.target_ns and (
            self._held or 8 * self.queueing_ns < self.target_ns
        ):
            return 0
        self.rate = rate
        if self._fastest is NULL:  # an idle connection has no samples
            self._fastest = <Fastest*>calloc(RATES, sizeof(Fastest))
        if self._fastest is NULL:
            return 0
        one = &self._fastest[slot]
        if one.second != second:
            one.second, one.rate = second, 0.0
        one.rate = max(one.rate, rate)
        # It is the rate of the time since `seen_ns`; what was measured before that is outdated.
        # Else a peer that has stalled for seconds is given, after that, what it took before.
        last = mark.seen_ns // SECOND_NS + 1 if self.queueing_ns > self.target_ns else 0
        for i in range(RATES):
            one = &self._fastest[i]
            if one.second <= last and i != slot:
                one.second, one.rate = 0, 0.0
            elif one.second + RATES > second:
                self.rate = max(self.rate, one.rate)
        return 0

    cdef int _enforce(self, uint64_t now_ns) noexcept:
        if self.in_force:
            return 0
        self.in_force = True
        self.bound = FIRST_BOUND
        if self.rate:
            self.bound = max(<uint64_t>LEAST_BOUND, self._allowed())
        self.draining = not self._is_clean
        self._held_ns = self._fine_ns = now_ns
        return 0

    cdef uint64_t _allowed(self) noexcept:
        cdef double allowed = self.rate * <double>(self.least_ns + self.target_ns) / 1e9
        return <uint64_t>min(allowed, <double>(1 << 40))

    cdef int _adjust(self, Mark* mark, uint64_t now_ns) noexcept:
        cdef uint64_t bound = self._allowed() if self.rate else self.bound
        if self._held and 2 * self.queueing_ns < self.target_ns and mark.offset > mark.seen:
            bound = max(bound, self.bound)
            if mark.offset - mark.seen >= self.bound:
                # It was sent where the bound held: so much was in flight, and little waited.
                bound = max(bound, min(2 * self.bound, <uint64_t>1 << 40))
        self.bound = max(<uint64_t>LEAST_BOUND, bound)
        if now_ns - self._fine_ns > ANEW_NS and not self.draining:
            self._fine_ns = now_ns
            self._is_clean = False
            self.draining = True
        elif now_ns - self._held_ns > RELEASE_NS and 2 * self.queueing_ns < self.target_ns:
            self.in_force = self.draining = False
        return 0

    cpdef int look(self, uint64_t now_ns) noexcept:
        """Whether the oldest marker is overdue by the target; then the bound is in force."""
        if not self.in_force and self.answers and not self.suspended and not self.lifted:
            if self.least_ns and self.waiting_ns(now_ns) > self.target_ns:
                self._enforce(now_ns)
        return 0

    cpdef uint64_t waiting_ns(self, uint64_t now_ns) noexcept:
        """How long the oldest marker has waited beyond the least round trip."""
        cdef Mark* oldest = self._mark_at(0)
        if self._count == 0 or not oldest.counts or now_ns < oldest.sent_ns + self.least_ns:
            return 0
        return now_ns - oldest.sent_ns - self.least_ns

    cpdef uint64_t in_flight(self, uint64_t given) noexcept:
        """Bytes given that the peer has not confirmed."""
        return given - self.confirmed if given > self.confirmed else 0

    cpdef double grace(self, double most) noexcept:
        """Seconds that the oldest marker has in addition, for the bytes before it at the measured rate."""
        cdef double ahead
        if self._count == 0 or self.rate == 0.0:
            return 0.0
        ahead = <double>(self._mark_at(0).offset - self.confirmed) - GRACE_BYTES
        return min(most, ahead / self.rate) if ahead > 0 else 0.0

    # --- the bound -----------------------------------------------------------------------

    cpdef Py_ssize_t credit(self, uint64_t given) noexcept:
        """Bytes that may be given now: one message more than this at most."""
        cdef uint64_t waiting = self.in_flight(given)
        if not self.in_force or self.suspended or self.lifted:
            return PY_SSIZE_T_MAX
        if self.draining and waiting:
            return 0
        return <Py_ssize_t>(self.bound - waiting) if waiting < self.bound else 0

    cpdef bint begins_anew(self, uint64_t given) noexcept:
        """Whether all is confirmed, so that a marker now sees the least round trip."""
        if not self.in_force or not self.draining or self.in_flight(given) or self._count:
            return False
        self.draining = False
        return True

    cpdef int was_held(self, uint64_t now_ns) noexcept:
        """The bound has held the peer."""
        self._held = True
        self._held_ns = now_ns
        return 0

    cpdef int lift(self) noexcept:
        """There is no bound any more: the connection is closing."""
        self.lifted = True
        return 0

    # --- when this end does not read -------------------------------------------------------

    cpdef int suspend(self) noexcept:
        """From now on this end does not read: there is no bound."""
        self.suspended = True
        return 0

    cpdef int resume(self, uint64_t now_ns) noexcept:
        """This end reads again. The answers that come now were not read when they came."""
        self.suspended = False
        self._confirmed_ns = self._held_ns = self._fine_ns = now_ns
        return self.forget_times()

    cpdef int forget_times(self) noexcept:
        """This end was away: markers on their way confirm, and set nothing else."""
        cdef int i
        for i in range(self._count):
            self._mark_at(i).counts = False
        return 0
