# Which inbox the values of a codec wait in.

from deli_com._fastcodec cimport TypeCodec
from deli_com.receive.inbox cimport Inbox


# Makes the inbox for the values that a codec reads: a plain `Inbox` if their classes have no policy.
cdef Inbox inbox_for(
    object loop, TypeCodec codec, Py_ssize_t max_bytes, bint conflate, bint is_client)
