"""One connection, whatever its wire protocol: what WebSocket peers and TCP streams share.

::

    OPENING -> OPEN -> CLOSING -> CLOSED
                 \\________________/        (an abrupt end)

A closing connection has left the log. It announces the end to its peer, then reads and discards
input until the peer's end. It is aborted after `close_timeout`. Closing at once while the peer
still sends would reset the connection, and the peer would lose the last messages.

It counts as a client, and is one of `server.clients`, while it is OPEN; on_connect and
on_disconnect mark the beginning and the end of that.

Each connection tells the endpoint's input quota, by `hold`, how many bytes it keeps.
"""

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec, codec_decode
from deli_com.fanout.follower cimport Follower
from deli_com.fanout.transit cimport Transit
from deli_com.ground.home cimport home_forks
from deli_com.ground.sockets cimport (
    deli_com_clock_ns,
    deli_com_cut,
    deli_com_keep_unsent_low,
    deli_com_tcp_info,
)
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport (
    CONNECTION_CLOSED,
    CONNECTION_CLOSING,
    CONNECTION_OPEN,
    CONNECTION_OPENING,
    Peer,
)
from deli_com.link.shown cimport heard
from deli_com.log.log cimport Log
from deli_com.net.tls import tls_hint
from deli_com.net.unwatched import unwatch
from deli_com.errors import ConnectionClosed, DecodeError, UnknownVariant
from deli_com.ground.callback import throw
from deli_com.link.departure import Departure
from deli_com.link.stats import PeerStats

cdef enum:
    UNSENT_BYTES = 32768     # that the kernel takes and does not send yet, where messages supersede others

cdef extern from *:
    "static int dc_reraise_undecoded(void) { return -1; }"
    int _reraise "dc_reraise_undecoded"() except -1
    void C_DECREF "Py_DECREF"(PyObject* value) noexcept

# `codec_decode` as C sees it: a new reference, or NULL with the exception set.
ctypedef PyObject* (*DecodeFunction)(TypeCodec, const char*, Py_ssize_t) noexcept
cdef DecodeFunction _decode = <DecodeFunction><void*>codec_decode


cdef double TRANSIENT_S = 10.0      # for how long what was sent says what is sent
cdef double LONGEST_S = 1e9

cdef object OUT_OF_MEMORY = ConnectionClosed(None, "out of memory")


def _end_transport(Connection connection not None, end):
    # Runs as a step of the loop. `end` closes the descriptor, so nothing may watch it any more.
    if connection.stage == CONNECTION_CLOSED or end is None:
        return
    unwatch(connection.endpoint.loop, connection.socket)
    end(None)


cdef str reason_of_loss(object error):
    if error is None:
        return "the connection ended without notice"
    hint = tls_hint(error)
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{reason} ({hint})" if hint else reason


cdef class Connection(Peer):
    """A follower that also receives."""

    def __cinit__(self, Endpoint endpoint not None, *args, **kwargs):
        self.endpoint = endpoint
        self.close_reason = ""

    def __init__(self, Endpoint endpoint not None, remote_addr=None, request=None):
        self.endpoint = endpoint
        self.remote_addr = remote_addr
        self.request = request
        self.stage = CONNECTION_OPENING
        self.close_reason = ""
        self.reads = endpoint.up
        self.plain_size = endpoint.inbox.plain_size
        if endpoint.passage is not None:
            self.reads = None
            self.passes = endpoint.passage.from_anyone and endpoint.up is not None

    cdef int attach(self, object transport, bint secure) except -1:
        # Takes the transport, and sets its limits so that it reports every byte that it holds.
        cdef bint own_tls = secure and not type(transport).__module__.startswith("aiofastnet")
        self.transport = transport
        self.forks = home_forks()
        self.socket = transport.get_extra_info("socket").fileno()
        self.fd = -1 if secure or self.rewriter is not None else self.socket
        self.peer_certificate = transport.get_extra_info("peercert") if secure else None
        # asyncio's and uvloop's TLS would pause at size 0, then hang.
        transport.set_write_buffer_limits(1 if own_tls else 0, 0)
        if self.writing_paused and secure:
            self.endpoint.loop.call_soon(self._look_again)
        if self.endpoint.sender.has_latest:
            # Bytes that the kernel holds unsent can no longer be superseded. Without this limit frames are
            # 21 transfer times old at the receiver, with it 2.
            deli_com_keep_unsent_low(self.socket, UNSENT_BYTES)
        return 0

    def _look_again(self):
        # If TLS is a layer over another transport, the rest of the handshake counts as held. It is sent at
        # the end of that turn without `resume_writing`. Setting the limits makes the transport compare again.
        if self.writing_paused and self.stage != CONNECTION_CLOSED and not self.transport.is_closing():
            self.transport.set_write_buffer_limits(*reversed(self.transport.get_write_buffer_limits()))

    cdef int opened(self) except -1:
        # `attach` was called and `muted` is set. From now on it gets every message.
        self.stage = CONNECTION_OPEN
        if self.rewriter is not None:
            self.rewriter.begin(self.transport)
        self.endpoint.hub.join(self)
        self.on_joined()
        self.endpoint.watchers.changed()
        self.is_counted = not self.endpoint.is_client
        if self.is_counted:
            path = "" if self.request is None else f" at {self.request.path}"
            self.endpoint.logger.info("%s connected%s", self.remote_addr, path)
        events = self.endpoint._events
        if events is not None:
            self.announced = True
            events.connected(self)  # which may end it
        return 0

    # --- receiving -----------------------------------------------------------------------

    cdef int deliver(self, const char* data, Py_ssize_t size) except -1:
        # One whole message; `data` is borrowed for the call.
        cdef Endpoint endpoint = self.endpoint
        cdef PyObject* made
        self.messages_in += 1
        endpoint.messages_in += 1
        endpoint.bytes_in += size
        if self.reads is None:
            return self.on_unread(data, size)
        if self.plain_size and endpoint.inbox.may_wait(data, size):
            if endpoint.tap is not None:
                heard(endpoint, self.reads, data, size)
            if endpoint.inbox.push_plain(self, data, size):
                self.pause_reading()
            return endpoint.quota.check()
        made = _decode(self.reads, data, size)
        if made == NULL:
            return self._refuse_undecoded(size)
        value = <object>made
        C_DECREF(made)
        if endpoint.tap is not None:
            heard(endpoint, self.reads, data, size)
        if endpoint.inbox.push(self, value, size, False):
            self.pause_reading()
        return endpoint.quota.check()

    cdef int on_unread(self, const char* data, Py_ssize_t size) except -1:
        self.endpoint.unwanted += 1
        return 0

    cdef int _refuse_undecoded(self, Py_ssize_t size) except -1:
        # The decoder has set its exception. Caught here: a `try` around each message costs more than a field.
        cdef object refused = None
        try:
            _reraise()
        except UnknownVariant:
            self.endpoint.unknown += 1  # of a newer writer
        except DecodeError as error:
            refused = error
        except BaseException as cause:
            # From the user's code: a __post_init__ that refuses the fields. What is to end the loop does so
            # once all that was read has been taken.
            if isinstance(cause, (KeyboardInterrupt, SystemExit)):
                self.endpoint.loop.call_soon(throw, cause)
            refused = DecodeError(f"{type(cause).__name__} while the value was made: {cause}")
            refused.__cause__ = cause
        return 0 if refused is None else self._refuse_message(refused, size)

    cdef int _refuse_message(self, object error, Py_ssize_t size) except -1:
        # A message that does not decode is dropped; the connection stays open.
        cdef Endpoint endpoint = self.endpoint
        endpoint.undecodable += 1
        if endpoint.is_client:
            self.undecodable += 1
            if endpoint.inbox.push(self, error, size, True):
                self.pause_reading()
        else:
            self._tell_of_undecodable(error, size)
        return 0

    cdef int _tell_of_undecodable(self, object error, Py_ssize_t size) except -1:
        self.undecodable += 1
        if self.undecodable == 1:
            self.endpoint.logger.warning(
                "%s sent a message of %d bytes that is no %s: %s (further ones are only counted)",
                self.remote_addr, size, self.endpoint.up, error,
            )
        return 0

    cdef int pause_reading(self) except -1:
        if not self.reading_paused and self.stage == CONNECTION_OPEN:
            self.endpoint.inbox.hold_back(self)
            self.reading_paused = True
            self.transport.pause_reading()
            if self.transit is not None:
                self.transit.suspend()  # what the peer answers is not read either
                self.endpoint.hub.on_transit(self)
        return 0

    cdef int hold(self, Py_ssize_t held) except -1:
        # So many bytes of its input are kept now, apart from whole messages. Check `stage` afterwards.
        cdef Py_ssize_t more = held - self.held
        self.held = held
        return self.endpoint.quota.keep(more)

    def _refused(self, error, size):
        # Called by the inbox: a message of so many bytes did not decode when it was taken.
        self.endpoint.undecodable += 1
        self._tell_of_undecodable(error, size)

    def resume_reading(self):
        """Resume reading: the inbox has room again."""
        if self.reading_paused:
            self.reading_paused = False
            if self.transit is not None:
                self.transit.resume(deli_com_clock_ns())
            try:
                if self.stage != CONNECTION_CLOSED and not self.transport.is_closing():
                    self.transport.resume_reading()
            except BaseException:
                self.reading_paused = True
                raise

    # --- the end -------------------------------------------------------------------------

    cdef int leave(self) except -1:
        if self.hub is None:
            return 0
        try:
            self.queued_bytes = self.waiting_bytes()
        finally:
            Follower.leave(self)
        return 0

    cdef int blame(self, str cause) noexcept:
        # The first cause counts.
        if self.cause is None:
            self.cause = cause
        return 0

    cdef int depart(self) except -1:
        # It is not a client any more: on_disconnect is owed if it was announced, a log record if it was
        # counted.
        if not self.is_counted and not self.announced:
            return 0
        reason = self.close_reason
        if self.cause is None and not reason:
            reason = self.lost_reason or "the connection was lost"
        try:
            if self.is_counted:
                self.is_counted = False
                self.endpoint.logger.info(
                    "%s is gone (%s): %s", self.remote_addr, self.cause or "lost", reason)
        finally:
            if self.announced:
                self.announced = False
                self.endpoint._events.departed(
                    self, Departure(self.cause or "lost", self.code_of_close(), reason, self.queued_bytes))
        return 0

    cdef int close_by_user(self, int code, str reason) except -1:
        self.endpoint.home.check("peer.close")
        if self.stage == CONNECTION_OPEN:
            self.lift_bound()
            self.endpoint.hub.flush_now()
        if self.stage == CONNECTION_OPEN:
            self.blame("closed")
            self.finish(code, reason)
        return 0

    # --- what lies between -----------------------------------------------------------------

    cdef int lift_bound(self) except -1:
        # It is about to close: its socket takes what it takes.
        if self.transit is not None:
            self.transit.lift()
            self.endpoint.hub.on_transit(self)
        return 0

    cdef int aim(self, double clock) except -1:
        # How long bytes may wait on their way. Reliable ones wait somewhere in any case. Then the peer has to
        # be heard within the time that a PING has.
        cdef uint64_t transient = 0
        cdef double target = self.endpoint.ping_timeout / 4
        cdef Log log
        cdef int i
        for i in range(self.cursor_count):
            log = <Log>self.cursors[i].log
            transient += log.end - log.reliable_end
        if transient != self.seen_transient:
            self.seen_transient = transient
            self.transient_at = clock + TRANSIENT_S
        if clock < self.transient_at:
            target = self.endpoint.max_transit
        self.transit.target_ns = <uint64_t>(1e9 * min(target, LONGEST_S))
        return 0

    cdef str of_transit(self):
        cdef Transit transit = self.transit
        if transit is None or not transit.answers or not transit.round_trip_ns:
            return ""
        return (
            f", {transit.in_flight(self.given_bytes)} bytes in flight to it at "
            f"{transit.rate:.0f} bytes/s, transit {self.transit_time():.1f} s"
        )

    cdef double transit_time(self) noexcept:
        cdef Transit transit = self.transit
        return max(transit.queueing_ns, transit.waiting_ns(deli_com_clock_ns())) / 1e9

    cdef bint put_by_user(self, object value) except -1:
        return self.endpoint.sender.put_private(value, self)

    cdef object send_by_user(self, object value):
        self.endpoint.home.check("peer.send")
        return self.endpoint.paced(self, self.endpoint.sender.put_private(value, self))

    cdef object count_for_user(self):
        self.endpoint.home.check_process("peer.stats")
        cdef bint behind = self.is_behind()
        cdef Transit transit = self.transit
        cdef bint is_measured = transit is not None and transit.answers and transit.round_trip_ns != 0
        return PeerStats(
            messages_in=self.messages_in,
            bytes_out=self.given_bytes,
            queued_bytes=self.queued_bytes if self.hub is None else self.waiting_bytes(),
            behind_s=max(0.0, self.endpoint.sweep.clock - self.behind_since) if behind else 0.0,
            skipped=self.skipped,
            superseded=self.superseded,
            undecodable=self.undecodable,
            round_trip_s=self.round_trip_time(),
            transit=self.transit_time() if is_measured else None,
            in_flight=transit.in_flight(self.given_bytes) if is_measured else None,
            rate=transit.rate if is_measured else None,
        )

    def __repr__(self):
        cdef Transit transit = self.transit
        if transit is None or not transit.in_force or self.hub is None:
            return Peer.__repr__(self)
        return f"<Peer {self.remote_addr}{self.of_transit()}>"

    cdef Py_ssize_t waiting_bytes(self) except -1:
        # Bytes for this peer that are still in this process: of the logs, and in its transport, which
        # answers in its own thread only.
        if PyThread_get_thread_ident() != self.endpoint.home.thread:
            return self.lag()
        return self.lag() + <Py_ssize_t>self.transport.get_write_buffer_size()

    cdef object round_trip_time(self):
        return None

    cdef int on_evicted(self, str cause, str detail) except -1:
        self.blame(cause)
        self.finish(1013, detail)  # first: a handler of the user's may raise
        self.endpoint.logger.warning("closing %s (1013): %s", self.remote_addr, detail)
        return 0

    cdef int on_broken(self) except -1:
        return self.abort()

    cdef int finish(self, int code, str reason) except -1:
        # This side ends the connection: announce it, then linger.
        if self.stage != CONNECTION_OPEN:
            return 0
        try:
            self.leave()
            if self.close_code is None:
                self.close_code = code
                self.close_reason = reason
            self.linger()
            self.resume_reading()
            return self.say_close(code, reason)
        except MemoryError:
            self.abort()  # no closing handshake is possible
            raise

    cdef int linger(self) except -1:
        # One side has announced the end. The rest has a deadline.
        self.leave()
        self.stage = CONNECTION_CLOSING
        self.close_deadline = self.endpoint.sweep.clock + self.endpoint.close_timeout
        self.endpoint.closing.add(self)
        self.endpoint.hub.start_sweep()
        self.depart()
        return self.endpoint.watchers.changed()

    cdef int on_sweep(self, double clock) except -1:
        # uvloop reports an error to a poller once and then stops polling. If bytes came with a reset,
        # that call reads them, and the reset is never reported. So the kernel is asked once, after
        # bytes were read and then none for a while. A server also asks for clients whose reading is
        # paused. What they sent before their closing handshake still has to be read.
        if self.stage != CONNECTION_OPEN or self.socket < 0:
            return 0
        if self.reading_paused:
            if not self.endpoint.is_client and deli_com_tcp_info(self.socket).is_dead:
                return self.abort()
        elif self.sweeps_to_look:
            self.sweeps_to_look -= 1
            if not self.sweeps_to_look and deli_com_tcp_info(self.socket).is_dead:
                self.close_reason = "the connection was reset"
                return self.abort()
        return 0

    def sweep(self, double clock):
        """Abort at the deadline, or if the peer's connection is dead. Called by the endpoint's timer."""
        if clock >= self.close_deadline or deli_com_tcp_info(self.socket).is_dead:
            self.abort()

    cdef int abort(self) except -1:
        # Ends without a closing handshake. Nothing is written to the fd any more: the loop closes it
        # soon, and the system may give its number to the next connection.
        # Every step is done even if one before it has raised: a lack of memory must not leave it open.
        try:
            self.leave()
        finally:
            self.endpoint.closing.discard(self)
            if self.stage != CONNECTION_CLOSED:
                self.stage = CONNECTION_CLOSING
                try:
                    self.cut(False)
                    self.transport.abort()
                except BaseException:
                    # A transport first marks itself closed, then schedules its end, so a second call does
                    # nothing. (A linked chain is used, since there is no memory for a list.)
                    if not self.is_stuck:
                        self.is_stuck = True
                        self.next_stuck = self.endpoint.stuck
                        self.endpoint.stuck = self
                    self.endpoint.hub.start_sweep()
                    raise
                finally:
                    self.depart()
        return 0

    def free_transport(self):
        """Schedule the end that the transport has failed to schedule. Returns the next stuck connection."""
        end = getattr(self.transport, "_finalize_close", None) or getattr(
            self.transport, "_call_connection_lost", None)
        self.endpoint.loop.call_soon(_end_transport, self, end)
        self.is_stuck = False
        after, self.next_stuck = self.next_stuck, None
        return after

    cdef int cut(self, bint reset) except -1:
        # Before an abort: a child of this process may have the descriptor.
        if home_forks() != self.forks and self.socket >= 0 and not self.transport.is_closing():
            deli_com_cut(self.socket, reset)
        return 0

    cdef int ended(self) except -1:
        # The transport has ended. Every step is done even if one before it has raised.
        cdef Endpoint endpoint = self.endpoint
        if self.stage == CONNECTION_CLOSED:
            return self.hold(0)
        try:
            self.hold(0)
            self.leave()
        finally:
            self.stage = CONNECTION_CLOSED
            endpoint.closing.discard(self)
            try:
                endpoint.closed[self.close_code] = endpoint.closed.get(self.close_code, 0) + 1
                self.depart()
            finally:
                try:
                    if endpoint.is_client:
                        self._end_client()
                finally:
                    endpoint.watchers.changed()
        return 0

    cdef int _end_client(self) except -1:
        # Breaks cycles, so that a client that is dropped now is freed at once, with what it has received.
        cdef Endpoint endpoint = self.endpoint
        cdef object error = None
        try:
            endpoint.sweep.stop()
            reason = self.close_reason
            if not reason and self.close_code is None:
                reason = self.lost_reason or ""
            error = ConnectionClosed(self.close_code, reason)
        finally:
            endpoint.end(OUT_OF_MEMORY if error is None else error, self.ended_in_order())
            if endpoint.inbox.count():
                endpoint.inbox.replace_sources(_former(self))
        return 0

    cdef int on_joined(self) except -1:
        return 0  # it gets what is sent from here on; what is retained is on its way

    cdef int release_memory(self) except -1:
        return 0  # return memory that is kept for input to come, and `hold` less

    cdef int on_too_much(self, str cause) except -1:
        # The endpoint holds too much input, and this connection most of it: end it, and `hold` nothing.
        return self.abort()

    cdef int say_close(self, int code, str reason) except -1:
        return 0

    cdef bint ended_in_order(self) except -1:
        return False

    cdef object code_of_close(self):
        # For a Departure: None if the protocol has no CLOSE, or none was sent or received.
        return None

    # By the input quota (receive/quota), which knows connections by these three names and `held`.

    def _release_memory(self):
        self.release_memory()

    def _is_open(self):
        return self.stage == CONNECTION_OPEN

    def _on_too_much(self, cause):
        self.on_too_much(cause)

    # Called by the server or client that owns it when it closes.

    def _finish(self, code, reason):
        self.blame("server closed")
        self.finish(code, reason)

    def _abort(self):
        self.blame("server closed")
        self.abort()


cdef class FormerPeer(Peer):
    """The sender of values that still wait, after its connection has ended."""

    cdef object _stats

    cdef bint put_by_user(self, object value) except -1:
        raise ConnectionClosed(None, "this client has left")

    cdef object send_by_user(self, object value):
        raise ConnectionClosed(None, "this client has left")

    cdef object count_for_user(self):
        return self._stats


cdef FormerPeer _former(Connection connection):
    cdef FormerPeer former = <FormerPeer>FormerPeer.__new__(FormerPeer)
    former.remote_addr = connection.remote_addr
    former.request = connection.request
    former.own_state = connection.own_state
    former.stage = CONNECTION_CLOSED
    former._stats = connection.count_for_user()
    return former
