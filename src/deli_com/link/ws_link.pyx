"""The WebSocket end of one connection: its frames, control messages and close codes.

picows parses frames and masks. This file does what picows leaves to its user: the order of fragments,
reserved bits, answering CLOSE and PING, close codes, and lingering. What stands between it and the transport
is `ws_intake`. These two are the only modules that cimport picows.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy
from picows.picows cimport (
    MemoryBuffer,
    WSCloseCode,
    WSCloseHandshake,
    WSCloseInfo,
    WSFrame,
    WSMsgType,
    WSTransport,
)

from deli_com.link.connection cimport Connection
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport CONNECTION_OPEN, may_be_sent
from deli_com.link.large_frame cimport LARGE_BYTES
from deli_com.link.marked_link cimport MarkedLink
from deli_com.link.ws_limits cimport *
from deli_com.errors import ConnectionClosed
from deli_com.fanout.aside cimport put_aside
from deli_com.schema.control import Live, render
from deli_com.schema.terms import Ending
from deli_com.ground.cpython cimport PyMemoryView_GET_BUFFER
from deli_com.ground.sockets cimport deli_com_free_pages

cdef extern from *:
    """
    static const char deli_com_prefix[] = "deli 1 ";
    static const char deli_com_hello[] = "deli 1 hello ";
    """
    const char PREFIX "deli_com_prefix"[8]
    const char HELLO "deli_com_hello"[14]

cdef bytes LIVE = render(Live())
cdef set BROKEN = {1002, 1007, 1009}
cdef set IN_ORDER = {1000, 1001, NO_STATUS}


cdef class _NobodyWaits:
    """Stands where picows has a future for `wait_disconnected`, which nobody awaits here."""

    def done(self):
        return True


cdef object NOBODY_WAITS = _NobodyWaits()


cdef class WsLink(MarkedLink):
    """One WebSocket connection of an endpoint.

    Parameters
    ----------
    endpoint : Endpoint
    remote_addr : Address, optional
    request : Request, optional
        Of the handshake.

    Attributes
    ----------
    max_fragments : int
        Frames that one message may come in; 4096 unless it is set.

    Notes
    -----
    Hand a `WsLinkListener` of it to picows: that owns the peer until the connection is lost.
    """

    def __cinit__(self, *args, **kwargs):
        self.max_fragments = MAX_FRAGMENTS
        self._wants_text = type(self).on_text is not WsLink.on_text
        self._wants_binary = type(self).on_binary is not WsLink.on_binary

    def __dealloc__(self):
        PyMem_RawFree(self._joined)

    # --- frames --------------------------------------------------------------------------

    cdef int on_frame(self, WSFrame frame) except -1:
        self._frames += 1
        if self.stage != CONNECTION_OPEN:
            if frame.msg_type == WSMsgType.CLOSE:
                self._on_close(frame)
            return 0
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            return self._fail(1002, "reserved bits are set, and no extension was negotiated")
        if frame.msg_type == WSMsgType.BINARY:
            if self._fragments:
                return self._fail(1002, "a new message began inside a fragmented one")
            if frame.fin:
                if frame.payload_size >= LARGE_BYTES and frame.last_in_buffer:
                    self._intake.on_large_frame(
                        <uint8_t*>frame.payload_ptr + frame.payload_size, frame.tail_size)
                return self._handle_binary(frame.payload_ptr, frame.payload_size)
            return self._join(frame, False)
        if frame.msg_type == WSMsgType.CONTINUATION:
            if not self._fragments:
                return self._fail(1002, "a continuation frame without a message to continue")
            return self._join(frame, self._joining_text)
        if frame.msg_type == WSMsgType.TEXT:
            if self._fragments:
                return self._fail(1002, "a new message began inside a fragmented one")
            if frame.fin:
                return self._handle_text(frame.payload_ptr, frame.payload_size)
            return self._join(frame, True)
        if frame.msg_type == WSMsgType.PING:
            return self._on_ping(frame)
        if frame.msg_type == WSMsgType.CLOSE:
            return self._on_close(frame)
        return self._on_pong(frame)

    cdef int _join(self, WSFrame frame, bint text) except -1:
        # Adds a fragment; delivers after the last.
        cdef Py_ssize_t size = self._joined_size + frame.payload_size
        cdef Py_ssize_t capacity
        cdef uint8_t* grown
        cdef bint kept = (
            not text or self._wants_text or (self.agreement is not None and size <= CONTROL_BYTES)
        )
        self._joining_text = text
        self._fragments += 1
        if self._fragments > self.max_fragments:
            return self._fail(1009, f"a message of more than {self.max_fragments} fragments")
        if text and not kept:
            if self._is_joining_control(frame):
                return self._fail(1009, f"a control text of more than {<int>CONTROL_BYTES} bytes")
            PyMem_RawFree(self._joined)  # it is an ordinary text
            self._joined = NULL
            self._joined_capacity = 0
        if size > self.endpoint.max_message_size and not (text and kept and size <= CONTROL_BYTES):
            return self._fail(1009, f"a message of more than {self.endpoint.max_message_size} bytes")
        if kept and (size > self._joined_capacity or self._joined == NULL):
            capacity = max(size, min(2 * self._joined_capacity, self.endpoint.max_message_size))
            grown = <uint8_t*>PyMem_RawRealloc(self._joined, max(capacity, 1))
            if grown == NULL:
                return self._fail(1009, "out of memory")
            self._joined = grown
            self._joined_capacity = capacity
        if kept and frame.payload_size:
            memcpy(self._joined + self._joined_size, frame.payload_ptr, frame.payload_size)
        self._joined_size = size
        if not frame.fin:
            return self._recount() if kept else 0
        self._fragments = 0
        self._joined_size = 0
        self._recount()
        if not kept:
            return self._handle_text(NULL, 0)
        # The memory is freed with the message, so an idle connection keeps none.
        grown = self._joined
        self._joined = NULL
        self._joined_capacity = 0
        try:
            if text:
                self._handle_text(<const char*>grown, size)
            else:
                self._handle_binary(<const char*>grown, size)
        finally:
            PyMem_RawFree(grown)
        return 0

    cdef int _handle_binary(self, const char* data, Py_ssize_t size) except -1:
        if self._wants_binary:
            if size > self.endpoint.max_message_size:
                # picows lets it through, for longer texts; the words are picows'.
                return self._fail(1009, "Received frame with payload size exceeding max allowed size, "
                                  f"{size} > {self.endpoint.max_message_size}")
            if self._wants_binary & 1:
                self.on_binary(data[:size])
                return 0
        return self.deliver(data, size)

    cdef int on_large_message(self, const char* data, Py_ssize_t size) except -1:
        # One that picows has not seen. An exception has the consequences that it has in picows' parser.
        self._frames += 1
        if self.stage != CONNECTION_OPEN:
            return 0
        try:
            self._handle_binary(data, size)
        except Exception as error:
            self.endpoint.logger.exception("closing %s (1011): %s", self.remote_addr, error)
            if self._ws is not None:
                self.say_close(1011, "")
        return 0

    cdef bint _is_joining_control(self, WSFrame frame) noexcept:
        if self.agreement is None:
            return False
        if self._fragments == 1:
            return frame.payload_size >= PREFIX_BYTES and memcmp(frame.payload_ptr, PREFIX, PREFIX_BYTES) == 0
        return (
            self._joined != NULL and self._joined_size >= PREFIX_BYTES
            and memcmp(self._joined, PREFIX, PREFIX_BYTES) == 0
        )

    cdef int _handle_text(self, const char* data, Py_ssize_t size) except -1:
        if (
            size >= PREFIX_BYTES and memcmp(data, PREFIX, PREFIX_BYTES) == 0
            and self.endpoint.terms is not None and self.rewriter is None
        ):
            if self.agreement is not None or self._may_announce(data, size):
                return self.handle_control(data[:size])
        if self._wants_text:
            try:
                self.on_text(data[:size])
            except UnicodeDecodeError as error:
                self._fail(1007, f"a text message is not UTF-8: {error.reason} at byte {error.start}")
            return 0
        self.endpoint.unwanted += 1
        if not self._warned_of_text:
            self._warned_of_text = True
            self.endpoint.logger.warning(
                "%s sent a text message; values are binary messages, so text is ignored", self.remote_addr)
        return 0

    cdef bint _may_announce(self, const char* data, Py_ssize_t size) noexcept:
        # A hello announces only as the first message. Later it is an ordinary text.
        return (
            not self.endpoint.is_client and self.messages_in == 0 and size <= HELLO_BYTES
            and size >= <Py_ssize_t>sizeof(HELLO) - 1 and memcmp(data, HELLO, sizeof(HELLO) - 1) == 0
        )

    def on_text(self, data):
        """Handle a text message, as `bytes`. A subclass that needs text messages overrides this.

        Without an override, text is counted, with one warning for each connection. A
        `UnicodeDecodeError` from here closes the connection with 1007 (RFC 6455 section 8.1).
        """

    def on_binary(self, data):
        """Handle a binary message, which does not reach the inbox then. A subclass may override this."""

    cdef int _on_ping(self, WSFrame frame) except -1:
        # At most one PONG waits, for the latest PING: RFC 6455 section 5.5.3 allows it, and a
        # peer that floods PINGs costs 125 bytes and a few system calls a read.
        cdef bytes payload = frame.payload_ptr[:frame.payload_size]
        self._pings += 1
        if self.writing_paused or self._pings > PONGS_A_READ:
            self._pong = payload
        elif not self.transport.is_closing():  # after a reset each write would be logged
            self._ws.send_pong(payload)
        return 0

    cdef int _send_owed_pong(self) except -1:
        cdef bytes pong = self._pong
        if pong is not None and not self.writing_paused and not self._ws.is_close_frame_sent:
            self._pong = None
            self._ws.send_pong(pong)
        return 0

    cdef int _on_pong(self, WSFrame frame) except -1:
        # Every PING of ours is a marker. Other PONGs are ignored.
        cdef uint64_t token
        if frame.payload_size != TOKEN_BYTES:
            return 0
        memcpy(&token, frame.payload_ptr, TOKEN_BYTES)
        return self.handle_answer(token)

    cdef bint may_mark(self) except -1:
        return (
            self.stage == CONNECTION_OPEN and not self._ws.is_close_frame_sent
            and not self.transport.is_closing()
        )

    cdef int send_mark(self, uint64_t token) except -1:
        self._ws.send_ping((<char*>&token)[:TOKEN_BYTES])
        return 0

    cdef int send_sign(self) except -1:
        self._ws.send_pong(b"")
        return 0

    cdef int _on_close(self, WSFrame frame) except -1:
        cdef int code = frame.get_close_code() if frame.payload_size >= 2 else NO_STATUS
        if self.stage == CONNECTION_OPEN:
            if code != NO_STATUS and not may_be_sent(code):
                return self._fail(1002, f"close code {code} must not be sent")
            # What was queued before is still sent: the peer reads until our CLOSE.
            self.lift_bound()
            self.endpoint.hub.flush_now()
            if self.stage != CONNECTION_OPEN:
                return 0  # that flush has closed it
            self.close_code = code
            self.close_reason = frame.get_close_reason() or ""
            self.blame("left")
            self.linger()
            self._ws.send_close(<WSCloseCode>(1000 if code == NO_STATUS else code), b"")
            if self.endpoint.is_client:  # nothing more can come: receivers need not wait for the TCP end
                self.endpoint.end(ConnectionClosed(code, self.close_reason), self.ended_in_order())
        return self.end_stream()

    cdef int end_stream(self) except -1:
        # CLOSE was sent, and later input is discarded up to the peer's end of the stream, or the
        # deadline. Closing with unread input would send RST, and the peer's system would then discard
        # our CLOSE and the last messages before it.
        # The server ends the stream first (RFC 6455 section 7.1.1).
        if self._ending:
            return 0
        self._ending = True
        self._drop_input()
        self.resume_reading()
        if self.endpoint.is_client or self.transport.is_closing():
            return 0
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()  # TLS: flushes, reads on and waits for the peer's close_notify
        except OSError:
            self.abort()  # the peer has reset the connection; what is unread does not matter
        return 0

    cdef int on_too_much(self, str cause) except -1:
        self.blame("too much input")
        return self._fail(1009, cause)

    cdef int _fail(self, int code, str reason) except -1:
        # The peer has broken the protocol: its answer is not waited for (RFC 6455 section 7.1.7).
        self.blame("protocol error")
        self.finish(code, reason)
        return self.end_stream()

    cdef int give_way(self) except -1:
        # That read was of many frames: the transport would read on at once, the others come first.
        if not self.reading_paused and not self.transport.is_closing():
            self.endpoint.loop.call_soon(self._read_on)
            self.transport.pause_reading()
        return 0

    def _read_on(self):
        if not self.reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    cdef int parser_failed(self) except -1:
        # picows has sent CLOSE, and why.
        if self.stage == CONNECTION_OPEN:
            self.blame("protocol error")
            self._learn_close()
            self.linger()
        return self.end_stream()

    cdef int read_done(self) except -1:
        # All frames of one read have been handled.
        if self._ws is None:
            return 0
        if self._pong is not None:
            self._send_owed_pong()
        if self._ws.is_close_frame_sent and self.stage == CONNECTION_OPEN:
            return self.parser_failed()
        return 0

    # --- sweep -------------------------------------------------------------------------

    cdef int on_sweep(self, double clock) except -1:
        Connection.on_sweep(self, clock)
        if self.stage != CONNECTION_OPEN:
            return 0
        if self._touched > KEPT_BYTES and (self._seen_messages == self.messages_in or self._intake.is_ahead):
            self._release_pages(KEPT_BYTES)
        self._seen_messages = self.messages_in
        return self.watch(clock)

    cdef int on_silent(self, str cause) except -1:
        # The peer does not answer, so its CLOSE is not awaited. A peer that slept reads ours when it wakes.
        self.blame("keepalive")
        self.leave()
        self.close_code = 1011
        self.close_reason = cause
        self.say_close(1011, cause)
        self.abort()
        self.endpoint.logger.warning("closing %s (1011): %s", self.remote_addr, cause)
        return 0

    # --- memory --------------------------------------------------------------------------

    cdef int _recount(self) except -1:
        cdef IntakeBase intake = self._intake
        cdef Py_ssize_t large = 0 if intake is None or intake.large is None else intake.large.held()
        return self.hold(self._touched + self._joined_size + large)

    cdef int release_memory(self) except -1:
        return self._release_pages(0)

    cdef int _release_pages(self, Py_ssize_t keep) except -1:
        # picows' read buffer never shrinks. The pages of its free part, beyond what the next
        # read needs, go back to the system; they come again, as zeros, when they are written.
        cdef IntakeBase intake = self._intake
        cdef object free
        cdef Py_buffer* view
        if intake is None or intake.free_space is None or intake.is_busy:
            return 0
        free = intake.free_space(-1)
        view = PyMemoryView_GET_BUFFER(free)
        deli_com_free_pages(<char*>view.buf + keep, view.len - keep)
        self._touched = min(self._touched, intake.used_of(view.len) + keep)
        return self._recount()

    cdef int _drop_input(self) except -1:
        # Input is not used any more. The parser and its read buffer are freed as soon as it has
        # returned, so a closing connection costs no memory for input.
        PyMem_RawFree(self._joined)
        self._joined = NULL
        self._joined_size = self._joined_capacity = self._touched = 0
        if self._intake is not None:
            self._intake.parser = self._intake.free_space = self._intake.parse = None
            if self._intake.large is not None:
                self._intake.large.clear()
        return self._recount()

    # --- transport -----------------------------------------------------------------------

    cdef int connected(self, WSTransport ws, IntakeBase intake) except -1:
        self._ws = ws
        self._drop_unused(ws)
        self.attach(ws.underlying_transport, ws.is_secure)
        self.muted = &ws.is_close_frame_sent
        self.begin_marks(PING_BYTES)
        if self.socket < 0:
            self.transit.lift()  # an ASGI server answers by itself
        self._intake = intake
        self.transport.set_protocol(self._intake)
        ws.underlying_transport = self._intake
        if self.endpoint.max_message_size < CONTROL_BYTES and (
            self.announcement is not None or (self.endpoint.is_client and self.endpoint.terms is not None)
        ):
            self._wants_binary |= 2
        cdef object broken = None
        try:
            if self.announcement is not None:
                self.agree()
        except Ending as ending:
            broken = ending
        self.opened()
        return 0 if broken is None else self.end_by(broken)

    cdef int _drop_unused(self, WSTransport ws) except -1:
        # 1.3 KiB a client. picows fills its buffer and sends it in one step, and what aiofastnet cannot send
        # at once it copies; a loop's own transport may keep a view of it.
        cdef Endpoint endpoint = self.endpoint
        ws.listener_proxy = None
        ws.disconnected_future = NOBODY_WAITS
        if ws._is_aiofn_transport and not endpoint.is_client:
            if endpoint.frame_buffer is None:
                endpoint.frame_buffer = ws._write_buffer
            ws._write_buffer = <MemoryBuffer>endpoint.frame_buffer
        return 0

    cdef int say(self, bytes text) except -1:
        if not self._ws.is_close_frame_sent and not self.transport.is_closing():
            self._ws.send(WSMsgType.TEXT, text)
        return 0

    cdef int say_live_in_order(self) except -1:
        return put_aside(self.endpoint.hub, self, LIVE)

    cdef int break_off(self, int code, str reason) except -1:
        self.finish(code, reason)
        return self.end_stream() if code in BROKEN else 0

    cdef int drained(self) except -1:
        self.on_writing_resumed()
        return self._send_owed_pong() if self._ws is not None else 0

    cdef int say_close(self, int code, str reason) except -1:
        # The transport's bytes end at a frame's end, so CLOSE is well placed behind them.
        cdef bytes cut = reason.encode()[:REASON_BYTES].decode(errors="ignore").encode()
        if not self._ws.is_close_frame_sent:
            self._ws.send_close(<WSCloseCode>code, cut)
        return 0

    cdef int _learn_close(self) except -1:
        cdef WSCloseHandshake closing = self._ws.close_handshake if self._ws is not None else None
        cdef WSCloseInfo info
        if self.close_code is None and closing is not None:
            info = closing.sent if closing.sent is not None else closing.recv
            if info is not None:
                self.close_code = <int>info.code or NO_STATUS
                self.close_reason = info.reason or ""
        return 0

    cdef int disconnected(self) except -1:
        try:
            self._learn_close()
            if self._ws is not None:
                self._ws.underlying_transport = self.transport  # a timer of picows' may still call close()
        finally:
            self._ws = None  # these break the cycles protocol -> listener -> peer -> transport, intake
            self._intake = None
            self.ended()
        return 0

    cdef bint ended_in_order(self) except -1:
        return self.close_code in IN_ORDER

    cdef object code_of_close(self):
        return self.close_code

cdef class IntakeBase:
    cdef Py_ssize_t used_of(self, Py_ssize_t free) noexcept:
        return 0  # of a WsIntake: what it says

    cdef int on_large_frame(self, const uint8_t* tail, Py_ssize_t size) except -1:
        return 0
