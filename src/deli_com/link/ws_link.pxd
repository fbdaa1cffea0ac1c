# The WebSocket end of one connection: what picows leaves to its user.

from libc.stdint cimport uint8_t, uint64_t
from picows.picows cimport WSFrame, WSTransport

from deli_com.link.large_frame cimport LargeFrame
from deli_com.link.marked_link cimport MarkedLink


# What a `WsLink` knows of the `WsIntake` that reads for it. It comes before `BufferedProtocol` there: an
# extension class cannot have a Python class as its first base.
cdef class IntakeBase:
    cdef object parser          # picows' WSProtocol; None once nothing counts that may still come
    cdef object free_space      # its get_buffer
    cdef object parse           # its buffer_updated
    cdef bint is_busy           # inside a read: its buffer must stay as it is
    cdef LargeFrame large       # None before the first large message
    cdef bint is_ahead          # `large` is read, not picows' buffer, which is empty

    # Bytes of its buffer that an incomplete frame takes.
    cdef Py_ssize_t used_of(self, Py_ssize_t free) noexcept

    # picows delivers the last whole frame that is here, a large one. `tail` is what follows it.
    cdef int on_large_frame(self, const uint8_t* tail, Py_ssize_t size) except -1


cdef class WsLink(MarkedLink):
    cdef WSTransport _ws
    cdef uint8_t* _joined            # payload of the fragments so far; owned
    cdef Py_ssize_t _joined_size
    cdef Py_ssize_t _joined_capacity
    cdef int _fragments              # of the message under way; 0: none is
    cdef public int max_fragments
    cdef bint _joining_text          # it is a text message: not kept, unless `_wants_text`
    cdef bint _wants_text            # a subclass overrides `on_text`
    cdef int _wants_binary           # 1: a subclass overrides `on_binary`; 2: its size is to be looked at
    cdef bint _warned_of_text
    cdef int _frames                 # in the last read, or so far in the one under way
    cdef int _pings                  # PINGs among them
    cdef bytes _pong                 # the one PONG that is owed, or None
    cdef IntakeBase _intake
    cdef bint _ending                # input is discarded from now on: see `end_stream`
    cdef Py_ssize_t _touched         # bytes of picows' read buffer that hold memory, as far as we know
    cdef Py_ssize_t _seen_messages   # at the last sweep

    cdef int on_frame(self, WSFrame frame) except -1
    cdef int _join(self, WSFrame frame, bint text) except -1
    cdef int _handle_binary(self, const char* data, Py_ssize_t size) except -1
    cdef int on_large_message(self, const char* data, Py_ssize_t size) except -1
    cdef bint _is_joining_control(self, WSFrame frame) noexcept
    cdef int _handle_text(self, const char* data, Py_ssize_t size) except -1
    cdef bint _may_announce(self, const char* data, Py_ssize_t size) noexcept
    cdef int _on_ping(self, WSFrame frame) except -1
    cdef int _send_owed_pong(self) except -1
    cdef int _on_pong(self, WSFrame frame) except -1
    cdef int _on_close(self, WSFrame frame) except -1
    cdef int end_stream(self) except -1
    cdef int _fail(self, int code, str reason) except -1
    cdef int give_way(self) except -1
    cdef int parser_failed(self) except -1
    cdef int read_done(self) except -1
    cdef int _recount(self) except -1
    cdef int _release_pages(self, Py_ssize_t keep) except -1
    cdef int _drop_input(self) except -1
    cdef int _drop_unused(self, WSTransport ws) except -1
    cdef int connected(self, WSTransport ws, IntakeBase intake) except -1
    cdef int drained(self) except -1
    cdef int _learn_close(self) except -1
    cdef int disconnected(self) except -1
