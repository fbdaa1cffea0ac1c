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

A program (`program`) is walked by the encoder (`encode`) or the decoder (`decode`), all in coding/.
"""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from deli_com.coding.decode cimport decode_root
from deli_com.coding.encode cimport encode_append, encode_root, encode_to_bytes
from deli_com.ground.cpython cimport (
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_GET_SIZE,
    PyErr_Clear,
    PyObject_GetBuffer,
)
from deli_com.ground.cpython cimport Py_TYPE as C_TYPE
from deli_com.ground.cursor cimport WriteCursor
from deli_com.types.instance cimport RecordTypeObject, record_type

from types import GenericAlias

from deli_com.coding.columns import Columns
from deli_com.coding.program import compile_type
from deli_com.errors import DecodeError
from deli_com.types.instance import RecordType, record_spec


# --- where from_bytes and decode read ---

cdef object _decode_from(TypeCodec codec, object data, Py_ssize_t* pos, bint strict):
    cdef Py_buffer view
    if PyBytes_CheckExact(<PyObject*>data):
        return _decode_at(
            codec, PyBytes_AS_STRING(<PyObject*>data), PyBytes_GET_SIZE(<PyObject*>data), pos, strict
        )
    if PyObject_GetBuffer(<PyObject*>data, &view, PyBUF_SIMPLE) < 0:
        PyErr_Clear()
        raise TypeError(f"decoding needs a contiguous bytes-like object, got {type(data).__qualname__}")
    try:
        return _decode_at(codec, <const char*>view.buf, view.len, pos, strict)
    finally:
        PyBuffer_Release(&view)


cdef inline object _decode_at(
    TypeCodec codec, const char* data, Py_ssize_t size, Py_ssize_t* pos, bint strict
):
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
        self._node = node
        self._facts = facts
        self.program = compile_type(node, facts, variant)
        self.prog = &self.program.prog
        self.min_size = self.prog.min_size
        self.max_size = self.prog.max_size

    @property
    def schema(self):
        """The `Schema` of the type: its text, with names, and its hash. Made when it is first asked for.

        Raises
        ------
        TypeError
            A name cannot stand in a schema: it has other characters than ``A-Z a-z 0-9 _``, or over 128.
        """
        if self._schema is None:
            from deli_com.schema.schema import Schema
            self._schema = Schema._of(self._node, self.type)
        return self._schema

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    def __repr__(self):
        return f"codec({self.type.__qualname__ if isinstance(self.type, RecordType) else self.type})"

    def __reduce__(self):
        from deli_com.coding.registry import codec
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
        return encode_to_bytes(self.prog, <PyObject*>value, self.name)

    def encode(self, value, buf):
        """Encode one value and append it to a ``bytearray``.

        Raises
        ------
        EncodeError
            The value does not fit its type; `buf` is as it was.
        BufferError
            Somebody holds a view of `buf`; it is as it was.
        """
        encode_append(self.prog, value, self.name, buf)

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
    return encode_root(codec.prog, cur, <PyObject*>value, codec.name, False)


cdef int codec_encode_exact(TypeCodec codec, WriteCursor* cur, object value) except -1:
    return encode_root(codec.prog, cur, <PyObject*>value, codec.name, True)


cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size):
    cdef Py_ssize_t pos = 0
    return decode_root(codec.prog, data, size, &pos, codec.name)


# --- Codec classes ---

cdef inline PyObject* _codec_of(PyTypeObject* cls) except NULL:
    # The codec of a Codec class (borrowed from it), compiled at the first use.
    if record_type(cls).codec == NULL:
        (<object>cls).__compile_codec__()
    return record_type(cls).codec


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
    return <object>_codec_of(<PyTypeObject*>cls)


# The four methods are made by hand, and anew for each class:
#
# - from_bytes and decode are builtins bound to the class. They are found in its own dict and are no
#   descriptors, so a call of `Tick.from_bytes` makes no bound method.
# - to_bytes takes no arguments at all, which Cython has no spelling for; and the interpreter calls
#   a method descriptor without a detour only if it belongs to the very class of the instance.

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
    #define DC_TO_BYTES_DOC \
        "to_bytes($self)\\n--\\n\\n" \
        "Encode this value.\\n\\n" \
        "Returns\\n-------\\nbytes\\n    Exactly the value; for a variant, index and fields.\\n\\n" \
        "Raises\\n------\\nEncodeError\\n    A field does not fit its type; `path` says which."
    #define DC_ENCODE_DOC \
        "encode($self, buf)\\n--\\n\\n" \
        "Encode this value and append it to a ``bytearray``.\\n\\n" \
        "Raises\\n------\\nEncodeError\\n    A field does not fit its type; `buf` is as it was."
    typedef PyObject *(*dc_fastcall)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
    static PyMethodDef dc_class_methods[2] = {
        {"from_bytes", NULL, METH_FASTCALL | METH_KEYWORDS, DC_FROM_BYTES_DOC},
        {"decode", NULL, METH_FASTCALL | METH_KEYWORDS, DC_DECODE_DOC},
    };
    static PyMethodDef dc_methods[2] = {
        {"to_bytes", NULL, METH_NOARGS, DC_TO_BYTES_DOC},
        {"encode", NULL, METH_FASTCALL | METH_KEYWORDS, DC_ENCODE_DOC},
    };
    static PyObject *dc_describe(int which, void *function, PyTypeObject *cls) {
        dc_methods[which].ml_meth = (PyCFunction)function;
        return PyDescr_NewMethod(cls, &dc_methods[which]);
    }
    static PyObject *dc_bind(int which, dc_fastcall function, PyObject *cls) {
        dc_class_methods[which].ml_meth = (PyCFunction)(void (*)(void))function;
        return PyCFunction_NewEx(&dc_class_methods[which], cls, NULL);
    }
    """
    ctypedef PyObject* (*dc_fastcall)(PyObject*, PyObject* const*, Py_ssize_t, PyObject*)
    object dc_describe(int which, void* function, PyTypeObject* cls)
    object dc_bind(int which, dc_fastcall function, object cls)


cdef object _instance_to_bytes(PyObject* self, PyObject* nothing):
    cdef PyObject* codec = _codec_of(C_TYPE(self))
    return encode_to_bytes((<TypeCodec>codec).prog, self, (<TypeCodec>codec).name)


cdef object _instance_encode(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames):
    cdef TypeCodec codec = <TypeCodec>_codec_of(C_TYPE(self))
    cdef Py_ssize_t named = 0 if kwnames == NULL else len(<tuple>kwnames)
    if count + named != 1 or (named == 1 and <tuple>kwnames != ("buf",)):
        raise TypeError("encode() takes one argument, 'buf'")
    encode_append(codec.prog, <object>self, codec.name, <object>args[0])
    return None


cdef object _class_from_bytes(
    PyObject* cls, PyObject* const* args, Py_ssize_t count, PyObject* kwnames
):
    cdef Py_ssize_t pos = 0
    cdef PyObject* strict = NULL
    cdef PyObject* codec
    if count == 1 and kwnames == NULL and PyBytes_CheckExact(args[0]):
        codec = _codec_of(<PyTypeObject*>cls)
        return decode_root(
            (<TypeCodec>codec).prog, PyBytes_AS_STRING(args[0]), PyBytes_GET_SIZE(args[0]), &pos,
            (<TypeCodec>codec).name,
        )
    data = _two_arguments("from_bytes", "strict", args, count, kwnames, &strict)
    cdef bint only = strict != NULL and <object>strict
    return _decode_from(<TypeCodec>_codec_of(<PyTypeObject*>cls), data, &pos, only)


cdef object _class_decode(
    PyObject* cls, PyObject* const* args, Py_ssize_t count, PyObject* kwnames
):
    cdef PyObject* pos = NULL
    data = _two_arguments("decode", "pos", args, count, kwnames, &pos)
    return _decode_pair(<TypeCodec>_codec_of(<PyTypeObject*>cls), data, <object>pos if pos != NULL else 0)


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


def class_methods(cls):
    """``to_bytes``, ``encode``, ``from_bytes`` and ``decode``, made for this class."""
    return {
        "to_bytes": dc_describe(0, <void*>_instance_to_bytes, <PyTypeObject*>cls),
        "encode": dc_describe(1, <void*>_instance_encode, <PyTypeObject*>cls),
        "from_bytes": dc_bind(0, <dc_fastcall>_class_from_bytes, cls),
        "decode": dc_bind(1, <dc_fastcall>_class_decode, cls),
    }
