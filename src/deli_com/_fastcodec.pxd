# What the broadcast log and the receive path may call. Everything else in
# _fastcodec.pyx is private to it.

from deli_com._cursor cimport WriteCursor


cdef class TypeCodec:
    # The compiled program of one type. Immutable once compiled, so it may be shared.
    cdef readonly Py_ssize_t min_size   # least bytes a value takes on the wire
    cdef readonly Py_ssize_t max_size   # most bytes, or -1 where unbounded


# Writes one value at the cursor. On error the cursor's bytes and tail are rubbish and the
# caller drops them (and releases `tail`); nothing else has changed. Raises EncodeError.
cdef int codec_encode(TypeCodec codec, WriteCursor* cur, object value) except -1

# Reads one value from exactly `size` bytes at `data` (borrowed for the call; bytes after the
# value are ignored, as from_bytes does). Returns objects that own copies. Raises DecodeError.
cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size)
