"""Instances of `Codec` classes: constructor, deallocation, and the methods of a dataclass.

coding/codec_class.py reads the class statement. It makes an ordinary class with `__slots__`. Then
`seal_class` sets up the C part of that class:

- `tp_vectorcall`, so that ``Tick(1, 2.0)`` calls `_construct` directly;
- slot offsets, read from the member descriptors, in wire order;
- no GC header if no field can be part of a reference cycle;
- a deallocation that knows the slots, and keeps a few freed instances for the next constructor.

Layout of a plain instance, in bytes from its start: 0 reference count, 8 type, 16 slots (sorted
by name within each class of the hierarchy, as CPython lays them out), 8 each.
"""

from cpython.mem cimport PyMem_Calloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stddef cimport size_t

from dataclasses import FrozenInstanceError

from deli_com.types.call_errors cimport missing, named_twice, no_instance, no_such_name, too_many

cdef extern from "deli_com/types/metatype_body.h":
    PyTypeObject RecordType_Type
    int record_type_ready() except -1
    void record_type_enable_vectorcall(PyTypeObject* metaclass) noexcept
    Py_ssize_t record_slot_offset(PyTypeObject* type, PyObject* name) except? -1
    bint record_has_only_slots(PyTypeObject* type, Py_ssize_t fields) noexcept
    void record_drop_gc(PyTypeObject* type) noexcept
    enum:
        DELI_COM_NO_DEFAULT
        DELI_COM_DEFAULT
        DELI_COM_FACTORY

cdef extern from "Python.h":
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, PyObject* const*, size_t, PyObject*)
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept
    PyObject* PyObject_CallNoArgs(PyObject* function) noexcept
    PyObject* PyObject_CallMethodNoArgs(PyObject* self, PyObject* name) noexcept
    int PyObject_CallFinalizerFromDealloc(PyObject* self) noexcept
    int PyObject_RichCompareBool(PyObject* a, PyObject* b, int op) noexcept
    void PyObject_GC_Track(PyObject* self) noexcept
    void PyObject_GC_UnTrack(PyObject* self) noexcept
    void PyObject_Free(void* memory) noexcept
    int PyUnicode_Compare(PyObject* a, PyObject* b) noexcept
    void C_INCREF "Py_INCREF" (PyObject* o) noexcept
    void C_DECREF "Py_DECREF" (PyObject* o) noexcept
    void C_XDECREF "Py_XDECREF" (PyObject* o) noexcept
    PyTypeObject* C_TYPE "Py_TYPE" (PyObject* o) noexcept
    bint PyType_IS_GC(PyTypeObject* type) noexcept
    int Py_EQ

cdef extern from *:
    """
    #define dc_vectorcall(type) (((PyTypeObject *)(type))->tp_vectorcall)
    #define dc_dealloc(type) (((PyTypeObject *)(type))->tp_dealloc)
    #define dc_free(type, self) (((PyTypeObject *)(type))->tp_free(self))
    #define dc_finalize(type) (((PyTypeObject *)(type))->tp_finalize != NULL)
    """
    vectorcallfunc dc_vectorcall(PyTypeObject* type) noexcept
    void dc_free(PyTypeObject* type, PyObject* self) noexcept
    bint dc_finalize(PyTypeObject* type) noexcept

ctypedef void (*destructor)(PyObject*) noexcept

cdef extern from *:
    """
    static void dc_set_calls(PyTypeObject *type, vectorcallfunc call, destructor dealloc, int own) {
        type->tp_vectorcall = call;
        if (own) type->tp_dealloc = dealloc;
    }
    """
    void dc_set_calls(PyTypeObject* type, vectorcallfunc call, destructor dealloc, bint own) noexcept

cdef enum:
    MAX_FREE = 64      # freed instances kept for each class: 33 ns instead of 36 to make one (docs/codec.md)
    MAX_BOXED = 256    # freed instances with numbers kept for each class: a typical recv_many
    MAX_NESTING = 100  # nested deallocations, before further ones are deferred

record_type_ready()
RecordType = <object>&RecordType_Type

cdef object POST_INIT = "__post_init__"
cdef object _show = None          # deli_com.types.show, imported on first use
cdef object _same_items = None    # deli_com.types.equality.same_items, imported on first use


# --- making instances ---

cdef inline PyObject** _slot(PyObject* self, RecordField* field) noexcept:
    return <PyObject**>(<char*>self + field.offset)


cdef int record_finish(PyObject* self, RecordTypeObject* type) noexcept:
    cdef PyObject* result
    if type.has_gc and type.plain:
        PyObject_GC_Track(self)
    if type.has_post_init:
        result = PyObject_CallMethodNoArgs(self, <PyObject*>POST_INIT)
        if result == NULL:
            return -1
        C_DECREF(result)
    return 0


cdef PyObject* _construct(
    PyObject* cls, PyObject* const* args, size_t nargsf, PyObject* kwnames
) noexcept:
    # The vectorcallfunc of every Codec class.
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef Py_ssize_t i
    cdef PyObject* self
    if not type.complete:
        _refuse_instance(cls)
        return NULL
    self = record_alloc(<PyTypeObject*>cls)
    if self == NULL:
        return NULL
    if kwnames == NULL and count == type.field_count and count == type.positional:
        for i in range(count):
            C_INCREF(args[i])
            _slot(self, &type.fields[i])[0] = args[i]
    elif _fill(self, type, cls, args, count, kwnames) < 0:
        C_DECREF(self)
        return NULL
    if (type.has_gc or type.has_post_init) and record_finish(self, type) < 0:
        C_DECREF(self)
        return NULL
    return self


cdef int _fill(
    PyObject* self, RecordTypeObject* type, PyObject* cls,
    PyObject* const* args, Py_ssize_t count, PyObject* kwnames,
) noexcept:
    # Sets positional arguments, then keywords, then defaults. -1: an exception is set.
    cdef Py_ssize_t i, place, named
    cdef PyObject** slot
    cdef RecordField* field
    cdef PyObject* value
    if count > type.positional:
        _refuse_count(cls, type.positional, count)
        return -1
    for i in range(count):
        C_INCREF(args[i])
        _slot(self, &type.fields[type.by_place[i]])[0] = args[i]
    if kwnames != NULL:
        named = len(<tuple>kwnames)
        for i in range(named):
            place = _find(type, <PyObject*>(<tuple>kwnames)[i], count + i)
            if place < 0:
                _refuse_name(cls, kwnames, i)
                return -1
            slot = _slot(self, &type.fields[type.by_place[place]])
            if slot[0] != NULL:
                _refuse_twice(cls, kwnames, i)
                return -1
            C_INCREF(args[count + i])
            slot[0] = args[count + i]
    for i in range(type.field_count):
        field = &type.fields[i]
        slot = _slot(self, field)
        if slot[0] != NULL:
            continue
        if field.fallback_kind == DELI_COM_DEFAULT:
            C_INCREF(field.fallback)
            slot[0] = field.fallback
        elif field.fallback_kind == DELI_COM_FACTORY:
            value = PyObject_CallNoArgs(field.fallback)
            if value == NULL:
                return -1
            C_XDECREF(slot[0])
            slot[0] = value
        else:
            _refuse_missing(cls, self)
            return -1
    return 0


cdef Py_ssize_t _find(RecordTypeObject* type, PyObject* name, Py_ssize_t guess) noexcept:
    # The index of a keyword. Callers mostly write keywords in order, and names are interned.
    cdef Py_ssize_t i
    if guess < type.field_count and type.fields[type.by_place[guess]].name == name:
        return guess
    for i in range(type.field_count):
        if type.fields[type.by_place[i]].name == name:
            return i
    for i in range(type.field_count):
        if PyUnicode_Compare(type.fields[type.by_place[i]].name, name) == 0:
            return i
    return -1


# These raise a TypeError. They are called through C pointers, because a `try` of Cython allocates memory, and
# could lose the error.
ctypedef PyObject* (*RefuseClass)(PyObject*) noexcept
ctypedef PyObject* (*RefuseCount)(PyObject*, Py_ssize_t, Py_ssize_t) noexcept
ctypedef PyObject* (*RefuseName)(PyObject*, PyObject*, Py_ssize_t) noexcept
ctypedef PyObject* (*RefuseInstance)(PyObject*, PyObject*) noexcept
cdef RefuseClass _refuse_instance = <RefuseClass><void*>no_instance
cdef RefuseCount _refuse_count = <RefuseCount><void*>too_many
cdef RefuseName _refuse_name = <RefuseName><void*>no_such_name
cdef RefuseName _refuse_twice = <RefuseName><void*>named_twice
cdef RefuseInstance _refuse_missing = <RefuseInstance><void*>missing


# --- freeing instances ---

cdef int _nesting = 0
cdef PyObject* _put_aside = NULL  # instances to be freed later, linked by the word of ob_refcnt

cdef extern from *:
    """
    /* From 3.14 on, ob_refcnt has 32 bits, which cannot hold a pointer. */
    #if PY_VERSION_HEX >= 0x030E0000 && SIZEOF_VOID_P > 4
    #define dc_count_word(self) ((self)->ob_refcnt_full)
    #else
    #define dc_count_word(self) ((self)->ob_refcnt)
    #endif
    static inline void dc_link_dead(PyObject *self, PyObject *next) {
        dc_count_word(self) = (Py_ssize_t)next;
    }
    static inline PyObject *dc_next_dead(PyObject *self) {
        PyObject *next = (PyObject *)dc_count_word(self);
        dc_count_word(self) = 0;
        return next;
    }
    static inline void dc_set_first_slot(PyObject *self, PyObject *value) {
        *(PyObject **)(self + 1) = value;
    }
    """
    void dc_link_dead(PyObject* self, PyObject* next) noexcept
    PyObject* dc_next_dead(PyObject* self) noexcept
    void dc_set_first_slot(PyObject* self, PyObject* value) noexcept


cdef void _dealloc(PyObject* self) noexcept:
    # tp_dealloc. A long chain of instances is freed in a loop, not recursively.
    global _nesting, _put_aside
    cdef RecordTypeObject* type = record_type(C_TYPE(self))
    if type.has_finalizer and not _finalized(self, type):
        return
    if type.has_gc:
        PyObject_GC_UnTrack(self)
    if _nesting >= MAX_NESTING:
        dc_link_dead(self, _put_aside)
        _put_aside = self
        return
    _nesting += 1
    _free(self)
    if _nesting == 1:
        while _put_aside != NULL:
            self = _put_aside
            _put_aside = dc_next_dead(self)
            _free(self)
    _nesting -= 1


cdef bint _finalized(PyObject* self, RecordTypeObject* type) noexcept:
    # Runs __del__. Returns False if it resurrected the instance.
    if type.has_gc:
        PyObject_GC_UnTrack(self)
        PyObject_GC_Track(self)
    return PyObject_CallFinalizerFromDealloc(self) == 0


cdef void _free(PyObject* self) noexcept:
    cdef PyTypeObject* cls = C_TYPE(self)
    cdef RecordTypeObject* type = record_type(cls)
    cdef Py_ssize_t i
    cdef PyObject** slot
    cdef PyObject* value
    if type.boxes and type.boxed_count < MAX_BOXED:
        for i in range(type.field_count):
            slot = _slot(self, &type.fields[i])
            value = slot[0]
            if value != NULL and not record_is_box(value, type.fields[i].box):
                slot[0] = NULL
                C_DECREF(value)
        record_keep_boxed(self, type)
        C_DECREF(<PyObject*>cls)
        return
    for i in range(type.field_count):
        slot = _slot(self, &type.fields[i])
        value = slot[0]
        if value != NULL:
            slot[0] = NULL
            C_DECREF(value)
    if type.plain and not type.has_gc and type.field_count > 0 and type.free_count < MAX_FREE:
        dc_set_first_slot(self, type.free_list)
        type.free_list = self
        type.free_count += 1
    else:
        dc_free(cls, self)
    C_DECREF(<PyObject*>cls)


# --- the C part of the class statement ---

def declare_class(cls, spec):
    """Attach the `Spec` to a new class, so that annotations can refer to it."""
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    if type.spec != NULL:
        raise RuntimeError("class is declared already")
    Py_INCREF(spec)
    type.spec = <PyObject*>spec


def seal_class(cls, fields, bint complete, bint may_cycle, bint post_init):
    """Set up the C part of a new class, before its first instance and subclass.

    Parameters
    ----------
    cls : RecordType
        A class made with ``__slots__`` for its own fields.
    fields : sequence of (name, kind, fallback, kw_only, deep_equal)
        All fields in wire order. `kind` is 0 without a default, 1 with one, 2 with a factory.
    complete : bool
        Whether the class can have instances.
    may_cycle : bool
        Whether a field can be part of a reference cycle. If not, instances get no GC header.
    post_init : bool
        Whether the class has a ``__post_init__`` to run.
    """
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    cdef Py_ssize_t count = len(fields)
    cdef Py_ssize_t i, place = 0
    if type.fields != NULL:
        raise RuntimeError("class is sealed already")
    type.fields = <RecordField*>PyMem_Calloc(count + 1, sizeof(RecordField))
    type.by_place = <Py_ssize_t*>PyMem_Calloc(count + 1, sizeof(Py_ssize_t))
    if type.fields == NULL or type.by_place == NULL:
        raise MemoryError
    for i, (name, kind, fallback, _, deep_equal) in enumerate(fields):
        type.fields[i].offset = _offset(cls, name)
        Py_INCREF(name)
        type.fields[i].name = <PyObject*>name
        type.field_count = i + 1
        type.fields[i].fallback_kind = kind
        if kind != DELI_COM_NO_DEFAULT:
            Py_INCREF(fallback)
            type.fields[i].fallback = <PyObject*>fallback
        type.fields[i].deep_equal = deep_equal
    for wanted in (False, True):
        for i, (_, _, _, kw_only, _) in enumerate(fields):
            if kw_only is wanted:
                type.by_place[place] = i
                place += 1
        if not wanted:
            type.positional = place
    type.complete = complete
    type.has_post_init = post_init
    type.has_finalizer = dc_finalize(<PyTypeObject*>cls)
    type.plain = record_has_only_slots(<PyTypeObject*>cls, count)
    type.has_gc = PyType_IS_GC(<PyTypeObject*>cls)
    if type.plain and type.has_gc and not may_cycle:
        record_drop_gc(<PyTypeObject*>cls)
        type.has_gc = False
    # A class with more than slots (for example a __dict__ from a mix-in) keeps CPython's deallocation.
    dc_set_calls(<PyTypeObject*>cls, _construct, _dealloc, type.plain)


cdef Py_ssize_t _offset(cls, name) except -1:
    cdef Py_ssize_t offset
    for base in cls.__mro__:
        if isinstance(base, RecordType):
            offset = record_slot_offset(<PyTypeObject*>base, <PyObject*>name)
            if offset >= 0:
                return offset
    raise TypeError(f"{cls.__qualname__}.{name}: no slot of that name")


cdef int record_mark_box(object cls, str name, int box) except -1:
    cdef RecordTypeObject* type = record_type(<PyTypeObject*>cls)
    cdef Py_ssize_t i
    for i in range(type.field_count):
        if <object>type.fields[i].name == name and type.plain and not type.has_gc:
            type.fields[i].box = box
            type.has_boxes = True
    return 0


def enable_vectorcall(metaclass):
    """Make calls of the classes of `metaclass` use their `tp_vectorcall` directly."""
    record_type_enable_vectorcall(<PyTypeObject*>metaclass)


def record_spec(cls):
    """The `Spec` of a `Codec` class; None for `Codec` itself."""
    if not isinstance(cls, RecordType):
        raise TypeError(f"expected a Codec class, got {cls!r}")
    cdef PyObject* spec = record_type(<PyTypeObject*>cls).spec
    return None if spec == NULL else <object>spec


# --- the methods of a dataclass ---

cdef tuple _values(Record self):
    # The values of all fields; AttributeError for one that is not set.
    cdef RecordTypeObject* type = record_type(C_TYPE(<PyObject*>self))
    cdef Py_ssize_t i
    cdef PyObject* value
    values = []
    for i in range(type.field_count):
        value = _slot(<PyObject*>self, &type.fields[i])[0]
        if value == NULL:
            name = <object>type.fields[i].name
            raise AttributeError(f"{(<object>self).__class__.__qualname__}.{name} is not set")
        values.append(<object>value)
    return tuple(values)


cdef object _blank(cls):
    # An instance without field values, for copies and unpickling.
    cdef PyObject* self
    if not isinstance(cls, RecordType) or not record_type(<PyTypeObject*>cls).complete:
        _refuse_instance(<PyObject*>cls)
        raise
    self = record_alloc(<PyTypeObject*>cls)
    if self == NULL:
        raise MemoryError
    if record_type(<PyTypeObject*>cls).has_gc and record_type(<PyTypeObject*>cls).plain:
        PyObject_GC_Track(self)
    result = <object>self
    C_DECREF(self)
    return result


def restore(cls):
    """Make an instance of `cls` for `pickle` and `copy`, which then set its state."""
    if not isinstance(cls, RecordType):
        raise TypeError(f"expected a Codec class, got {cls!r}")
    return _blank(cls)


cdef class Record:
    """The methods of `Codec` instances that are written in C. Users subclass `Codec` instead."""

    def __cinit__(self, *args, **kwargs):
        if not isinstance(type(self), RecordType) or not record_type(C_TYPE(<PyObject*>self)).complete:
            raise TypeError(f"{type(self).__qualname__} makes no instances")

    def __init__(self, *args, **kwargs):
        # Calls of the class bypass this method. It serves `type.__call__` and the like.
        other = self.__class__(*args, **kwargs)
        if C_TYPE(<PyObject*>other) != C_TYPE(<PyObject*>self):
            raise TypeError("__class__ was changed")
        _set_values(self, _values(other))

    @property
    def __class__(self):
        return <object>C_TYPE(<PyObject*>self)

    @__class__.setter
    def __class__(self, cls):
        raise TypeError(
            f"the __class__ of a {type(self).__qualname__} cannot be set: its memory layout is fixed; "
            "make a new value"
        )

    def __eq__(self, other):
        cdef PyTypeObject* cls = C_TYPE(<PyObject*>self)
        cdef RecordTypeObject* type = record_type(cls)
        cdef Py_ssize_t i
        if self is other:
            return True
        if C_TYPE(<PyObject*>other) != cls:
            return NotImplemented
        for i in range(type.field_count):
            if not _field_equal(<PyObject*>self, <PyObject*>other, &type.fields[i]):
                return False
        return True

    def __hash__(self):
        # Only frozen classes get here; the others have __hash__ = None.
        return hash(_values(self))

    def __repr__(self):
        global _show
        if _show is None:
            from deli_com.types.show import show as _show
        return _show(self)

    def __copy__(self):
        values = _values(self)
        result = _blank(self.__class__)
        _set_values(result, values)
        _copy_dict(self, result)
        return result

    def __replace__(self, /, **changes):
        """A new value with some fields replaced: `copy.replace` and `dataclasses.replace`."""
        cdef RecordTypeObject* type = record_type(C_TYPE(<PyObject*>self))
        cdef Py_ssize_t i
        for i in range(type.field_count):
            name = <object>type.fields[i].name
            if name not in changes:
                changes[name] = getattr(self, name)
        return self.__class__(**changes)

    def __reduce__(self):
        state = _values(self)
        attributes = getattr(self, "__dict__", None)
        return restore, (self.__class__,), (state, attributes) if attributes else (state,)

    def __setstate__(self, state):
        if not isinstance(state, tuple) or not 1 <= len(state) <= 2:
            raise TypeError(f"{type(self).__qualname__}: not a state of this class")
        _set_values(self, state[0])
        if len(state) == 2:
            self.__dict__.update(state[1])


cdef int _copy_dict(source, target) except -1:
    # Attributes in the __dict__ that a mix-in without __slots__ brought.
    attributes = getattr(source, "__dict__", None)
    if attributes:
        target.__dict__.update(attributes)
    return 0


cdef int _set_values(Record self, object values) except -1:
    cdef RecordTypeObject* type = record_type(C_TYPE(<PyObject*>self))
    cdef Py_ssize_t i
    cdef PyObject** slot
    cdef PyObject* old
    if not isinstance(values, tuple) or len(values) != type.field_count:
        raise TypeError(f"{self.__class__.__qualname__} has {type.field_count} fields, unlike the state")
    for i in range(type.field_count):
        value = (<tuple>values)[i]
        slot = _slot(<PyObject*>self, &type.fields[i])
        old = slot[0]
        Py_INCREF(value)
        slot[0] = <PyObject*>value
        C_XDECREF(old)
    return 0


cdef bint _field_equal(PyObject* a, PyObject* b, RecordField* field) except -1:
    # Holds references of its own, because a __eq__ of a value may replace what the slots hold.
    global _same_items
    cdef PyObject* x = _slot(a, field)[0]
    cdef PyObject* y = _slot(b, field)[0]
    if x == y:
        return True
    if x == NULL or y == NULL:
        return False
    first, second = <object>x, <object>y
    if not field.deep_equal:
        equal = first == second
        if equal is True or equal is False:
            return equal
    if _same_items is None:
        from deli_com.types.equality import same_items as _same_items
    return bool(_same_items(first, second))


def frozen_setattr(self, name, value):
    """The ``__setattr__`` of frozen classes."""
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def frozen_delattr(self, name):
    """The ``__delattr__`` of frozen classes."""
    raise FrozenInstanceError(f"cannot delete field {name!r}")
