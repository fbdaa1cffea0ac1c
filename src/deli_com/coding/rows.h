/* Converts rows of one layout to rows of another. Each loop covers all rows, for a few fields. */

#ifndef DELI_COM_CODING_ROWS_H
#define DELI_COM_CODING_ROWS_H

#include "deli_com/ground/scalar.h"

/* --- one field at a time --- */

/* The kinds in the order u8 u16 u32 u64 i8 i16 i32 i64 f32 f64. */
enum { DC_U8, DC_U16, DC_U32, DC_U64, DC_I8, DC_I16, DC_I32, DC_I64, DC_F32, DC_F64 };

/* The targets for a source whose items `load` reads: a wider integer, sign-extended, or f64. */
#define DC_WIDEN(load) \
    switch (target) { \
        case DC_U16: case DC_I16: \
            for (; count > 0; count--, p += step, to += room) store_u16(to, (uint16_t)load(p)); \
            break; \
        case DC_U32: case DC_I32: \
            for (; count > 0; count--, p += step, to += room) store_u32(to, (uint32_t)load(p)); \
            break; \
        case DC_U64: case DC_I64: \
            for (; count > 0; count--, p += step, to += room) store_u64(to, (uint64_t)load(p)); \
            break; \
        default: \
            for (; count > 0; count--, p += step, to += room) store_f64(to, (double)load(p)); \
    }

/* Converts `count` numbers that are `step` bytes apart to numbers that are `room` bytes apart. */
static void dc_widen(
    int source, int target, const char *p, Py_ssize_t step, char *to, Py_ssize_t room, Py_ssize_t count
) {
    switch (source) {
        case DC_U8: DC_WIDEN(load_u8) break;
        case DC_U16: DC_WIDEN(load_u16) break;
        case DC_U32: DC_WIDEN(load_u32) break;
        case DC_I8: DC_WIDEN(load_i8) break;
        case DC_I16: DC_WIDEN(load_i16) break;
        case DC_I32: DC_WIDEN(load_i32) break;
        default:
            for (; count > 0; count--, p += step, to += room) store_f64(to, f64_of_f32(p));
    }
}

#undef DC_WIDEN

/* As above, but copies `size` bytes. For a size known to the compiler this is one load and one store. */
static void dc_copy(
    Py_ssize_t size, const char *p, Py_ssize_t step, char *to, Py_ssize_t room, Py_ssize_t count
) {
    switch (size) {
        case 1: for (; count > 0; count--, p += step, to += room) *to = *p; break;
        case 2: for (; count > 0; count--, p += step, to += room) memcpy(to, p, 2); break;
        case 4: for (; count > 0; count--, p += step, to += room) memcpy(to, p, 4); break;
        case 8: for (; count > 0; count--, p += step, to += room) memcpy(to, p, 8); break;
        case 12: for (; count > 0; count--, p += step, to += room) memcpy(to, p, 12); break;
        case 16: for (; count > 0; count--, p += step, to += room) memcpy(to, p, 16); break;
        default: for (; count > 0; count--, p += step, to += room) memcpy(to, p, (size_t)size);
    }
}

/* --- sixteen bytes at a time --- */

/* A step fills sixteen bytes of the reader's row, or some of them: it picks bytes of two windows of sixteen
 * bytes in the writer's row, and up to two f32 of a third window as f64. Windows and targets may reach into
 * the next row. Bytes of the next row are not picked. Zeros, or the former bytes, are written there; later
 * steps overwrite them. */
enum { DC_PICK = 16, DC_NOTHING = 0x80 };  /* an index that picks a zero */

typedef struct {
    int32_t to;
    int32_t start[3];
    uint8_t has_second;
    uint8_t has_floats;             /* 1: in the third window, 2: in the first, 3: in the first and already in
    place */ uint8_t is_more;                /* adds to the bytes of an earlier step */
    uint8_t pick[3][DC_PICK];       /* index of each byte in the window */
    uint8_t place[DC_PICK];         /* index of each byte in the two f64 */
    uint8_t constant[DC_PICK];
} RowStep;

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)

#include <immintrin.h>

static int dc_can_shuffle(void) { return __builtin_cpu_supports("ssse3"); }

#define DC_INLINE __attribute__((always_inline)) static inline
#define DC_LOAD(p) _mm_loadu_si128((const __m128i *)(p))

__attribute__((target("ssse3"))) DC_INLINE void dc_one_row(
    const RowStep *step, const char *p, Py_ssize_t size, char *to, Py_ssize_t room, Py_ssize_t count,
    int has_second, int has_floats, int is_more
) {
    const __m128i constant = DC_LOAD(step->constant), place = DC_LOAD(step->place);
    const __m128i first = DC_LOAD(step->pick[0]), second = DC_LOAD(step->pick[1]);
    const __m128i floats = DC_LOAD(step->pick[2]);
    const char *a = p + step->start[0], *b = p + step->start[1], *c = p + step->start[2];
    to += step->to;
    for (; count > 0; count--, a += size, b += size, c += size, to += room) {
        __m128i here = DC_LOAD(a), v = _mm_or_si128(_mm_shuffle_epi8(here, first), constant);
        if (has_second) v = _mm_or_si128(v, _mm_shuffle_epi8(DC_LOAD(b), second));
        if (has_floats) {
            __m128i narrow = _mm_shuffle_epi8(has_floats == 1 ? DC_LOAD(c) : here, floats);
            __m128i wide = _mm_castpd_si128(_mm_cvtps_pd(_mm_castsi128_ps(narrow)));
            v = _mm_or_si128(v, has_floats == 3 ? wide : _mm_shuffle_epi8(wide, place));
        }
        if (is_more) v = _mm_or_si128(v, DC_LOAD(to));
        _mm_storeu_si128((__m128i *)to, v);
    }
}

#define DC_LOAD2(p, distance) \
    _mm256_inserti128_si256(_mm256_castsi128_si256(DC_LOAD(p)), DC_LOAD((p) + (distance)), 1)

/* Two rows at once, one in each half of a register. */
__attribute__((target("avx2"))) DC_INLINE void dc_two_rows(
    const RowStep *step, const char *p, Py_ssize_t size, char *to, Py_ssize_t room, Py_ssize_t count,
    int has_second, int has_floats, int is_more
) {
    const __m256i constant = _mm256_broadcastsi128_si256(DC_LOAD(step->constant));
    const __m256i place = _mm256_broadcastsi128_si256(DC_LOAD(step->place));
    const __m256i first = _mm256_broadcastsi128_si256(DC_LOAD(step->pick[0]));
    const __m256i second = _mm256_broadcastsi128_si256(DC_LOAD(step->pick[1]));
    const __m256i floats = _mm256_broadcastsi128_si256(DC_LOAD(step->pick[2]));
    const char *a = p + step->start[0], *b = p + step->start[1], *c = p + step->start[2];
    to += step->to;
    for (; count > 1; count -= 2, a += 2 * size, b += 2 * size, c += 2 * size, to += 2 * room) {
        __m256i here = DC_LOAD2(a, size), v = _mm256_or_si256(_mm256_shuffle_epi8(here, first), constant);
        if (has_second) v = _mm256_or_si256(v, _mm256_shuffle_epi8(DC_LOAD2(b, size), second));
        if (has_floats) {
            __m256i narrow = _mm256_shuffle_epi8(has_floats == 1 ? DC_LOAD2(c, size) : here, floats);
            __m128i four = _mm256_castsi256_si128(_mm256_permute4x64_epi64(narrow, 8));
            __m256i wide = _mm256_castpd_si256(_mm256_cvtps_pd(_mm_castsi128_ps(four)));
            v = _mm256_or_si256(v, has_floats == 3 ? wide : _mm256_shuffle_epi8(wide, place));
        }
        if (is_more) v = _mm256_or_si256(v, DC_LOAD2(to, room));
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(v));
        _mm_storeu_si128((__m128i *)(to + room), _mm256_extracti128_si256(v, 1));
    }
}

#define DC_STEP(name, extension, loop) \
    __attribute__((target(extension))) static void name( \
        const RowStep *step, const char *p, Py_ssize_t size, char *to, Py_ssize_t room, Py_ssize_t count \
    ) { \
        switch (step->has_second + 2 * step->has_floats + 8 * step->is_more) { \
            case 0: loop(step, p, size, to, room, count, 0, 0, 0); break; \
            case 1: loop(step, p, size, to, room, count, 1, 0, 0); break; \
            case 2: loop(step, p, size, to, room, count, 0, 1, 0); break; \
            case 3: loop(step, p, size, to, room, count, 1, 1, 0); break; \
            case 4: loop(step, p, size, to, room, count, 0, 2, 0); break; \
            case 5: loop(step, p, size, to, room, count, 1, 2, 0); break; \
            case 6: loop(step, p, size, to, room, count, 0, 3, 0); break; \
            case 7: loop(step, p, size, to, room, count, 1, 3, 0); break; \
            case 8: loop(step, p, size, to, room, count, 0, 0, 1); break; \
            case 9: loop(step, p, size, to, room, count, 1, 0, 1); break; \
            case 10: loop(step, p, size, to, room, count, 0, 1, 1); break; \
            case 11: loop(step, p, size, to, room, count, 1, 1, 1); break; \
            case 12: loop(step, p, size, to, room, count, 0, 2, 1); break; \
            case 13: loop(step, p, size, to, room, count, 1, 2, 1); break; \
            case 14: loop(step, p, size, to, room, count, 0, 3, 1); break; \
            default: loop(step, p, size, to, room, count, 1, 3, 1); \
        } \
    }

DC_STEP(dc_step_by_one, "ssse3", dc_one_row)
DC_STEP(dc_step_by_two, "avx2", dc_two_rows)

/* Returns nonzero if an f32 was a signalling NaN, which the instruction has made quiet. The processor reports
 * that as an invalid operation. Nothing else can cause it, because unused lanes are zero. */
static int dc_step(
    const RowStep *step, const char *p, Py_ssize_t size, char *to, Py_ssize_t room, Py_ssize_t count
) {
    unsigned before = _mm_getcsr(), after;
    Py_ssize_t even = __builtin_cpu_supports("avx2") ? count & ~(Py_ssize_t)1 : 0;
    _mm_setcsr(before & ~(unsigned)_MM_EXCEPT_INVALID);
    if (even > 0) dc_step_by_two(step, p, size, to, room, even);
    dc_step_by_one(step, p + even * size, size, to + even * room, room, count - even);
    after = _mm_getcsr();
    _mm_setcsr(before);
    return (after & _MM_EXCEPT_INVALID) != 0;
}

#undef DC_STEP
#undef DC_LOAD
#undef DC_LOAD2
#undef DC_INLINE

#else

static int dc_can_shuffle(void) { return 0; }

static int dc_step(
    const RowStep *step, const char *p, Py_ssize_t size, char *to, Py_ssize_t room, Py_ssize_t count
) {
    (void)step; (void)p; (void)size; (void)to; (void)room; (void)count;
    return 0;
}

#endif

#endif
