# The sending half of an endpoint: values are encoded and appended to the logs of its hub.

from deli_com._fastcodec cimport TypeCodec
from deli_com.fanout.encoded cimport Encoded
from deli_com.fanout.follower cimport Audience, Follower, Owner
from deli_com.fanout.handoff cimport Handoff
from deli_com.fanout.hub cimport Hub
from deli_com.fanout.lane cimport Lane, Lanes
from deli_com.fanout.limits cimport Limits
from deli_com.ground.cursor cimport WriteCursor
from deli_com.ground.home cimport Home
from deli_com.log.arena cimport Arena
from deli_com.log.log cimport Log
from deli_com.log.ring cimport Key
from deli_com.recording.tap cimport Tap


cdef class Sender(Owner):
    cdef Hub hub
    cdef TypeCodec codec                      # of what is sent; None: nothing is
    cdef Lanes lanes                          # None: everything is reliable, and paced alike
    cdef bint has_latest                      # some lane is of policy latest
    cdef Py_ssize_t max_message_size          # bytes of payload
    cdef Py_ssize_t messages_out              # sent to all, a group or one; counted without receivers, too
    cdef Py_ssize_t refused_sends             # by BacklogFull
    cdef Tap tap                              # shown every message; None: there is no recording
    cdef Py_ssize_t unseen_size               # payloads up to it are not looked at: -1 while there is a tap
    cdef Handoff handoff                      # messages of other threads; None until the first
    cdef set kept                             # audiences of groups that retain something
    cdef object ended                         # the exception that each `put` raises, or None

    cdef int set_codec(self, TypeCodec codec, str slow_client) except -1
    cdef int put_to_all(self, object value) except -1
    cdef bint put(self, object value, Audience to, Follower barred) except -1
    cdef int put_from_any_thread(self, object value, Audience to, Follower barred) except -1
    cdef bint put_private(self, object value, Follower follower) except -1
    cdef int put_encoded(self, Encoded message) except -1
    cdef bint forget_key(self, Log log, object key, object type) except -1
    cdef int check_sendable(self) except -1
    cdef int refuse(self, Audience to) except -1

    # --- private ---------------------------------------------------------------------
    cdef Log log                              # these five are those of `hub`
    cdef Arena arena
    cdef Home home
    cdef Limits limits
    cdef set followers
    cdef str _name
    cdef list _nested                         # Encoded that were sent while a frame was being encoded
    cdef Audience _addressee                  # of the message being encoded, while there is a tap
    cdef int _after(self, Py_ssize_t frame, Audience to, Follower barred) except -1
    cdef bint _has_no_receivers(self, Lane lane, Audience to) noexcept
    cdef Key _key(self, Log log, Lane lane, object value)
    cdef Encoded _encode(self, object value, Audience to, Follower barred)
    cdef Audience _private(self, Follower follower)
    cdef int _hand_off(self, Encoded message) except -1
    cdef int _write(self, WriteCursor* cur, object value, Audience bounded) except -1
    cdef int _look(self, WriteCursor* cur, Py_ssize_t payload) except -1
    cdef int _no_room(self, Py_ssize_t payload, Audience to) except -1
    cdef int _age(self, Log log, Lane lane, Py_ssize_t frame) except -1
    cdef int _append_deferred(self) except -1
