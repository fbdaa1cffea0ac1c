# A named audience, as users hold it.

from deli_com._endpoint cimport Endpoint
from deli_com._follower cimport Audience


cdef class Group:
    cdef Endpoint _endpoint
    cdef Audience _audience      # of the endpoint; lives as long as a member, a `Group` or what it retains
