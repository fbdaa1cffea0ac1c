# A text that one follower gets between messages.

from deli_com.fanout.follower cimport Follower
from deli_com.fanout.hub cimport Hub


# Queues a WebSocket text for `follower`, after everything that was appended before and before everything
# that is appended later. It uses no memory once it is sent. Not over TCP, whose frames have no kind.
cdef int put_aside(Hub hub, Follower follower, bytes text) except -1
