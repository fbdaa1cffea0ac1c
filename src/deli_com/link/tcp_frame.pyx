"""The form of a TCP frame: how a control text is framed, and how an incomplete frame is described."""

from libc.stdint cimport uint8_t


cdef bytes control_frame(bytes text):
    # The frame of a control text.
    return b"\xff\xff\xff\xff" + len(text).to_bytes(LENGTH_BYTES, "little") + text


cdef str where_it_ends(const uint8_t* part, Py_ssize_t size):
    # Describes the end of a stream inside a frame, of which `size` bytes have arrived.
    if size < LENGTH_BYTES:
        return f"the stream ended inside a length: {size} of {<int>LENGTH_BYTES} bytes"
    if frame_length(part) == MARKER:
        return "the stream ended inside a control text"
    return f"the stream ended inside a message: {size - LENGTH_BYTES} of {frame_length(part)} bytes"
