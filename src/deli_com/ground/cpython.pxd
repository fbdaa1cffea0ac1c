# CPython calls used without Cython's reference counting and error checks: encoder and decoder
# hold plain pointers, and every caller looks at the result.

from cpython.object cimport PyObject, PyTypeObject


cdef extern from "Python.h":
    void Py_INCREF(PyObject* o) noexcept
    void Py_DECREF(PyObject* o) noexcept
    void Py_XDECREF(PyObject* o) noexcept
    PyTypeObject* Py_TYPE(PyObject* o) noexcept
    PyObject* Py_None
    PyObject* Py_True
    PyObject* Py_False
    long Py_TPFLAGS_HEAPTYPE
    bint PyType_HasFeature(PyTypeObject* type, long feature) noexcept
    PyObject* PyErr_Occurred() noexcept
    void PyErr_Clear() noexcept
    bint PyErr_ExceptionMatches(PyObject* kind) noexcept
    int PyObject_IsTrue(PyObject* o) noexcept
    void PyObject_GC_Track(PyObject* o) noexcept
    void PyObject_GC_UnTrack(PyObject* o) noexcept

    bint PyLong_Check(PyObject* o) noexcept
    bint PyLong_CheckExact(PyObject* o) noexcept
    bint PyBool_Check(PyObject* o) noexcept
    bint PyIndex_Check(PyObject* o) noexcept
    PyObject* PyNumber_Index(PyObject* o) noexcept
    double PyLong_AsDouble(PyObject* o) noexcept
    PyObject* PyLong_FromLong(long v) noexcept
    PyObject* PyLong_FromLongLong(long long v) noexcept
    bint PyFloat_Check(PyObject* o) noexcept
    bint PyFloat_CheckExact(PyObject* o) noexcept
    double PyFloat_AS_DOUBLE(PyObject* o) noexcept
    double PyFloat_AsDouble(PyObject* o) noexcept
    PyObject* PyFloat_FromDouble(double v) noexcept

    bint PyUnicode_Check(PyObject* o) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(PyObject* o) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* o) noexcept
    void* PyUnicode_DATA(PyObject* o) noexcept
    const char* PyUnicode_AsUTF8AndSize(PyObject* o, Py_ssize_t* size) noexcept
    PyObject* PyUnicode_New(Py_ssize_t size, unsigned int widest) noexcept
    PyObject* PyUnicode_DecodeUTF8(const char* p, Py_ssize_t size, const char* errors) noexcept

    bint PyBytes_Check(PyObject* o) noexcept
    bint PyBytes_CheckExact(PyObject* o) noexcept
    Py_ssize_t PyBytes_GET_SIZE(PyObject* o) noexcept
    char* PyBytes_AS_STRING(PyObject* o) noexcept
    PyObject* PyBytes_FromStringAndSize(const char* p, Py_ssize_t size) noexcept
    Py_buffer* PyMemoryView_GET_BUFFER(object view)
    int _PyBytes_Resize(PyObject** o, Py_ssize_t size) noexcept
    bint PyByteArray_CheckExact(PyObject* o) noexcept
    Py_ssize_t PyByteArray_GET_SIZE(PyObject* o) noexcept
    char* PyByteArray_AS_STRING(PyObject* o) noexcept
    PyObject* PyByteArray_FromStringAndSize(const char* data, Py_ssize_t size) noexcept

    bint PyList_Check(PyObject* o) noexcept
    Py_ssize_t PyList_GET_SIZE(PyObject* o) noexcept
    PyObject* PyList_New(Py_ssize_t size) noexcept
    int PyList_Append(PyObject* o, PyObject* item) noexcept
    bint PyTuple_Check(PyObject* o) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject* o) noexcept
    PyObject* PyTuple_New(Py_ssize_t size) noexcept
    PyObject** PySequence_Fast_ITEMS(PyObject* o) noexcept

    bint PyObject_CheckBuffer(PyObject* o) noexcept
    int PyObject_GetBuffer(PyObject* o, Py_buffer* view, int flags) noexcept
    void PyBuffer_Release(Py_buffer* view) noexcept
    int PyBUF_SIMPLE
    int PyBUF_C_CONTIGUOUS
    int PyBUF_FORMAT

    PyObject* PyExc_OverflowError
    PyObject* PyExc_UnicodeError
    PyObject* PyExc_BufferError
    PyObject* PyExc_TypeError
    PyObject* PyExc_ValueError
    PyObject* PyExc_MemoryError

cdef extern from *:
    """
    #define dc_tuple_items(o) (((PyTupleObject *)(o))->ob_item)
    #define dc_tuple_of(items) ((PyObject *)((char *)(items) - offsetof(PyTupleObject, ob_item)))
    """
    PyObject* dc_tuple_of(char* items) noexcept
    PyObject** dc_tuple_items(PyObject* o) noexcept
