/* Classes whose instances only C makes: their __new__ would give one whose fields are not set. */
#ifndef DELI_COM_REFUSE_NEW_H
#define DELI_COM_REFUSE_NEW_H

#include <Python.h>

static const char *deli_com_way_in = ""; /* a module refuses one class */

static PyObject *deli_com_no_new(PyTypeObject *type, PyObject *args, PyObject *named)
{
    (void)args;
    (void)named;
    PyErr_Format(PyExc_TypeError, "%s is not made by calling it: write %s", type->tp_name, deli_com_way_in);
    return NULL;
}

/* Cython's own `C.__new__(C)` within the module is a call of C, and still works. */
static inline void deli_com_refuse_new(PyObject *cls, const char *way_in)
{
    deli_com_way_in = way_in;
    ((PyTypeObject *)cls)->tp_new = deli_com_no_new;
    PyType_Modified((PyTypeObject *)cls);
}

#endif
