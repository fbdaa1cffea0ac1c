"""An endpoint: values of one type go out to every follower, values of another come in.

It has a hub (followers, and when they are served), a sender (what is sent) and an inbox (what is received).
Server and client façades subclass this, so `send_nowait` and `recv` reach compiled code
without a Python frame. A client is an endpoint with one follower and masked framing.
"""

import math
from collections.abc import Coroutine
from logging import getLogger
from weakref import WeakValueDictionary

cimport cython
from cpython.object cimport PyObject

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

from deli_com._fastcodec cimport TypeCodec
from deli_com.coding.recycler cimport recycler_drop, recycler_rest
from deli_com.fanout.construction cimport check_new
from deli_com.fanout.follower cimport Follower, Owner
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.pacer cimport Paced, Pacer
from deli_com.ground.gc_slots cimport CollectedType, inquiry
from deli_com.ground.home cimport at_home
from deli_com.ground.watchers cimport Watchers
from deli_com.link.sender cimport Sender
from deli_com.log.log cimport Log
from deli_com.receive.pairs cimport Pairs
from deli_com.receive.inbox_for cimport inbox_for
from deli_com.receive.quota cimport InputQuota
from deli_com.receive.recv cimport NEXT_VALUE, RECV_MANY, RECV_PAIR, RECV_VALUE, Recv, recv_from_inbox
from deli_com.net.log_budget import LogBudget

cdef enum:
    INBOX_BYTES = 16 << 20   # on the wire, of values that wait to be received

cdef double LEAST_SWEEP_S = 0.05  # for short times in transit

Coroutine.register(Paced)
Coroutine.register(Recv)


cdef class Endpoint(Owner):
    """What a server or a client is, whatever its wire protocol.

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
    max_inbound : int
        Limit on received bytes waiting for ``recv``, all clients together. Beyond it, the client that holds
        most is closed (1009) and its values are dropped.
    max_inbox : int
        Bytes of values waiting for ``recv``, past which reading pauses.
    conflate : bool
        Values that wait for ``recv`` follow the policies of their types.
    close_timeout : float
        Seconds that a closed connection lingers for its peer.
    ping_interval, ping_timeout : float or None
        Seconds of silence after which a peer is asked for a sign of life, and that it then
        has. None: never.
    max_transit : float or None
        Seconds that messages of policy latest and skip may wait between this end and a peer. None: no
        bound, and no PINGs but those for a sign of life.
    slow_client : {"disconnect", "wait", "skip", "latest"}
        Policy of the types that name none.
    max_keys : int
        Keys of policy latest, over all types and groups.
    """

    def __cinit__(self, *args, **options):
        check_new(type(self), len(args) > 1 and isinstance(args[1], Log))

    def __init__(
        self, loop, Log log not None, TypeCodec down, TypeCodec up, *,
        bint is_client=False, Py_ssize_t max_message_size=64 << 20, double close_timeout=2.0,
        ping_interval=20.0, ping_timeout=20.0, max_transit=0.5, str slow_client="disconnect",
        Py_ssize_t max_keys=1 << 16, Py_ssize_t max_inbound=PY_SSIZE_T_MAX, Py_ssize_t max_inbox=INBOX_BYTES,
        bint conflate=True, **limits,
    ):
        cdef Hub hub
        if self.hub is not None:
            raise RuntimeError(f"{type(self).__name__} is initialised already")
        hub = Hub(loop, log, **limits)
        self.loop = loop
        self.log = log
        self.arena = log.arena
        self.home = hub.home
        self.sweep = hub.sweep
        self.limits = hub.limits
        self.followers = hub.followers
        self.sender = Sender(hub, down, slow_client, max_message_size, type(self).__name__)
        self.down = down
        self.up = up
        self.is_client = is_client
        self.max_message_size = max_message_size
        self.close_timeout = close_timeout
        never = ping_interval is None or ping_timeout is None
        self.ping_interval = math.inf if never else ping_interval
        self.ping_timeout = math.inf if never else ping_timeout
        self.max_transit = math.inf if max_transit is None else max_transit
        self.sweep.interval = min(
            self.sweep.interval, self.ping_interval / 4, self.ping_timeout / 4,
            max(LEAST_SWEEP_S, self.max_transit / 2))
        # Half: pausing comes before closing.
        self.inbox = inbox_for(loop, up, min(max_inbox, max_inbound // 2), conflate, is_client)
        self.quota = InputQuota(max_inbound, self.inbox, self, LogBudget(getLogger("deli_com.server")))
        self.pacer = Pacer(hub)
        self.logger = getLogger("deli_com.client" if is_client else "deli_com.server")
        self.closing = set()
        self.closed = {}
        self.arena.max_keys = max_keys
        self._groups = WeakValueDictionary()
        self.watchers = Watchers(self.loop)
        self.hub = hub
        hub.belong_to(self)

    def __dealloc__(self):
        if self.hub is not None:
            self.hub.be_left()

    @property
    def turns(self):
        """Turns of the loop in which a flush ran."""
        return self.hub.rosters.turns

    @property
    def max_backlog(self):
        """Bytes that one follower may be behind."""
        return self.limits.max_backlog

    @property
    def max_queued(self):
        """Bytes that the logs may hold within one turn."""
        return self.limits.max_queued

    @property
    def progress_timeout(self):
        """Seconds without a byte taken before a laggard is evicted."""
        return self.limits.progress_timeout

    @property
    def has_latest(self):
        """Whether some class that is sent has policy latest."""
        return self.sender.has_latest

    @property
    def messages_out(self):
        """Messages sent to all, a group or one, with or without receivers."""
        return self.sender.messages_out

    @property
    def refused_sends(self):
        """Calls of `send` and `send_nowait` that raised `BacklogFull`."""
        return self.sender.refused_sends

    @classmethod
    def __class_getitem__(cls, parameters):
        """Let subclasses be written ``class Name(Endpoint[Down, Up])``; type checkers see a generic class."""
        return cls

    @cython.binding(False)
    @cython.embedsignature(True)
    def send_nowait(self, value, /, *, Follower except_=None):
        """Queue `value` for every client connected now, and return. Legal from any thread.

        From the loop's thread it never waits. Another thread waits, for 10 s at most, while the
        hand-over to the loop is full (16 MiB or 65,536 messages); order is kept for each thread.

        Parameters
        ----------
        value : Down
        except_ : Peer, optional
            A client that does not get it.

        Raises
        ------
        EncodeError, MessageTooLarge
            `value` is not of the type, or too large.
        BacklogFull
            Clients are behind and the log is full within this turn of the loop; or ``max_keys`` keys are held
            already.
        ConnectionClosed
            This end is closed.
        """
        if not at_home(self.home):
            self.sender.put_from_any_thread(value, None, except_)
        elif self.sender.lanes is None and except_ is None:
            self.sender.put_to_all(value)
        else:
            self.sender.put(value, None, except_)

    @cython.binding(False)
    @cython.embedsignature(True)
    def send(self, value, /, *, Follower except_=None):
        """Queue `value` as `send_nowait` does; await the result to keep the clients' pace.

        The errors of `send_nowait` come from the call, not from awaiting.
        """
        self.home.check("send")
        return Paced(self.pacer, None, self.sender.put(value, None, except_))

    def flush(self):
        """Send queued messages now, as far as the sockets accept them."""
        self.home.check("flush")
        self.hub.flush_now()

    def client_count(self):
        """Return the number of connected clients."""
        self.home.check_process("client_count")
        return len(self.followers)

    cdef object paced(self, object scope, bint waits):
        return Paced(self.pacer, scope, waits)

    def forget(self, key=None, /, type=None):
        """Drop the newest message of a key: clients that connect later, or are behind, do not get it any
        more.

        Parameters
        ----------
        key : object
            Value of the key field; a tuple where there are several, None where there is no key.
        type : type, optional
            The class of the key, where several classes of policy latest are sent. None: all classes that have
            such a key.

        Returns
        -------
        bool
            Whether there was one.
        """
        return self.sender.forget_key(self.log, key, type)

    # --- receiving -----------------------------------------------------------------------

    cdef int check_receiving(self) except -1:
        if self.up is None:
            raise TypeError(f"{type(self).__name__} is push only (its Up is None): nothing can be received")
        return 0

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv(self):
        """Wait for one value from any client."""
        if self.up is None:
            self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_VALUE, 1)

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv_from(self):
        """Wait for one value; returns ``(peer, value)``."""
        self.check_receiving()
        return recv_from_inbox(self.inbox, RECV_PAIR, 1)

    @cython.binding(False)
    @cython.embedsignature(True)
    def recv_many(self, Py_ssize_t max, /):
        """Wait for one value; returns a list of the available values, at most `max`."""
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
        if not self.watchers.is_empty():
            self.watchers.changed()
        return 0

    cdef bint on_sweep(self) except -1:
        self.inbox.sweep()
        if self.sender.handoff is not None:
            self.sender.handoff.heal()
        self.pacer.heal()
        for connection in list(self.closing):
            connection.sweep(self.sweep.clock)
        while self.stuck is not None:
            self.stuck = self.stuck.free_transport()
        if self.sender.ended is not None and self._has_waiters():
            self._wake_all()
        if self.followers or self.closing:
            recycler_rest()
            return bool(self.closing)
        recycler_drop()  # the last sweep until a client connects
        return False

    cdef int end(self, object error, bint in_order) except -1:
        # Ends sending. Receivers get what has arrived, then `error`. Idempotent.
        if self.sender.ended is None:
            self.sender.ended = error
            recycler_drop()
            try:
                self.inbox.close(error, in_order)
                if self.sender.handoff is not None:
                    self.sender.handoff.end(error)
            finally:
                self._wake_all()
        return 0

    cdef int _wake_all(self) except -1:
        # Called after the end. The sweep calls again if a task could not be woken.
        try:
            self.inbox.sweep()
            self.pacer.release()
            self.watchers.changed()
        finally:
            if self._has_waiters():
                self.hub.start_sweep()
        return 0

    cdef bint _has_waiters(self) noexcept:
        return self.inbox.has_waiters() or self.pacer.has_waiters() or not self.watchers.is_empty()

    def _end(self, error, in_order):
        self.end(error, in_order)

    def _raise_if_ended(self):
        if self.sender.ended is not None:
            raise type(self.sender.ended)(*self.sender.ended.args)

    def _is_ended(self):
        return self.sender.ended is not None

    def _lift_bounds(self):
        """Let the sockets take what they take: this end is about to close."""
        self.hub.lift_bounds()

    def _is_drained(self):
        return self.hub.is_drained() and (self.sender.handoff is None or self.sender.handoff.is_empty())

    def _must_pace(self):
        """Whether so much is queued that a thread which sends should await `_pace`. Legal from any thread."""
        cdef Py_ssize_t queued = self.log.queued_bytes()
        if self.sender.handoff is not None:
            queued += self.sender.handoff.held_bytes
        return queued > self.pacer.high_water

    def _pace(self):
        """What `send` returns, for a message that is queued already."""
        self.home.check("send")
        return Paced(self.pacer)

    def stats(self):
        """Return counters, and what is held now, as `ServerStats`. Legal from any thread."""
        self.home.check_process("stats")
        from deli_com.link.figures import figures_of  # which takes this class

        return figures_of(self)

    def _turned_away(self):
        return {}  # a server counts the handshakes that it refuses

    def _connections(self):
        """Every connection that is open or lingers."""
        return [*self.followers, *self.closing]

    def _is_foreign(self):
        # Whether this object was copied into a forked child.
        return self.home is not None and self.home.is_foreign

    def _check_home(self, what):
        self.home.check(what)

    def _check_running(self, what):
        self.home.check_running(what)

    def _check_process(self, what):
        self.home.check_process(what)


# The hub borrows its owner, so it must be told before the collector takes the hub away.

cdef inquiry _clear_fields = (<CollectedType*>Endpoint).tp_clear


cdef int _endpoint_clear(PyObject* self) noexcept:
    cdef Hub hub = (<Endpoint>self).hub
    if hub is not None:
        hub.be_left()
    return _clear_fields(self)


(<CollectedType*>Endpoint).tp_clear = _endpoint_clear
