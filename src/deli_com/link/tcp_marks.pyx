"""Marks over TCP: control texts that a peer answers in order, and what the system knows of the others.

Only a peer that has announced a schema is sent marks. One that answers them is judged by what it sends. Any
other is judged by what the system has heard of its system (docs/wire.md section 10).
"""

from libc.stdint cimport uint64_t

from deli_com.ground.sockets cimport deli_com_tcp, deli_com_tcp_info
from deli_com.link.marked_link cimport MarkedLink
from deli_com.link.peer cimport CONNECTION_OPEN
from deli_com.link.speaker cimport Speaker
from deli_com.schema.control import Mark, Seen, render

cdef enum:
    MARK_BYTES = 36          # of a mark on the wire
    SEENS_A_READ = 64        # marks answered one by one; of more in one read only the last

cdef bytes SIGN = render(Seen("0" * 16))  # answers no mark


cdef class TcpMarks(MarkedLink):
    """A `MarkedLink` whose markers are control texts."""

    cdef int begin_life(self) except -1:
        # `attach` was called.
        self._look_at = self.endpoint.sweep.clock + self.endpoint.ping_interval + self.endpoint.ping_timeout
        return 0

    cdef int agree(self) except -1:
        Speaker.agree(self)
        return self.begin_marks(MARK_BYTES)

    # --- marks of the peer ---------------------------------------------------------------

    cdef int on_mark(self, str token) except -1:
        # At most one answer waits, for the latest mark. It answers those before as well.
        if self.agreement is None or self.agreement.theirs is None:
            return 0
        self.owed_seen = token
        self.marks_read += 1
        return self.answer_mark() if self.marks_read <= SEENS_A_READ else 0

    cdef int answer_mark(self) except -1:
        if self.owed_seen is not None and not self.writing_paused and self.stage == CONNECTION_OPEN:
            token, self.owed_seen = self.owed_seen, None
            self.say(render(Seen(token)))
        return 0

    # --- marks of this end ---------------------------------------------------------------

    cdef int on_seen(self, str token) except -1:
        return 0 if self.transit is None else self.handle_answer(<uint64_t>int(token, 16))

    cdef bint may_mark(self) except -1:
        return self.stage == CONNECTION_OPEN and not self.transport.is_closing()

    cdef int send_mark(self, uint64_t token) except -1:
        return self.say(render(Mark(f"{token:016x}")))

    cdef int send_sign(self) except -1:
        return self.say(SIGN)

    # --- life ----------------------------------------------------------------------------

    cdef int watch_life(self, double clock) except -1:
        # Called at each sweep while it is open.
        if self.transit is not None:
            self.watch(clock)
            if self.stage != CONNECTION_OPEN or self.transit.answers:
                return 0
        return self._judge_by_system(clock) if clock >= self._look_at else 0

    cdef int judge_silence(self, double clock) except -1:
        if self.transit.answers:
            return MarkedLink.judge_silence(self, clock)
        # It ignores marks. They go on, so that a proxy sees that the connection is used.
        if clock - self._asked_at >= self.endpoint.ping_interval:
            self._asked_at = 0
        return 0

    cdef int _judge_by_system(self, double clock) except -1:
        # Anything from its system is a sign of life, also a bare acknowledgement. The system probes an
        # idle peer, and a peer that does not read answers probes of its window.
        cdef deli_com_tcp known = deli_com_tcp_info(self.socket)
        cdef double limit = self.endpoint.ping_interval + self.endpoint.ping_timeout
        cdef double silent = min(known.silent_ms, known.ack_ms) / 1e3
        if not known.is_known or silent < limit:
            self._look_at = clock + (limit - silent if known.is_known else limit)
            return 0
        return self.on_silent(
            f"keepalive: no sign of life for {silent:.1f} s, {self.waiting_bytes()} bytes queued")
