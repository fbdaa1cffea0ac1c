"""How far a follower may be behind, and for how long. A follower beyond a limit is evicted.

Only reliable frames count. Of the others a laggard gets those that fit. One frame never exceeds
the limit by itself. A follower is checked only after the loop has run since it fell behind.
"""

from logging import getLogger

from libc.stdint cimport uint64_t

from deli_com.ground.sockets cimport deli_com_tcp_info

cdef object logger = getLogger("deli_com.hub")


cdef int report(str what) except -1:
    logger.exception(what)
    return 0


cdef class Limits:
    """The limits of one hub.

    Parameters
    ----------
    rosters : Rosters
        Of the same hub.
    max_backlog, max_queued : int
        Bytes, of one follower and of all logs.
    progress_timeout : float
        Seconds.
    """

    def __cinit__(
        self, Rosters rosters not None, Py_ssize_t max_backlog, Py_ssize_t max_queued, double progress_timeout
    ):
        self._rosters = rosters
        self._log = rosters.log
        self._arena = rosters.log.arena
        self.max_backlog = max_backlog
        self.max_queued = max_queued
        self.progress_timeout = progress_timeout

    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept:
        # Nonzero if a frame of so many bytes may be appended now. Empty logs accept any frame.
        cdef Py_ssize_t queued = self._arena.held - self._arena.newest
        return queued == 0 or frame <= self.max_queued - queued

    cdef bint is_crowded(self) noexcept:
        # Whether a follower may be more than max_backlog behind. None is while the logs hold less than that.
        return self._arena.reliable > self.max_backlog

    cdef int evict_too_far(self) except -1:
        # Evicts followers that are more than max_backlog behind.
        cdef Follower follower
        cdef Py_ssize_t lag
        if not self.is_crowded():
            return 0
        for follower in self._rosters.laggards():
            lag = follower.lag()  # 0 where a log handler of an eviction before has evicted this one, too
            if lag <= self.max_backlog or self._rosters.turns <= follower.behind_turn + 1:
                continue
            if follower._is_alone(lag):
                continue
            self._evict(
                follower, "too slow",
                f"too slow: {lag} bytes queued, limit {self.max_backlog}, "
                f"behind for {self._rosters.sweep.now() - follower.behind_since:.1f} s"
                f"{follower.of_transit()}",
            )
        return self._log.trim(self._log.flushed.offset)  # frees what they held at once

    cdef int evict_overdue(self) except -1:
        # A laggard must move bytes: out of the transport, or over the wire as its kernel says.
        cdef Follower follower
        cdef uint64_t sent, acked
        cdef double clock = self._rosters.sweep.clock
        for follower in self._rosters.laggards():
            if follower.hub is None:  # a log handler has evicted it, too
                continue
            if follower.is_held:
                # What it has to take next is an answer to a marker. Keepalive finds out whether it is alive.
                follower.progress_at = clock
                continue
            if not follower.holds_reliable and follower.lag() == 0:
                # Only messages that newer ones replace are waiting. Their memory does not grow, and
                # keepalive finds out whether the client is alive.
                follower.progress_at = clock
                continue
            sent = follower.sent_bytes()
            acked = deli_com_tcp_info(follower.socket).bytes_acked if follower.socket >= 0 else 0
            if sent != follower.progress_sent or acked != follower.progress_acked:
                follower.progress_sent = sent
                follower.progress_acked = acked
                follower.progress_at = clock
            elif clock - follower.progress_at >= self.progress_timeout:
                self._evict(
                    follower, "no progress",
                    f"no progress for {clock - follower.progress_at:.1f} s "
                    f"with {follower.lag() + follower.given_bytes - sent} bytes queued"
                    f"{follower.of_transit()}",
                )
        return 0

    cdef int _evict(self, Follower follower, str cause, str detail) except -1:
        try:
            follower.leave()
        finally:
            try:
                follower.on_evicted(cause, detail)
            except Exception:
                report("closing a slow follower failed")
        return 0

    cdef int drop_broken(self, Follower follower) except -1:
        # Its socket or transport has failed.
        try:
            follower.leave()
        finally:
            try:
                follower.on_broken()
            except Exception:
                report("dropping a broken follower failed")
        return 0

    cdef int give_up(self, Follower follower, object error, str what) except -1:
        # Like `drop_broken`. Called where `error` is handled. Raises it again unless it is an Exception.
        self.drop_broken(follower)
        if not isinstance(error, Exception):
            raise error
        return report(what)
