# Frame headers on the wire: RFC 6455 section 5.2 and docs/wire.md (TCP). Pure inline functions.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum Framing:
    FRAMING_WS_SERVER    # binary messages, unmasked: one copy serves every client
    FRAMING_WS_CLIENT    # binary messages, masked: one receiver only
    FRAMING_TCP          # u32 little-endian length


cdef enum:
    HEADER_MAX = 14      # bytes: 2 + 8 + 4 (mask)


cdef inline Py_ssize_t frame_header_size(Framing framing, Py_ssize_t payload) noexcept nogil:
    cdef Py_ssize_t size
    if framing == FRAMING_TCP:
        return 4
    size = 2 if payload < 126 else 4 if payload < 65536 else 10
    return size + 4 if framing == FRAMING_WS_CLIENT else size


cdef inline Py_ssize_t frame_head(Framing framing, Py_ssize_t frame) noexcept nogil:
    # Bytes of the header of a frame that has so many in all.
    cdef Py_ssize_t mask = 4 if framing == FRAMING_WS_CLIENT else 0
    if framing == FRAMING_TCP:
        return 4
    return mask + (2 if frame - mask < 128 else 4 if frame - mask < 65540 else 10)


cdef inline void frame_header_write(
    Framing framing, uint8_t* at, Py_ssize_t payload, uint32_t mask
) noexcept nogil:
    # Writes frame_header_size() bytes at `at`.
    cdef uint8_t masked = 0x80 if framing == FRAMING_WS_CLIENT else 0
    cdef int i
    if framing == FRAMING_TCP:
        for i in range(4):
            at[i] = <uint8_t>(<uint64_t>payload >> (8 * i))
        return
    at[0] = 0x82  # FIN, opcode 2: one whole binary message
    if payload < 126:
        at[1] = masked | <uint8_t>payload
        at += 2
    elif payload < 65536:
        at[1] = masked | 126
        at[2] = <uint8_t>(payload >> 8)
        at[3] = <uint8_t>payload
        at += 4
    else:
        at[1] = masked | 127
        for i in range(8):
            at[2 + i] = <uint8_t>(<uint64_t>payload >> (56 - 8 * i))
        at += 10
    if masked:
        memcpy(at, &mask, 4)


cdef inline Py_ssize_t frame_size(Framing framing, const uint8_t* at) noexcept nogil:
    # Size in bytes of the whole frame whose header, written by this file, starts at `at`.
    cdef uint64_t payload = 0
    cdef int i
    if framing == FRAMING_TCP:
        for i in range(4):
            payload |= <uint64_t>at[i] << (8 * i)
        return <Py_ssize_t>payload + 4
    payload = at[1] & 0x7F
    if payload == 126:
        payload = (<uint64_t>at[2] << 8) | at[3]
    elif payload == 127:
        payload = 0
        for i in range(8):
            payload = (payload << 8) | at[2 + i]
    return <Py_ssize_t>payload + frame_header_size(framing, <Py_ssize_t>payload)


cdef inline void frame_mask(uint8_t* data, Py_ssize_t size, uint32_t mask) noexcept nogil:
    # XORs in place. Eight bytes at a time through memcpy: `data` may be unaligned.
    cdef uint64_t wide = (<uint64_t>mask << 32) | mask
    cdef uint64_t word
    cdef uint8_t* key = <uint8_t*>&mask
    cdef Py_ssize_t i = 0
    while i + 8 <= size:
        memcpy(&word, data + i, 8)
        word ^= wide
        memcpy(data + i, &word, 8)
        i += 8
    while i < size:
        data[i] ^= key[i & 3]
        i += 1
