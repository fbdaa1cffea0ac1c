# The messages of one MCAP chunk: their records as in the file, and the message index of each channel.

from libc.stdint cimport uint16_t, uint32_t, uint64_t


cdef enum:
    MESSAGE_HEAD = 31        # bytes before the payload: opcode, length, channel, sequence, two times
    BY_REFERENCE = 32768     # `bytes` of at least this size are kept by reference, not copied


cdef struct Index:
    # The index of one channel: pairs of (time, offset in the chunk), 16 bytes each, as in a MessageIndex.
    char* data               # owned
    Py_ssize_t used          # bytes
    Py_ssize_t room          # bytes
    uint32_t sequence        # sequence number of the channel's next message


cdef class Chunk:
    cdef readonly Py_ssize_t size        # bytes of all records, including payloads kept by reference
    cdef readonly Py_ssize_t count       # messages
    cdef readonly uint64_t start         # time of the earliest message, ns since the epoch
    cdef readonly uint64_t end           # time of the latest message
    # --- private ---
    cdef char* data          # owned: all records, without payloads kept by reference
    cdef Py_ssize_t used
    cdef Py_ssize_t room
    cdef list kept           # (offset in `data`, bytes): payloads kept by reference
    cdef Index* indexes      # owned, one for each channel
    cdef Py_ssize_t channels
    cdef int exported        # live views of `data`; while there are any, it must not move

    # Adds one message: `size` bytes that are read during the call, then `tail` (None if there is none).
    # A large `tail` is kept by reference. MemoryError leaves the chunk unchanged.
    cdef int add_message(
        self, uint16_t channel, uint64_t at, const char* payload, Py_ssize_t size, bytes tail
    ) except -1
    # Continues the sequence numbers of `other`. Only for an empty chunk.
    cdef int follow(self, Chunk other) except -1
    cdef int _add_channels(self, Py_ssize_t wanted) except -1
