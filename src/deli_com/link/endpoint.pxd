# What the façade classes subclass: a hub, what sends values of a type to it, and an inbox.

from deli_com._fastcodec cimport TypeCodec
from deli_com.fanout.follower cimport Owner
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.limits cimport Limits
from deli_com.fanout.pacer cimport Pacer
from deli_com.fanout.sweep cimport Sweep
from deli_com.ground.home cimport Home
from deli_com.ground.watchers cimport Watchers
from deli_com.link.sender cimport Sender
from deli_com.log.arena cimport Arena
from deli_com.log.log cimport Log
from deli_com.receive.inbox cimport Inbox
from deli_com.receive.passage cimport Passage
from deli_com.receive.quota cimport InputQuota
from deli_com.recording.tap cimport Tap


cdef class Endpoint(Owner):
    cdef readonly Hub hub                     # followers of the logs, and when they are served
    cdef Sender sender                        # encodes what is sent
    cdef readonly Log log                     # the next seven are those of `hub`
    cdef readonly Arena arena
    cdef readonly object loop
    cdef Home home
    cdef Sweep sweep
    cdef Limits limits
    cdef set followers
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
    cdef public object _events                # events.Events: callbacks for connects and disconnects; or None
    cdef public object _hearing               # hearing.Hearing of a client: handles gaps and `live`; or None
    cdef object stuck                         # the first Connection whose transport could not end, or None
    cdef Pacer pacer
    cdef readonly Watchers watchers           # of conditions on this endpoint
    cdef Tap tap                              # that of `sender`
    cdef Passage passage                      # takes what is received, as bytes; None: the inbox does

    cdef int check_receiving(self) except -1
    cdef int end(self, object error, bint in_order) except -1
    cdef object paced(self, object scope, bint waits)

    # --- private ---------------------------------------------------------------------
    cdef object _groups                       # name to Audience, for as long as one is used
    cdef object frame_buffer                  # picows' MemoryBuffer, from which all WsLinks send; or None
    cdef int _wake_all(self) except -1
    cdef bint _has_waiters(self) noexcept
