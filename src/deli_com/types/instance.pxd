# Instances of Codec classes in C: allocation, slots, and the C fields of a class.

from cpython.object cimport PyObject, PyTypeObject


cdef extern from "deli_com/types/metatype.h":
    ctypedef struct RecordField:
        PyObject* name         # owned by the class
        PyObject* fallback     # owned by the class; NULL: the field has no default
        Py_ssize_t offset      # bytes from the start of the instance to the slot
        int fallback_kind
        int deep_equal
        int box

    ctypedef struct RecordTypeObject:
        RecordField* fields    # in wire order, owned by the class
        Py_ssize_t field_count
        Py_ssize_t positional
        Py_ssize_t* by_place
        PyObject* spec         # owned by the class; NULL for Codec itself
        PyObject* codec        # owned by the class; NULL until the first use
        PyObject* free_list
        int free_count
        int boxed_count
        bint boxes
        bint has_boxes
        bint complete
        bint plain
        bint has_gc
        bint has_post_init
        bint has_finalizer

    RecordTypeObject* record_type(PyTypeObject* type) noexcept

    # A new instance with all slots NULL. If the class is plain, the garbage collector does not track it yet.
    # NULL: MemoryError is set.
    PyObject* record_alloc(PyTypeObject* type) noexcept

    # The same for a decoder: slots marked as boxes may hold a number to be overwritten (put_float, put_int).
    PyObject* record_alloc_boxed(PyTypeObject* type) noexcept
    bint record_is_box(PyObject* value, int box) noexcept
    void record_keep_boxed(PyObject* self, RecordTypeObject* type) noexcept
    enum:
        BOX_FLOAT
        BOX_INT


# The last step of making an instance: the garbage collector tracks it if its class has a GC header, and
# __post_init__ runs. -1: an exception is set.
cdef int record_finish(PyObject* self, RecordTypeObject* type) noexcept

# Declares that decoders store only floats, or only ints, in this field, so that freed instances may keep
# them.
cdef int record_mark_box(object cls, str name, int box) except -1

cdef class Record:
    pass
