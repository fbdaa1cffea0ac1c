"""An endpoint: values of one type go out to every follower, values of another come in.

Server and client façades subclass this, so `send_nowait` and `recv` reach compiled code
without a Python frame. A client is an endpoint with one follower and masked framing.
"""

import asyncio
import math
from collections.abc import Coroutine
from logging import getLogger

from cpython.pythread cimport PyThread_get_thread_ident

from deli_com._cursor cimport WriteCursor
from deli_com._fastcodec cimport TypeCodec, codec_encode
from deli_com._handoff cimport Handoff
from deli_com._hub cimport Hub
from deli_com._inbox cimport (
    NEXT_PAIR,
    NEXT_VALUE,
    RECV_MANY,
    RECV_PAIR,
    RECV_VALUE,
    Inbox,
    Recv,
    recv_from_inbox,
)
from deli_com._log cimport Log
from deli_com._pacer cimport Paced, Pacer
from deli_com.errors import BacklogFull, ConnectionClosed, MessageTooLarge

Coroutine.register(Paced)
Coroutine.register(Recv)


cdef class Endpoint(Hub):
    """A typed hub with an inbox.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
    log : Log
        Its framing is the transport's.
    down : TypeCodec or None
        Type of the values sent; None: there is nothing to send.
    up : TypeCodec or None
        Type of the values received; None discards what arrives.
    is_client : bool
        The endpoint ends with its one connection, and an undecodable message is
        raised by ``recv``.
    max_message_size : int
        Bytes of payload, both ways.
    close_timeout : float
        Seconds that a closed connection lingers for its peer.
    ping_interval, ping_timeout : float or None
        Seconds of silence after which a peer is asked for a sign of life, and that it then
        has. None: never.
    """

    def __init__(
        self, loop, Log log, TypeCodec down, TypeCodec up, *,
        bint is_client=False, Py_ssize_t max_message_size=64 << 20, double close_timeout=2.0,
        ping_interval=20.0, ping_timeout=20.0, **limits,
    ):
        Hub.__init__(self, loop, log, **limits)
        self.down = down
        self.up = up
        self.is_client = is_client
        self.max_message_size = max_message_size
        self.close_timeout = close_timeout
        never = ping_interval is None or ping_timeout is None
        self.ping_interval = math.inf if never else ping_interval
        self.ping_timeout = math.inf if never else ping_timeout
        self.sweep.interval = min(self.sweep.interval, self.ping_interval / 4, self.ping_timeout / 4)
        self.inbox = Inbox(loop)
        self.pacer = Pacer(self)
        self.logger = getLogger("deli_com.client" if is_client else "deli_com.server")
        self.closing = set()
        self._watchers = []
        self._nested = []

    @classmethod
    def __class_getitem__(cls, parameters):
        """Let subclasses be written ``class Name(Endpoint[Down, Up])``; type checkers see a generic class."""
        return cls

    # --- sending -------------------------------------------------------------------------

    def send_nowait(self, value, /):
        """Queue `value` for every client connected now, and return. Legal from any thread.

        From the loop's thread it never waits. Another thread waits, for 10 s at most, while the
        hand-over to the loop is full (16 MiB or 65,536 messages); order is kept for each thread.

        Raises
        ------
        EncodeError, MessageTooLarge
            `value` is not of the type, or too large.
        BacklogFull
            Clients lag, and within this turn of the loop the log's bound is reached.
        ConnectionClosed
            This end is closed.
        """
        if PyThread_get_thread_ident() != self._thread:
            self._append_foreign(value)
        else:
            self._append(value)

    def send(self, value, /):
        """Queue `value` as `send_nowait` does; await the result to keep the clients' pace.

        The errors of `send_nowait` come from the call, not from awaiting.
        """
        self.check_thread("send")
        self._append(value)
        return Paced(self.pacer)

    def flush(self):
        """Send now what is queued, as far as the sockets take it."""
        self.check_thread("flush")
        self.flush_now()

    def client_count(self):
        """Return the number of connected clients."""
        return len(self.followers)

    cdef int _append(self, object value) except -1:
        cdef WriteCursor cur
        cdef Py_ssize_t payload, frame
        cdef Log log = self.log
        self._check_sendable()
        if log.is_open:
            return self._append_nested(value)
        log.open(&cur, self.down.max_size)
        try:
            codec_encode(self.down, &cur, value)
            payload = log.payload_size(&cur)
            if payload > self.max_message_size:
                raise MessageTooLarge(payload, self.max_message_size)
            if not self.room_for(payload):
                self.schedule()  # the turn in which laggards are judged
                raise BacklogFull(log.retained(), self.max_retained)
        except BaseException:
            log.abandon(&cur)
            if self._nested:
                self._append_deferred()
            raise
        self.messages_out += 1
        if not self.followers:
            log.abandon(&cur)
        else:
            frame = log.commit(&cur)
            self.appended(frame)
        if self._nested:
            self._append_deferred()
        return 0

    cdef int _check_sendable(self) except -1:
        if self._ended is not None:
            raise ConnectionClosed(*self._ended.args)
        if self.down is None:
            raise TypeError(f"{type(self).__name__} sends nothing (its Up is None)")
        return 0

    cdef int _append_foreign(self, object value) except -1:
        # In another thread than the loop's: encoded here, appended there.
        cdef bytes payload
        self._check_sendable()
        payload = self.down.to_bytes(value)
        if len(payload) > self.max_message_size:
            raise MessageTooLarge(len(payload), self.max_message_size)
        if self.handoff is None:
            self.handoff = Handoff(self)
        return self.handoff.put(payload)

    cdef int _append_nested(self, object value) except -1:
        # Encoding an outer value ran user code (`__index__`, `__buffer__`, a finalizer) that
        # sends: encoded on its own, appended behind the outer one.
        cdef bytes payload = self.down.to_bytes(value)
        if len(payload) > self.max_message_size:
            raise MessageTooLarge(len(payload), self.max_message_size)
        self._nested.append(payload)
        return 0

    cdef int _append_deferred(self) except -1:
        cdef bytes payload
        while self._nested:
            payload = self._nested.pop(0)
            self.messages_out += 1
            if self.followers:
                self.appended(self.log.append(payload))
        return 0

    # --- receiving -----------------------------------------------------------------------

    cdef int check_receiving(self) except -1:
        if self.up is None:
            raise TypeError(f"{type(self).__name__} is push only (its Up is None): nothing can be received")
        return 0

    def recv(self):
        """Wait for one value from any client."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_VALUE, 1)

    def recv_from(self):
        """Wait for one value; gives ``(peer, value)``."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_PAIR, 1)

    def recv_many(self, Py_ssize_t max, /):
        """Wait for one value; give a list of at most `max` values that are there."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_MANY, max)

    def __aiter__(self):
        self.check_receiving()
        return self

    def __anext__(self):
        return recv_from_inbox(self.inbox, NEXT_VALUE, 1)

    def with_peer(self):
        """Iterate over ``(peer, value)``: ``async for peer, value in server.with_peer()``."""
        self.check_receiving()
        return Pairs(self.inbox)

    # --- state ---------------------------------------------------------------------------

    cdef int on_flushed(self) except -1:
        self.pacer.on_flushed()
        if self._watchers:
            self.changed()
        return 0

    cdef bint on_sweep(self) except -1:
        for connection in list(self.closing):
            connection.sweep(self.sweep.clock)
        return bool(self.closing)

    cdef int changed(self) except -1:
        # Wakes whoever waits for a condition on this endpoint (`_until`).
        cdef list watchers = self._watchers
        self._watchers = []
        for future in watchers:
            if not future.done():
                future.set_result(None)
        return 0

    async def _until(self, predicate):
        """Wait until `predicate()` holds; it is asked again after every change."""
        while not predicate():
            future = self.loop.create_future()
            self._watchers.append(future)
            await future

    async def _until_at_most(self, predicate, double seconds):
        """Wait for `predicate()` as `_until` does, but no longer than so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._until(predicate)
        except TimeoutError:
            pass

    cdef int end(self, object error, bint in_order) except -1:
        # No more sends; receivers get what has arrived, then `error`. Idempotent.
        if self._ended is None:
            self._ended = error
            self.inbox.close(error, in_order)
            self.pacer.release()
            if self.handoff is not None:
                self.handoff.end(error)
            self.changed()
        return 0

    def _end(self, error, in_order):
        self.end(error, in_order)

    def _is_ended(self):
        return self._ended is not None

    def _is_drained(self):
        return self.is_drained() and (self.handoff is None or self.handoff.is_empty())

    def _must_pace(self):
        """Whether so much is queued that a thread which sends should await `_pace`. Legal from any thread."""
        cdef Py_ssize_t queued = self.log.retained()
        if self.handoff is not None:
            queued += self.handoff.held_bytes
        return queued > self.pacer.high_water

    def _pace(self):
        """What `send` returns, for a message that is queued already."""
        self.check_thread("send")
        return Paced(self.pacer)

    def _connections(self):
        """Every connection that is open or lingers."""
        return [*self.followers, *self.closing]


cdef class Pairs:
    """The asynchronous iterator behind `Endpoint.with_peer`; shares the endpoint's inbox."""

    cdef Inbox _inbox

    def __init__(self, Inbox inbox not None):
        self._inbox = inbox

    def __aiter__(self):
        return self

    def __anext__(self):
        return recv_from_inbox(self._inbox, NEXT_PAIR, 1)
