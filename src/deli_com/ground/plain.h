/* Whether the memory of a buffer is its value: read from its format, as the struct module, PEP 3118, numpy and
 * ctypes write them. */
#ifndef DELI_COM_PLAIN_H
#define DELI_COM_PLAIN_H

#include <Python.h>
#include <string.h>

/* 1: every byte belongs to the value. 0: pointers (O & P X z Z), gaps (x without a name after it), formats that
 * say one byte where an item is more (ctypes does so for unions), and whatever is not known here. */
static inline int deli_com_is_plain(const char *format, Py_ssize_t itemsize)
{
    const char *at = format;
    int structured = strstr(format, "T{") != NULL;
    if (!structured && itemsize != 1 && format[0] != 0 && format[1] == 0 && strchr("Bbc?", format[0]) != NULL)
        return 0;
    for (; *at != 0; at++) {
        if (*at == ':') { /* the name of a field */
            at = strchr(at + 1, ':');
            if (at == NULL) return 0;
        } else if (*at == 'T') {
            if (at[1] != '{') return 0;
        } else if (*at == 'Z') { /* complex; without a letter it is ctypes' pointer to wide characters */
            if (at[1] == 0 || strchr("fdg", at[1]) == NULL) return 0;
        } else if (*at == 'x') { /* numpy's raw items have a name or are the whole format; else it is a gap */
            if (structured && at[1] != ':') return 0;
        } else if (strchr("bBhHiIlLqQnNefdgG?cswu{}()@=<>!^,0123456789 ", *at) == NULL) {
            return 0;
        }
    }
    return 1;
}

#endif
