# What one node sends to the others: batches of records, and messages that wait by their policies.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from deli_com.fanout.lane cimport Lane, Lanes
from deli_com.ground.delivery_class cimport DeliveryClass
from deli_com.receive.message_key cimport MessageKeys
from deli_com.recording.tap cimport Hearer


cdef enum:
    HEAD_BYTES = 44          # of a batch: "dlb1", node, u64 first sequence, schema hash
    RECORD_BYTES = 8         # of a record, without name and payload: kind, flags, u16, u32

cdef enum Kind:
    TO_ALL = 0
    TO_GROUP = 1
    FORGET = 2               # the payload is a message of the key
    STATE = 3                # a retained message; takes no sequence number
    LEAVE = 4                # the node closes; takes no sequence number

cdef enum Flag:
    MORE = 1                 # the message goes on in the next record
    CONTINUES = 2            # u32 before the payload: bytes of the message that came before
    IN_GROUP = 4             # of FORGET and STATE: the name is a group's


cdef class Waiting:
    # A message that waits by its policy.
    cdef int kind
    cdef int flags
    cdef bytes name
    cdef bytes payload       # None: the message was dropped
    cdef DeliveryClass policy
    cdef tuple slot          # of policy latest, else None
    cdef uint64_t due_ns     # dropped after this time; 0: never


cdef class Outbox(Hearer):
    cdef readonly uint64_t sequence       # of the next message
    cdef readonly Py_ssize_t lost         # dropped reliable messages; each has used a number
    cdef readonly Py_ssize_t skipped      # dropped: policy skip, or too old; they use no number
    cdef readonly Py_ssize_t superseded   # dropped: policy latest
    cdef readonly Py_ssize_t waiting_bytes
    cdef readonly Py_ssize_t max_backlog  # bytes of reliable messages, and of policy skip, that wait
    cdef public set own                   # slots that this node writes
    cdef bint is_deaf                     # what is sent now came from another node
    # --- private ---
    cdef object _wake                     # () -> None: there is something to take
    cdef bint _is_told                    # `_wake` was called since `take` found nothing
    cdef bytes _head                      # of a batch, without the sequence
    cdef Lanes _lanes                     # of the endpoint; None: everything is reliable
    cdef bint _is_sealed
    cdef MessageKeys _keys
    cdef Py_ssize_t _max_slots
    cdef dict _names                      # name of a group to bytes; None: not passed on
    cdef object _ready                    # deque of bytes: batches
    cdef Py_ssize_t _ready_bytes
    cdef PyObject* _batch                 # bytes being filled, owned; NULL: there is none
    cdef Py_ssize_t _size
    cdef Py_ssize_t _room                 # bytes of `_batch`
    cdef Py_ssize_t _usual                # bytes of the last batch
    cdef Py_ssize_t _most                 # bytes that a batch may have
    cdef bint _is_away                    # the backplane is not connected
    cdef bint _holds                      # messages wait, by their policies
    cdef object _waiting                  # deque of Waiting
    cdef Py_ssize_t _dead                 # of those, without a payload
    cdef dict _latest                     # slot to Waiting
    cdef object _skips                    # deque of Waiting
    cdef Py_ssize_t _skip_bytes
    cdef Py_ssize_t _reliable_bytes

    cdef bytes name_of(self, object scope)
    cdef Lane lane_of(self, const char* payload, Py_ssize_t size)
    cdef tuple slot_of(self, bytes name, Lane lane, const char* payload, Py_ssize_t size)
    cdef int _tell(self) except -1
    cdef int _begin(self, Py_ssize_t wanted) except -1
    cdef char* _make_room(self, Py_ssize_t wanted) except NULL
    cdef int _finish(self) except -1
    cdef int _add(
        self, int kind, int flags, bytes name, const char* payload, Py_ssize_t size, bytes tail) except -1
    cdef int _add_parts(self, int kind, int flags, bytes name, bytes payload) except -1
    cdef int _record(
        self, int kind, int flags, bytes name, Py_ssize_t before, const char* payload, Py_ssize_t size,
        bytes tail) except -1
    cdef int _keep(self, int kind, int flags, bytes name, bytes payload, Lane lane, tuple slot) except -1
    cdef int _drop(self, Waiting item) except -1
    cdef int _drop_reliable(self) except -1
    cdef int _refill(self) except -1
    cdef int _compact(self) except -1
