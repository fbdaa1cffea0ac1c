"""The WebSocket end of one connection; the only file that cimports picows.

picows parses frames and masks; what it leaves to its user is done here: the order of
fragments, reserved bits, answering CLOSE and PING, close codes, and lingering.

picows' parser reads one frame ahead and sends CLOSE by itself when it fails, so a frame
may still arrive here after that: `is_close_frame_sent` is looked at, and `muted` points at it.
"""

import math

from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy
from picows.picows cimport WSCloseCode, WSCloseHandshake, WSCloseInfo, WSFrame, WSListener, WSMsgType, WSTransport

from deli_com._connection cimport CONNECTION_OPEN, Connection
from deli_com._net cimport deli_com_clock_ns, deli_com_give_back, deli_com_tcp, deli_com_tcp_info

cdef extern from "Python.h":
    Py_buffer* PyMemoryView_GET_BUFFER(object view)


cdef enum:
    NO_STATUS = 1005         # RFC 6455 section 7.1.5: CLOSE without a code
    REASON_BYTES = 123       # a control frame takes 125, the code two of them
    MAX_FRAGMENTS = 4096     # frames of one message
    READ_BYTES = 262144      # of the read buffer that an idle connection keeps
    PING_BYTES = 14          # a PING of ours on the wire, mask included

cdef set IN_ORDER = {1000, 1001, NO_STATUS}


cdef bint _may_be_sent(int code) noexcept:
    # RFC 6455 section 7.4: codes that may stand in a CLOSE frame.
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef class Peer(Connection):
    """One WebSocket connection of an endpoint.

    Parameters
    ----------
    endpoint : Endpoint
    remote_addr : Address, optional
    request : Request, optional
        Of the handshake.

    Notes
    -----
    Hand `listener()` to picows: it owns the peer until the connection is lost.
    """

    cdef WSTransport _ws
    cdef uint8_t* _joined            # payload of the fragments so far; owned
    cdef Py_ssize_t _joined_size
    cdef Py_ssize_t _joined_capacity
    cdef int _fragments              # of the message under way; 0: none is
    cdef bint _joining_text          # it is a text message: counted, not kept
    cdef bint _warned_of_text
    cdef bytes _pong                 # the one PONG that is owed, or None
    cdef bint _close_received
    cdef double _heard_at            # endpoint clock, seconds: the last frame of any kind
    cdef double _pinged_at           # endpoint clock: a PING is unanswered since; 0: none is
    cdef uint64_t _pinged_ns         # system clock at that PING
    cdef uint64_t _acked             # of our bytes, by the peer's kernel, when last asked
    cdef readonly double round_trip  # seconds, of the last PING answered; nan before
    cdef bint _was_large             # a payload over READ_BYTES came: its pages may be idle now
    cdef Py_ssize_t _seen_messages   # at the last sweep

    def __dealloc__(self):
        PyMem_RawFree(self._joined)

    def listener(self):
        """Return the picows listener of this peer."""
        return PeerListener(self)

    # --- frames --------------------------------------------------------------------------

    cdef int on_frame(self, WSFrame frame) except -1:
        self._heard_at = self.endpoint.sweep.clock
        if frame.payload_size > READ_BYTES:
            self._was_large = True
        if self._ws.is_close_frame_sent and self.stage == CONNECTION_OPEN:
            self.linger()  # picows' parser has failed and said so
        if self.stage != CONNECTION_OPEN:
            if frame.msg_type == WSMsgType.CLOSE:
                self._on_close(frame)
            return 0
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            return self.finish(1002, "reserved bits are set, and no extension was negotiated")
        if frame.msg_type == WSMsgType.BINARY:
            if self._fragments:
                return self.finish(1002, "a new message began inside a fragmented one")
            if frame.fin:
                return self.deliver(frame.payload_ptr, frame.payload_size)
            return self._join(frame, False)
        if frame.msg_type == WSMsgType.CONTINUATION:
            if not self._fragments:
                return self.finish(1002, "a continuation frame without a message to continue")
            return self._join(frame, self._joining_text)
        if frame.msg_type == WSMsgType.TEXT:
            if self._fragments:
                return self.finish(1002, "a new message began inside a fragmented one")
            return self._on_text() if frame.fin else self._join(frame, True)
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
        self._joining_text = text
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            return self.finish(1009, f"a message of more than {MAX_FRAGMENTS} fragments")
        if size > self.endpoint.max_message_size:
            return self.finish(1009, f"a message of more than {self.endpoint.max_message_size} bytes")
        if not text and (size > self._joined_capacity or self._joined == NULL):
            capacity = min(max(size, 2 * self._joined_capacity), self.endpoint.max_message_size)
            grown = <uint8_t*>PyMem_RawRealloc(self._joined, max(capacity, 1))
            if grown == NULL:
                return self.finish(1009, "out of memory")
            self._joined = grown
            self._joined_capacity = capacity
        if not text and frame.payload_size:
            memcpy(self._joined + self._joined_size, frame.payload_ptr, frame.payload_size)
        self._joined_size = size
        if not frame.fin:
            return 0
        self._fragments = 0
        self._joined_size = 0
        if text:
            return self._on_text()
        # The memory leaves with the message: nothing stays behind for an idle connection.
        grown = self._joined
        self._joined = NULL
        self._joined_capacity = 0
        try:
            self.deliver(<const char*>grown, size)
        finally:
            PyMem_RawFree(grown)
        return 0

    cdef int _on_text(self) except -1:
        self.endpoint.unwanted += 1
        if not self._warned_of_text:
            self._warned_of_text = True
            self.endpoint.logger.warning(
                "%s sent a text message; values are binary messages, so text is ignored", self.remote_addr)
        return 0

    cdef int _on_ping(self, WSFrame frame) except -1:
        # At most one PONG waits, for the latest PING: RFC 6455 section 5.5.3 allows it, and a
        # peer that floods PINGs and never reads costs 125 bytes.
        cdef bytes payload = frame.payload_ptr[:frame.payload_size]
        if self.choked:
            self._pong = payload
        else:
            self._ws.send_pong(payload)
        return 0

    cdef int _on_pong(self, WSFrame frame) except -1:
        if self._pinged_at and frame.payload_size == 8 and memcmp(frame.payload_ptr, &self._pinged_ns, 8) == 0:
            self._pinged_at = 0
            self.round_trip = (deli_com_clock_ns() - self._pinged_ns) / 1e9
        return 0

    cdef int _on_close(self, WSFrame frame) except -1:
        cdef int code = frame.get_close_code() if frame.payload_size >= 2 else NO_STATUS
        self._close_received = True
        if self.stage == CONNECTION_OPEN:
            if code != NO_STATUS and not _may_be_sent(code):
                return self.finish(1002, f"close code {code} must not be sent")
            # What was queued before still goes out: the peer reads until our CLOSE.
            self.endpoint.flush_now()
            if self.stage != CONNECTION_OPEN:
                return 0  # that flush has closed it
            self.close_code = code
            self.close_reason = frame.get_close_reason() or ""
            self.linger()
            self._ws.send_close(<WSCloseCode>(1000 if code == NO_STATUS else code), b"")
        self.transport.close()
        return 0

    # --- sweep -------------------------------------------------------------------------

    cdef int on_sweep(self, double clock) except -1:
        Connection.on_sweep(self, clock)
        if self.stage != CONNECTION_OPEN:
            return 0
        if self._was_large and self._seen_messages == self.messages_in:
            self._was_large = False
            self._give_back()
        self._seen_messages = self.messages_in
        if self._pinged_at and self._heard_at >= self._pinged_at:
            self._pinged_at = 0  # any frame is a sign of life
        if not self._pinged_at:
            if clock - self._heard_at >= self.endpoint.ping_interval and not self._ws.is_close_frame_sent:
                self._pinged_at = clock
                self._pinged_ns = deli_com_clock_ns()
                self._acked = deli_com_tcp_info(self.socket).bytes_acked
                self._ws.send_ping((<char*>&self._pinged_ns)[:8])
        elif clock - self._pinged_at >= self.endpoint.ping_timeout:
            return self._judge_silence(clock)
        return 0

    cdef int _judge_silence(self, double clock) except -1:
        # No frame since the PING. The kernel may know better: we may not be reading, or the
        # peer may be busy taking one large frame, behind which the PING waits.
        cdef deli_com_tcp known = deli_com_tcp_info(self.socket)
        cdef str cause
        if known.is_known and (
            self.reading_paused
            or known.silent_ms < 1000 * self.endpoint.ping_timeout
            or known.bytes_acked > self._acked + PING_BYTES
        ):
            self._acked = known.bytes_acked
            self._pinged_at = clock
            return 0
        cause = (
            f"keepalive: no sign of life for {clock - self._heard_at:.1f} s, "
            f"{self.lag() + self.transport.get_write_buffer_size()} bytes queued"
        )
        self.endpoint.logger.warning("closing %s (1011): %s", self.remote_addr, cause)
        return self.finish(1011, cause)

    cdef int _give_back(self) except -1:
        # picows' read buffer never shrinks. The pages of its free part, beyond what the next
        # read needs, go back to the system; they come again, as zeros, when they are written.
        cdef object free = self.transport.get_protocol().get_buffer(-1)
        cdef Py_buffer* view = PyMemoryView_GET_BUFFER(free)
        deli_com_give_back(<char*>view.buf + READ_BYTES, view.len - READ_BYTES)
        return 0

    # --- transport -----------------------------------------------------------------------

    cdef int connected(self, WSTransport ws) except -1:
        self._ws = ws
        self.attach(ws.underlying_transport, ws.is_secure)
        self.muted = &ws.is_close_frame_sent
        self.round_trip = math.nan
        self._heard_at = self.endpoint.sweep.clock
        return self.opened()

    cdef int drained(self) except -1:
        self.unchoke()
        if self._pong is not None and not self._ws.is_close_frame_sent:
            pong, self._pong = self._pong, None
            self._ws.send_pong(pong)
        return 0

    cdef int say_close(self, int code, str reason) except -1:
        # The transport's bytes end at a frame's end, so CLOSE is well placed behind them.
        cdef bytes cut = reason.encode()[:REASON_BYTES].decode(errors="ignore").encode()
        if not self._ws.is_close_frame_sent:
            self._ws.send_close(<WSCloseCode>code, cut)
        return 0

    cdef int disconnected(self) except -1:
        cdef WSCloseHandshake closing = self._ws.close_handshake if self._ws is not None else None
        cdef WSCloseInfo info
        if self.close_code is None and closing is not None:
            # picows' parser ended it: what it sent says why.
            info = closing.sent if closing.sent is not None else closing.recv
            if info is not None:
                self.close_code = <int>info.code or NO_STATUS
                self.close_reason = info.reason or ""
        if self._ws is not None:
            self._ws.disconnected_future.cancel()  # nobody awaits it: picows' own error would be "never retrieved"
        self.ended()
        self._ws = None  # breaks the cycle protocol -> listener -> peer -> transport
        return 0

    cdef bint ended_in_order(self) except -1:
        return self.close_code in IN_ORDER


cdef class PeerListener(WSListener):
    """picows' view of a `Peer`: a shell, because an extension class has one base."""

    cdef Peer peer

    def __init__(self, Peer peer not None):
        self.peer = peer

    cpdef on_ws_connected(self, WSTransport transport):
        self.peer.connected(transport)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.peer.on_frame(frame)

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.peer.disconnected()

    cpdef pause_writing(self):
        self.peer.choke()

    cpdef resume_writing(self):
        self.peer.drained()
