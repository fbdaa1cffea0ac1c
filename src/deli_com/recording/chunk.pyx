"""The messages of one MCAP chunk, as in the file. It is compiled because it runs once a message.

The record of a message is 31 bytes, then the payload (https://mcap.dev/spec, little-endian):

======  =======  ==========================
offset  type     meaning
======  =======  ==========================
0       u8       opcode, 5
1       u64      length of what follows
9       u16      channel
11      u32      sequence in the channel
15      u64      log time, ns
23      u64      publish time, ns
31               payload
======  =======  ==========================
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy, memset

from deli_com._fastcodec cimport TypeCodec, codec_decode
from deli_com.ground.scalar cimport DC_MAX_U64, load_u16, load_u64, store_u16, store_u32, store_u64

from deli_com.errors import DecodeError, RecordingError

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define deli_com_prefetch_write(p) __builtin_prefetch((p), 1)
    #else
    #define deli_com_prefetch_write(p) ((void)(p))
    #endif
    """
    void deli_com_prefetch_write(const void* p) noexcept nogil

cdef enum:
    OPCODE_MESSAGE = 5
    FIRST_ROOM = 65536
    FIRST_INDEX = 1024
    PREFETCH_BYTES = 768


@cython.final
cdef class Chunk:
    """The messages of one chunk of a file."""

    def __cinit__(self):
        self.kept = []

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.channels):
            PyMem_Free(self.indexes[i].data)
        PyMem_Free(self.indexes)
        PyMem_Free(self.data)

    def add(self, uint16_t channel, uint64_t at, payload not None):
        """Add one message.

        Parameters
        ----------
        channel : int
            Id of the channel in the file, from 0 to 65,535.
        at : int
            Nanoseconds since the epoch. It becomes both log time and publish time.
        payload : bytes-like
            Read during the call. Exact `bytes` of 32 KiB or more are kept by reference.

        Raises
        ------
        MemoryError
            The chunk is unchanged.
        """
        cdef Py_buffer view
        if PyBytes_CheckExact(payload):
            self.add_message(channel, at, NULL, 0, payload)
            return
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            self.add_message(channel, at, <const char*>view.buf, view.len, None)
        finally:
            PyBuffer_Release(&view)

    cdef int add_message(
        self, uint16_t channel, uint64_t at, const char* payload, Py_ssize_t size, bytes tail
    ) except -1:
        cdef Py_ssize_t behind = 0 if tail is None else PyBytes_GET_SIZE(tail)
        cdef bint by_reference = behind >= BY_REFERENCE
        cdef Py_ssize_t need = MESSAGE_HEAD + size + (0 if by_reference else behind)
        cdef Index* index
        cdef char* head
        if self.exported:
            raise BufferError("the chunk is being written")
        if channel >= self.channels:
            self._add_channels(channel + 1)
        index = &self.indexes[channel]
        if self.room - self.used < need:
            self.data = <char*>_grown(self.data, &self.room, self.used + need, FIRST_ROOM)
        if index.room - index.used < 16:
            index.data = <char*>_grown(index.data, &index.room, index.used + 16, FIRST_INDEX)
        if by_reference:
            self.kept.append((self.used + MESSAGE_HEAD + size, tail))
        head = self.data + self.used
        # The writer thread has read this memory on another core: prefetch it for the next messages.
        deli_com_prefetch_write(head + PREFETCH_BYTES)
        deli_com_prefetch_write(head + PREFETCH_BYTES + 64)
        deli_com_prefetch_write(index.data + index.used + PREFETCH_BYTES // 4)
        head[0] = OPCODE_MESSAGE
        store_u64(head + 1, <uint64_t>(size + behind + MESSAGE_HEAD - 9))
        store_u16(head + 9, channel)
        store_u32(head + 11, index.sequence)
        store_u64(head + 15, at)
        store_u64(head + 23, at)
        if size:
            memcpy(head + MESSAGE_HEAD, payload, <size_t>size)
        if behind and not by_reference:
            memcpy(head + MESSAGE_HEAD + size, PyBytes_AS_STRING(tail), <size_t>behind)
        store_u64(index.data + index.used, at)
        store_u64(index.data + index.used + 8, <uint64_t>self.size)
        index.used += 16
        index.sequence += 1
        self.used += need
        self.size += MESSAGE_HEAD + size + behind
        if self.count == 0 or at < self.start:
            self.start = at
        if self.count == 0 or at > self.end:
            self.end = at
        self.count += 1
        return 0

    cdef int follow(self, Chunk other) except -1:
        cdef Py_ssize_t i
        if other.channels > self.channels:
            self._add_channels(other.channels)
        for i in range(other.channels):
            self.indexes[i].sequence = other.indexes[i].sequence
        return 0

    def pieces(self):
        """The records of the chunk, as in the file.

        Returns
        -------
        list of bytes-like
            In order. While a view of the chunk is alive, `add` and `clear` raise `BufferError`.
        """
        cdef Py_ssize_t begin = 0, cut
        cdef list found = []
        cdef object view = memoryview(self)
        for cut, payload in self.kept:
            found.append(view[begin:cut])
            found.append(payload)
            begin = cut
        if begin < self.used:
            found.append(view[begin:])
        return found

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.used, 1, flags)
        self.exported += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exported -= 1

    def indexes_of(self):
        """The pairs of (time, offset) of each channel that has messages, as in a MessageIndex record.

        Returns
        -------
        dict of int to bytes
        """
        cdef Py_ssize_t i
        return {
            i: PyBytes_FromStringAndSize(self.indexes[i].data, self.indexes[i].used)
            for i in range(self.channels) if self.indexes[i].used
        }

    def clear(self):
        """Empty the chunk for the next messages. Sequence numbers continue, and the memory is kept."""
        cdef Py_ssize_t i
        if self.exported:
            raise BufferError("the chunk is being written")
        for i in range(self.channels):
            self.indexes[i].used = 0
        self.kept.clear()
        self.used = self.size = self.count = 0
        self.start = self.end = 0

    cdef int _add_channels(self, Py_ssize_t wanted) except -1:
        cdef Index* grown = <Index*>PyMem_Realloc(self.indexes, <size_t>wanted * sizeof(Index))
        if grown == NULL:
            raise MemoryError
        memset(&grown[self.channels], 0, <size_t>(wanted - self.channels) * sizeof(Index))
        self.indexes = grown
        self.channels = wanted
        return 0


cdef void* _grown(char* data, Py_ssize_t* room, Py_ssize_t need, Py_ssize_t first) except NULL:
    # Grows the memory to at least `need` bytes. The size doubles, so that adding is O(1) amortised.
    cdef Py_ssize_t wanted = room[0] if room[0] else first
    cdef void* grown
    while wanted < need:
        wanted *= 2
    grown = PyMem_Realloc(data, <size_t>wanted)
    if grown == NULL:
        raise MemoryError
    room[0] = wanted
    return grown


cdef class Walk:
    """Iterates the messages of one uncompressed chunk, as ``(at, value)``.

    Parameters
    ----------
    data : bytes-like
        The records of the chunk.
    readers : list
        By channel id: None skips the channel, True gives the payload as `bytes`, a `TypeCodec` decodes it.
        Channels beyond the list are skipped.
    start, end : int
        Only messages with ``start <= at < end``, ns.
    path : str
        The file, for errors.
    offset : int or None
        Where the chunk is in the file, for errors.
    spare : deque of bytearray or None
        Gets the `bytearray` that `data` is a view of, once all messages were given. The next chunk is read
        into it.

    Raises
    ------
    RecordingError
        On iteration: a record is malformed, or a payload is not a value of its type. The error has the offset
        in the chunk.
    """

    cdef readonly object data    # empty at the end
    cdef Py_buffer view          # of it
    cdef bint holds              # the view
    cdef bint is_decoding        # from the view: it must not end meanwhile
    cdef object spare
    cdef Py_ssize_t pos
    cdef list readers
    cdef uint64_t start, end
    cdef readonly int channel    # channel of the latest message; -1 before the first
    cdef str path                # the file, and where the chunk is in it: for errors
    cdef object offset

    def __cinit__(
        self,
        data not None,
        list readers not None,
        uint64_t start=0,
        uint64_t end=DC_MAX_U64,
        str path not None="",
        offset=None,
        spare=None,
    ):
        self.data, self.readers, self.start, self.end = data, readers, start, end
        self.path, self.offset, self.spare = path, offset, spare
        self.channel = -1
        PyObject_GetBuffer(data, &self.view, PyBUF_SIMPLE)
        self.holds = True

    def __dealloc__(self):
        if self.holds:
            PyBuffer_Release(&self.view)

    def __iter__(self):
        return self

    def __next__(self):
        cdef const char* begin = <const char*>self.view.buf
        cdef Py_ssize_t size = self.view.len, length
        cdef const char* head
        cdef uint64_t at, said
        cdef uint16_t channel
        cdef object reader
        if self.is_decoding:
            raise RuntimeError("the iterator of a recording is decoding a value: it cannot give another")
        if not self.holds:
            raise StopIteration
        while self.pos < size:
            if size - self.pos < 9:
                raise self._error(self.pos, "a record is cut off")
            head = begin + self.pos
            said = load_u64(head + 1)
            if said > <uint64_t>(size - self.pos - 9):
                raise self._error(self.pos, f"a record says {said} bytes, past the end")
            length = <Py_ssize_t>said
            self.pos += 9 + length
            if head[0] != OPCODE_MESSAGE:
                continue
            if length < MESSAGE_HEAD - 9:
                raise self._error(self.pos - 9 - length, f"a message has {length} bytes")
            channel = load_u16(head + 9)
            if channel >= <size_t>len(self.readers):
                continue
            reader = self.readers[channel]
            if reader is None:
                continue
            at = load_u64(head + 15)
            if at < self.start or at >= self.end:
                continue
            self.channel = channel
            head += MESSAGE_HEAD
            length -= MESSAGE_HEAD - 9
            if reader is True:
                return at, PyBytes_FromStringAndSize(head, length)
            self.is_decoding = True
            try:
                return at, codec_decode(<TypeCodec?>reader, head, length)
            except DecodeError as error:
                raise self._error(self.pos - MESSAGE_HEAD - length, f"{error}") from error
            finally:
                self.is_decoding = False
        self._end()
        raise StopIteration

    cdef int _end(self) except -1:
        self.holds = False
        PyBuffer_Release(&self.view)
        data, self.data = self.data, b""
        if self.spare is not None and isinstance(data, memoryview):
            self.spare.append(data.obj)
        return 0

    cdef object _error(self, Py_ssize_t pos, str what):
        return RecordingError(self.path, self.offset, f"{what}, at byte {pos} of the chunk")


def is_ordered(data not None):
    """Whether the messages of an uncompressed chunk are in the order of their log times."""
    cdef Py_buffer view
    cdef const char* head
    cdef const char* end
    cdef uint64_t last = 0, at, length
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        head = <const char*>view.buf
        end = head + view.len
        while end - head >= MESSAGE_HEAD:
            length = load_u64(head + 1)
            if head[0] == OPCODE_MESSAGE:
                at = load_u64(head + 15)
                if at < last:
                    return False
                last = at
            if length > <uint64_t>(end - head - 9):
                break
            head += 9 + length
        return True
    finally:
        PyBuffer_Release(&view)


def index_chunk(data not None):
    """The pairs of (time, offset) of each channel of an uncompressed chunk, as in a MessageIndex record.

    Returns
    -------
    dict of int to bytes
    """
    cdef Py_buffer view
    cdef const char* head
    cdef Py_ssize_t pos = 0
    cdef uint64_t length
    cdef char pair[16]
    cdef dict found = {}
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        while view.len - pos >= MESSAGE_HEAD:
            head = <const char*>view.buf + pos
            length = load_u64(head + 1)
            if length > <uint64_t>(view.len - pos - 9):
                break
            if head[0] == OPCODE_MESSAGE:
                store_u64(pair, load_u64(head + 15))
                store_u64(pair + 8, <uint64_t>pos)
                pairs = found.setdefault(load_u16(head + 9), bytearray())
                pairs.extend(PyBytes_FromStringAndSize(pair, 16))
            pos += <Py_ssize_t>(9 + length)
    finally:
        PyBuffer_Release(&view)
    return {channel: bytes(pairs) for channel, pairs in found.items()}
