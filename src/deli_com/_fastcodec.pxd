# What the send path, the receive path and the codec classes may call. Everything else in
# _fastcodec.pyx is private to it.

from deli_com.coding.program cimport Prog, Program
from deli_com.ground.cursor cimport WriteCursor


cdef class TypeCodec:
    # The compiled program of one type. Immutable once compiled, so it may be shared.
    cdef readonly Py_ssize_t min_size   # least bytes a value takes on the wire
    cdef readonly Py_ssize_t max_size   # most bytes, or -1 where unbounded
    # --- private ---
    cdef readonly object type           # as given to codec()
    cdef Program program                # owns prog
    cdef Prog* prog                     # writes values
    cdef Prog* reads                    # reads them: the same, or what reads another writer's
    cdef str name                       # starts the path of an error; "" if not a class
    cdef object _node                   # the plan node that was compiled
    cdef dict _facts                    # what graph.check found
    cdef object _schema                 # made at the first need
    cdef Program _reads                 # owns reads, if that is another than prog
    cdef object _writer                 # the Schema of those values; None: its own
    cdef dict _readings                 # by hash, oldest first: TypeCodec or the differences, and their size
    cdef Py_ssize_t _readings_size      # the sum of these


# Writes one value at the cursor. On error the cursor's bytes and tail are rubbish and the
# caller drops them (and releases `tail`); nothing else has changed. Raises EncodeError, or what
# a `__index__`, `__float__` or `__buffer__` of the value raised.
cdef int codec_encode(TypeCodec codec, WriteCursor* cur, object value) except -1

# Reads one value from exactly `size` bytes at `data` (borrowed for the call; bytes after the
# value are ignored, as from_bytes does). Returns objects that own copies. Raises DecodeError, or
# what a `__post_init__` raised.
cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size)

# Reads one value at `pos` of any contiguous bytes-like object, and moves `pos` behind it. `strict`:
# DecodeError where bytes follow the value.
cdef object decode_from(TypeCodec codec, object data, Py_ssize_t* pos, bint strict)

# The same for `decode(data, pos)`, as users call it: (value, position behind it).
cdef object decode_pair(TypeCodec codec, object data, object pos)
