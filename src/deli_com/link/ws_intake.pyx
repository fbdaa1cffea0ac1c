"""What stands between a transport, picows and a `WsLink`.

::

    transport <--> WsIntake <--> picows' WSProtocol ---> WsLinkListener ---> WsLink
                      |                                                        ^
                      +---- bounds a read, sees the parser fail, discards -----+
                      +---- reads large frames by itself (LargeFrame) ---------+

picows' parser reads one frame ahead. When it fails it sends CLOSE by itself and delivers the good frame
before the bad one. Then it would parse what follows, and 10 ms later close the transport. The kernel would
answer unread input with RST, and the peer would lose the CLOSE. The intake prevents everything but the first
two steps. `muted` points at `is_close_frame_sent` for the hub.

Large messages come mostly in a row. Behind one, the intake reads up to the end of the next large frame. Then
picows holds nothing, and the intake reads ahead: the beginning of what comes next, and all of it if it is a
large frame. What is none goes to picows, and whatever follows, up to the next large frame.
"""

from asyncio import BufferedProtocol

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t
from picows.picows cimport WSFrame, WSListener, WSTransport

from deli_com.coding.recycler cimport Room, drop_room, withdraw_room
from deli_com.ground.cpython cimport PyMemoryView_GET_BUFFER

from deli_com.link.connection cimport reason_of_loss
from deli_com.link.large_frame cimport IS_OTHER, LargeFrame, large_frame_bytes
from deli_com.link.peer cimport CONNECTION_CLOSED
from deli_com.link.ws_limits cimport *
from deli_com.link.ws_link cimport IntakeBase, WsLink

cdef bytearray DISCARDED = bytearray(65536)  # takes the input that is discarded; shared by all connections


cdef class WsLinkListener(WSListener):
    """picows' view of a `WsLink`: a shell, because an extension class has one base."""

    cdef WsLink peer

    def __cinit__(self, WsLink peer not None):
        self.peer = peer

    cpdef on_ws_connected(self, WSTransport transport):
        parser = transport.underlying_transport.get_protocol()
        transport.request = transport.response = None  # 2 KiB; a server keeps the head as bytes, in Request
        self.peer.connected(transport, WsIntake(self.peer, self, parser))

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.peer.on_frame(frame)

    cpdef on_ws_disconnected(self, WSTransport transport):
        self.peer.disconnected()

    cpdef pause_writing(self):
        self.peer.on_writing_paused()

    cpdef resume_writing(self):
        self.peer.drained()


cdef class WsIntake(IntakeBase, BufferedProtocol):
    """Sits between the transport and picows, in both directions.

    1. To the transport it is the protocol: reads are bounded, so that picows' buffer, which only
       grows, grows no further than the largest frame; after the end all input is thrown away.
    2. To picows it is the transport: `close` ends the stream as a peer should.
    """

    cdef WsLink peer
    cdef WsLinkListener listener
    cdef Py_ssize_t last        # bytes of the last read
    cdef Py_ssize_t size        # of picows' read buffer; 0 before the first read
    cdef Py_ssize_t used        # bytes of it that an incomplete frame takes
    cdef Py_ssize_t missing     # bytes of the large frame in it that are still to come; 0: of no known one

    def __cinit__(self, WsLink peer not None, WsLinkListener listener not None, parser):
        self.peer = peer
        self.listener = listener
        self.parser = parser
        self.free_space = parser.get_buffer
        self.parse = parser.buffer_updated

    # --- the transport's protocol --------------------------------------------------------

    def get_buffer(self, sizehint):
        if self.peer._ending:
            return DISCARDED
        # A single read must not be a large part of what may wait in memory.
        cdef bint is_long = self.last >= READ_BYTES and self.peer._frames < FEW_FRAMES
        cdef Py_ssize_t most = LONG_READ_BYTES if is_long else READ_BYTES
        most = min(most, max(LEAST_BYTES, self.peer.endpoint.quota.limit // 8))
        if self.peer.endpoint.inbox.is_full():
            most = min(most, FULL_BYTES)
        elif self.peer._frames > MANY_FRAMES:
            most = min(most, max(FULL_BYTES, FRAMES_A_READ * self.last // self.peer._frames))
        if self.is_ahead:
            return self._ahead(most)
        if self.missing:
            most = min(most, self.missing)
        free = self.free_space(sizehint)
        self.used = self.used_of(len(free))
        return free if len(free) <= most else free[:most]

    def buffer_updated(self, nbytes):
        cdef WsLink peer = self.peer
        self.last = nbytes
        if peer._ending:
            return
        peer._frames = peer._pings = 0
        peer.sweeps_to_look = 2
        peer.heard_at = peer.endpoint.sweep.clock
        if self.is_ahead:
            self._read_ahead(nbytes)
        else:
            self._read(nbytes)
        peer.read_done()
        if peer._frames > MANY_FRAMES:
            peer.give_way()

    cdef int _read(self, Py_ssize_t count) except -1:
        # picows has so many bytes more.
        cdef WsLink peer = self.peer
        cdef Py_ssize_t reach = self.used + count
        self.missing = max(self.missing - count, 0)
        if 100 * reach >= 91 * self.size or self.size - reach <= 256:
            self.size *= 2  # as picows does now
        self.is_busy = True  # from here on the bytes just read are in what picows still takes for free
        try:
            if reach > peer._touched:
                peer._touched = reach
                peer._recount()
            if not peer._ending:
                self.parse(count)
        finally:
            self.is_busy = False
        return 0

    # --- large frames ----------------------------------------------------------------------

    cdef int on_large_frame(self, const uint8_t* tail, Py_ssize_t size) except -1:
        if size == 0:
            if self.large is None:
                self.large = LargeFrame(not self.peer.endpoint.is_client)
            self.is_ahead = True
            return 0
        self.missing = large_frame_bytes(
            tail, size, not self.peer.endpoint.is_client, self.peer.endpoint.max_message_size)
        if self.missing:
            self.missing -= size
        return 0

    cdef object _ahead(self, Py_ssize_t most):
        cdef Py_ssize_t size
        cdef uint8_t* space = self.large.space(&size)
        return PyMemoryView_FromMemory(<char*>space, min(size, most), PyBUF_WRITE)

    cdef int _read_ahead(self, Py_ssize_t count) except -1:
        cdef WsLink peer = self.peer
        cdef LargeFrame large = self.large
        large.took(count)
        if large.is_whole():
            self._deliver(large)
        if not peer._ending and large.filled == 0:
            if large.begin(peer.endpoint.max_message_size) == IS_OTHER:
                self._go_back(large)
                return 0
        return peer._recount()

    cdef int _deliver(self, LargeFrame large) except -1:
        cdef WsLink peer = self.peer
        cdef Room room
        cdef Py_ssize_t size
        cdef const char* data = large.lay_out(&room, &size, peer.endpoint.tap is None)
        try:
            peer._recount()
            peer.on_large_message(data, size)
        finally:
            if withdraw_room(&room):
                drop_room(&room)
        return 0

    cdef int _go_back(self, LargeFrame large) except -1:
        # picows' buffer has always room for more than these: see `_read`.
        cdef object free = self.free_space(-1)
        cdef Py_buffer* view = PyMemoryView_GET_BUFFER(free)
        self.is_ahead = False
        self.used = self.used_of(view.len)
        return self._read(large.hand_on(<char*>view.buf))

    # --- the transport's protocol, further ---------------------------------------------------

    cdef Py_ssize_t used_of(self, Py_ssize_t free) noexcept:
        # picows tells what of its buffer is free, not how large that is. It is doubled by a rule that
        # tests/net/test_inbound.py checks. For the sum of memory only.
        if free > self.size:
            self.size = free
        return self.size - free

    def is_buffered_protocol(self):
        return True

    def eof_received(self):
        return False  # the transport closes itself

    def pause_writing(self):
        self.peer.on_writing_paused()

    def resume_writing(self):
        self.peer.drained()

    def connection_lost(self, error):
        try:
            self.peer.lost_reason = reason_of_loss(error)
            if self.parser is not None:
                self.parser.connection_lost(error)
            else:
                self.listener.on_ws_disconnected(self.peer._ws)
        finally:
            if self.peer.stage != CONNECTION_CLOSED:
                self.peer.disconnected()

    # --- picows' transport ---------------------------------------------------------------

    def close(self):
        self.peer.parser_failed()

    def abort(self):
        self.peer.abort()

    def __getattr__(self, name):
        return getattr(self.peer.transport, name)
