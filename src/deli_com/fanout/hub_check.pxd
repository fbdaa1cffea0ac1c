# The invariants of a hub.

from deli_com.fanout.hub cimport Hub

cdef int check_hub(Hub hub) except -1
