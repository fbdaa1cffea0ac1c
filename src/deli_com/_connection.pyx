"""One connection, whatever its wire protocol: what WebSocket peers and TCP streams share.

::

    OPENING -> OPEN -> CLOSING -> CLOSED
                 \\________________/        (an abrupt end)

A closing connection has left the log. It says so to its peer, goes on reading and
discarding until the peer's end, and is aborted after `close_timeout`: closing at once
while the peer still sends would reset the connection and take the tail with it.

What has been read and nobody has taken yet is bounded for all connections of an endpoint
together (`max_inbound`): each tells by `hold` what it keeps, which is a sum; only when that is
over the bound are connections looked at one by one.
"""

import logging

from deli_com._endpoint cimport Endpoint
from deli_com._fastcodec cimport codec_decode
from deli_com._hub cimport Follower
from deli_com._net cimport deli_com_tcp_info
from deli_com.errors import ConnectionClosed, DecodeError
from deli_com.log_budget import LogBudget

# Of the bound on input, the part that must be free once it was reached: the next look at all
# connections costs the peers at least so much traffic.
cdef enum:
    SPARE_PART = 16

cdef object _shed_log = LogBudget(logging.getLogger("deli_com.server"))


cdef class Connection(Follower):
    """A follower that receives as well."""

    def __init__(self, Endpoint endpoint not None, remote_addr=None, request=None):
        self.endpoint = endpoint
        self.remote_addr = remote_addr
        self.request = request
        self.stage = CONNECTION_OPENING
        self.close_reason = ""

    def __repr__(self):
        return f"<{type(self).__name__} {self.remote_addr}>"

    cdef int attach(self, object transport, bint secure) except -1:
        # Takes the transport, and makes it tell of every byte that it holds.
        cdef bint own_tls = secure and not type(transport).__module__.startswith("aiofastnet")
        self.transport = transport
        self.socket = transport.get_extra_info("socket").fileno()
        self.fd = -1 if secure else self.socket
        # asyncio's and uvloop's TLS would pause at size 0, then hang.
        transport.set_write_buffer_limits(1 if own_tls else 0, 0)
        return 0

    cdef int opened(self) except -1:
        # `attach` was called and `muted` is set: from here on it gets every message.
        self.stage = CONNECTION_OPEN
        self.endpoint.join(self)
        return self.endpoint.changed()

    # --- receiving -----------------------------------------------------------------------

    cdef int deliver(self, const char* data, Py_ssize_t size) except -1:
        # One whole message; `data` is borrowed for the call.
        cdef Endpoint endpoint = self.endpoint
        self.messages_in += 1
        endpoint.messages_in += 1
        endpoint.bytes_in += size
        if endpoint.up is None:
            endpoint.unwanted += 1
            return 0
        try:
            value = codec_decode(endpoint.up, data, size)
        except DecodeError as error:
            return self._refuse_message(error, size)
        except Exception as cause:
            # Code of the user's: a __post_init__ that does not like the fields.
            error = DecodeError(f"{type(cause).__name__} while the value was made: {cause}")
            error.__cause__ = cause
            return self._refuse_message(error, size)
        if endpoint.inbox.push(self, value, size, False):
            self.pause_reading()
        return _bound_inbound(endpoint)

    cdef int _refuse_message(self, object error, Py_ssize_t size) except -1:
        # A message that is no value costs its sender nothing but that message.
        cdef Endpoint endpoint = self.endpoint
        endpoint.undecodable += 1
        self.undecodable += 1
        if endpoint.is_client:
            if endpoint.inbox.push(self, error, size, True):
                self.pause_reading()
        elif self.undecodable == 1:
            endpoint.logger.warning(
                "%s sent a message of %d bytes that is no %s: %s (further ones are only counted)",
                self.remote_addr, size, endpoint.up, error,
            )
        return 0

    cdef int pause_reading(self) except -1:
        if not self.reading_paused and self.stage == CONNECTION_OPEN:
            self.reading_paused = True
            self.transport.pause_reading()
            self.endpoint.inbox.hold_back(self)
        return 0

    cdef int hold(self, Py_ssize_t held) except -1:
        # So many bytes of its input are kept now, whole messages apart. Look at `stage` afterwards.
        cdef bint is_more = held > self.held
        self.endpoint.buffered += held - self.held
        self.held = held
        return _bound_inbound(self.endpoint) if is_more else 0

    def resume_reading(self):
        """Go on reading: the inbox has room again."""
        if self.reading_paused:
            self.reading_paused = False
            if self.stage != CONNECTION_CLOSED and not self.transport.is_closing():
                self.transport.resume_reading()

    # --- the end -------------------------------------------------------------------------

    cdef int on_too_slow(self, str cause) except -1:
        self.finish(1013, cause)  # first: a handler of the user's may raise
        self.endpoint.logger.warning("closing %s (1013): %s", self.remote_addr, cause)
        return 0

    cdef int on_broken(self) except -1:
        return self.abort()

    cdef int finish(self, int code, str reason) except -1:
        # This side ends the connection: say so, then linger.
        if self.stage != CONNECTION_OPEN:
            return 0
        self.leave()
        if self.close_code is None:
            self.close_code = code
            self.close_reason = reason
        self.linger()
        self.resume_reading()
        return self.say_close(code, reason)

    cdef int linger(self) except -1:
        # The end is announced, by whichever side; there is a deadline for the rest.
        self.leave()
        self.stage = CONNECTION_CLOSING
        self.close_deadline = self.endpoint.sweep.clock + self.endpoint.close_timeout
        self.endpoint.closing.add(self)
        self.endpoint.sweep.start()
        return self.endpoint.changed()

    cdef int on_sweep(self, double clock) except -1:
        # uvloop tells a poller of an error once and then polls no more. Where bytes came with
        # a reset, that call reads them, and nobody ever tells of the reset. So the kernel is
        # asked: once, after bytes were read and then a while none. A server asks for clients
        # whose reading is paused, too; what they ended in good order is still to be read.
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
        """Abort at the deadline, or where nobody is left to wait for; called by the endpoint's timer."""
        if clock >= self.close_deadline or deli_com_tcp_info(self.socket).is_dead:
            self.abort()

    cdef int abort(self) except -1:
        # No ceremony. Nothing is written to the fd from here on: the loop closes it soon,
        # and the system may give its number to the next connection.
        self.leave()
        self.endpoint.closing.discard(self)
        if self.stage != CONNECTION_CLOSED:
            self.stage = CONNECTION_CLOSING
            self.transport.abort()
        return 0

    cdef int ended(self) except -1:
        # The transport is gone.
        cdef Endpoint endpoint = self.endpoint
        self.hold(0)
        if self.stage == CONNECTION_CLOSED:
            return 0
        self.leave()
        self.stage = CONNECTION_CLOSED
        endpoint.closing.discard(self)
        if endpoint.is_client:
            endpoint.end(ConnectionClosed(self.close_code, self.close_reason), self.ended_in_order())
        return endpoint.changed()

    cdef int give_back(self) except -1:
        return 0  # memory that is kept for input to come: `hold` less

    cdef int on_too_much(self, str cause) except -1:
        # It keeps more than any other, of too much: end it, and `hold` nothing.
        return self.abort()

    cdef int say_close(self, int code, str reason) except -1:
        return 0

    cdef bint ended_in_order(self) except -1:
        return False

    def _finish(self, code, reason):
        self.finish(code, reason)

    def _abort(self):
        self.abort()

    def _held(self):
        return self.held

    def _give_back(self):
        self.give_back()


cdef inline Py_ssize_t _inbound(Endpoint endpoint) noexcept:
    return endpoint.buffered + endpoint.inbox.held_bytes


cdef inline int _bound_inbound(Endpoint endpoint) except -1:
    return _shed(endpoint) if _inbound(endpoint) > endpoint.max_inbound else 0


cdef int _shed(Endpoint endpoint) except -1:
    # First memory that only waits for more; then connections, those that keep most first, with
    # the values of theirs that nobody has received: a bound that those stay beyond is none.
    cdef Connection connection
    cdef Py_ssize_t before = _inbound(endpoint)
    cdef Py_ssize_t enough = endpoint.max_inbound - endpoint.max_inbound // SPARE_PART
    cdef dict shares
    cdef list connections = endpoint._connections()
    for connection in connections:
        connection.give_back()
    if _inbound(endpoint) <= enough:
        return 0
    shares = endpoint.inbox.shares()
    for connection in connections:
        shares[connection] = connection.held + <Py_ssize_t>shares.get(connection, 0)
    connections.sort(key=shares.__getitem__, reverse=True)
    for connection in connections:
        if _inbound(endpoint) <= enough:
            break
        cause = (
            f"too much unreceived: {shares[connection]} bytes of this client, {before} of all, "
            f"limit {endpoint.max_inbound}"
        )
        is_open = connection.stage == CONNECTION_OPEN
        endpoint.inbox.drop_from(connection)
        connection.on_too_much(cause)
        if is_open:
            _shed_log.log(logging.WARNING, "closing %s (1009): %s", connection.remote_addr, cause)
    return 0
