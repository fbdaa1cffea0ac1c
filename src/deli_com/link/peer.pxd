# What users see of one client.

from deli_com.fanout.follower cimport Follower


cdef enum ConnectionState:
    CONNECTION_OPENING
    CONNECTION_OPEN
    CONNECTION_CLOSING       # the end is announced; input is still read, and discarded
    CONNECTION_CLOSED


cdef class Peer(Follower):
    # The public interface. Users have references to it; only connections are instantiated.
    cdef readonly object remote_addr          # Address, or None where the kernel does not say
    cdef readonly object peer_certificate     # dict of getpeercert(), or None
    cdef readonly object request              # of the WebSocket handshake, or None
    cdef object own_state                     # the user's, behind `state`
    cdef object __weakref__                   # peers may be keys of weak dictionaries
    cdef ConnectionState stage

    # --- for the connection to override ------------------------------------------------
    cdef int close_by_user(self, int code, str reason) except -1
    cdef bint put_by_user(self, object value) except -1
    cdef object send_by_user(self, object value)
    cdef object count_for_user(self)
    cdef object schema_for_user(self)


# Whether a CLOSE frame may hold the code (RFC 6455 section 7.4).
cdef bint may_be_sent(int code) noexcept
