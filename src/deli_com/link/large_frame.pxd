# A large binary frame of WebSocket, read into the memory of its value.

from libc.stdint cimport uint8_t

from deli_com.coding.recycler cimport MOST_LEAD, Room

cdef enum:
    LARGE_BYTES = 16384        # of payload: from here on a copy costs more than a read of its own
    MOST_LARGE_BYTES = 4194304  # larger ones grow in picows' buffer, as they arrive
    AHEAD_BYTES = 46           # read past the end of a frame: the next header, at most 14, and MOST_LEAD

cdef enum Beginning:
    IS_OTHER                   # no large frame begins here
    IS_INCOMPLETE              # more bytes decide
    IS_LARGE


# Bytes of the large binary frame that begins at `head`, header included, of which `have` bytes are here;
# 0: another frame begins there, or too little of it is there.
cdef Py_ssize_t large_frame_bytes(
    const uint8_t* head, Py_ssize_t have, bint is_masked, Py_ssize_t most) noexcept


cdef class LargeFrame:
    cdef bint is_masked          # what the peer sends
    cdef Py_ssize_t filled       # bytes of the payload that are here; 0: no frame is under way
    # --- private ---
    cdef uint8_t[AHEAD_BYTES] _ahead     # the beginning of a frame that is not known yet
    cdef Py_ssize_t _have                # bytes of it
    cdef Room _room
    cdef Py_ssize_t _size                # of the payload
    cdef Py_ssize_t _begun               # bytes of it that were read with the header
    cdef uint8_t[4] _key
    cdef uint8_t[MOST_LEAD] _lead
    cdef Py_ssize_t _lead_size

    cdef Py_ssize_t _lead_of(self, const uint8_t* payload) noexcept

    # Where the transport reads to, and how much: never 0.
    cdef uint8_t* space(self, Py_ssize_t* size) noexcept

    # So many bytes were read to there.
    cdef int took(self, Py_ssize_t count) noexcept

    # What begins after the last frame. With IS_LARGE, the bytes that are here belong to the frame under way.
    cdef Beginning begin(self, Py_ssize_t most) noexcept

    # Whether all of the frame under way is here.
    cdef bint is_whole(self) noexcept

    # Moves the whole frame to `room`, and offers that: returns where its payload begins. The caller ends the
    # offer, then drops the room. `may_be_value`: nobody reads the payload once it is decoded.
    cdef const char* lay_out(self, Room* room, Py_ssize_t* size, bint may_be_value) noexcept

    # Copies the beginning of what is no large frame to `data`, which has AHEAD_BYTES. Returns how much it is.
    cdef Py_ssize_t hand_on(self, char* data) noexcept

    # Bytes that are kept here.
    cdef Py_ssize_t held(self) noexcept

    # Drops what is here.
    cdef int clear(self) noexcept
