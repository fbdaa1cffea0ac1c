/* The definition of the type that types/metatype.h declares. Only types/instance.pyx includes it. */
#include "deli_com/types/metatype.h"

static int record_type_traverse(PyObject *self, visitproc visit, void *arg) {
    RecordTypeObject *type = (RecordTypeObject *)self;
    for (Py_ssize_t i = 0; i < type->field_count; i++) Py_VISIT(type->fields[i].fallback);
    Py_VISIT(type->spec);
    Py_VISIT(type->codec);
    return PyType_Type.tp_traverse(self, visit, arg);
}

static void record_type_dealloc(PyObject *self) {
    RecordTypeObject *type = (RecordTypeObject *)self;
    RecordField *fields = type->fields;
    Py_ssize_t count = type->field_count;
    PyObject_GC_UnTrack(self);
    while (type->boxed_list) {
        PyObject *dead = type->boxed_list;
        type->boxed_list = (PyObject *)dead->ob_type;
        for (Py_ssize_t i = 0; i < count; i++) {
            if (fields[i].box) Py_XDECREF(*(PyObject **)((char *)dead + fields[i].offset));
        }
        PyObject_Free(dead);
    }
    type->fields = NULL;
    type->field_count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_XDECREF(fields[i].name);
        Py_XDECREF(fields[i].fallback);
    }
    PyMem_Free(fields);
    PyMem_Free(type->by_place);
    type->by_place = NULL;
    Py_CLEAR(type->spec);
    Py_CLEAR(type->codec);
    while (type->free_list) {
        PyObject *dead = type->free_list;
        type->free_list = *(PyObject **)(dead + 1);
        PyObject_Free(dead);
    }
    PyObject_GC_Track(self); /* type_dealloc expects a tracked object */
    PyType_Type.tp_dealloc(self);
}

/* tp_clear is that of `type`. Instances outlive a cleared class, and their deallocation reads the table of
 * fields. The objects that the table owns are freed with the class. Reference cycles through it are broken in
 * the functions, cells and dicts on their other side. */
static PyTypeObject RecordType_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "deli_com.types.instance.RecordType",
    .tp_doc = "Type of Codec classes, in C.",
    .tp_basicsize = sizeof(RecordTypeObject),
    .tp_itemsize = sizeof(PyMemberDef),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_TYPE_SUBCLASS |
                Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(PyTypeObject, tp_vectorcall),
    .tp_traverse = record_type_traverse,
    .tp_dealloc = record_type_dealloc,
};

static int record_type_ready(void) {
    RecordType_Type.tp_base = &PyType_Type;
    RecordType_Type.tp_call = PyVectorcall_Call; /* for callers without vectorcall */
    RecordType_Type.tp_clear = PyType_Type.tp_clear;
    return PyType_Ready(&RecordType_Type);
}

/* A metaclass written in Python does not inherit the flag on 3.11. Without it, a call of the class goes
 * through tp_new and tp_init. */
static void record_type_enable_vectorcall(PyTypeObject *metaclass) {
    metaclass->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    metaclass->tp_vectorcall_offset = offsetof(PyTypeObject, tp_vectorcall);
}

static Py_ssize_t record_slot_offset(PyTypeObject *type, PyObject *name) {
    PyObject *descr = PyDict_GetItemWithError(type->tp_dict, name);
    if (descr == NULL || Py_TYPE(descr) != &PyMemberDescr_Type) return -1;
    PyMemberDef *member = ((PyMemberDescrObject *)descr)->d_member;
    return member->type == Py_T_OBJECT_EX ? member->offset : -1;
}

static int record_has_only_slots(PyTypeObject *type, Py_ssize_t fields) {
    return type->tp_dictoffset == 0 && type->tp_weaklistoffset == 0 &&
           type->tp_basicsize == (Py_ssize_t)(sizeof(PyObject) + fields * sizeof(PyObject *));
}

/* To be called only before the first instance and the first subclass. */
static void record_drop_gc(PyTypeObject *type) {
    type->tp_flags &= ~Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = NULL;
    type->tp_clear = NULL;
    type->tp_free = PyObject_Free;
}
