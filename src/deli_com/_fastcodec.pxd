# The functions that the send path, the receive path and the codec classes may call. All others in
# _fastcodec.pyx are private.

from deli_com.coding.program cimport Prog, Program
from deli_com.ground.cursor cimport WriteCursor


cdef class TypeCodec:
    # The compiled program of one type. It is immutable, so it may be shared.
    cdef readonly Py_ssize_t min_size   # least bytes of a value on the wire
    cdef readonly Py_ssize_t max_size   # most bytes of a value; -1 if unbounded
    # --- private ---
    cdef readonly object type           # the argument of codec()
    cdef Program program                # owns prog
    cdef Prog* prog                     # encodes values
    cdef Prog* reads                    # decodes values: `prog`, or one for another schema
    cdef str name                       # starts the path of an error; "" if not a class
    cdef object _node                   # the plan node that was compiled
    cdef dict _facts                    # the result of graph.check
    cdef object _schema                 # made on first use
    cdef Program _reads                 # owns `reads`, if it is not `prog`
    cdef object _writer                 # Schema of the values that `reads` decodes; None: its own
    cdef dict _readings                 # hash -> (TypeCodec or the differences, size), oldest first
    cdef Py_ssize_t _readings_size      # sum of these sizes


# Encodes one value at the cursor. After an error the cursor's bytes and tail are undefined, and the caller
# drops them (and releases `tail`); nothing else has changed. Raises EncodeError, or the exception of a
# `__index__`, `__float__` or `__buffer__` of the value.
cdef int codec_encode(TypeCodec codec, WriteCursor* cur, object value) except -1

# Decodes one value from `size` bytes at `data` (borrowed for the call). Bytes after the value are ignored, as
# in from_bytes. The result owns copies. Raises DecodeError, or the exception of a `__post_init__`.
cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size)

# Decodes one value at `pos` of a contiguous bytes-like object, and moves `pos` to its end. With `strict`,
# bytes after the value raise DecodeError.
cdef object decode_from(TypeCodec codec, object data, Py_ssize_t* pos, bint strict)

# The same for the users' `decode(data, pos)`: (value, position after it).
cdef object decode_pair(TypeCodec codec, object data, object pos)
