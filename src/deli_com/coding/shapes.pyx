"""Arrays with a shape: an array is written and read flat, and its shape is a matter of its struct.

A program has OP_DIMENSION in place of the number that a shape names, and one OP_SHAPE for each array behind
the last field: by then all numbers are there, whether they stand before the array or behind it.
"""

cimport cython
from cpython.object cimport PyObject

from deli_com.coding.decode_errors cimport FAULT_SHAPE, Decoder, decode_fail, decode_note_index
from deli_com.coding.encode_errors cimport encode_note_index, fail_made, fail_of_value
from deli_com.coding.encoder cimport Encoder
from deli_com.coding.numbers cimport encode_number
from deli_com.coding.program cimport OP_SHAPE, Op, Program, slot_offset
from deli_com.ground.cpython cimport Py_DECREF, Py_INCREF, Py_None

from operator import index as _index

from deli_com.types.instance import record_spec
from deli_com.types.shape import shaped_in

cdef object MOST_BYTES = 2**63 - 1  # of an array, each of its dimensions taken as one at least


@cython.final
cdef class StructShapes:
    """The arrays with a shape of one struct class."""

    def __init__(self, spec, list fields):
        self.offsets = {}
        self.arrays = []
        for name, dims in fields:
            self.arrays.append((name, slot_offset(spec.cls, name), dims))
            for dim in dims:
                if isinstance(dim, str):
                    self.offsets[dim] = slot_offset(spec.cls, dim)


@cython.final
cdef class Dimension:
    """One number that shapes name."""

    def __init__(self, StructShapes shapes not None, str name):
        self.shapes = shapes
        self.name = name


@cython.final
cdef class FieldShape:
    """The shape of the arrays in one field."""

    def __init__(self, StructShapes shapes, tuple dims):
        self.shapes = shapes
        self.dims = dims


@cython.final
cdef class _Trouble:
    # An array of another shape: what is wrong, and where in the field, innermost index first.
    cdef str detail
    cdef list path


cdef StructShapes struct_shapes(object cls):
    spec = record_spec(cls)
    fields = []
    for name, node in spec.nodes():
        found = shaped_in(node)
        if found is not None:
            fields.append((name, found.dims))
    return StructShapes(spec, fields) if fields else None


cdef int emit_shapes(Program program, StructShapes shapes, str path) except -1:
    cdef Op* op
    for name, offset, dims in shapes.arrays:
        op = program.add(OP_SHAPE, offset, f"{path}.{name}")
        op.ref = program.own(FieldShape(shapes, dims))
    return 0


cdef int emit_root_shape(Program program, object node) except -1:
    cdef Op* op
    found = shaped_in(node)
    if found is None or any([isinstance(dim, str) for dim in found.dims]):
        return 0  # names are those of a struct, which is elsewhere (a key is found by such programs)
    op = program.add(OP_SHAPE, 0, "")
    op.ref = program.own(FieldShape(None, found.dims))
    program.prog.leaf = False
    return 0


# --- what a value says ---

cdef inline object _held(char* base, Py_ssize_t offset):
    cdef PyObject* v = (<PyObject**>(base + offset))[0]
    return None if v == NULL else <object>v


cdef object _shape_of(object value):
    # The shape of an array, or None for what has none.
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple):
        try:
            shape = memoryview(value).shape
        except (TypeError, ValueError, BufferError):
            shape = None
    return None if shape is None else tuple(shape)


cdef object _first_array(object value):
    # Of a field: it, or the first in its lists; None: it holds none.
    if isinstance(value, (list, tuple)):
        for item in value:
            found = _first_array(item)
            if found is not None:
                return found
        return None
    return value


cdef object _filled(StructShapes shapes, char* base, str name):
    # A dimension as the first array says that has it; 0 where there is no array; None: that array has another
    # number of dimensions, or is none.
    for _, offset, dims in shapes.arrays:
        if name in dims:
            array = _first_array(_held(base, offset))
            if array is not None:
                shape = _shape_of(array)
                if shape is None or len(shape) != len(dims):
                    return None
                return shape[(<tuple>dims).index(name)]
    return 0


cdef object _length(object value):
    return _index(value) if hasattr(type(value), "__index__") else value  # which no length equals


cdef tuple _wanted(FieldShape field, char* base):
    # The shape as the struct says it; a name where it does not.
    cdef list found = []
    for dim in field.dims:
        if isinstance(dim, str):
            value = _held(base, field.shapes.offsets[dim])
            if value is None:
                value = _filled(field.shapes, base, dim)
            found.append(dim if value is None else _length(value))
        else:
            found.append(dim)
    return tuple(found)


cdef str _text(tuple shape):
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


cdef object _trouble(FieldShape field, tuple wanted, tuple found):
    cdef _Trouble made = _Trouble.__new__(_Trouble)
    which = "" if wanted == field.dims else f", that is {_text(field.dims)}"
    made.detail = f"expected shape {_text(wanted)}{which}, got {_text(found)}"
    made.path = []
    return made


# --- encoding ---

cdef object _checked(FieldShape field, char* base, Py_ssize_t offset):
    value = _held(base, offset)
    return None if value is None else _check(field, _wanted(field, base), value)


cdef object _check(FieldShape field, tuple wanted, object value):
    # None, or what is wrong.
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            found = _check(field, wanted, item)
            if found is not None:
                (<_Trouble>found).path.append(i)
                return found
        return None
    shape = _shape_of(value)
    return None if shape is None or shape == wanted else _trouble(field, wanted, shape)


cdef object _dimension(Dimension dimension, char* base):
    found = _filled(dimension.shapes, base, dimension.name)
    return 0 if found is None else found  # the array itself is refused where it is written


# As C sees them: a new reference, or NULL with the exception set. A `try` of Cython's own allocates, and what
# fails in it would be gone.
ctypedef PyObject* (*CheckFunction)(PyObject*, char*, Py_ssize_t) noexcept
ctypedef PyObject* (*DimensionFunction)(PyObject*, char*) noexcept
cdef CheckFunction _ask_checked = <CheckFunction><void*>_checked
cdef CheckFunction _ask_shaped = <CheckFunction><void*>_shaped
cdef DimensionFunction _ask_dimension = <DimensionFunction><void*>_dimension


cdef int encode_dimension(Encoder* enc, Op* op, char* base, char* p) noexcept:
    cdef PyObject* v = (<PyObject**>(base + op.offset))[0]
    cdef int status
    if v != Py_None:
        return encode_number(enc, op.kind, v, p)
    v = _ask_dimension(<PyObject*>op.ref, base)
    if v == NULL:
        return fail_of_value(enc)
    status = encode_number(enc, op.kind, v, p)
    Py_DECREF(v)
    return status


cdef int check_shape(Encoder* enc, Op* op, char* base) noexcept:
    cdef PyObject* found = _ask_checked(<PyObject*>op.ref, base, op.offset)
    cdef PyObject* detail
    if found == NULL:
        return fail_of_value(enc)
    if found != Py_None:
        detail = <PyObject*>(<_Trouble>found).detail
        Py_INCREF(detail)
        fail_made(enc, detail, "is of another shape")
        for i in (<_Trouble>found).path:
            encode_note_index(enc, i)
        Py_DECREF(found)
        return -1
    Py_DECREF(found)
    return 0


# --- decoding ---

cdef object _shaped(FieldShape field, char* base, Py_ssize_t offset):
    value = _held(base, offset)
    return None if value is None else _with_shape(field, _wanted(field, base), value)


cdef object _with_shape(FieldShape field, tuple wanted, object value):
    # The value with arrays of that shape, lists in place; or what is wrong.
    if isinstance(value, (list, tuple)):
        made = value if isinstance(value, list) else list(value)
        for i, item in enumerate(made):
            found = None if item is None else _with_shape(field, wanted, item)
            if isinstance(found, _Trouble):
                (<_Trouble>found).path.append(i)
                return found
            made[i] = found
        return made if made is value else tuple(made)
    if getattr(value, "reshape", None) is None or value.shape == wanted:
        return value  # (what a default gives need be no array)
    size, bytes_at_least = 1, value.itemsize
    for length in wanted:
        if not isinstance(length, int) or length < 0:
            return _trouble(field, wanted, value.shape)
        size *= length
        bytes_at_least *= max(length, 1)
    if size != value.size or bytes_at_least > MOST_BYTES:
        return _trouble(field, wanted, value.shape)
    return value.reshape(wanted)


cdef int give_shape(Decoder* dec, Op* op, char* base) noexcept:
    cdef PyObject** slot = <PyObject**>(base + op.offset)
    cdef PyObject* found = _ask_shaped(<PyObject*>op.ref, base, op.offset)
    cdef PyObject* old
    if found == NULL:
        return -1
    if isinstance(<object>found, _Trouble):
        dec.cause = <PyObject*>(<_Trouble>found).detail
        Py_INCREF(dec.cause)
        decode_fail(dec, FAULT_SHAPE, dec.p)
        for i in (<_Trouble>found).path:
            decode_note_index(dec, i)
        Py_DECREF(found)
        return -1
    old = slot[0]
    slot[0] = found
    Py_DECREF(old)
    return 0
