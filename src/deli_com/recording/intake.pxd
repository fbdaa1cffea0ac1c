# The queue of a recording: messages wait here until the writer thread writes them.

from libc.stdint cimport uint16_t, uint64_t

from deli_com.recording.chunk cimport Chunk


cdef class Intake:
    cdef readonly Py_ssize_t limit       # bytes that may wait to be written
    cdef readonly Py_ssize_t waiting     # bytes of full chunks that are not written yet
    cdef readonly Py_ssize_t messages    # messages added in total
    cdef readonly Py_ssize_t bytes       # bytes of their payloads
    cdef readonly Py_ssize_t left_out    # messages left out in total, because the limit was reached
    cdef Py_ssize_t chunk_bytes          # a chunk of this size is handed over
    cdef public bint raises              # at the limit, raise BacklogFull instead of counting
    # --- private ---
    cdef Chunk chunk         # the chunk that is being filled
    cdef list spare          # empty chunks for reuse
    cdef object full         # deque of full chunks for the thread, oldest first
    cdef object wake         # callable; called when a chunk is full
    cdef dict gaps           # channel -> [messages left out since `take_gaps`, first time, last time]
    cdef bint is_busy        # a message is being added; the chunk must not be handed over
    cdef bint is_closed      # messages are dropped silently
    cdef uint64_t epoch      # add to the monotonic clock to get ns since the epoch

    cdef uint64_t moment(self) noexcept     # now, ns since the epoch
    # Adds one message that was sent at the time `at`, in ns since the epoch, or now if `at` is 0. Payload
    # and tail are as in Chunk.add_message. Raises BacklogFull at the limit if `raises` is set.
    cdef int add_message(
        self, uint64_t at, uint16_t channel, const char* payload, Py_ssize_t size, bytes tail
    ) except -1
    cdef int _leave_out(self, uint16_t channel, uint64_t at, Py_ssize_t size) except -1
    cdef int _hand_over(self) except -1
