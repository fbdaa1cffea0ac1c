"""A connection that exchanges schemas (docs/wire.md section 10).

Control texts are not values: they are not counted, have no policy, and are sent only to peers that have
announced themselves. An `Agreement` decides what they mean. This file receives and sends them::

    WebSocket, header      the request announces, the 101 answers    -> schema texts, retained values, live
    WebSocket, query       the request announces                     -> hello, schema texts, retained, live
    hello, as a first text                                           -> the same
    TCP                    the client's first bytes are a hello      -> the same, but values may precede it
"""

from deli_com.fanout.lane cimport Lane
from deli_com.ground.delivery_class cimport DELIVER_SKIP
from deli_com.log.ring cimport AGED_LANE
from deli_com.link.connection cimport Connection
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport CONNECTION_OPEN
from deli_com.schema import control
from deli_com.schema.control import Gap, Hello, Live, Mark, Refused, SchemaText, Seen
from deli_com.schema.terms import Ending
from deli_com.types.instance import RecordType

cdef bytes LIVE = control.render(Live())
cdef object MAX_BYTES = control.MAX_BYTES
cdef double GAP_S = 0.1  # between two lines that report gaps in one class

cdef enum:
    BROKEN = 1002
    TOO_LONG = 1009
    REFUSED = 4400


cdef class Speaker(Connection):
    """A `Connection` with an agreement about schemas, or without."""

    def announce(self, announcement, bint with_hello):
        """Note what the other end's request said, before the connection is open.

        Parameters
        ----------
        announcement : Announcement
        with_hello : bool
            It is answered by a text; else the handshake has answered it.
        """
        self.announcement = announcement
        self.hello_is_owed = with_hello

    cdef object schema_for_user(self):
        if self.agreement is not None:
            return self.agreement.schema
        return self.endpoint.peer_schema

    cdef int agree(self) except -1:
        # The other end has announced itself. What it needs to know before any value is sent now.
        cdef object announcement = self.announcement
        self.announcement = None
        if self.agreement is None:
            self.agreement = self.endpoint.terms.agree(announcement)
        else:
            self.agreement.begin(announcement)
        if self.endpoint._hearing is not None:
            self.endpoint._hearing.is_told = True
        if not self.endpoint.terms.is_client and self.endpoint.sender.lanes is not None:
            self.missed = {}  # from now on gaps are reported to it
        if self.hello_is_owed:
            self.hello_is_owed = False
            self.say(self.endpoint.terms.hello)
        for text in self.agreement.opening():
            self.say(text)
        return self.settle()

    cdef int settle(self) except -1:
        # From now on values are decoded according to the agreement.
        cdef Endpoint endpoint = self.endpoint
        self.reads = self.agreement.reads
        self.plain_size = endpoint.inbox.plain_size if self.reads is endpoint.up else 0
        if endpoint.passage is not None:
            self.passes = self.reads is not None and self.reads is endpoint.up
            if self.passes:
                self.reads = None
        if endpoint.is_client:
            endpoint.peer_schema = self.agreement.schema
            endpoint.is_settled = self.agreement.is_settled
            endpoint.watchers.changed()
        if self.agreement.is_settled:
            self.on_settled()
        return 0

    cdef int on_joined(self) except -1:
        return 0 if self.agreement is None else self.say_live()

    cdef int say_live(self) except -1:
        # Sent after the retained values. If there are none, it is sent now.
        if self.endpoint.is_client or self.endpoint.terms.is_client or self.hub is None:
            return 0
        if self.cursors.at.offset >= self.cursors.floor:
            return self.say(LIVE)
        return self.say_live_in_order()

    # --- what it misses ------------------------------------------------------------------

    cdef int on_missed(self) except -1:
        # One line for each lane and `GAP_S`. Earlier gaps are added up and reported when the time has passed.
        cdef double now = self.endpoint.loop.time()
        cdef double due = 0.0, next_due = 0.0
        if self.stage != CONNECTION_OPEN:
            return 0
        if self.told_at is None:
            self.told_at = {}
        for lane in sorted({lane & ~AGED_LANE for lane in self.missed}):
            due = self.told_at.get(lane, now - GAP_S) + GAP_S
            if due > now:
                next_due = min(due, next_due) if next_due else due
                continue
            self.told_at[lane] = now
            aged = self.missed.pop(lane | AGED_LANE, 0)
            self.say(self._gap(self.endpoint.sender.lanes.lanes[lane], self.missed.pop(lane, 0), aged))
        if next_due and self.gap_timer is None:
            self.gap_timer = self.endpoint.loop.call_at(next_due, self._on_gap_timer)
        return 0

    def _on_gap_timer(self):
        self.gap_timer = None
        self.on_missed()

    cdef bytes _gap(self, Lane lane, object count, object aged):
        name = lane.type.__name__ if isinstance(lane.type, RecordType) else "*"
        skipped = lane.kind == DELIVER_SKIP
        return control.render(Gap(name, (count if skipped else 0) + aged, 0 if skipped else count))

    # --- what the other end says ---------------------------------------------------------

    cdef int handle_control(self, bytes data) except -1:
        # `data` begins as control texts do. From a peer that has announced nothing yet, a hello is expected.
        cdef object broken
        try:
            return self._handle(data)
        except Ending as ending:
            broken = ending
        return self.end_by(broken)

    cdef int _handle(self, bytes data) except -1:
        if data == LIVE and self.agreement is not None:  # a server says it to everybody
            return self._hear(None)
        if len(data) > MAX_BYTES:
            raise Ending(TOO_LONG, f"a control text of more than {MAX_BYTES} bytes")
        if data == self.endpoint.terms.hello:
            return self._answer(self.endpoint.terms.says)
        try:
            told = control.parse(data)
        except ValueError as error:
            raise Ending(BROKEN, str(error)) from None
        if told is None:
            return 0  # of a later version
        if isinstance(told, Hello):
            return self._answer(told.says)
        if self.agreement is None:
            raise Ending(BROKEN, "a control text before the hello")
        if isinstance(told, (SchemaText, Refused)):
            self.agreement.handle(told, values=self.messages_in > 0, who=self.remote_addr)
            return self.settle()
        if isinstance(told, Mark):
            return self.on_mark(told.token)
        if isinstance(told, Seen):
            return self.on_seen(told.token)
        return self._hear(told) if isinstance(told, Gap) else 0

    cdef int _hear(self, object gap) except -1:
        # The server of a client has told of a gap; None: that all which was retained has been sent.
        cdef Endpoint endpoint = self.endpoint
        if endpoint.passage is not None:
            return endpoint.passage.hear(self, Live() if gap is None else gap)
        if endpoint._hearing is None:
            return 0
        if gap is not None:
            endpoint._hearing.heard_gap(gap)
            return 0
        endpoint._hearing.is_live = True
        return endpoint.watchers.changed()

    cdef int _answer(self, object says) except -1:
        cdef bint expected = self.agreement is None or self.agreement.theirs is None
        if not expected:
            raise Ending(BROKEN, "a second hello")
        if self.messages_in and not self.endpoint.is_client:
            raise Ending(BROKEN, "a hello after values")
        self.announcement = says
        self.hello_is_owed = not self.endpoint.is_client
        self.cork()
        try:
            self.agree()
            self.say_live()
        finally:
            self.uncork()
        return 0

    cdef int end_by(self, object ending) except -1:
        # Reports the reason, and ends the connection.
        cdef Endpoint endpoint = self.endpoint
        if self.stage != CONNECTION_OPEN:
            return 0
        if ending.text is not None:
            self.say(ending.text)
        if endpoint.is_client:
            endpoint.end(ending.error, False)
        self.blame("refused" if ending.code == REFUSED else "protocol error")
        return self.break_off(ending.code, control.reason_of(ending.reason))

    cdef int on_unread(self, const char* data, Py_ssize_t size) except -1:
        # A value that is not decoded, or not yet.
        if self.passes:
            return self.endpoint.passage.handle(self, data, size)
        if self.endpoint.up is None or self.agreement is None:
            return Connection.on_unread(self, data, size)
        if not self.agreement.is_settled:
            return self.on_early(data, size)
        return self.end_by(Ending(BROKEN, "a value, but it announced that it sends none"))

    cdef int ended(self) except -1:
        if self.gap_timer is not None:
            self.gap_timer.cancel()
            self.gap_timer = None
        if self.agreement is not None:
            self.agreement.release()
        return Connection.ended(self)

    # --- for the wire protocol to override -----------------------------------------------

    cdef int say(self, bytes text) except -1:
        return 0  # a control text goes out, behind what the transport holds

    cdef int cork(self) except -1:
        return 0  # what is said from here on may go out together ...

    cdef int uncork(self) except -1:
        return 0  # ... now

    cdef int say_live_in_order(self) except -1:
        return 0  # retained values are on their way: `live` behind them

    cdef int break_off(self, int code, str reason) except -1:
        return self.finish(code, reason)

    cdef int on_early(self, const char* data, Py_ssize_t size) except -1:
        # A value before its schema.
        return self.end_by(Ending(BROKEN, "a value before the schema that was announced for it"))

    cdef int on_settled(self) except -1:
        return 0

    cdef int on_mark(self, str token) except -1:
        return 0

    cdef int on_seen(self, str token) except -1:
        return 0
