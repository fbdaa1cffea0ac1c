"""Writes to one follower that is behind, has messages of its own, or has a full socket.

A round (fanout/hub.pyx) writes the same vectors to all followers that are up to date. All others are
served here: what a follower gets next is merged from its logs and written to its socket. It is written
through the transport if that encrypts, or if a system call has taken only a part of a frame.
"""

from deli_com.fanout.follower cimport (
    FOLLOWER_BLOCKED,
    FOLLOWER_CURRENT,
    FOLLOWER_GONE,
    FOLLOWER_READY,
    Follower,
)
from deli_com.fanout.limits cimport Limits
from deli_com.fanout.rosters cimport Rosters
from deli_com.ground.sockets cimport DELI_COM_BROKEN, deli_com_clock_ns, deli_com_sendv
from deli_com.log.log cimport Cursor, Log
from deli_com.log.merge cimport Merge, Piece
from deli_com.log.ring cimport NOWHERE, Position

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cdef enum:
    THROUGH_BYTES = 65536      # frames written together through a transport


cdef class Writer:
    """Writes to single followers of a hub, and counts what all followers were given.

    Parameters
    ----------
    rosters : Rosters
    limits : Limits
        Of the same hub.
    """

    def __cinit__(self, Rosters rosters not None, Limits limits not None):
        self._rosters = rosters
        self._limits = limits
        self._log = rosters.log
        self._merge = Merge()

    cdef void forget(self) noexcept:
        # The logs have changed, or are about to: nothing that was merged may be used again.
        self._merge.forget()

    cdef int serve(self, Follower follower) except -1:
        # A follower without messages of its own is sent up to where the others are. The round does the rest.
        cdef Merge merge = self._merge
        cdef uint64_t limit = <uint64_t>NOWHERE
        cdef Py_ssize_t sent
        cdef Py_ssize_t given = 0
        self._expire(follower)
        if not follower.is_fresh and follower.cursor_count == 1:
            limit = max(self._log.flushed.offset, min(follower.excluded_until, self._log.end))
        if follower.is_bounded:
            return self._serve_bounded(follower)
        if follower.fd < 0:
            return self.write_through(follower, follower.cursor_count, limit)
        while True:
            if not merge.fits(follower.cursors, follower.cursor_count, limit, follower.is_fresh, follower.id):
                merge.make(
                    follower.cursors, follower.cursor_count, limit, follower.is_fresh, follower.id,
                    PY_SSIZE_T_MAX)
            if follower.missed is not None and self._tell_missed(follower):
                if follower.state == FOLLOWER_READY:
                    continue
                return 0  # that has filled its transport
            if merge.count:
                sent = deli_com_sendv(follower.fd, merge.vectors, merge.count)
                if sent != merge.total:
                    return self.stopped_short(follower, sent, False)
                self._gave(follower, sent)
            if self._advance(follower, merge.count):
                self._hand_over(follower, [])
            given += merge.total
            if merge.is_whole or given >= THROUGH_BYTES:
                return 0  # or there is more than so many vectors hold: it waits for its next turn

    # --- with a bound on what is in flight --------------------------------------------------

    cdef int _serve_bounded(self, Follower follower) except -1:
        # The same, as far as the bound allows, up to the end of the logs: the round knows no bound.
        cdef Merge merge = self._merge
        cdef Py_ssize_t sent
        cdef Py_ssize_t given = 0
        cdef Py_ssize_t credit
        cdef uint64_t limit = <uint64_t>NOWHERE
        if follower.transit.begins_anew(follower.given_bytes):
            self._mark(follower)
        if follower.fd < 0:
            return self.write_through(follower, follower.cursor_count, limit)
        while follower.state == FOLLOWER_READY:
            credit = follower.transit.credit(follower.given_bytes)
            merge.make(
                follower.cursors, follower.cursor_count, limit, follower.is_fresh, follower.id,
                min(credit, THROUGH_BYTES))
            if credit == 0 and merge.count:
                return self._hold(follower)
            if follower.missed is not None and self._tell_missed(follower):
                continue
            if merge.count:
                sent = deli_com_sendv(follower.fd, merge.vectors, merge.count)
                if sent != merge.total:
                    self.stopped_short(follower, sent, False)
                    return self._mark_if_due(follower)
                self._gave(follower, sent)
            if self._advance(follower, merge.count):
                self._hand_over(follower, [])
            given += merge.total
            self._mark_if_due(follower)
            if merge.is_whole or given >= THROUGH_BYTES:
                return 0
        return 0

    cdef int _hold(self, Follower follower) except -1:
        # As much is in flight as may be. Behind its last byte is a marker, whose answer ends this.
        self._merge.forget()
        if follower.transit.ends_unmarked(follower.given_bytes):
            self._mark(follower)
        if follower.state == FOLLOWER_GONE:
            return 0
        follower.transit.was_held(deli_com_clock_ns())
        follower.is_held = True
        return self._rosters.put(follower, FOLLOWER_BLOCKED)

    cdef int _mark_if_due(self, Follower follower) except -1:
        if follower.state != FOLLOWER_GONE and follower.transit.is_due(
            follower.given_bytes, self._log.arena.now_ns
        ):
            self._mark(follower)
        return 0

    cdef int _mark(self, Follower follower) except -1:
        # A marker goes through the transport, which may hold it.
        self.writing = follower
        try:
            follower.on_mark_due()
        except BaseException as error:
            self._limits.give_up(follower, error, "a marker could not be sent")
        finally:
            self.writing = None
        return self._rosters.place(follower) if follower.state != FOLLOWER_GONE else 0

    cdef int _expire(self, Follower follower) except -1:
        # Drops messages that are too old for this follower. A round may describe later frames of the log of
        # all.
        cdef Log log
        cdef int i
        for i in range(follower.cursor_count):
            log = <Log>follower.cursors[i].log
            if log.ages is None or log.ages.count == 0:
                continue
            if log.expire(log.arena.now_ns, log.passed if i == 0 else log.end):
                self._merge.forget()
        return 0

    cdef void _gave(self, Follower follower, Py_ssize_t size) noexcept:
        follower.given_bytes += <uint64_t>size
        self.bytes_out += <uint64_t>size

    cdef bint _advance(self, Follower follower, int pieces) except -1:
        # So many pieces of the merge were given to the follower. True: tell it what it misses after them.
        cdef Merge merge = self._merge
        cdef Log log
        cdef int i
        cdef bint tells = (
            follower.missed is not None and merge.is_whole and pieces == merge.count
            and merge.losses_behind(follower.cursors, follower.missed))
        merge.advance(follower.cursors, pieces)
        self._missed(follower, merge.skipped, merge.superseded)
        for i in range(1, follower.cursor_count):
            log = <Log>follower.cursors[i].log
            log.trim(log.flushed.offset)
        return tells

    cdef bint _tell_missed(self, Follower follower) except -1:
        # Whether the follower was told what it misses before the merge. If so, the merge is made again.
        # A later loss then is the first one of a shorter merge.
        cdef Merge merge = self._merge
        cdef int first = merge.first_loss()
        if first > 0:
            merge.keep(first)
        if first != 0:
            return False
        self._missed(follower, merge.pieces[0].skipped, merge.pieces[0].superseded)
        merge.pass_first(follower.cursors, follower.missed)
        self._hand_over(follower, [])
        return True

    cdef void _missed(self, Follower follower, Py_ssize_t skipped, Py_ssize_t superseded) noexcept:
        if skipped | superseded:
            follower.skipped += skipped
            follower.superseded += superseded
            self.skipped += skipped
            self.superseded += superseded

    cdef int stopped_short(self, Follower follower, Py_ssize_t sent, bint in_round) except -1:
        # Fewer bytes were sent than offered. If the transport cannot take the rest, the stream has ended.
        if sent == DELI_COM_BROKEN:
            return self._limits.drop_broken(follower)
        try:
            self._cut_in_round(follower, sent) if in_round else self._cut_alone(follower, sent)
        except BaseException as error:
            self._limits.give_up(follower, error, "the rest of a frame could not be handed over")
        return 0

    cdef int _cut_in_round(self, Follower follower, Py_ssize_t sent) except -1:
        # `sent` bytes were sent, fewer than offered. The transport gets the rest of the frame that was
        # cut. After a cut at a frame's end it gets the whole next frame, because without bytes in the
        # transport no event would ever come.
        cdef Log log = self._log
        cdef Position at = log.flushed
        cdef uint64_t start, end
        cdef list pieces
        start = at.offset + <uint64_t>(sent if sent > 0 else 0)
        end = log.frame_end(&at, start + 1)
        pieces = log.pieces(&at, start, end)
        self._gave(follower, <Py_ssize_t>(end - at.offset))
        log.seek(&at, start)
        follower.holds_reliable = log.is_reliable(&at)
        log.seek(&at, end)
        follower.cursors.at = at
        self._rosters.put(follower, FOLLOWER_READY)
        return self._hand_over(follower, pieces)

    cdef int _cut_alone(self, Follower follower, Py_ssize_t sent) except -1:
        # The same for the merge of one follower.
        cdef Merge merge = self._merge
        cdef Cursor* cursor
        cdef Log log
        cdef Position at
        cdef Py_ssize_t before = 0
        cdef int i, first, cut
        cdef uint64_t start, end
        cdef list pieces
        sent = max(sent, 0)
        cut = merge.piece_at(sent)
        for i in range(cut):
            before += <Py_ssize_t>merge.vectors[i].iov_len
        first = cut
        while first > 0 and not merge.pieces[first - 1].ends_frame:
            first -= 1  # the frame that is cut begins here
        self._advance(follower, first)
        for i in range(first, cut + 1):
            self._missed(follower, merge.pieces[i].skipped, merge.pieces[i].superseded)
        cursor = &follower.cursors[merge.pieces[cut].cursor]
        log = <Log>cursor.log
        at = cursor.at
        at.offset = merge.pieces[first].start
        start = merge.pieces[cut].start + <uint64_t>(sent - before)
        end = log.frame_end(&at, start + 1)
        pieces = log.pieces(&at, start, end)
        self._gave(follower, sent + <Py_ssize_t>(end - start))
        log.move_pin(&cursor.at, end)
        follower.is_fresh = False
        follower.holds_reliable = merge.pieces[cut].reliable
        merge.forget()
        return self._hand_over(follower, pieces)

    cdef int write_through(self, Follower follower, int cursors, uint64_t limit) except -1:
        # TLS, and platforms without sendmsg: whole frames, at least one, up to THROUGH_BYTES
        # together, for as long as the transport takes them. A follower in the round reads the log
        # of all only, which is its first cursor.
        cdef Merge merge = self._merge
        cdef Piece* piece
        cdef Cursor* cursor
        cdef list pieces
        cdef Py_ssize_t most = THROUGH_BYTES
        cdef bint is_fresh, tells, is_over
        cdef bint is_bounded = follower.is_bounded and follower.state != FOLLOWER_CURRENT
        cdef int i
        while not follower.writing_paused and follower.state != FOLLOWER_GONE:
            is_fresh = follower.is_fresh or follower.state == FOLLOWER_CURRENT
            self._expire(follower)
            if is_bounded:
                most = min(<Py_ssize_t>THROUGH_BYTES, follower.transit.credit(follower.given_bytes))
            merge.make(follower.cursors, cursors, limit, is_fresh, follower.id, most)
            if most == 0 and merge.count:
                return self._hold(follower)
            if follower.missed is not None and self._tell_missed(follower):
                continue
            pieces = []
            follower.holds_reliable = False
            for i in range(merge.count):
                piece = &merge.pieces[i]
                follower.holds_reliable = follower.holds_reliable or piece.reliable
                if follower.rewriter is None:
                    cursor = &follower.cursors[piece.cursor]
                    pieces += (<Log>cursor.log).pieces(&cursor.at, piece.start, piece.end)
            if follower.rewriter is None:
                self._gave(follower, merge.total)
            else:
                pieces = follower.rewriter.rewrite(merge, follower.cursors)
                self._gave(follower, follower.rewriter.total)
            is_over = merge.count == 0
            tells = self._advance(follower, merge.count)
            merge.forget()
            if pieces:
                self._hand_over(follower, pieces)
            if tells and follower.state != FOLLOWER_GONE:
                self._hand_over(follower, [])
            if is_bounded:
                self._mark_if_due(follower)
            if is_over:
                return 0
        return 0

    cdef int _hand_over(self, Follower follower, list pieces) except -1:
        # Writes through the transport, then sees whether it holds anything. No pieces: tells what it misses.
        self.writing = follower
        try:
            if len(pieces) == 1:
                follower.transport.write(pieces[0])
            elif pieces:
                follower.transport.writelines(pieces)
            else:
                follower.on_missed()
        except BaseException as error:
            self._limits.give_up(follower, error, "the transport of a follower failed to write")
        finally:
            self.writing = None
        return self._rosters.place(follower) if follower.state != FOLLOWER_GONE else 0
