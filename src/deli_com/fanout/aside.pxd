# What one follower gets at its place in the order, and is no message.

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.hub cimport Hub


# Queues a WebSocket text for `follower`, behind all that was appended before and ahead of all that
# comes later. It costs nothing once it is sent. Not over TCP, whose frames have no kind.
cdef int put_aside(Hub hub, Follower follower, bytes text) except -1
