# Of a message that waits as bytes: how its class is delivered, and what tells its slot from others.

from deli_com._fastcodec cimport TypeCodec
from deli_com.coding.program cimport Prog
from deli_com.ground.delivery_class cimport DeliveryClass


cdef struct KeyPart:
    Prog* prog            # of the fields that it covers, where their size varies; borrowed from `_codecs`
    Py_ssize_t size       # bytes, where that is fixed; -1
    bint is_key


cdef struct KeyWay:
    # How to reach the key of one class: parts from the first field up to the last of the key.
    DeliveryClass kind
    KeyPart* parts
    int count
    bint is_split         # other fields lie between those of the key


cdef struct MessageKey:
    int lane              # index of the class among the variants; 0 where there are none
    DeliveryClass kind
    const char* data      # the key's fields as they are on the wire; borrowed until the next message
    Py_ssize_t size


cdef class MessageKeys:
    # False: the bytes are no message, or none that the key can be told of.
    cdef bint find(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept

    # --- private ---
    cdef TypeCodec _codec
    cdef KeyWay* _ways            # owned, by lane
    cdef int _count
    cdef bint _is_sealed          # the index of the variant comes first
    cdef Py_ssize_t _first        # bytes before the first field
    cdef char* _scratch           # owned; of split keys
    cdef Py_ssize_t _room
    cdef list _codecs             # own what the parts refer to
    cdef int _add_way(self, int lane, object cls, object delivery) except -1
    cdef bint _append(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept


# None where no class of the messages says a policy that drops any.
cdef MessageKeys message_keys(TypeCodec codec)
