/* Numbers between Python objects and little-endian bytes. Leaves only: nothing here allocates,
 * except the make_ functions, and nothing runs Python code.
 */
#ifndef DELI_COM_SCALAR_H
#define DELI_COM_SCALAR_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "deli-com copies numbers as they lie in memory and needs a little-endian machine"
#endif

/* --- unaligned loads and stores --- */

#define DELI_COM_ACCESS(name, type)                                                             \
    static inline type load_##name(const char *p) { type v; memcpy(&v, p, sizeof v); return v; } \
    static inline void store_##name(char *p, type v) { memcpy(p, &v, sizeof v); }

DELI_COM_ACCESS(u8, uint8_t)
DELI_COM_ACCESS(u16, uint16_t)
DELI_COM_ACCESS(u32, uint32_t)
DELI_COM_ACCESS(u64, uint64_t)
DELI_COM_ACCESS(i8, int8_t)
DELI_COM_ACCESS(i16, int16_t)
DELI_COM_ACCESS(i32, int32_t)
DELI_COM_ACCESS(i64, int64_t)
DELI_COM_ACCESS(f32, float)
DELI_COM_ACCESS(f64, double)

/* --- exact and inexact int objects --- */

/* Magnitude and sign of a PyLong. 0: its magnitude needs more than 64 bits. */
static inline int int_parts(PyObject *v, uint64_t *magnitude, int *negative) {
#if PY_VERSION_HEX >= 0x030C0000
    uintptr_t tag = ((PyLongObject *)v)->long_value.lv_tag;
    const digit *digits = ((PyLongObject *)v)->long_value.ob_digit;
    Py_ssize_t count = (Py_ssize_t)(tag >> 3);
    *negative = (tag & 3) == 2;
    if (count <= 1) { /* compact: 0 has a digit too, which is 0 */
        *magnitude = digits[0];
        return 1;
    }
#else
    Py_ssize_t count = Py_SIZE(v);
    const digit *digits = ((PyLongObject *)v)->ob_digit;
    *negative = count < 0;
    if (count < 0) count = -count;
    if (count <= 1) {
        *magnitude = count ? digits[0] : 0;
        return 1;
    }
#endif
    if (count == 2) {
        *magnitude = (uint64_t)digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
        return 1;
    }
    uint64_t sum = 0;
    while (count > 0) {
        if (sum >> (64 - PyLong_SHIFT)) return 0;
        sum = sum << PyLong_SHIFT | digits[--count];
    }
    *magnitude = sum;
    return 1;
}

/* Two's complement of an int within [-most_negative, most_positive]. 0: it is outside. */
static inline int int_raw(PyObject *v, uint64_t most_positive, uint64_t most_negative, uint64_t *raw) {
    uint64_t magnitude;
    int negative;
    if (!int_parts(v, &magnitude, &negative)) return 0;
    if (magnitude > (negative ? most_negative : most_positive)) return 0;
    *raw = negative ? 0 - magnitude : magnitude;
    return 1;
}

static inline PyObject *make_u64(uint64_t v) {
    return v <= (uint64_t)INT64_MAX ? PyLong_FromLongLong((long long)v) : PyLong_FromUnsignedLongLong(v);
}

/* Overwrites an int that has no other owner. 0: the number of digits differs, or the value is cached. */
static inline int reuse_int(PyObject *v, uint64_t magnitude, int negative) {
#if PyLong_SHIFT == 30
    Py_ssize_t count = magnitude >> 30 ? (magnitude >> 60 ? 3 : 2) : 1;
    digit *digits;
    if (magnitude <= 256) return 0;
#if PY_VERSION_HEX >= 0x030C0000
    struct _PyLongValue *value = &((PyLongObject *)v)->long_value;
    if ((Py_ssize_t)(value->lv_tag >> 3) != count) return 0;
    value->lv_tag = (uintptr_t)count << 3 | (negative ? 2 : 0);
    digits = value->ob_digit;
#else
    if (Py_ABS(Py_SIZE(v)) != count) return 0;
    Py_SET_SIZE(v, negative ? -count : count);
    digits = ((PyLongObject *)v)->ob_digit;
#endif
    for (; count > 0; count--) {
        *digits++ = (digit)(magnitude & PyLong_MASK);
        magnitude >>= PyLong_SHIFT;
    }
    return 1;
#else
    return 0;
#endif
}

/* Into a slot that is NULL, or holds an int of a dead instance (record_alloc_boxed). -1: no memory. */
static inline int put_u64(PyObject **slot, uint64_t x) {
    PyObject *v = *slot;
    if (v != NULL) {
        if (reuse_int(v, x, 0)) return 0;
        *slot = NULL;
        Py_DECREF(v);
    }
    return (*slot = make_u64(x)) == NULL ? -1 : 0;
}

static inline int put_i64(PyObject **slot, int64_t x) {
    PyObject *v = *slot;
    if (v != NULL) {
        if (reuse_int(v, x < 0 ? 0 - (uint64_t)x : (uint64_t)x, x < 0)) return 0;
        *slot = NULL;
        Py_DECREF(v);
    }
    return (*slot = PyLong_FromLongLong(x)) == NULL ? -1 : 0;
}

/* --- floats --- */

/* As put_u64, for a slot that holds a float if it holds anything. */
static inline int put_float(PyObject **slot, double x) {
    if (*slot != NULL) {
        ((PyFloatObject *)*slot)->ob_fval = x;
        return 0;
    }
    return (*slot = PyFloat_FromDouble(x)) == NULL ? -1 : 0;
}

/* A finite value that becomes infinite is refused (0). NaNs keep sign and payload, signalling
 * ones too: a plain conversion would set their quiet bit. */
static inline int f32_of(double v, float *out) {
    if (v != v) {
        uint64_t wide;
        uint32_t bits;
        memcpy(&wide, &v, 8);
        bits = (uint32_t)(wide >> 32 & 0x80000000u) | 0x7f800000u | (uint32_t)(wide >> 29 & 0x7fffffu);
        if (!(bits & 0x7fffffu)) bits |= 0x400000u; /* the payload was below f32's reach */
        memcpy(out, &bits, 4);
        return 1;
    }
    float narrow = (float)v;
    if (narrow - narrow != 0.0f && v - v == 0.0) return 0;
    *out = narrow;
    return 1;
}

static inline double f64_of_f32(const char *p) {
    float narrow = load_f32(p);
    if (narrow != narrow) {
        uint32_t bits = load_u32(p);
        uint64_t wide = (uint64_t)(bits & 0x80000000u) << 32 | 0x7ff0000000000000u |
                        (uint64_t)(bits & 0x7fffffu) << 29;
        double v;
        memcpy(&v, &wide, 8);
        return v;
    }
    return (double)narrow;
}

/* --- text --- */

/* Four words a step with a way out: gcc -O2 does not vectorize this, and text that is not ASCII
 * mostly says so early. */
static inline int is_ascii(const char *p, Py_ssize_t size) {
    const char *end = p + size;
    for (; end - p >= 32; p += 32) {
        uint64_t step = load_u64(p) | load_u64(p + 8) | load_u64(p + 16) | load_u64(p + 24);
        if (step & 0x8080808080808080u) return 0;
    }
    uint64_t rest = 0;
    for (; end - p >= 8; p += 8) rest |= load_u64(p);
    for (; p < end; p++) rest |= (uint64_t)(uint8_t)*p;
    return (rest & 0x8080808080808080u) == 0;
}

#endif
