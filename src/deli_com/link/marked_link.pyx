"""A connection whose way to its peer is measured by markers, and whose silence is judged by their answers.

A marker is what the peer answers in order: a PING over WebSocket, a control text over TCP, there only to
peers that have announced a schema. This file decides when one is sent, and takes the answers. What they tell
is arithmetic (fanout/transit.pyx).
"""

import math
from os import urandom

from libc.stdint cimport uint64_t

from deli_com.fanout.transit cimport Transit
from deli_com.ground.sockets cimport deli_com_clock_ns, deli_com_tcp, deli_com_tcp_info
from deli_com.link.speaker cimport Speaker

cdef enum:
    TOKEN_BYTES = 8
    UNMEASURED_BYTES = 65536  # in flight at most, where silence is judged without knowing the rate
    GRACE_TIMEOUTS = 10       # at most, that a marker has in addition because of what is before it

cdef double SIGN_S = 5.0      # between two signs of life of an end that does not read


cdef class MarkedLink(Speaker):
    """A `Speaker` that sends markers, once `begin_marks` was called."""

    def __cinit__(self, *args, **kwargs):
        self.round_trip = math.nan

    cdef int begin_marks(self, Py_ssize_t mark_bytes) except -1:
        # From now on the peer can be asked. `attach` was called.
        cdef double clock = self.endpoint.sweep.clock
        self._mark_bytes = mark_bytes
        self.heard_at = clock
        self._ask_at = clock + self.endpoint.ping_interval
        self._sign_at = clock + min(SIGN_S, self.endpoint.ping_timeout / 4)
        self.transit = Transit(0, self.given_bytes)
        self.aim(clock)
        if math.isinf(self.endpoint.max_transit):
            self.transit.lift()
        if self.reading_paused:
            self.transit.suspend()
        return 0

    # --- markers -------------------------------------------------------------------------

    cdef int on_mark_due(self) except -1:
        # Behind what the transport holds, and so at the end of a frame.
        cdef bytes chance
        cdef uint64_t token
        if not self.may_mark():
            return 0
        chance = urandom(TOKEN_BYTES)
        token = (<uint64_t*><char*>chance)[0]
        self.transit.mark(token, self.given_bytes, deli_com_clock_ns())
        return self.send_mark(token)

    cdef int handle_answer(self, uint64_t token) except -1:
        # What answers no marker of ours is ignored.
        if self.endpoint.sweep.is_late():
            self.transit.forget_times()
        if not self.transit.answer(token, deli_com_clock_ns()):
            return 0
        self._asked_at = 0
        if self.transit.round_trip_ns:
            self.round_trip = self.transit.round_trip_ns / 1e9
        return self.endpoint.hub.on_transit(self)

    # --- sweep ---------------------------------------------------------------------------

    cdef int watch(self, double clock) except -1:
        # Called at each sweep while it is open.
        self._watch_transit(clock)
        if self._asked_at and self.heard_at >= self._asked_at:
            self._asked_at = 0  # any byte is a sign of life
        if self.reading_paused:
            # Silence says nothing then. A peer that has closed would answer a marker by a reset, and what it
            # had sent before would be lost.
            if self._asked_at:
                self._asked_at = clock
            return self._say_alive(clock)
        self._sign_at = clock + min(SIGN_S, self.endpoint.ping_timeout / 4)
        if not self._asked_at:
            if clock - self.heard_at >= self.endpoint.ping_interval and self.may_mark():
                self._asked_at = clock
                self._acked = deli_com_tcp_info(self.socket).bytes_acked
                return self.on_mark_due()
        elif clock - self._asked_at >= self.endpoint.ping_timeout:
            return self.judge_silence(clock)
        return 0

    cdef int _watch_transit(self, double clock) except -1:
        cdef Transit transit = self.transit
        cdef uint64_t now = deli_com_clock_ns()
        if self.endpoint.sweep.was_late:
            transit.forget_times()
        self.aim(clock)
        if transit.is_due(self.given_bytes, now) and not transit.lifted:
            self.on_mark_due()
        elif clock >= self._ask_at:
            # Whether it answers must be known before it falls silent. If it is silent, it is asked anyway.
            self._ask_at = math.inf
            if not transit.answers and clock - self.heard_at < self.endpoint.ping_interval:
                self.on_mark_due()
        transit.look(now)
        if transit.in_force != self.is_bounded:
            self.endpoint.hub.on_transit(self)
        return 0

    cdef int _say_alive(self, double clock) except -1:
        # The peer gets no answers meanwhile. This says that there is life, and nothing else.
        if clock < self._sign_at:
            return 0
        self._sign_at = clock + min(SIGN_S, self.endpoint.ping_timeout / 4)
        if not self.writing_paused and self.may_mark() and not deli_com_tcp_info(self.socket).has_ended:
            self.send_sign()
        return 0

    cdef int judge_silence(self, double clock) except -1:
        # No byte since it was asked.
        cdef deli_com_tcp known
        if self.transit.answers and (
            self.transit.rate or self.transit.in_flight(self.given_bytes) <= UNMEASURED_BYTES
        ):
            # What its kernel acknowledges, or that of a proxy, is no sign of life. What was before the first
            # marker that is not answered has the time that it takes.
            if clock - self._asked_at < self.endpoint.ping_timeout + self.transit.grace(
                GRACE_TIMEOUTS * self.endpoint.ping_timeout
            ):
                return 0
        else:
            # It has never answered, or how fast it takes what was given is not known: it may be busy taking
            # one large frame, behind which the marker waits. The kernel may know that.
            known = deli_com_tcp_info(self.socket)
            if known.is_known and (
                known.silent_ms < 1000 * self.endpoint.ping_timeout
                or known.bytes_acked > self._acked + self._mark_bytes
            ):
                self._acked = known.bytes_acked
                self._asked_at = clock
                return 0
        return self.on_silent(
            f"keepalive: no sign of life for {clock - self.heard_at:.1f} s, "
            f"{self.waiting_bytes()} bytes queued")

    cdef object round_trip_time(self):
        return None if math.isnan(self.round_trip) else self.round_trip

    # --- for the wire protocol to override -----------------------------------------------

    cdef bint may_mark(self) except -1:
        return False  # whether something can still be sent

    cdef int send_mark(self, uint64_t token) except -1:
        return 0

    cdef int send_sign(self) except -1:
        return 0  # something that the peer does not answer

    cdef int on_silent(self, str cause) except -1:
        return 0  # it is dead: end the connection
