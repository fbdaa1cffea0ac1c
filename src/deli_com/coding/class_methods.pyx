"""The four codec methods of `Codec` classes, made separately for each class."""

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF

from deli_com._fastcodec cimport TypeCodec, decode_from, decode_pair
from deli_com.coding.decode cimport decode_root
from deli_com.coding.encode cimport encode_append, encode_to_bytes
from deli_com.ground.cpython cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE, Py_TYPE
from deli_com.types.instance cimport RecordTypeObject, record_type


cdef inline PyObject* _codec_of(PyTypeObject* cls) except NULL:
    # The codec of a Codec class (a borrowed reference), compiled on first use.
    if record_type(cls).codec == NULL:
        (<object>cls).__compile_codec__()
    return record_type(cls).codec


def set_class_codec(cls, TypeCodec codec not None):
    """Store the codec of a class where C code finds it. The class owns it from then on."""
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    if type.codec == NULL:
        type.codec = <PyObject*>codec
        Py_INCREF(codec)


def class_codec(cls):
    """The codec of a class. That of a variant also writes its index."""
    return <object>_codec_of(<PyTypeObject*>cls)


# The four methods are made by hand and separately for each class:
#
# - from_bytes and decode are builtins bound to the class. They are in its own dict and are no
#   descriptors, so a call of `Tick.from_bytes` makes no bound method.
# - to_bytes has no arguments at all, which Cython cannot express. And the interpreter has a fast path for
#   a method descriptor only if it belongs to the exact class of the instance.

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
    cdef PyObject* codec = _codec_of(Py_TYPE(self))
    return encode_to_bytes((<TypeCodec>codec).prog, self, (<TypeCodec>codec).name)


cdef object _instance_encode(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* kwnames):
    cdef TypeCodec codec = <TypeCodec>_codec_of(Py_TYPE(self))
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
    return decode_from(<TypeCodec>_codec_of(<PyTypeObject*>cls), data, &pos, only)


cdef object _class_decode(
    PyObject* cls, PyObject* const* args, Py_ssize_t count, PyObject* kwnames
):
    cdef PyObject* pos = NULL
    data = _two_arguments("decode", "pos", args, count, kwnames, &pos)
    return decode_pair(<TypeCodec>_codec_of(<PyTypeObject*>cls), data, <object>pos if pos != NULL else 0)


cdef object _two_arguments(
    str function, str second_name,
    PyObject* const* args, Py_ssize_t count, PyObject* kwnames, PyObject** second,
):
    # Parses the required `data` and one more argument (borrowed), by position or name.
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
