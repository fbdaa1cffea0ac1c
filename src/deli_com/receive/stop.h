/* The StopIteration that carries a result out of `await`, from CPython 3.12 on.
 *
 * Making a new one for each `recv` is a third of its cost. So a freed one is reused for the next result: it
 * has a class of its own, whose deallocation clears it and keeps the bare object. While anything holds a
 * reference, it is not freed, and the next result gets another one.
 */
#ifndef DELI_COM_STOP_H
#define DELI_COM_STOP_H

#include <Python.h>

/* As CPython's generators end, but without the traceback: StopIteration would take a tuple or an
 * exception for its arguments. */
static inline void stop_with_new(PyObject *result) {
    if (PyTuple_Check(result) || PyExceptionInstance_Check(result)) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
    } else {
        PyErr_SetObject(PyExc_StopIteration, result);
    }
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)

static PyTypeObject *stop_type = NULL;
static PyObject *stop_spare = NULL;     /* freed: no references, not tracked, holds no value */
static PyObject *stop_no_args = NULL;

static void stop_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyStopIterationObject *stop = (PyStopIterationObject *)self;
    PyObject_GC_UnTrack(self);
    /* Both clears may run code that needs the spare. */
    Py_CLEAR(stop->value);
    if (stop->args != stop_no_args || stop->dict || stop->notes || stop->traceback || stop->context || stop->cause) {
        type->tp_clear(self);
        Py_XSETREF(stop->args, Py_NewRef(stop_no_args));
    }
    if (stop_spare == NULL) {
        stop_spare = self;
        return;
    }
    Py_DECREF(stop->args);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot stop_slots[] = {
    {Py_tp_dealloc, (void *)stop_dealloc},
    {Py_tp_doc, (void *)"StopIteration, reused."},
    {0, NULL},
};

static PyType_Spec stop_spec = {
    .name = "deli_com.receive.recv.StopIteration",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, /* inherits garbage collection */
    .slots = stop_slots,
};

static int stop_ready(void) {
    stop_no_args = PyTuple_New(0);
    if (stop_no_args == NULL) return -1;
    stop_type = (PyTypeObject *)PyType_FromSpecWithBases(&stop_spec, PyExc_StopIteration);
    return stop_type == NULL ? -1 : 0;
}

/* Sets the exception that ends an iterator with `result`. */
static inline void stop_with(PyObject *result) {
    PyObject *stop = stop_spare;
    if (stop != NULL) {
        stop_spare = NULL;
        _Py_NewReference(stop);
        ((PyStopIterationObject *)stop)->suppress_context = 0;
        PyObject_GC_Track(stop);
    } else if ((stop = stop_type->tp_new(stop_type, stop_no_args, NULL)) == NULL) {
        return;
    }
    Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(result));
    PyErr_SetRaisedException(stop);
}

#else

static int stop_ready(void) { return 0; }
static inline void stop_with(PyObject *result) { stop_with_new(result); }

#endif
#endif
