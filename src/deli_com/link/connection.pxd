# One connection: a follower that also delivers to an inbox, and the stages of its end.

from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.link.endpoint cimport Endpoint
from deli_com.link.peer cimport Peer


cdef class Connection(Peer):
    cdef readonly Endpoint endpoint
    cdef readonly Py_ssize_t messages_in
    cdef TypeCodec reads                      # decodes its values; None: it sends none, or not known yet
    cdef Py_ssize_t plain_size                # the inbox's, if it decodes by `reads` as well; else 0
    cdef bint passes                          # its values go to the endpoint's passage; `reads` is None
    cdef double close_deadline                # endpoint clock at which a closing connection is aborted
    cdef object close_code                    # int, or None while unknown
    cdef str close_reason
    cdef bint reading_paused
    cdef int sweeps_to_look                   # until the kernel is asked whether it is dead; 0: no need to
    cdef Py_ssize_t undecodable               # messages of this connection that did not decode
    cdef bint is_counted                      # of a server, and logged as connected: its end is logged too
    cdef bint announced                       # on_connect was called, and on_disconnect is owed
    cdef str cause                            # Departure's: the first one that was noted; None: it was lost
    cdef str lost_reason                      # what the transport said of an abrupt end, or None
    cdef Py_ssize_t queued_bytes              # that waited for it when it left the log
    cdef Py_ssize_t forks                     # of this process, when it was opened
    cdef bint is_stuck                        # its transport could not schedule the end of an abort
    cdef object next_stuck                    # of the endpoint's chain of such, or None
    cdef uint64_t seen_transient              # bytes of its logs, so far, of policies other than reliable
    cdef double transient_at                  # endpoint clock when these last became more
    cdef readonly Py_ssize_t held             # bytes of input in memory that are not a whole message yet

    cdef int attach(self, object transport, bint secure) except -1
    cdef int opened(self) except -1
    cdef int deliver(self, const char* data, Py_ssize_t size) except -1
    cdef int _refuse_message(self, object error, Py_ssize_t size) except -1
    cdef int _tell_of_undecodable(self, object error, Py_ssize_t size) except -1
    cdef int _refuse_undecoded(self, Py_ssize_t size) except -1
    cdef int pause_reading(self) except -1
    cdef int lift_bound(self) except -1
    cdef double transit_time(self) noexcept
    cdef int aim(self, double clock) except -1
    cdef int blame(self, str cause) noexcept
    cdef int depart(self) except -1
    cdef int hold(self, Py_ssize_t held) except -1
    cdef int finish(self, int code, str reason) except -1
    cdef int linger(self) except -1
    cdef int abort(self) except -1
    cdef int ended(self) except -1
    cdef int _end_client(self) except -1
    cdef int cut(self, bint reset) except -1

    # --- for the wire protocol to override ---------------------------------------------
    cdef int on_joined(self) except -1
    cdef int on_unread(self, const char* data, Py_ssize_t size) except -1
    cdef int release_memory(self) except -1
    cdef int on_too_much(self, str cause) except -1
    cdef int say_close(self, int code, str reason) except -1
    cdef bint ended_in_order(self) except -1
    cdef object code_of_close(self)
    cdef Py_ssize_t waiting_bytes(self) except -1
    cdef object round_trip_time(self)


# The close reason of a connection that its transport has lost; `error` as in `connection_lost`.
cdef str reason_of_loss(object error)
