# An encoded message that waits to be appended.

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.lane cimport Lane


cdef class Encoded:
    cdef bytes payload
    cdef Lane lane           # None: reliable, like everything else of its server
    cdef object key          # of a latest-only lane
    cdef Audience to         # None: for all, or for `alone`
    cdef Follower alone      # its only receiver, or None
    cdef Follower barred     # the follower that does not get it, or None


cdef Encoded encoded(bytes payload, Lane lane, object key, Audience to, Follower barred)
