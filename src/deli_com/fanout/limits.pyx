"""How far a follower may be behind, and for how long: who is past it is cut off.

Only reliable frames count: of the others a laggard gets what there is room for. One frame
never exceeds the limit by itself, and nobody is checked before the loop has run since it fell behind.
"""

from logging import getLogger

from libc.stdint cimport uint64_t

from deli_com.fanout.follower cimport FOLLOWER_BLOCKED, FOLLOWER_CURRENT, FOLLOWER_READY, Follower
from deli_com.fanout.rosters cimport Rosters
from deli_com.ground.sockets cimport deli_com_tcp_info

cdef object logger = getLogger("deli_com.hub")


cdef class Bounds(Rosters):
    """The limits of one hub, which calls them."""

    cdef Py_ssize_t room_for(self, Py_ssize_t frame) noexcept:
        # Nonzero if a frame of so many bytes may be appended now. Into empty logs it always may.
        cdef Py_ssize_t queued = self.arena.held - self.arena.newest
        return queued == 0 or frame <= self.max_queued - queued

    cdef int _judge(self) except -1:
        # Closes who is more than max_backlog behind. Nobody is while the log holds less.
        cdef Follower follower
        cdef Py_ssize_t lag
        if self.arena.reliable <= self.max_backlog:
            return 0
        for follower in self.laggards():
            lag = follower.lag()  # 0 where a log handler of a cut-off before has cut this one off, too
            if lag <= self.max_backlog or self.turns <= follower.behind_turn + 1:
                continue
            if follower._is_alone(lag):
                continue
            self._cut_off(
                follower,
                f"too slow: {lag} bytes queued, limit {self.max_backlog}, "
                f"behind for {self.sweep.now() - follower.behind_since:.1f} s",
            )
        return self.log.trim(self.log.flushed.offset)  # what they held is free at once

    cdef int _progress(self) except -1:
        # A laggard must move bytes: out of the transport, or over the wire as its kernel says.
        cdef Follower follower
        cdef uint64_t sent, acked
        for follower in self.laggards():
            if follower.hub is None:  # a log handler has cut it off, too
                continue
            if not follower.holds_reliable and follower.lag() == 0:
                # Nothing waits but what newer messages replace: it costs no more than that, and
                # whether it lives is keepalive's to find out.
                follower.progress_at = self.sweep.clock
                continue
            sent = follower.sent_bytes()
            acked = deli_com_tcp_info(follower.socket).bytes_acked if follower.socket >= 0 else 0
            if sent != follower.progress_sent or acked != follower.progress_acked:
                follower.progress_sent = sent
                follower.progress_acked = acked
                follower.progress_at = self.sweep.clock
            elif self.sweep.clock - follower.progress_at >= self.progress_timeout:
                self._cut_off(
                    follower,
                    f"no progress for {self.sweep.clock - follower.progress_at:.1f} s "
                    f"with {follower.lag() + follower.given_bytes - sent} bytes queued",
                )
        return 0

    cdef int _cut_off(self, Follower follower, str cause) except -1:
        follower.leave()
        try:
            return follower.on_too_slow(cause)
        except Exception:
            return self._report("closing a slow follower failed")

    cdef int _broken(self, Follower follower) except -1:
        follower.leave()
        try:
            return follower.on_broken()
        except Exception:
            return self._report("dropping a broken follower failed")

    cdef int _report(self, str what) except -1:
        # Errors that belong to one follower must not stop the flush for the others.
        logger.exception(what)
        return 0

    cdef int schedule(self) except -1:
        return 0  # a turn is wanted

    # --- what happened to one follower ---

    cdef int _settle_all(self) except -1:
        cdef Follower follower
        self._unsettled = False
        for follower in self.followers:
            self._settle(follower)
        return 0

    cdef int _settle(self, Follower follower) except -1:
        # Puts a follower where its transport says it belongs.
        if follower.state == FOLLOWER_CURRENT:
            if follower.choked:
                follower.cursors.at.record = self.log.flushed.record
                self._put(follower, FOLLOWER_BLOCKED)
        else:
            self._put(follower, FOLLOWER_BLOCKED if follower.choked else FOLLOWER_READY)
        return 0

    cdef void _gave(self, Follower follower, Py_ssize_t size) noexcept:
        follower.given_bytes += <uint64_t>size
        self.bytes_out += <uint64_t>size

    cdef void _missed(self, Follower follower, Py_ssize_t skipped, Py_ssize_t superseded) noexcept:
        if skipped | superseded:
            follower.skipped += skipped
            follower.superseded += superseded
            self.skipped += skipped
            self.superseded += superseded
