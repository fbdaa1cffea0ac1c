# Passes an endpoint's messages to recordings.

from deli_com._fastcodec cimport TypeCodec
from deli_com.link.endpoint cimport Endpoint

# A value was received, and there is a tap: `data` is what `read_as` has decoded.
cdef int heard(Endpoint endpoint, TypeCodec read_as, const char* data, Py_ssize_t size) except -1
