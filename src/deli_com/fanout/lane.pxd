# Lanes: how values of each class are delivered, as the broadcast core asks for every message.
#
# Python code of a value can run in `key_of` (a `__index__` or `__buffer__` of a field): call it where
# encoding would be legal, and not while the log is open.

from cpython.object cimport PyTypeObject
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec
from deli_com.coding.program cimport Table
from deli_com.ground.delivery_class cimport DeliveryClass


cdef enum KeyForm:
    # How a key holds a field's value. Equal forms <=> equal bytes on the wire.
    FORM_INT           # the int
    FORM_BOOL          # the bool
    FORM_STR           # the str
    FORM_BYTES         # the bytes
    FORM_ENUM          # index of the member: no __hash__ in Python runs
    FORM_WIRE          # bytes on the wire: no __eq__, __hash__, __post_init__ of the user runs


cdef struct KeyField:
    Py_ssize_t offset  # of the slot, in bytes from the start of the value
    int form           # KeyForm
    bint optional      # None is a value; the key then holds None
    uint64_t positive  # bounds of a FORM_INT: [-negative, positive]
    uint64_t negative
    Table* members     # borrowed from the codec, of a FORM_ENUM


cdef class Lane:
    # How values of one class are delivered. Immutable, so it may be used from any thread.
    cdef readonly int index            # among the lanes of its Lanes, from 0
    cdef readonly DeliveryClass kind
    cdef readonly bint waits           # policy "wait"
    cdef readonly bint retain
    cdef readonly uint64_t max_age_ns  # 0: messages do not grow too old
    cdef readonly object type          # class, or annotation, that it is for
    cdef readonly tuple key            # names of fields; () for one slot
    # --- private ---
    cdef PyTypeObject* cls             # exact type of the values, borrowed from `type`; NULL without a key
    cdef KeyField* fields              # owned, as many as `key` has
    cdef list codecs                   # TypeCodec of each field, without the None of optional ones
    cdef TypeCodec whole               # of the message; refuses what is not of `cls`

    # What tells the slots of this lane apart: None for (), one canonical value for one name, a tuple
    # of them for several. Hashable, and equal exactly if the fields are equal on the wire. EncodeError
    # as encoding raises it.
    cpdef object key_of(self, value)
    # The same for a key as a user writes it: the field's value, or a tuple of values in the order of
    # `key`; None or () without one. EncodeError as above; TypeError for a wrong number of values.
    cpdef object key_from(self, key)

    cdef object _part(self, Py_ssize_t i, object value)
    cdef object _slot_part(self, Py_ssize_t i, object value)


cdef class Lanes:
    # The lanes of one message type.
    cdef readonly tuple lanes          # of Lane, by index
    # --- private ---
    cdef Table* variants               # borrowed from `codec`; NULL where there is one lane
    cdef TypeCodec codec

    # The lane of the value's exact class. Never None: a value of a wrong class gets the first, and
    # encoding refuses it.
    cpdef Lane of(self, value)
