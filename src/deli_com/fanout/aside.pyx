"""Sends a text to one follower between messages for all, in a log of its own, which it leaves at once."""

from libc.stdint cimport uint8_t

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.hub cimport Hub
from deli_com.log.arena cimport LARGE_BYTES
from deli_com.log.framing cimport FRAMING_TCP

cdef enum:
    TEXT = 0x81  # FIN, opcode 1: RFC 6455 section 5.2


cdef int put_aside(Hub hub, Follower follower, bytes text) except -1:
    cdef Audience audience
    cdef Py_ssize_t frame
    if hub.arena.framing == FRAMING_TCP or len(text) >= LARGE_BYTES:
        raise ValueError("put_aside: only short texts, over WebSocket")
    audience = hub.new_audience(None)
    audience.add_member(follower)
    hub.begin()
    frame = audience.append(text)
    # The log's only frame is in a slab and has not been read yet.
    (<uint8_t*>audience._record(audience._next - 1).data)[0] = TEXT
    hub.schedule()
    audience.discard_member(follower)  # it gets what was appended before
    return hub.addressed(audience, frame)
