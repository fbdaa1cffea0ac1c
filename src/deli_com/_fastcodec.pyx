"""Compiled codecs: `TypeCodec` for any type, and the codec methods of `Codec` classes.

Wire layout of every type, all little-endian, nothing between (docs/wire.md):

==========================  ====================================================
u8 .. u64, i8 .. i64        1, 2, 4, 8 bytes
f32, f64                    4, 8 bytes, IEEE 754
bool                        1 byte, 0 or 1
str, bytes                  u32 size in bytes, then that many; str is strict UTF-8
list, tuple[T, ...], Array  u32 count, elements
struct, tuple[A, B]         fields in order
sealed class                u32 index of the variant, its fields
enum                        u32 index of the member
T | None                    u8 0 or 1, then the value
FixedArray[T, N]            N elements
==========================  ====================================================

A program (_program.pyx) is walked by the encoder (_encode.pyx) or the decoder (_decode.pyx);
this module gives them somewhere to write, and bytes to read.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyTypeObject
from libc.string cimport memcpy

from deli_com._cpython cimport (
    Py_DECREF,
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
    PyObject_GetBuffer,
)
from deli_com._cpython cimport Py_TYPE as C_TYPE
from deli_com._cursor cimport WriteCursor
from deli_com._decode cimport decode_root
from deli_com._encode cimport encode_root
from deli_com._program cimport Program
from deli_com._record cimport Record, RecordTypeObject, record_type

from types import GenericAlias

from deli_com._columns import Columns
from deli_com._program import compile_type
from deli_com._record import RecordType, record_spec
from deli_com.errors import DecodeError

cdef enum:
    STACK_BYTES = 1024   # values up to this size are encoded without a buffer of their own
    TAIL_BYTES = 2048    # a last `bytes` field from here on is copied once, into the result

cdef extern from *:
    """
    static int dc_grow_failed(void) { PyErr_NoMemory(); return -1; }
    """
    int dc_grow_failed() except -1


# --- where to_bytes and encode write ---

cdef struct Scratch:
    WriteCursor cur
    char* start
    char* heap                # owned, NULL while the stack is enough
    char stack[STACK_BYTES]


cdef int _scratch_grow(WriteCursor* cur, Py_ssize_t need) except -1:
    cdef Scratch* scratch = <Scratch*>cur.owner
    cdef Py_ssize_t used = cur.pos - scratch.start
    cdef Py_ssize_t size
    cdef char* room
    if need > (<Py_ssize_t>1 << 62):
        return dc_grow_failed()
    # Twice over for what comes in small pieces; exactly for what is large already.
    size = used + need + (used if used < need else need) + 64
    room = <char*>PyMem_Realloc(scratch.heap, size)
    if room == NULL:
        return dc_grow_failed()
    if scratch.heap == NULL:
        memcpy(room, scratch.start, used)
    scratch.heap = room
    scratch.start = room
    cur.pos = room + used
    cur.end = room + size
    return 0


cdef inline void _scratch_open(Scratch* scratch) noexcept:
    scratch.start = scratch.stack
    scratch.heap = NULL
    scratch.cur.pos = scratch.stack
    scratch.cur.end = scratch.stack + STACK_BYTES
    scratch.cur.grow = _scratch_grow
    scratch.cur.owner = scratch
    scratch.cur.tail = NULL
    scratch.cur.tail_min = TAIL_BYTES


cdef inline void _scratch_close(Scratch* scratch) noexcept:
    if scratch.heap != NULL:
        PyMem_Free(scratch.heap)
    if scratch.cur.tail != NULL:
        Py_DECREF(scratch.cur.tail)  # was INCREFed by the encoder


cdef bytes _to_bytes(TypeCodec codec, object value):
    cdef Scratch scratch
    cdef PyObject* result
    cdef Py_ssize_t head, tail
    _scratch_open(&scratch)
    try:
        encode_root(codec.prog, &scratch.cur, value, codec.name, False)
        head = scratch.cur.pos - scratch.start
        if scratch.cur.tail == NULL:
            return scratch.start[:head]
        tail = PyBytes_GET_SIZE(scratch.cur.tail)
        result = PyBytes_FromStringAndSize(NULL, head + tail)
        if result == NULL:
            raise MemoryError
        memcpy(PyBytes_AS_STRING(result), scratch.start, head)
        memcpy(PyBytes_AS_STRING(result) + head, PyBytes_AS_STRING(scratch.cur.tail), tail)
        made = <object>result
        Py_DECREF(result)
        return made
    finally:
        _scratch_close(&scratch)


cdef int _append(TypeCodec codec, object value, object buf) except -1:
    # The value is complete before the bytearray is touched: Python code of the value may use it.
    cdef Scratch scratch
    cdef Py_ssize_t head, tail, old
    if not isinstance(buf, bytearray):
        raise TypeError(f"encode appends to a bytearray, got {type(buf).__qualname__}")
    _scratch_open(&scratch)
    try:
        encode_root(codec.prog, &scratch.cur, value, codec.name, False)
        head = scratch.cur.pos - scratch.start
        tail = 0 if scratch.cur.tail == NULL else PyBytes_GET_SIZE(scratch.cur.tail)
        old = PyByteArray_GET_SIZE(buf)
        PyByteArray_Resize(buf, old + head + tail)
        memcpy(PyByteArray_AS_STRING(buf) + old, scratch.start, head)
        if tail:
            memcpy(PyByteArray_AS_STRING(buf) + old + head, PyBytes_AS_STRING(scratch.cur.tail), tail)
    finally:
        _scratch_close(&scratch)
    return 0


# --- where from_bytes and decode read ---

cdef object _decode_from(TypeCodec codec, object data, Py_ssize_t* pos, bint strict):
    cdef Py_buffer view
    if PyBytes_CheckExact(<PyObject*>data):
        return _decode_at(
            codec, PyBytes_AS_STRING(<PyObject*>data), PyBytes_GET_SIZE(<PyObject*>data), pos, strict
        )
    if PyObject_GetBuffer(<PyObject*>data, &view, PyBUF_SIMPLE) < 0:
        raise TypeError(f"decoding needs a contiguous bytes-like object, got {type(data).__qualname__}") from None
    try:
        return _decode_at(codec, <const char*>view.buf, view.len, pos, strict)
    finally:
        PyBuffer_Release(&view)


cdef inline object _decode_at(TypeCodec codec, const char* data, Py_ssize_t size, Py_ssize_t* pos, bint strict):
    value = decode_root(codec.prog, data, size, pos, codec.name)
    if strict and pos[0] != size:
        raise DecodeError(f"{size - pos[0]} bytes after the value", pos[0], codec.name)
    return value


cdef object _decode_pair(TypeCodec codec, object data, object pos):
    cdef Py_ssize_t at = pos
    if at < 0:
        raise ValueError(f"pos must not be negative, got {at}")
    if at > len(data):
        raise ValueError(f"pos {at} is beyond the {len(data)} bytes of data")
    value = _decode_from(codec, data, &at, False)
    return value, at


# --- any type ---

@cython.binding(False)
cdef class TypeCodec:
    """The compiled codec of one type; `deli_com.codec` makes and keeps them.

    Attributes
    ----------
    type : object
        What was given to `codec`.
    min_size, max_size : int
        Least and most bytes of a value on the wire; `max_size` is -1 where there is no bound.
    """

    def __init__(self, type, node, facts, name="", variant=None):
        if self.program is not None:
            raise TypeError("a TypeCodec is immutable")
        self.type = type
        self.name = name
        self.program = compile_type(node, facts, variant)
        self.prog = &self.program.prog
        self.min_size = self.prog.min_size
        self.max_size = self.prog.max_size

    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    def __repr__(self):
        return f"codec({self.type.__qualname__ if isinstance(self.type, RecordType) else self.type})"

    def __reduce__(self):
        from deli_com.registry import codec
        return codec, (self.type,)

    def to_bytes(self, value):
        """Encode one value.

        Parameters
        ----------
        value : T
            Read during the call only.

        Returns
        -------
        bytes
            Exactly the value.

        Raises
        ------
        EncodeError
            The value does not fit its type; `path` says where.
        """
        return _to_bytes(self, value)

    def encode(self, value, buf):
        """Encode one value and append it to a ``bytearray``.

        Raises
        ------
        EncodeError
            The value does not fit its type; `buf` is as it was.
        BufferError
            Somebody holds a view of `buf`; it is as it was.
        """
        _append(self, value, buf)

    def from_bytes(self, data, bint strict=False):
        """Decode one value from the start of `data`.

        Parameters
        ----------
        data : bytes-like
            Contiguous; read during the call only.
        strict : bool
            Refuse bytes after the value. They are ignored otherwise, so that a newer peer may
            append fields.

        Returns
        -------
        T
            Owns copies of everything, no views into `data`.

        Raises
        ------
        DecodeError
            With `offset` in bytes and `path`.
        """
        cdef Py_ssize_t pos = 0
        return _decode_from(self, data, &pos, strict)

    def decode(self, data, pos=0):
        """Decode one value at byte `pos` of `data`.

        Returns
        -------
        tuple of T and int
            The value, and the position behind it.
        """
        return _decode_pair(self, data, pos)

    @property
    def dtype(self):
        """The numpy dtype of a struct of fixed width: packed, little-endian.

        Raises
        ------
        TypeError
            The type is no struct, or a field has no fixed width; the text names it.
        """
        if not isinstance(self.type, RecordType) or record_spec(self.type).sealed:
            raise TypeError(f"{self!r} has no dtype: only structs of fixed width have")
        return Columns.of(self.type).dtype


cdef int codec_encode(TypeCodec codec, WriteCursor* cur, object value) except -1:
    return encode_root(codec.prog, cur, value, codec.name, False)


cdef int codec_encode_exact(TypeCodec codec, WriteCursor* cur, object value) except -1:
    return encode_root(codec.prog, cur, value, codec.name, True)


cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size):
    cdef Py_ssize_t pos = 0
    return decode_root(codec.prog, data, size, &pos, codec.name)


# --- Codec classes ---

cdef inline TypeCodec _codec_of(PyTypeObject* cls):
    # The codec of a Codec class, compiled at the first use.
    if record_type(cls).codec == NULL:
        (<object>cls).__compile_codec__()
    return <TypeCodec>record_type(cls).codec


def set_class_codec(cls, TypeCodec codec not None):
    """Keep the codec of a class where C finds it. The class owns it from then on."""
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    if type.codec == NULL:
        type.codec = <PyObject*>codec
        _keep(codec)


cdef extern from *:
    "static void dc_keep(PyObject *o) { Py_INCREF(o); }"
    void _keep "dc_keep"(object o) noexcept


def class_codec(cls):
    """The codec of a class; for a variant the one that writes its index too."""
    return _codec_of(<PyTypeObject*>cls)


@cython.binding(False)
cdef class CodecMethods(Record):
    """`to_bytes` and `encode` of every `Codec` value."""

    def to_bytes(self):
        """Encode this value.

        Returns
        -------
        bytes
            Exactly the value; for a variant, index and fields.

        Raises
        ------
        EncodeError
            A field does not fit its type; `path` says which.
        """
        return _to_bytes(_codec_of(C_TYPE(<PyObject*>self)), self)

    def encode(self, buf):
        """Encode this value and append it to a ``bytearray``.

        Raises
        ------
        EncodeError
            A field does not fit its type; `buf` is as it was.
        """
        _append(_codec_of(C_TYPE(<PyObject*>self)), self, buf)


# from_bytes and decode of a class are builtins bound to it, one pair a class: found in the class's
# own dict without a descriptor, so a call of `Tick.from_bytes` makes no bound method.

cdef extern from *:
    """
    #define DC_FROM_BYTES_DOC \
        "from_bytes($cls, data, strict=False)\\n--\\n\\n" \
        "Decode one value from the start of `data`.\\n\\n" \
        "Parameters\\n----------\\n" \
        "data : bytes-like\\n    Contiguous; read during the call only.\\n" \
        "strict : bool\\n    Refuse bytes after the value. They are ignored otherwise, so that a newer\\n" \
        "    peer may append fields.\\n\\n" \
        "Raises\\n------\\nDecodeError\\n    With `offset` in bytes and `path`."
    #define DC_DECODE_DOC \
        "decode($cls, data, pos=0)\\n--\\n\\n" \
        "Decode one value at byte `pos` of `data`.\\n\\n" \
        "Returns\\n-------\\ntuple of value and int\\n    The value, and the position behind it.\\n\\n" \
        "Raises\\n------\\nDecodeError\\n    With `offset` in bytes and `path`."
    typedef PyObject *(*dc_fastcall)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    static PyMethodDef dc_class_methods[2] = {
        {"from_bytes", NULL, METH_FASTCALL | METH_KEYWORDS, DC_FROM_BYTES_DOC},
        {"decode", NULL, METH_FASTCALL | METH_KEYWORDS, DC_DECODE_DOC},
    };
    static PyObject *dc_bind(int which, dc_fastcall function, PyObject *cls) {
        dc_class_methods[which].ml_meth = (PyCFunction)(void (*)(void))function;
        return PyCFunction_NewEx(&dc_class_methods[which], cls, NULL);
    }
    """
    ctypedef PyObject* (*dc_fastcall)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*)
    object dc_bind(int which, dc_fastcall function, object cls)


cdef PyObject* _class_from_bytes(
    PyObject* cls, PyObject* const* args, Py_ssize_t count, PyObject* kwnames
) noexcept:
    cdef Py_ssize_t pos = 0
    cdef PyObject* strict = NULL
    try:
        if count == 1 and kwnames == NULL:
            return _new_reference(_decode_from(_codec_of(<PyTypeObject*>cls), <object>args[0], &pos, False))
        data = _two_arguments("from_bytes", "strict", args, count, kwnames, &strict)
        return _new_reference(_decode_from(
            _codec_of(<PyTypeObject*>cls), data, &pos, strict != NULL and <object>strict
        ))
    except BaseException as error:
        _set_error(error)
        return NULL


cdef PyObject* _class_decode(
    PyObject* cls, PyObject* const* args, Py_ssize_t count, PyObject* kwnames
) noexcept:
    cdef PyObject* pos = NULL
    try:
        data = _two_arguments("decode", "pos", args, count, kwnames, &pos)
        return _new_reference(_decode_pair(
            _codec_of(<PyTypeObject*>cls), data, <object>pos if pos != NULL else 0
        ))
    except BaseException as error:
        _set_error(error)
        return NULL


cdef object _two_arguments(
    str function, str second_name,
    PyObject* const* args, Py_ssize_t count, PyObject* kwnames, PyObject** second,
):
    # `data`, which is needed, and one more argument (borrowed), by position or name.
    cdef PyObject* data = NULL
    cdef Py_ssize_t i
    if count > 2:
        raise TypeError(f"{function}() takes at most 2 arguments ({count} given)")
    if count > 0:
        data = args[0]
    if count > 1:
        second[0] = args[1]
    if kwnames != NULL:
        for i, name in enumerate(<tuple>kwnames):
            if name == "data" and data == NULL:
                data = args[count + i]
            elif name == second_name and second[0] == NULL:
                second[0] = args[count + i]
            else:
                raise TypeError(f"{function}() got an unexpected or repeated argument {name!r}")
    if data == NULL:
        raise TypeError(f"{function}() missing required argument: 'data'")
    return <object>data


cdef inline PyObject* _new_reference(object value) noexcept:
    _keep(value)
    return <PyObject*>value


cdef extern from *:
    "static void dc_set_error2(PyObject *error) { PyErr_SetObject((PyObject *)Py_TYPE(error), error); }"
    void _set_error "dc_set_error2"(object error) noexcept


def class_methods(cls):
    """The builtins ``from_bytes`` and ``decode`` of a class."""
    return dc_bind(0, _class_from_bytes, cls), dc_bind(1, _class_decode, cls)
