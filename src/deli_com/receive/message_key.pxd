# The delivery policy of a message that waits as bytes, and the key that identifies its slot.

from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.coding.program cimport Prog
from deli_com.ground.delivery_class cimport DeliveryClass


cdef struct KeyPart:
    Prog* prog            # program of its fields, if their size varies; borrowed from `_codecs`
    Py_ssize_t size       # bytes, if fixed; else -1
    bint is_key


cdef struct KeyWay:
    # How to find the key of one class: parts from the first field up to the last field of the key.
    DeliveryClass kind
    KeyPart* parts
    int count
    bint is_split         # other fields lie between those of the key
    uint64_t max_age_ns   # 0: messages do not grow too old


cdef struct MessageKey:
    int lane              # index of the class among the variants; 0 if there are none
    DeliveryClass kind
    const char* data      # the key's fields as on the wire; borrowed until the next message
    Py_ssize_t size
    uint64_t max_age_ns   # of the class


cdef class MessageKeys:
    # Returns False if the bytes are no message, or if their key cannot be found.
    cdef bint find(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept

    # --- private ---
    cdef TypeCodec _codec
    cdef KeyWay* _ways            # owned; indexed by lane
    cdef int _count
    cdef bint has_ages            # some class has a `max_age`
    cdef bint _is_sealed          # the index of the variant comes first
    cdef Py_ssize_t _first        # bytes before the first field
    cdef char* _scratch           # owned; split keys are joined here
    cdef Py_ssize_t _room
    cdef list _codecs             # own the programs of the parts
    cdef int _add_way(self, int lane, object cls, object delivery) except -1
    cdef bint _append(self, const char* data, Py_ssize_t size, MessageKey* found) noexcept


# None if no class of the messages has a policy that drops values.
cdef MessageKeys message_keys(TypeCodec codec)
