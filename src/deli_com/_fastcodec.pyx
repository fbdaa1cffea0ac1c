"""`TypeCodec`: the compiled codec of one type.

Wire layout of all types, little-endian, without padding (docs/wire.md):

==========================  ====================================================
u8 .. u64, i8 .. i64        1, 2, 4, 8 bytes
f32, f64                    4, 8 bytes, IEEE 754
bool                        1 byte, 0 or 1
str, bytes                  u32 size in bytes, then the bytes; str is strict UTF-8
list, tuple[T, ...], Array  u32 count, elements
struct, tuple[A, B]         fields in order
sealed class                u32 index of the variant, its fields
enum                        u32 index of the member
T | None                    u8 0 or 1, then the value
FixedArray[T, N]            N elements
==========================  ====================================================

The encoder (`encode`) and the decoder (`decode`) walk a program (`program`); all three are in coding/.
"""

cimport cython
from cpython.object cimport PyObject

from deli_com.coding.buffers cimport is_masked, is_plain
from deli_com.coding.decode cimport decode_root
from deli_com.coding.encode cimport encode_append, encode_root, encode_to_bytes
from deli_com.ground.cpython cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBuffer_Release,
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_GET_SIZE,
    PyErr_Clear,
    PyErr_ExceptionMatches,
    PyExc_MemoryError,
    PyObject_GetBuffer,
)
from deli_com.ground.cursor cimport WriteCursor

from types import GenericAlias

from deli_com.coding.columns import Columns
from deli_com.coding.program import compile_type
from deli_com.errors import DecodeError, SchemaMismatch
from deli_com.types.instance import RecordType, record_spec


cdef enum:
    MAX_READINGS = 64  # limit on the schemas of other writers that one type caches
    MAX_READINGS_SIZE = 1 << 20  # limit on their characters, including cached differences

cdef extern from *:
    "static int dc_reraise_fastcodec(void) { return -1; }"
    int reraise "dc_reraise_fastcodec"() except -1


# --- the functions behind from_bytes and decode ---

cdef object decode_from(TypeCodec codec, object data, Py_ssize_t* pos, bint strict):
    cdef Py_buffer view
    if PyBytes_CheckExact(<PyObject*>data):
        return _decode_at(
            codec, PyBytes_AS_STRING(<PyObject*>data), PyBytes_GET_SIZE(<PyObject*>data), pos, strict
        )
    cdef int masked = is_masked(<PyObject*>data)
    if masked < 0:
        reraise()
    if masked or PyObject_GetBuffer(<PyObject*>data, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0:
        if not masked and PyErr_ExceptionMatches(PyExc_MemoryError):
            reraise()
        PyErr_Clear()
        raise TypeError(f"decoding needs a contiguous bytes-like object, got {type(data).__qualname__}")
    if not is_plain(&view):
        PyBuffer_Release(&view)
        raise TypeError(
            f"decoding needs bytes, got a {type(data).__qualname__} whose memory is not its value"
        )
    try:
        return _decode_at(codec, <const char*>view.buf, view.len, pos, strict)
    finally:
        PyBuffer_Release(&view)


cdef inline object _decode_at(
    TypeCodec codec, const char* data, Py_ssize_t size, Py_ssize_t* pos, bint strict
):
    value = decode_root(codec.reads, data, size, pos, codec.name)
    if strict and pos[0] != size:
        raise DecodeError(f"{size - pos[0]} bytes after the value", pos[0], codec.name)
    return value


cdef object decode_pair(TypeCodec codec, object data, object pos):
    cdef Py_ssize_t at = pos
    if at < 0:
        raise ValueError(f"pos must not be negative, got {at}")
    if at > len(data):
        raise ValueError(f"pos {at} is beyond the {len(data)} bytes of data")
    value = decode_from(codec, data, &at, False)
    return value, at


# --- any type ---

# Without binding, methods have only the signature in the first line of their docstring.
@cython.binding(False)
cdef class TypeCodec:
    """TypeCodec(type, node, facts, name='', variant=None, program=None)\n--\n
    The compiled codec of one type. `deli_com.codec` makes codecs and caches them.

    Attributes
    ----------
    type : object
        The argument of `codec`.
    min_size, max_size : int
        Least and most bytes of a value on the wire. `max_size` is -1 if there is no limit.
    """

    def __cinit__(self, type, node, facts, name="", variant=None, Program program=None):
        self.type = type
        self.name = name
        self._node = node
        self._facts = facts
        self.program = compile_type(node, facts, variant) if program is None else program
        self.prog = self.reads = &self.program.prog
        self.min_size = self.prog.min_size
        self.max_size = self.prog.max_size

    @property
    def schema(self):
        """The `Schema` of the type: its text, with names, and its hash. It is made on first use.

        Raises
        ------
        TypeError
            A name is not allowed in a schema: it has a character outside ``A-Z a-z 0-9 _``, or more than 128.
        """
        if self._schema is None:
            from deli_com.schema.schema import Schema
            self._schema = Schema._of(self._node, self.type)
        return self._schema

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    def reading(self, writer, /):
        """reading($self, writer, /)\n--\n
        The codec that decodes the values of a writer with another schema.

        Fields, variants and members are matched by name (docs/wire.md section 9). The result is this codec if
        the schemas are equal, or differ only in names. The last 64 results are cached. The result encodes
        like this codec.

        Parameters
        ----------
        writer : Schema
            Schema of the values to decode.

        Returns
        -------
        TypeCodec of T
            Its ``from_bytes`` raises `UnknownVariant` for a message of a variant that T lacks.

        Raises
        ------
        SchemaMismatch
            T cannot be read from these values. The error lists every difference.
        """
        from deli_com.schema.schema import Schema
        if not isinstance(writer, Schema):
            raise TypeError(f"reading() takes a Schema, got {type(writer).__qualname__}")
        return _reading(self, writer)

    def __repr__(self):
        own = f"codec({self.type.__qualname__ if isinstance(self.type, RecordType) else self.type})"
        return own if self._writer is None else f"{own}.reading({self._writer!r})"

    def __reduce__(self):
        from deli_com.coding.registry import codec
        return (codec, (self.type,)) if self._writer is None else (_read_again, (self.type, self._writer))

    def to_bytes(self, value):
        """to_bytes($self, value)\n--\n
        Encode one value.

        Parameters
        ----------
        value : T
            Read during the call only.

        Returns
        -------
        bytes
            The bytes of the value.

        Raises
        ------
        EncodeError
            The value does not fit its type; `path` is the place.
        """
        return encode_to_bytes(self.prog, <PyObject*>value, self.name)

    def encode(self, value, buf):
        """encode($self, value, buf)\n--\n
        Encode one value and append it to a ``bytearray``.

        Raises
        ------
        EncodeError
            The value does not fit its type. `buf` is unchanged.
        BufferError
            A view of `buf` exists. `buf` is unchanged.
        """
        encode_append(self.prog, value, self.name, buf)

    def from_bytes(self, data, bint strict=False):
        """from_bytes($self, data, strict=False)\n--\n
        Decode one value from the start of `data`.

        Parameters
        ----------
        data : bytes-like
            Contiguous; read during the call only.
        strict : bool
            Raise if bytes follow the value. By default they are ignored, so that a newer peer may append
            fields.

        Returns
        -------
        T
            The value. It owns copies, and no views of `data`.

        Raises
        ------
        DecodeError
            With `offset` in bytes and `path`.
        """
        cdef Py_ssize_t pos = 0
        return decode_from(self, data, &pos, strict)

    def decode(self, data, pos=0):
        """decode($self, data, pos=0)\n--\n
        Decode one value at byte `pos` of `data`.

        Returns
        -------
        tuple of T and int
            The value, and the position after it.
        """
        return decode_pair(self, data, pos)

    @property
    def dtype(self):
        """The numpy dtype of a struct of fixed width: packed, little-endian.

        Raises
        ------
        TypeError
            The type is no struct, or a field has no fixed width. The error names it.
        """
        if not isinstance(self.type, RecordType) or record_spec(self.type).sealed:
            raise TypeError(f"{self!r} has no dtype: only structs of fixed width have")
        return Columns.of(self.type).dtype


def _read_again(tp, writer):
    # The function that a pickle names.
    from deli_com.coding.registry import codec
    return codec(tp).reading(writer)


cdef object _reading(TypeCodec codec, writer):
    if codec._writer is not None:
        from deli_com.coding.registry import codec as codec_of
        return codec_of(codec.type).reading(writer)
    if writer == codec.schema:
        return codec
    if codec._readings is None:
        codec._readings = {}
    known, size = codec._readings.pop(writer.hash, (None, 0))
    codec._readings_size -= size
    if known is None:
        known = _resolve(codec, writer)
        size = len(writer.text)
        if isinstance(known, tuple):
            size += sum(map(len, known[1]))
    codec._readings[writer.hash] = known, size
    codec._readings_size += size
    while len(codec._readings) > MAX_READINGS or codec._readings_size > MAX_READINGS_SIZE:
        oldest = next(iter(codec._readings))
        codec._readings_size -= codec._readings.pop(oldest)[1]
    if isinstance(known, tuple):
        raise SchemaMismatch(*known)
    return known


cdef object _resolve(TypeCodec codec, writer):
    # The codec for the values of this writer, or the arguments of its SchemaMismatch.
    cdef TypeCodec made
    cdef object differences = None
    from deli_com.coding.adapt import compile_reading
    from deli_com.schema.resolve import resolve
    name = codec.schema.name
    try:
        resolution = resolve(codec._node, name, writer.tree)
        if not resolution.plan.changed:
            return codec
        program = compile_reading(resolution, codec._node, codec._facts)
    except SchemaMismatch as error:
        differences = error.differences
    if differences is not None:
        return name, differences
    made = TypeCodec.__new__(
        TypeCodec, codec.type, codec._node, codec._facts, codec.name, None, codec.program)
    made._schema = codec._schema
    made._reads = program
    made.reads = &made._reads.prog
    made._writer = writer
    return made


cdef int codec_encode(TypeCodec codec, WriteCursor* cur, object value) except -1:
    return encode_root(codec.prog, cur, <PyObject*>value, codec.name)


cdef object codec_decode(TypeCodec codec, const char* data, Py_ssize_t size):
    cdef Py_ssize_t pos = 0
    return decode_root(codec.reads, data, size, &pos, codec.name)
