"""Lanes: how values of each class of a message type are delivered, and by which key.

The declarations are read in policy.py. A sealed type has one lane a variant, any other type one;
a type that is delivered plainly has none at all, so that its messages cost nothing here.
"""

cimport cython
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyTypeObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint64_t

from deli_com._fastcodec cimport TypeCodec, codec_decode
from deli_com.coding.encode cimport encode_to_bytes
from deli_com.coding.program cimport OP_ENUM, OP_SEALED, Table, table_find
from deli_com.ground.cpython cimport (
    Py_None,
    Py_TYPE,
    PyBool_Check,
    PyBytes_CheckExact,
    PyErr_Clear,
    PyLong_CheckExact,
    PyUnicode_AsUTF8AndSize,
    PyUnicode_IS_COMPACT_ASCII,
)
from deli_com.ground.delivery_class cimport (
    DELIVER_AGED,
    DELIVER_LATEST,
    DELIVER_RELIABLE,
    DELIVER_SKIP,
    DeliveryClass,
)
from deli_com.ground.scalar cimport int_raw
from deli_com.types.instance cimport record_type

from deli_com.types import nodes
from deli_com.types.delivery import Delivery
from deli_com.types.delivery import POLICIES as _POLICIES
from deli_com.types.graph import check
from deli_com.types.instance import RecordType, record_spec

cdef extern from "Python.h":
    bint _is_exact_str "PyUnicode_CheckExact"(PyObject* o) noexcept
    void _incref "Py_INCREF"(object o) noexcept

cdef dict KINDS = {
    "disconnect": DELIVER_RELIABLE, "wait": DELIVER_RELIABLE, "skip": DELIVER_SKIP, "latest": DELIVER_LATEST,
}


@cython.final
cdef class Lane:
    """How values of one class are delivered; made by `lanes_for`.

    Attributes
    ----------
    index : int
        Place among the lanes of the message type.
    kind : int
        0 reliable, 1 skip, 2 latest, 3 reliable but for what is too old.
    waits : bool
        Reliable, and awaited sends wait for clients that are behind.
    retain : bool
        New clients first get the newest message of each key.
    max_age_ns : int
        Age in nanoseconds from which on a message is left out; 0: none is.
    type : object
        The class, or another annotation.
    key : tuple of str
        Names of the fields that tell slots apart; empty: there is one slot.
    """

    def __cinit__(self):
        self.fields = NULL

    def __init__(self):
        raise TypeError("lanes are made by lanes_for")

    def __dealloc__(self):
        PyMem_Free(self.fields)

    def __repr__(self):
        name = self.type.__qualname__ if isinstance(self.type, RecordType) else self.type
        return f"<Lane {self.index} of {name}>"

    cpdef object key_of(self, value):
        """What tells the slot of `value` apart from others of this lane.

        Returns
        -------
        object
            Hashable: None without a key, else one value, or a tuple of them. Equal exactly if the
            fields are equal on the wire.

        Raises
        ------
        EncodeError
            `value` is not of the lane's class, or a field of the key does not fit its type.
        """
        cdef Py_ssize_t i, count
        cdef tuple parts
        if self.cls == NULL:
            return None
        if Py_TYPE(<PyObject*>value) != self.cls:
            self.whole.to_bytes(value)  # refuses it in the words of the encoder
            raise TypeError(f"expected {self.type.__qualname__}, got {type(value).__qualname__}")
        count = len(self.key)
        if count == 1:
            return self._slot_part(0, value)
        parts = PyTuple_New(count)
        for i in range(count):
            part = self._slot_part(i, value)
            _incref(part)  # PyTuple_SET_ITEM takes it over
            PyTuple_SET_ITEM(parts, i, part)
        return parts

    cpdef object key_from(self, key):
        """The same for a key as users write it.

        Parameters
        ----------
        key : object
            The value of the one field of the key, or a tuple of values; None or () without a key.

        Raises
        ------
        EncodeError
            A value does not fit its field.
        TypeError
            A wrong number of values.
        """
        cdef Py_ssize_t count = len(self.key)
        if count == 1:
            return self._part(0, key)
        if count == 0 and key is None:
            return None
        if not isinstance(key, tuple) or len(key) != count:
            wanted = f"a tuple ({', '.join(self.key)})" if count else "None"
            raise TypeError(f"the key of {self!r} is {wanted}, got {key!r}")
        return tuple([self._part(i, key[i]) for i in range(count)]) if count else None

    cdef object _slot_part(self, Py_ssize_t i, object value):
        cdef PyObject* slot = (<PyObject**>(<char*><PyObject*>value + self.fields[i].offset))[0]
        if slot == NULL:
            return encode_to_bytes((<TypeCodec>self.codecs[i]).prog, NULL, (<TypeCodec>self.codecs[i]).name)
        held = <object>slot  # Python code of the value may replace what the slot holds
        return self._part(i, held)

    cdef object _part(self, Py_ssize_t i, object value):
        # The canonical form of one field's value, which the caller's reference keeps alive.
        cdef KeyField* field = &self.fields[i]
        cdef PyObject* v = <PyObject*>value
        cdef TypeCodec codec
        cdef Py_ssize_t size
        cdef uint64_t raw
        cdef bytes wire
        if field.optional and v == Py_None:
            return None
        if field.form == FORM_INT:
            if PyLong_CheckExact(v) and int_raw(v, field.positive, field.negative, &raw):
                return value
        elif field.form == FORM_STR:
            if _is_exact_str(v):
                if PyUnicode_IS_COMPACT_ASCII(v):
                    return value
                # Kept with the string, where the encoder finds it.
                if PyUnicode_AsUTF8AndSize(v, &size) != NULL:
                    return value
                PyErr_Clear()  # a lone surrogate: refused below
        elif field.form == FORM_ENUM:
            size = table_find(field.members, v)
            if size >= 0:
                return size
        elif field.form == FORM_BYTES:
            if PyBytes_CheckExact(v):
                return value
        elif field.form == FORM_BOOL:
            if PyBool_Check(v):
                return value
        codec = <TypeCodec>self.codecs[i]
        wire = encode_to_bytes(codec.prog, v, codec.name)
        if field.form == FORM_WIRE:
            return wire
        return codec_decode(codec, wire, len(wire))


@cython.final
cdef class Lanes:
    """The lanes of one message type; made by `lanes_for`."""

    def __cinit__(self):
        self.variants = NULL

    def __init__(self):
        raise TypeError("lanes are made by lanes_for")

    cpdef Lane of(self, value):
        """The lane of the exact class of `value`; the first one for a value of a wrong class."""
        cdef Py_ssize_t index = 0
        if self.variants != NULL:
            index = table_find(self.variants, <PyObject*>Py_TYPE(<PyObject*>value))
            if index < 0:
                index = 0
        return <Lane>PyTuple_GET_ITEM(self.lanes, index)


def lanes_for(TypeCodec codec not None, str default not None):
    """The lanes of the messages of `codec`.

    Parameters
    ----------
    codec : TypeCodec
        Of the message type.
    default : str
        Policy of classes that name none.

    Returns
    -------
    Lanes or None
        None where every message is delivered plainly: policy ``disconnect``.

    Raises
    ------
    ValueError
        `default` is no policy.
    """
    if default not in _POLICIES:
        raise ValueError(f"the policy is one of {', '.join(_POLICIES)}, got {default!r}")
    cdef Lanes made = Lanes.__new__(Lanes)
    spec = record_spec(codec.type) if isinstance(codec.type, RecordType) else None
    if spec is None:
        declared = [(codec.type, Delivery())]
    elif spec.sealed:
        declared = [(cls, record_spec(cls).delivery) for cls in spec.variants.values()]
        if codec.prog.ops[0].code != OP_SEALED:
            raise AssertionError(f"the program of {codec!r} does not begin with its table")
        made.variants = <Table*>codec.prog.ops[0].ref
    else:
        declared = [(codec.type, spec.delivery)]
    if all((found.policy or default) == "disconnect" and found.max_age is None for _, found in declared):
        return None
    made.codec = codec
    made.lanes = tuple([
        _lane(index, cls, found, default, codec) for index, (cls, found) in enumerate(declared)
    ])
    return made


cdef Lane _lane(int index, object cls, object delivery, str default, TypeCodec whole):
    cdef Lane lane = Lane.__new__(Lane)
    cdef str policy = delivery.policy or default
    cdef Py_ssize_t i
    lane.index = index
    lane.kind = <DeliveryClass><int>KINDS[policy]
    lane.waits = policy == "wait"
    lane.retain = delivery.retain
    if delivery.max_age is not None:
        lane.max_age_ns = max(1, round(delivery.max_age * 1e9))
        if lane.kind == DELIVER_RELIABLE:
            lane.kind = DELIVER_AGED
    lane.type = cls
    lane.key = delivery.key or ()
    lane.whole = whole
    lane.codecs = []
    if not lane.key:
        return lane
    lane.fields = <KeyField*>PyMem_Calloc(len(lane.key), sizeof(KeyField))
    if lane.fields == NULL:
        raise MemoryError
    for i, name in enumerate(lane.key):
        _add_field(lane, i, name)
    lane.cls = <PyTypeObject*>cls
    return lane


cdef int _add_field(Lane lane, Py_ssize_t i, str name) except -1:
    cdef KeyField* field = &lane.fields[i]
    cdef TypeCodec codec
    spec = record_spec(lane.type)
    place = [item.name for item in spec.fields].index(name)
    node = spec.nodes()[place][1]
    field.offset = record_type(<PyTypeObject*>lane.type).fields[<Py_ssize_t>place].offset
    field.optional = isinstance(node, nodes.OptionNode)
    if field.optional:
        node = node.item
    # Errors have the path that encoding the message would give them.
    codec = TypeCodec(spec.fields[place].annotation, node, check(node), f"{lane.whole.name}.{name}")
    lane.codecs.append(codec)
    field.form = FORM_WIRE
    if isinstance(node, nodes.NumberNode):
        field.form = FORM_INT
        bits = 8 * node.kind.size
        field.positive = 2**bits - 1 if node.kind.name[0] == "u" else 2**(bits - 1) - 1
        field.negative = 0 if node.kind.name[0] == "u" else 2**(bits - 1)
    elif isinstance(node, nodes.EnumNode):
        field.form = FORM_ENUM
        if codec.prog.ops[codec.prog.count - 1].code != OP_ENUM:
            raise AssertionError(f"the program of {codec!r} does not end with its table")
        field.members = <Table*>codec.prog.ops[codec.prog.count - 1].ref
    elif isinstance(node, nodes.LeafNode):
        field.form = {"bool": FORM_BOOL, "str": FORM_STR, "bytes": FORM_BYTES}[node.name]
    return 0


cdef extern from "deli_com/ground/refuse_new.h":
    void deli_com_refuse_new(object cls, const char* way_in)

deli_com_refuse_new(Lanes, "lanes_for(type)")
