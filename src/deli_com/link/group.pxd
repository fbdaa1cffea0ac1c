# A named audience, as users hold it.

from deli_com.fanout.follower cimport Audience
from deli_com.link.endpoint cimport Endpoint


cdef class Group:
    cdef Endpoint _endpoint
    cdef Audience _audience      # of the endpoint; lives as long as a member, a `Group` or what it retains
