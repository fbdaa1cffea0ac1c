# Where messages of a recording go until its thread writes them.

from libc.stdint cimport uint16_t, uint64_t

from deli_com.recording.chunk cimport Chunk


cdef class Intake:
    cdef readonly Py_ssize_t limit       # bytes that may wait to be written
    cdef readonly Py_ssize_t waiting     # bytes of chunks that are handed over and not yet written
    cdef readonly Py_ssize_t messages    # taken, ever
    cdef readonly Py_ssize_t bytes       # of their payloads
    cdef readonly Py_ssize_t left_out    # messages for which there was no room, ever
    cdef Py_ssize_t chunk_bytes          # a chunk of this size is handed over
    cdef public bint raises              # BacklogFull where there is no room, in place of counting
    # --- private ---
    cdef Chunk chunk         # that is being filled
    cdef list spare          # empty chunks, to be filled again
    cdef object full         # deque of Chunk: for the thread, oldest first
    cdef object wake         # called when a chunk is full
    cdef dict gaps           # channel -> [messages left out, time of the first, of the last], since asked
    cdef bint is_busy        # a message is being added: the chunk must not be taken away
    cdef bint is_closed      # nothing is taken any more
    cdef uint64_t epoch      # what is added to the monotonic clock to get ns since the epoch

    cdef uint64_t moment(self) noexcept
    # Takes one message that was sent at this time, in ns since the epoch, or now if `at` is 0. Payload and
    # tail as in Chunk.add_message. BacklogFull: no room, and `raises`.
    cdef int take(
        self, uint64_t at, uint16_t channel, const char* payload, Py_ssize_t size, bytes tail
    ) except -1
    cdef int _leave_out(self, uint16_t channel, uint64_t at, Py_ssize_t size) except -1
    cdef int _hand_over(self) except -1
