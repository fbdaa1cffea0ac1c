# The form of a TCP frame: a u32 little-endian length, and a payload or a control text.
#
#     0         4                  4 + length
#     | length  | payload          |            docs/wire.md section 8
#
# A length of MARKER announces a control text, which follows behind its own length (section 10).

from libc.stdint cimport uint8_t, uint32_t


cdef enum:
    LENGTH_BYTES = 4
    MARKER = 0xFFFFFFFF          # in place of a length: a control text follows
    CONTROL_HEADER = 8           # the marker, and the text's own length
    CONTROL_BYTES = 262144       # of one control text


cdef bytes control_frame(bytes text)
cdef str where_it_ends(const uint8_t* part, Py_ssize_t size)


cdef inline uint32_t frame_length(const uint8_t* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef inline bint is_tls_hello(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    # A record that holds a whole ClientHello. No real message has such a length and such first bytes.
    return (size > 10 and at[0] == 0x16 and at[1] == 3 and at[5] == 1 and at[6] == 0 and at[9] == 3
            and (at[3] << 8 | at[4]) == (at[7] << 8 | at[8]) + 4)
