"""Messages that wait to be appended: sent in another thread, or while another one was being encoded."""

cimport cython

from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.lane cimport Lane


@cython.final
@cython.freelist(64)
cdef class Encoded:
    """A payload, and everything that decides which followers get it."""


cdef Encoded encoded(bytes payload, Lane lane, object key, Audience to, Follower barred):
    cdef Encoded message = <Encoded>Encoded.__new__(Encoded)
    message.payload = payload
    message.lane = lane
    message.key = key
    message.to = to
    message.barred = barred
    return message
