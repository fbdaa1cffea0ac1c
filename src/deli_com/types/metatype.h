/* The type of Codec classes: a heap type with additional C fields for each class.
 *
 * It is written in C because Cython does not allow cdef classes that extend a variable-sized type such as
 * `type`. types/instance.pyx has all code about instances. This file only defines who owns what.
 */
#ifndef DELI_COM_METATYPE_H
#define DELI_COM_METATYPE_H

#include <Python.h>
#include <structmember.h>

#ifndef Py_T_OBJECT_EX
#define Py_T_OBJECT_EX T_OBJECT_EX
#endif

enum { DELI_COM_NO_DEFAULT = 0, DELI_COM_DEFAULT = 1, DELI_COM_FACTORY = 2 };

typedef struct {
    PyObject *name;      /* owned, interned */
    PyObject *fallback;  /* owned; the default or the factory, NULL if there is neither */
    Py_ssize_t offset;   /* bytes from the start of the instance to the slot */
    int fallback_kind;   /* DELI_COM_NO_DEFAULT ... */
    int deep_equal;      /* may hold arrays, so it is compared by items */
    int box;             /* BOX_FLOAT or BOX_INT if decoders store nothing else in it; set by codecs */
} RecordField;

enum { BOX_NONE = 0, BOX_FLOAT = 1, BOX_INT = 2, BOX_DIGITS = 3 };

typedef struct {
    PyHeapTypeObject heap;
    RecordField *fields;     /* owned, in wire order */
    Py_ssize_t field_count;
    Py_ssize_t positional;   /* number of leading fields that may be given by position */
    Py_ssize_t *by_place;    /* owned; indices of fields: positional ones, then keyword-only ones */
    PyObject *spec;          /* owned: the declaration, a Spec; NULL for Codec itself */
    PyObject *codec;         /* owned: the TypeCodec; NULL until first use */
    PyObject *free_list;     /* freed instances, linked by their first slot; plain classes only */
    int free_count;
    int boxed_count;
    PyObject *boxed_list;    /* freed instances that kept their numbers, linked by the word of ob_type */
    char boxes;              /* keep numbers of freed instances: the latest one was decoded, and it has boxes
    */ char has_boxes;          /* a field is a box */
    char complete;           /* the class can have instances */
    char plain;              /* the layout is only slots: no __dict__, no weak references */
    char has_gc;             /* instances have a GC header */
    char has_post_init;
    char has_finalizer;      /* the class has __del__ */
} RecordTypeObject;

static inline RecordTypeObject *record_type(PyTypeObject *type) { return (RecordTypeObject *)type; }

/* PyObject_Init, without the call if objects are not counted. */
static inline void record_init(PyObject *self, PyTypeObject *tp) {
#if defined(Py_TRACE_REFS) || defined(Py_REF_DEBUG) || defined(Py_GIL_DISABLED) || PY_VERSION_HEX >= 0x030E0000
    PyObject_Init(self, tp);
#else
    Py_SET_TYPE(self, tp);
    Py_INCREF(tp);
    self->ob_refcnt = 1; /* not Py_SET_REFCNT, which would check whether the undefined old count is immortal
    */
#endif
}

/* A loop over words: calling memset costs more than clearing the few slots of a struct. */
static inline void record_clear(PyObject *self, Py_ssize_t size) {
    PyObject **slot = (PyObject **)(self + 1), **end = (PyObject **)((char *)self + size);
    while (slot < end) {
        *slot++ = NULL;
#ifdef __GNUC__
        __asm__ volatile("" ::: "memory"); /* keeps gcc from using memset */
#endif
    }
}

/* A new instance with all slots NULL. If the class is plain, the garbage collector does not track it yet.
 * NULL: MemoryError is set. */
static inline PyObject *record_alloc(PyTypeObject *tp) {
    RecordTypeObject *type = (RecordTypeObject *)tp;
    PyObject *self;
    if (!type->plain) return tp->tp_alloc(tp, 0);
    if (type->has_gc) {
        self = (PyObject *)PyObject_GC_New(PyObject, tp);
        if (self == NULL) return NULL;
    } else {
        if ((self = type->free_list) != NULL) {
            type->free_list = *(PyObject **)(self + 1);
            type->free_count--;
        } else if ((self = (PyObject *)PyObject_Malloc((size_t)tp->tp_basicsize)) == NULL) {
            return PyErr_NoMemory();
        }
        type->boxes = 0;
        record_init(self, tp);
    }
    record_clear(self, tp->tp_basicsize);
    return self;
}

/* The same for a decoder: slots of boxes may hold a number of a freed instance. Nothing else refers to it,
 * and the decoder overwrites it. That saves allocating and freeing each number. */
static inline PyObject *record_alloc_boxed(PyTypeObject *tp) {
    RecordTypeObject *type = (RecordTypeObject *)tp;
    PyObject *self = type->boxed_list;
    if (self != NULL) {
        type->boxed_list = (PyObject *)self->ob_type;
        type->boxed_count--;
        record_init(self, tp);
    } else {
        self = record_alloc(tp);
    }
    type->boxes = type->has_boxes;
    return self;
}

/* Whether an instance that is being freed is the only holder of a number, which may then be overwritten. */
static inline int record_is_box(PyObject *value, int box) {
    if (box == BOX_NONE || Py_REFCNT(value) != 1) return 0;
    if (box == BOX_FLOAT) return PyFloat_CheckExact(value);
    if (!PyLong_CheckExact(value)) return 0;
#if PY_VERSION_HEX >= 0x030C0000
    return (((PyLongObject *)value)->long_value.lv_tag >> 3) <= BOX_DIGITS;
#else
    return Py_ABS(Py_SIZE(value)) <= BOX_DIGITS;
#endif
}

static inline void record_keep_boxed(PyObject *self, RecordTypeObject *type) {
    self->ob_type = (PyTypeObject *)type->boxed_list;
    type->boxed_list = self;
    type->boxed_count++;
}

#endif
