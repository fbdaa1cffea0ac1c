/* Strict UTF-8 to str in two passes: check and measure, then fill. CPython's decoder has one pass
 * and widens its buffer as it meets wider characters; for text with a few of them in every line
 * that costs more (bench/bench_codec.py, "other string").
 */
#ifndef DELI_COM_UTF8_H
#define DELI_COM_UTF8_H

#include <Python.h>
#include "deli_com/ground/scalar.h"

#define DC_CONT(b) (((b) & 0xC0) == 0x80)

/* Characters in `p`, and the widest possible one (0xff, 0xffff, 0x10ffff); -1: not strict UTF-8.
 * At least one byte of `p` is not ASCII. */
static inline Py_ssize_t utf8_measure(const unsigned char *p, Py_ssize_t size, Py_UCS4 *widest) {
    const unsigned char *end = p + size;
    Py_ssize_t more = 0; /* bytes that are not the first of a character */
    Py_UCS4 wide = 0xff;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            while (end - p >= 8 && !(load_u64((const char *)p) & 0x8080808080808080u)) p += 8;
        } else if (*p < 0xE0) {
            if (*p < 0xC2 || end - p < 2 || !DC_CONT(p[1])) return -1;
            if (*p >= 0xC4 && wide < 0xffff) wide = 0xffff;
            p += 2;
            more += 1;
        } else if (*p < 0xF0) {
            if (end - p < 3 || !DC_CONT(p[1]) || !DC_CONT(p[2])) return -1;
            if ((*p == 0xE0 && p[1] < 0xA0) || (*p == 0xED && p[1] >= 0xA0)) return -1;
            if (wide < 0xffff) wide = 0xffff;
            p += 3;
            more += 2;
        } else {
            if (*p > 0xF4 || end - p < 4 || !DC_CONT(p[1]) || !DC_CONT(p[2]) || !DC_CONT(p[3])) return -1;
            if ((*p == 0xF0 && p[1] < 0x90) || (*p == 0xF4 && p[1] >= 0x90)) return -1;
            wide = 0x10ffff;
            p += 4;
            more += 3;
        }
    }
    *widest = wide;
    return size - more;
}

/* Checked bytes to characters of one width. */
#define DC_FILL(name, type)                                                                              \
    static inline void utf8_fill_##name(const unsigned char *p, Py_ssize_t size, type *out) {             \
        const unsigned char *end = p + size;                                                              \
        while (p < end) {                                                                                 \
            if (*p < 0x80) {                                                                              \
                *out++ = (type)*p++;                                                                      \
            } else if (*p < 0xE0) {                                                                       \
                *out++ = (type)((Py_UCS4)(p[0] & 0x1F) << 6 | (p[1] & 0x3F));                             \
                p += 2;                                                                                   \
            } else if (*p < 0xF0) {                                                                       \
                *out++ = (type)((Py_UCS4)(p[0] & 0x0F) << 12 | (Py_UCS4)(p[1] & 0x3F) << 6 | (p[2] & 0x3F)); \
                p += 3;                                                                                   \
            } else {                                                                                      \
                *out++ = (type)((Py_UCS4)(p[0] & 0x07) << 18 | (Py_UCS4)(p[1] & 0x3F) << 12 |              \
                                (Py_UCS4)(p[2] & 0x3F) << 6 | (p[3] & 0x3F));                             \
                p += 4;                                                                                   \
            }                                                                                             \
        }                                                                                                 \
    }

DC_FILL(1, Py_UCS1)
DC_FILL(2, Py_UCS2)
DC_FILL(4, Py_UCS4)

/* A new str; NULL: an exception is set, UnicodeDecodeError if the bytes are not strict UTF-8. */
static inline PyObject *utf8_decode(const char *data, Py_ssize_t size) {
    const unsigned char *p = (const unsigned char *)data;
    Py_UCS4 widest;
    Py_ssize_t count = utf8_measure(p, size, &widest);
    if (count < 2) return PyUnicode_DecodeUTF8(data, size, NULL); /* its error; its shared characters */
    PyObject *text = PyUnicode_New(count, widest);
    if (text == NULL) return NULL;
    if (widest == 0xff) utf8_fill_1(p, size, PyUnicode_1BYTE_DATA(text));
    else if (widest == 0xffff) utf8_fill_2(p, size, PyUnicode_2BYTE_DATA(text));
    else utf8_fill_4(p, size, PyUnicode_4BYTE_DATA(text));
    return text;
}

/* The UTF-8 form that a str caches once it was asked for, or NULL. */
static inline const char *utf8_kept(PyObject *text, Py_ssize_t *size) {
    if (!PyUnicode_IS_COMPACT(text)) return NULL;
    *size = ((PyCompactUnicodeObject *)text)->utf8_length;
    return ((PyCompactUnicodeObject *)text)->utf8;
}

#endif
