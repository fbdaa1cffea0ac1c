"""The TCP end of one connection: frames of a length and a payload (tcp_frame.pxd).

It is the transport's protocol itself, so bytes go from the kernel to the decoder in two
steps: every read of an endpoint lands in one shared buffer, and values are decoded from
there. Only the beginning of an incomplete frame is kept, in memory of its own. Reads do not fill
that memory past the end of the frame, and it is freed when the frame is complete. So an idle
connection has no read buffer, and no memory stays allocated after a large message.

TCP has no CLOSE frame. An end of the stream between two frames means that all messages were
sent. An end inside a frame, or a reset, means that some were not. So a connection that still
has messages to get is reset, and never ended by EOF.
"""

import asyncio
import logging

from cpython.buffer cimport PyBUF_WRITE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from deli_com.link.connection cimport Connection, reason_of_loss
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport CONNECTION_CLOSED, CONNECTION_CLOSING, CONNECTION_OPEN, CONNECTION_OPENING
from deli_com.link.speaker cimport Speaker
from deli_com.link.tcp_frame cimport (
    CONTROL_BYTES, CONTROL_HEADER, LENGTH_BYTES, MARKER, control_frame, frame_length, is_tls_hello,
    where_it_ends,
)
from deli_com.link.tcp_marks cimport TcpMarks
from deli_com.link.tcp_read_buffer cimport PART_BYTES, READ_BYTES, ReadBuffer
from deli_com.errors import ConnectionClosed, MessageTooLarge
from deli_com.link import early_values, required_hello
from deli_com.net.first_bytes import foreign_protocol
from deli_com.net.tcp_keepalive import probe
from deli_com.net import tls
from deli_com.net.transports import remote_address, reset_on_close
from deli_com.schema.control import is_control
from deli_com.schema.terms import Ending

cdef enum:
    FULL_BYTES = 16384           # of one read while the inbox is full; each connection may have one such read
    REFUSED = 4400               # the meaning of this close code; TCP sends no codes


cdef class TcpLink(TcpMarks, asyncio.BufferedProtocol):
    """One TCP connection of an endpoint; give it to a transport as its protocol.

    Parameters
    ----------
    endpoint : Endpoint
        Its log's framing is "tcp".
    buffer : ReadBuffer
        That of the endpoint.
    on_opened : callable, optional
        Called with the link once it is open and follows the log.
    log : LogBudget, optional
        A server's, for what its clients can cause at will.
    """

    cdef ReadBuffer _buffer
    cdef object _on_opened
    cdef object _log
    cdef readonly object failure  # what opening it has raised, or None
    cdef uint8_t* _part          # the frame under way, from its length on; owned, NULL between frames
    cdef Py_ssize_t _part_size   # bytes of it that are there
    cdef Py_ssize_t _part_bytes  # allocated
    cdef Py_ssize_t _part_room   # of them for this frame: up to its end at most
    cdef bint _ended_in_order
    cdef object _hello           # the RequiredHello that has not come; None: it has, or is not required
    cdef list _corked            # texts that go out together, while more are said; or None
    cdef object _early           # a client's EarlyValues, until the server's hello; or None
    cdef bint _was_watched       # at the first sweep: see `_watch_again`

    def __cinit__(self, Endpoint endpoint not None, ReadBuffer buffer not None, on_opened=None, log=None):
        self._buffer = buffer

    def __init__(self, Endpoint endpoint not None, ReadBuffer buffer not None, on_opened=None, log=None):
        Connection.__init__(self, endpoint)
        self._on_opened = on_opened
        self._log = log

    def __dealloc__(self):
        PyMem_RawFree(self._part)

    # --- reading: called by the transport ------------------------------------------------

    def get_buffer(self, sizehint):
        """Return memory for the next read."""
        cdef Py_ssize_t room
        if self.stage != CONNECTION_OPEN:
            self._drop_part()
        if self._part != NULL:
            room = min(self._part_room - self._part_size, READ_BYTES)
            return PyMemoryView_FromMemory(<char*>self._part + self._part_size, room, PyBUF_WRITE)
        if self._buffer.is_parsed:
            raise RuntimeError("the event loop ran inside the decoding of a message")
        if self.endpoint.inbox.is_full():
            return self._buffer.view[:FULL_BYTES]
        return self._buffer.view

    def buffer_updated(self, Py_ssize_t nbytes):
        """Deliver what is complete of `nbytes` more bytes; keep the rest."""
        if self.stage != CONNECTION_OPEN:
            if self._hello is not None:
                return self._await_hello(self._buffer.data, nbytes)
            self._open()
            if self.stage != CONNECTION_OPEN:
                return  # what arrives after the end is discarded
        self.sweeps_to_look = 2
        self.heard_at = self.endpoint.sweep.clock
        self.marks_read = 0
        if self._part != NULL:
            self._part_size += nbytes
            self.hold(self._part_size)
            if self._part != NULL:
                self._complete_part()
            return
        self._buffer.is_parsed = True
        try:
            self._parse(self._buffer.data, nbytes)
        finally:
            self._buffer.is_parsed = False
        if self.owed_seen is not None:
            self.answer_mark()

    cdef int _parse(self, const uint8_t* data, Py_ssize_t size) except -1:
        # Whole frames from the shared buffer; the beginning of one more is copied out.
        cdef const uint8_t* end = data + size
        cdef Py_ssize_t length
        cdef Py_ssize_t frame = LENGTH_BYTES  # bytes of the last, as far as they are known
        while end - data >= LENGTH_BYTES:
            if not self._fits(data):
                frame = self._control_size(data, end - data)
                if end - data < frame:
                    break
                if self.stage == CONNECTION_OPEN:
                    self._handle_text((<const char*>data)[CONTROL_HEADER:frame])
                if self.stage != CONNECTION_OPEN:
                    return 0
                data += frame
                frame = LENGTH_BYTES
                continue
            length = <Py_ssize_t>frame_length(data)
            if end - data - LENGTH_BYTES < length:
                frame = LENGTH_BYTES + length
                break
            self.deliver(<const char*>data + LENGTH_BYTES, length)
            if self.stage != CONNECTION_OPEN:
                return 0
            data += LENGTH_BYTES + length
        if data != end and self._make_room(data, end - data, frame):
            memcpy(self._part, data, end - data)
            self._part_size = end - data
            self.hold(self._part_size)
        return 0

    cdef int _complete_part(self) except -1:
        # More of the frame under way has arrived, and nothing but of it.
        cdef Py_ssize_t length
        cdef uint8_t* part = self._part
        if self._part_size < LENGTH_BYTES:
            return 0
        if not self._fits(part):
            return self._complete_control(part)
        length = <Py_ssize_t>frame_length(part)
        if self._part_size < LENGTH_BYTES + length:
            if self._part_size == self._part_room:
                self._make_room(part, self._part_size, LENGTH_BYTES + length)
            return 0
        self._part = NULL
        self.hold(0)
        try:
            self.deliver(<const char*>part + LENGTH_BYTES, length)
        finally:
            self._buffer.keep_spare(part, self._part_bytes)
        return 0

    cdef bint _make_room(self, const uint8_t* frame, Py_ssize_t have, Py_ssize_t end) except -1:
        # Memory for more of `frame`, of which `have` of `end` bytes have arrived: up to its end, but at
        # most twice what has arrived. A peer that announces much and sends little costs PART_BYTES.
        cdef Py_ssize_t size
        cdef uint8_t* part
        if self._part == NULL:
            if not self.messages_in and not self.endpoint.is_client and is_tls_hello(frame, have):
                self._refuse("this client begins TLS, which this port does not speak (ssl=)", None)
                return False
            self._part_bytes = 0
            if end > PART_BYTES:
                self._part = self._buffer.take_spare(&self._part_bytes)
        size = min(end, max(2 * have, PART_BYTES))
        if self._part_bytes < size:
            part = <uint8_t*>PyMem_RawRealloc(self._part, size)
            if part == NULL:
                self._refuse("out of memory", None)
                return False
            self._part = part
            self._part_bytes = size
        self._part_room = min(end, self._part_bytes)
        return True

    cdef int _drop_part(self) except -1:
        PyMem_RawFree(self._part)
        self._part = NULL
        return self.hold(0)

    # --- control texts -------------------------------------------------------------------

    cdef Py_ssize_t _control_size(self, const uint8_t* frame, Py_ssize_t have) except -1:
        # Bytes of the control text that begins here, header included; 0: the connection is closing.
        cdef Py_ssize_t size
        if self.stage != CONNECTION_OPEN:
            return 0
        if have < CONTROL_HEADER:
            return CONTROL_HEADER
        size = <Py_ssize_t>frame_length(frame + LENGTH_BYTES)
        if size > CONTROL_BYTES:
            self.end_by(Ending(0, f"a control text of {size} bytes, at most {<int>CONTROL_BYTES} may be"))
            return 0
        return CONTROL_HEADER + size

    cdef int _complete_control(self, uint8_t* part) except -1:
        # `_complete_part` for a frame that is a control text, or that was refused.
        cdef Py_ssize_t size = self._control_size(part, self._part_size)
        if self._part_size < size:
            if self._part_size == self._part_room:
                self._make_room(part, self._part_size, size)
            return 0
        if self.stage != CONNECTION_OPEN:
            return 0
        self._part = NULL
        self.hold(0)
        try:
            self._handle_text((<const char*>part)[CONTROL_HEADER:size])
        finally:
            self._buffer.keep_spare(part, self._part_bytes)
        return 0

    cdef int _handle_text(self, bytes text) except -1:
        if is_control(text):
            return self.handle_control(text)
        self.endpoint.unwanted += 1
        return 0

    cdef int _await_hello(self, const uint8_t* data, Py_ssize_t size) except -1:
        # Schemas are required: it is no client until it has announced its own.
        cdef bytes text
        if self.stage != CONNECTION_OPENING:
            return 0
        try:
            text = self._hello.add((<const char*>data)[:size])
        except ValueError as cause:
            self._turn_away(str(cause))
        else:
            if text is not None:
                self._handle_hello(text)
        return 0

    cdef int _handle_hello(self, bytes text) except -1:
        # Opens the connection, and takes the required hello and what came behind it.
        self._hello.end()
        self._hello = None
        self._open()
        if self.stage == CONNECTION_OPEN:
            self._parse(<const uint8_t*><const char*>text, len(text))
            if self.stage == CONNECTION_OPEN and self.agreement is None:
                self.end_by(Ending(0, required_hello.NO_SCHEMA))
        return 0

    def _turn_away(self, str cause):
        # Before it was open.
        if self.stage == CONNECTION_OPENING:
            self._log.log(logging.WARNING, "closing %s: %s", self.remote_addr, cause)
            self.close_reason = cause
            Connection.abort(self)

    cdef int on_joined(self) except -1:
        if not self.endpoint.is_client or self.endpoint.terms is None:
            return 0
        self._early = early_values.EarlyValues()
        self.agreement = self.endpoint.terms.agree(None)
        self.settle()
        return self.say(self.endpoint.terms.hello)

    cdef int on_early(self, const char* data, Py_ssize_t size) except -1:
        cdef Endpoint endpoint = self.endpoint
        if not endpoint.is_client or self.agreement.theirs is not None:
            return Speaker.on_early(self, data, size)
        cause = self._early.add(data[:size])
        if cause is not None:
            return self.end_by(Ending(0, cause))
        self.messages_in -= 1  # they are counted when they are delivered
        endpoint.messages_in -= 1
        endpoint.bytes_in -= size
        return 0

    cdef int on_settled(self) except -1:
        cdef bytes data
        early, self._early = self._early, None
        for data in () if early is None else early.values:
            self.deliver(data, len(data))
        return 0

    cdef int say(self, bytes text) except -1:
        cdef bytes frame = control_frame(text)
        if self._corked is not None:
            self._corked.append(frame)
        elif not self.transport.is_closing():
            self.transport.write(frame)
        return 0

    cdef int cork(self) except -1:
        if not self.endpoint.is_client:  # whose values may have waited for the answer, and end it
            self._corked = []
        return 0

    cdef int uncork(self) except -1:
        corked, self._corked = self._corked, None
        if corked and not self.transport.is_closing():
            self.transport.write(b"".join(corked))
        return 0

    cdef int say_live_in_order(self) except -1:
        # No frame of the log can hold it. It is sent once the retained values, and perhaps more, were sent.
        return self.endpoint.watchers.call_back(self._look_for_live)

    def _look_for_live(self, watcher):
        if self.stage == CONNECTION_OPEN:
            self.say_live()

    cdef int break_off(self, int code, str reason) except -1:
        cdef Endpoint endpoint = self.endpoint
        self.finish(0, reason)
        if not endpoint.is_client and code != REFUSED:  # of that the terms have told
            self._log.log(logging.WARNING, "closing %s: %s", self.remote_addr, reason)
        return 0

    # --- what must not be ----------------------------------------------------------------

    cdef bint _fits(self, const uint8_t* frame) except -1:
        # Whether the length is one that we take. If not, it is a control text, or the connection is closing.
        cdef uint32_t length = frame_length(frame)
        cdef bytes start
        cdef str kind = None
        if <uint64_t>length <= <uint64_t>self.endpoint.max_message_size:
            return True
        if length == MARKER and self.endpoint.terms is not None:
            return False
        error = MessageTooLarge(length, self.endpoint.max_message_size)
        cause = str(error)
        if not self.messages_in:
            start = (<const char*>frame)[:LENGTH_BYTES]
            cause, kind = foreign_protocol(start, is_client=self.endpoint.is_client) or (cause, None)
        self._refuse(cause, error, kind)
        return False

    cdef int _refuse(self, str cause, object error, str kind=None) except -1:
        # Nothing after this point can be parsed.
        cdef Endpoint endpoint = self.endpoint
        self.blame("protocol error")
        if endpoint.is_client:
            if error is not None and endpoint.up is not None:
                endpoint.inbox.push(self, error, 0, True)
            endpoint.end(ConnectionClosed(None, cause), False)
        self.finish(0, cause)
        if not endpoint.is_client:  # last: a handler of the user's may raise
            if kind is None:
                self._log.log(logging.WARNING, "closing %s: %s", self.remote_addr, cause)
            else:
                self._log.once(kind, logging.WARNING, "closing %s: %s", self.remote_addr, cause)
        return 0

    # --- the life of the connection: called by the transport -------------------------------

    def comes_from(self, remote):
        """Set whose connection it is, if a proxy has connected for the client."""
        self.remote_addr = remote

    def connection_made(self, transport):
        """Join the log."""
        self.transport = transport
        if self.remote_addr is None:
            self.remote_addr = remote_address(transport)
        if self.stage == CONNECTION_CLOSED:
            # Given up before. The transport adds its reader one callback from now, aborted or
            # not, and the next owner of the descriptor would inherit that.
            self.endpoint.loop.call_soon(transport.abort)
            return
        try:
            secure = transport.get_extra_info("sslcontext") is not None
            self.attach(transport, secure)
            probe(transport.get_extra_info("socket"), self.endpoint.ping_interval, self.endpoint.ping_timeout)
            self.begin_life()
            if not self.endpoint.is_client and self.endpoint.terms is not None and (
                self.endpoint.terms.use == "require"
            ):
                self._hello = required_hello.RequiredHello(self.endpoint.loop, self._turn_away)
            elif self.endpoint._events is None or secure:
                self._open()
            else:
                # on_connect may end it, and a plain transport must not be aborted before its reader is
                # added.
                self.endpoint.loop.call_soon(self._open)
        except BaseException as error:
            self._give_up(error)
            if not isinstance(error, Exception):
                raise

    def _open(self):
        # Once; the first event of the transport may come before its turn.
        if self.stage == CONNECTION_OPENING and self._hello is None:
            try:
                self.opened()
            except BaseException as error:
                self._give_up(error)
                if not isinstance(error, Exception):
                    raise
            else:
                on_opened, self._on_opened = self._on_opened, None
                if on_opened is not None:
                    on_opened(self)

    cdef int _give_up(self, object error) except -1:
        # It could not be opened. `connection_lost` reports this to the waiting task.
        self.failure = error
        self.stage = CONNECTION_CLOSING
        self.close_reason = reason_of_loss(error)
        self.leave()
        self.depart()
        self.endpoint.loop.call_soon(self.transport.abort)  # see `connection_made`
        if self._log is not None and isinstance(error, Exception) and not isinstance(error, OSError):
            self._log.log(logging.ERROR, "a connection failed as it was opened", exc_info=error)
        return 0

    def eof_received(self):
        """Take the peer's end of stream as the end of the connection."""
        cdef bint has_all
        self._open()
        has_all = self._has_all()  # the peer may have closed one direction only
        if self.stage == CONNECTION_OPEN:
            self.blame("left")
            self.close_reason = self._reason_of_eof()
            self._ended_in_order = self._part == NULL
            if has_all:
                self.linger()
            else:
                self._reset()
        return False  # the transport closes itself, behind what it holds

    cdef str _reason_of_eof(self):
        if self._awaits_hello():
            return early_values.NO_HELLO
        if self._part == NULL:
            return "the peer has closed the connection" + self._silence(
                "is it a TCP server, with TLS or without")
        return where_it_ends(self._part, self._part_size)

    def connection_lost(self, exc):
        """Leave for good."""
        # Whatever raises before it, the end is told.
        try:
            self._drop_part()
            on_opened, self._on_opened = self._on_opened, None
            if on_opened is not None:
                on_opened(self)  # lost before its turn, so the opening was not reported yet
            if not self.close_reason:
                self.close_reason = early_values.NO_HELLO if self._awaits_hello() else reason_of_loss(exc)
                if exc is None and self.transport is not None:
                    self.close_reason += self._silence(f"does it {tls.CERTIFICATE_HINT}")
            if self._hello is not None:
                self._hello.end()
        finally:
            self.ended()

    cdef str _silence(self, str question):
        # The hint for a client whose server ends the connection before it has sent anything.
        if not self.endpoint.is_client or self.messages_in:
            return ""
        return f"; it has sent nothing: {question}?"

    cdef bint _awaits_hello(self) except -1:
        return self.endpoint.is_client and self.agreement is not None and self.agreement.theirs is None

    def pause_writing(self):
        """Note that the transport holds bytes."""
        self.on_writing_paused()

    def resume_writing(self):
        """Note that the transport is empty."""
        self.on_writing_resumed()
        self.answer_mark()

    # --- the end, by this side -------------------------------------------------------------

    def discard(self):
        """Give up the connection, before or after a transport has taken it."""
        self._on_opened = None
        if self.transport is None:
            self.stage = CONNECTION_CLOSED
        else:
            self.abort()

    cdef int on_sweep(self, double clock) except -1:
        Connection.on_sweep(self, clock)
        if not self._was_watched:
            self._was_watched = True
            self._watch_again()
        return self.watch_life(clock) if self.stage == CONNECTION_OPEN else 0

    cdef int _watch_again(self) except -1:
        # A transport does not report that adding its reader failed. Neither values nor the end would arrive.
        if self.stage == CONNECTION_OPEN and not (
            self.messages_in or self._part != NULL or self.reading_paused or self.transport.is_closing()
        ):
            self.transport.pause_reading()
            self.transport.resume_reading()
        return 0

    cdef int on_silent(self, str cause) except -1:
        self.blame("keepalive")
        self.close_reason = cause
        self._reset()
        self.endpoint.logger.warning("closing %s: %s", self.remote_addr, self.close_reason)
        return 0

    cdef int on_too_much(self, str cause) except -1:
        self.blame("too much input")
        self._drop_part()
        return self.finish(0, cause)

    cdef int on_evicted(self, str cause, str detail) except -1:
        self.blame(cause)
        self.close_reason = detail
        self._reset()
        self.endpoint.logger.warning("closing %s: %s", self.remote_addr, detail)
        return 0

    cdef int finish(self, int code, str reason) except -1:
        cdef bint has_all = self._has_all()
        if self.stage == CONNECTION_OPEN and not has_all:
            self.close_reason = reason
            return self._reset()
        return Connection.finish(self, code, reason)

    cdef bint _has_all(self) except -1:
        # Whether the transport or the kernel now has all that was queued for it.
        if self.stage == CONNECTION_OPEN:
            self.lift_bound()
            self.endpoint.hub.flush_now()  # which may end it
        return self.has_all()

    cdef int say_close(self, int code, str reason) except -1:
        # Half a close, behind what the transport holds. TLS has none: it closes, and reads on
        # by itself until the peer does.
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            else:
                self.transport.close()
        except OSError:
            self.abort()  # the peer is gone
        return 0

    cdef int abort(self) except -1:
        if self.stage != CONNECTION_CLOSED and self.transport.get_write_buffer_size():
            return self._reset()
        return Connection.abort(self)

    cdef int _reset(self) except -1:
        # An end of stream between two frames would mean that everything was sent. A reset also frees the
        # kernel's buffer, which is megabytes for a peer that does not read.
        if self.stage != CONNECTION_CLOSED:
            reset_on_close(self.transport)
            self.cut(True)
        return Connection.abort(self)

    cdef bint ended_in_order(self) except -1:
        return self._ended_in_order
