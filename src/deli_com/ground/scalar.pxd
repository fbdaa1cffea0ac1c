# Numbers between Python objects and little-endian bytes; see ground/scalar.h.

from cpython.object cimport PyObject
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "deli_com/ground/scalar.h" nogil:
    uint8_t load_u8(const char* p) noexcept
    uint16_t load_u16(const char* p) noexcept
    uint32_t load_u32(const char* p) noexcept
    uint64_t load_u64(const char* p) noexcept
    int8_t load_i8(const char* p) noexcept
    int16_t load_i16(const char* p) noexcept
    int32_t load_i32(const char* p) noexcept
    int64_t load_i64(const char* p) noexcept
    double load_f64(const char* p) noexcept
    void store_u8(char* p, uint8_t v) noexcept
    void store_u16(char* p, uint16_t v) noexcept
    void store_u32(char* p, uint32_t v) noexcept
    void store_u64(char* p, uint64_t v) noexcept
    void store_f32(char* p, float v) noexcept
    void store_f64(char* p, double v) noexcept
    int f32_of(double v, float* out) noexcept
    double f64_of_f32(const char* p) noexcept
    bint is_ascii(const char* p, Py_ssize_t size) noexcept

cdef extern from "deli_com/ground/scalar.h":
    # 0: not within [-most_negative, most_positive].
    int int_raw(PyObject* v, uint64_t most_positive, uint64_t most_negative, uint64_t* raw) noexcept
    int int_parts(PyObject* v, uint64_t* magnitude, int* negative) noexcept
    PyObject* make_u64(uint64_t v) noexcept
    int put_u64(PyObject** slot, uint64_t x) noexcept
    int put_i64(PyObject** slot, int64_t x) noexcept
    int put_float(PyObject** slot, double x) noexcept

    uint64_t DC_MAX_U32 "(uint64_t)UINT32_MAX"
    uint64_t DC_MAX_U64 "UINT64_MAX"
    uint64_t DC_MAX_I32 "(uint64_t)INT32_MAX"
    uint64_t DC_MAX_I64 "(uint64_t)INT64_MAX"
