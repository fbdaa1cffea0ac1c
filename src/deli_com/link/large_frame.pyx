"""A large binary frame of WebSocket, read into the memory of its value.

picows reads all frames into one buffer, from which a value is copied. For a message of 64 KiB this copy, and
the caches that two buffers take, cost a third of the whole. A frame that is large enough is therefore read
by the system straight into a `Room` (coding/recycler), and unmasked there. If its value ends with a `bytes`,
then that `bytes` is the room.

::

    header | lead | data .......................... | header of the next frame, and its lead
             ^      ^                                 ^
             _lead  _room.data                        behind the data, until it is moved to _ahead

The end of the last field is the end of the message. So the lead ends with the length of everything after it,
in four bytes, wherever the message ends with a `bytes`. This is looked for in the first bytes of each
message. If it is found by accident, the value is copied as any other.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from deli_com.coding.recycler cimport drop_room, lead_limit, offer_room, take_room
from deli_com.ground.cpython cimport PyErr_Clear
from deli_com.ground.scalar cimport load_u32

cdef extern from *:
    """
    /* XORs `size` bytes with the four of `key`, the first with key[phase & 3]. */
    static void dc_unmask(uint8_t *data, Py_ssize_t size, const uint8_t *key, Py_ssize_t phase) {
        uint8_t turned[8];
        uint64_t wide;
        Py_ssize_t i = 0;
        for (; i < 8; i++) turned[i] = key[(phase + i) & 3];
        memcpy(&wide, turned, 8);
        for (i = 0; i + 32 <= size; i += 32) {
            uint64_t part[4];
            memcpy(part, data + i, 32);
            part[0] ^= wide;
            part[1] ^= wide;
            part[2] ^= wide;
            part[3] ^= wide;
            memcpy(data + i, part, 32);
        }
        for (; i < size; i++) data[i] ^= turned[i & 7];
    }
    """
    void unmask "dc_unmask"(uint8_t* data, Py_ssize_t size, const uint8_t* key, Py_ssize_t phase) noexcept

cdef enum:
    BINARY_AND_LAST = 0x82     # the first byte of a whole binary message without reserved bits
    MASK_BIT = 0x80
    LENGTH_OF_16 = 126         # in the second byte: a length of 16 bits follows; 127: of 64
    MOST_OF_16 = 65535


cdef inline Py_ssize_t _head_bytes(const uint8_t* head) noexcept:
    # Of a header whose first two bytes are there.
    cdef int length = head[1] & 127
    return (
        2 + (0 if length < LENGTH_OF_16 else 2 if length == LENGTH_OF_16 else 8)
        + (4 if head[1] & MASK_BIT else 0)
    )


cdef inline uint64_t _payload_bytes(const uint8_t* head) noexcept:
    cdef uint64_t size = 0
    cdef int i
    cdef int length = head[1] & 127
    if length < LENGTH_OF_16:
        return length
    for i in range(2 if length == LENGTH_OF_16 else 8):
        size = size << 8 | head[2 + i]
    return size


cdef inline bint _is_large(const uint8_t* head, bint is_masked, Py_ssize_t most) noexcept:
    # Of a header that is there. Everything that picows refuses is no large frame.
    cdef uint64_t size = _payload_bytes(head)
    return (
        head[0] == BINARY_AND_LAST and (head[1] & MASK_BIT != 0) == is_masked
        and LARGE_BYTES <= size <= <uint64_t>min(most, <Py_ssize_t>MOST_LARGE_BYTES)
        and (head[1] & 127 == LENGTH_OF_16 or size > MOST_OF_16)
    )


cdef Py_ssize_t large_frame_bytes(
    const uint8_t* head, Py_ssize_t have, bint is_masked, Py_ssize_t most
) noexcept:
    if have < 2 or have < _head_bytes(head) or not _is_large(head, is_masked, most):
        return 0
    return _head_bytes(head) + <Py_ssize_t>_payload_bytes(head)


cdef class LargeFrame:
    """The large frame that a connection is reading, or the beginning of whatever comes next.

    Parameters
    ----------
    is_masked : bool
        Whether the peer has to mask what it sends.
    """

    def __cinit__(self, bint is_masked):
        self.is_masked = is_masked

    def __dealloc__(self):
        drop_room(&self._room)

    cdef uint8_t* space(self, Py_ssize_t* size) noexcept:
        if self._room.object == NULL:
            size[0] = AHEAD_BYTES - self._have
            return self._ahead + self._have
        size[0] = self._size - self.filled + AHEAD_BYTES
        return <uint8_t*>self._room.data + self.filled - self._lead_size

    cdef int took(self, Py_ssize_t count) noexcept:
        cdef Py_ssize_t missing = self._size - self.filled
        cdef uint8_t* end
        if self._room.object == NULL:
            self._have += count
            return 0
        end = <uint8_t*>self._room.data + self.filled - self._lead_size
        if self.is_masked:
            unmask(end, min(count, missing), self._key, self.filled)
        if count >= missing:
            self._have = count - missing
            memcpy(self._ahead, end + missing, self._have)
        self.filled += min(count, missing)
        return 0

    cdef Beginning begin(self, Py_ssize_t most) noexcept:
        cdef uint8_t* head = self._ahead
        cdef uint8_t* payload
        cdef Py_ssize_t begun
        if self._have != 0 and head[0] != BINARY_AND_LAST:
            return IS_OTHER
        if self._have < 2:
            return IS_INCOMPLETE
        if head[1] & 127 < LENGTH_OF_16 or (head[1] & MASK_BIT != 0) != self.is_masked:
            return IS_OTHER
        if self._have < _head_bytes(head):
            return IS_INCOMPLETE
        if not _is_large(head, self.is_masked, most):
            return IS_OTHER
        if self._have < AHEAD_BYTES:
            return IS_INCOMPLETE
        self._size = <Py_ssize_t>_payload_bytes(head)
        if not take_room(&self._room, self._size + AHEAD_BYTES):
            PyErr_Clear()
            return IS_OTHER  # picows' buffer grows with what arrives
        payload = head + _head_bytes(head)
        begun = AHEAD_BYTES - _head_bytes(head)
        if self.is_masked:
            memcpy(self._key, payload - 4, 4)
            unmask(payload, begun, self._key, 0)
        self._lead_size = self._lead_of(payload)
        memcpy(self._lead, payload, self._lead_size)
        memcpy(self._room.data, payload + self._lead_size, begun - self._lead_size)
        self.filled = self._begun = begun
        self._have = 0
        return IS_LARGE

    cdef Py_ssize_t _lead_of(self, const uint8_t* payload) noexcept:
        # Bytes before the data of a `bytes` that ends the message; 0: nothing looks like one.
        cdef Py_ssize_t lead
        for lead in range(4, lead_limit() + 1):
            if <Py_ssize_t>load_u32(<const char*>payload + lead - 4) == self._size - lead:
                return lead
        return 0

    cdef bint is_whole(self) noexcept:
        return self._room.object != NULL and self.filled == self._size

    cdef const char* lay_out(self, Room* room, Py_ssize_t* size, bint may_be_value) noexcept:
        room[0] = self._room
        size[0] = self._size
        self._room.object = NULL
        self.filled = 0
        offer_room(
            room, <const char*>self._lead, self._lead_size,
            self._size - self._lead_size if may_be_value and self._lead_size != 0 else -1)
        return room.data - self._lead_size

    cdef Py_ssize_t hand_on(self, char* data) noexcept:
        cdef Py_ssize_t have = self._have
        memcpy(data, self._ahead, have)
        self._have = 0
        return have

    cdef Py_ssize_t held(self) noexcept:
        return self._have if self._room.object == NULL else AHEAD_BYTES - self._begun + self.filled

    cdef int clear(self) noexcept:
        self._have = self.filled = 0
        drop_room(&self._room)
        return 0
