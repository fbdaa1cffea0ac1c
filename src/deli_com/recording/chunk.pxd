# The messages of one MCAP chunk: their records, as the file has them, and the index of each channel.

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef enum:
    MESSAGE_HEAD = 31        # bytes before the payload: opcode, length, channel, sequence, two times
    BY_REFERENCE = 32768     # exact `bytes` of at least this size are kept, not copied


cdef struct Index:
    # Of one channel: pairs of (time, offset in the chunk), 16 bytes each, as a MessageIndex record has them.
    char* data               # owned
    Py_ssize_t used          # bytes
    Py_ssize_t room          # bytes
    uint32_t sequence        # that the channel's next message gets


cdef class Chunk:
    cdef readonly Py_ssize_t size        # bytes of all records, payloads kept by reference included
    cdef readonly Py_ssize_t count       # messages
    cdef readonly uint64_t start         # time of the earliest message, ns since the epoch
    cdef readonly uint64_t end           # time of the latest
    # --- private ---
    cdef char* data          # owned: all records but the payloads kept by reference
    cdef Py_ssize_t used
    cdef Py_ssize_t room
    cdef list kept           # (used at the time, bytes): payloads that belong there
    cdef Index* indexes      # owned, one a channel
    cdef Py_ssize_t channels
    cdef int exported        # views of `data` that are alive: the memory must not move

    # Adds one message: `size` bytes that are read during the call, then `tail` (None: nothing), which is
    # kept by reference where it is large. MemoryError leaves the chunk as it was.
    cdef int add_message(
        self, uint16_t channel, uint64_t at, const char* payload, Py_ssize_t size, bytes tail
    ) except -1
    # Sequence numbers go on where those of `other` ended. Only for an empty chunk.
    cdef int follow(self, Chunk other) except -1
    cdef int _add_channels(self, Py_ssize_t wanted) except -1
