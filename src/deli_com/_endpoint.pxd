# What the façade classes subclass: a hub whose messages are values of a type, and an inbox.

from deli_com._fastcodec cimport TypeCodec
from deli_com._handoff cimport Handoff
from deli_com._hub cimport Hub
from deli_com._inbox cimport Inbox
from deli_com._pacer cimport Pacer


cdef class Endpoint(Hub):
    cdef readonly TypeCodec down              # type of what is sent; None: nothing is
    cdef readonly TypeCodec up                # type of what is received; None: nothing is
    cdef readonly Inbox inbox
    cdef readonly Py_ssize_t max_message_size  # bytes of payload, both ways
    cdef readonly Py_ssize_t max_inbound      # bytes of input in memory: `buffered` and the inbox
    cdef readonly Py_ssize_t buffered         # of them in read buffers and fragments: sum of `held`
    cdef readonly double close_timeout        # seconds that a close lingers for the peer
    cdef readonly double ping_interval        # seconds of silence after which a peer is asked; inf: never
    cdef readonly double ping_timeout         # seconds it then has
    cdef readonly object logger
    cdef readonly bint is_client              # one connection, whose end is the endpoint's end
    cdef readonly Py_ssize_t messages_out     # broadcast, whoever was there
    cdef readonly Py_ssize_t messages_in
    cdef readonly Py_ssize_t bytes_in         # payload bytes
    cdef readonly Py_ssize_t undecodable      # messages that were no value of `up`
    cdef readonly Py_ssize_t unwanted         # messages discarded: push only, or text
    cdef set closing                          # connections that linger; called once a sweep
    cdef Pacer pacer
    cdef Handoff handoff                      # send_nowait of other threads; None until the first

    cdef int check_receiving(self) except -1
    cdef int changed(self) except -1
    cdef int end(self, object error, bint in_order) except -1

    # --- private ---------------------------------------------------------------------
    cdef object _ended                        # the exception that send raises, or None
    cdef list _watchers                       # futures woken at every change
    cdef list _nested                         # payloads sent while a frame was being encoded
    cdef int _append(self, object value) except -1
    cdef int _append_foreign(self, object value) except -1
    cdef int _check_sendable(self) except -1
    cdef int _append_nested(self, object value) except -1
    cdef int _append_deferred(self) except -1
