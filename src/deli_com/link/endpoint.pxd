# What the façade classes subclass: a hub whose messages are values of a type, and an inbox.

from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.fanout.encoded cimport Encoded
from deli_com.fanout.follower cimport Audience, Follower
from deli_com.fanout.handoff cimport Handoff
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.lane cimport Lane, Lanes
from deli_com.fanout.pacer cimport Pacer
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.watchers cimport Watchers
from deli_com.log.log cimport Log
from deli_com.log.ring cimport Key
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.passage cimport Passage
from deli_com.receive.quota cimport InputQuota
from deli_com.recording.tap cimport Tap


cdef class Endpoint(Hub):
    cdef readonly TypeCodec down              # type of what is sent; None: nothing is
    cdef readonly TypeCodec up                # type of what is received; None: nothing is
    cdef readonly Inbox inbox
    cdef readonly Py_ssize_t max_message_size  # bytes of payload, both ways
    cdef readonly InputQuota quota            # of input that waits in memory
    cdef readonly double close_timeout        # seconds that a close lingers for the peer
    cdef readonly double ping_interval        # seconds of silence after which a peer is asked; inf: never
    cdef readonly double ping_timeout         # seconds it then has
    cdef readonly double max_transit          # seconds that bytes may wait on their way; inf: no bound
    cdef readonly object logger
    cdef readonly bint is_client              # one connection, whose end is the endpoint's end
    cdef Lanes lanes                          # None: everything is reliable, and paced alike
    cdef readonly bint has_latest             # some lane is of policy latest
    cdef readonly Py_ssize_t messages_out     # sent to all, a group or one; counted without receivers, too
    cdef readonly Py_ssize_t refused_sends    # by BacklogFull
    cdef readonly Py_ssize_t messages_in
    cdef readonly Py_ssize_t bytes_in         # payload bytes
    cdef readonly Py_ssize_t undecodable      # messages that did not decode as `up`
    cdef readonly Py_ssize_t unwanted         # messages discarded: push only, or text
    cdef dict closed                          # close code to connections that have ended so
    cdef set closing                          # connections that linger; called once a sweep
    cdef public object terms                  # schema.terms.Terms; None: schemas are not exchanged
    cdef public object peer_schema            # PeerSchema of a client's server, and of silent peers
    cdef public bint is_settled               # of a client: how it decodes the server's values is known
    cdef readonly Py_ssize_t unknown          # values skipped: of variants that `up` lacks
    cdef public object _events                # events.Events: told of who comes and goes; or None
    cdef public object _hearing               # hearing.Hearing of a client: told of gaps and `live`; or None
    cdef object stuck                         # the first Connection whose transport could not end, or None
    cdef Pacer pacer
    cdef readonly Watchers watchers           # of conditions on this endpoint
    cdef Tap tap                              # shown every message; None: there is no recording
    cdef Py_ssize_t unseen_size               # payloads up to it are not looked at: -1 while there is a tap
    cdef Handoff handoff                      # send_nowait of other threads; None until the first
    cdef Passage passage                      # takes what is received, as bytes; None: the inbox does

    cdef int check_receiving(self) except -1
    cdef int end(self, object error, bint in_order) except -1
    cdef bint put(self, object value, Audience to, Follower barred) except -1
    cdef int put_from_any_thread(self, object value, Audience to, Follower barred) except -1
    cdef bint put_private(self, object value, Follower follower) except -1
    cdef object paced(self, object scope, bint waits)
    cdef bint forget_key(self, Log log, object key, object type) except -1

    # --- private ---------------------------------------------------------------------
    cdef object _ended                        # the exception that send raises, or None
    cdef list _nested                         # Encoded that were sent while a frame was being encoded
    cdef object _groups                       # name to Audience, for as long as one is used
    cdef set _kept                            # audiences of groups that retain something
    cdef int _check_sendable(self) except -1
    cdef int _after(self, Py_ssize_t frame, Audience to, Follower barred) except -1
    cdef bint _is_for_nobody(self, Lane lane, Audience to) noexcept
    cdef Key _key(self, Log log, Lane lane, object value)
    cdef Encoded _encode(self, object value, Audience to, Follower barred)
    cdef Audience _private(self, Follower follower)
    cdef int _hand_off(self, Encoded message) except -1
    cdef int put_to_all(self, object value) except -1
    cdef Audience _addressee                  # of the message being encoded, while there is a tap
    cdef int _write(self, WriteCursor* cur, object value, Audience bounded) except -1
    cdef int _look(self, WriteCursor* cur, Py_ssize_t payload) except -1
    cdef int _no_room(self, Py_ssize_t payload, Audience to) except -1
    cdef int _refuse(self, Audience to) except -1
    cdef int _age(self, Log log, Lane lane, Py_ssize_t frame) except -1
    cdef int _append_deferred(self) except -1
    cdef int _wake_all(self) except -1
    cdef bint _has_waiters(self) noexcept
