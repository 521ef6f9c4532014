/* Chroma upsampling and YCbCr -> RGB, bit for bit as libjpeg's ("fancy", JFIF coefficients). */
#ifndef JPEGCORE_COLOUR_H
#define JPEGCORE_COLOUR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "layout.h"
#include "transform.h"

/* As many samples as are worked on at once, with 16 bits each. */
#if defined(__AVX2__)
#define LANES 16
typedef int16_t Levels __attribute__((vector_size(32)));
typedef uint8_t LevelBytes __attribute__((vector_size(16)));
#else
#define LANES 8
typedef Shorts Levels;
typedef Bytes8 LevelBytes;
#endif

INLINE Levels widened(const uint8_t *samples) {
    LevelBytes bytes;
    memcpy(&bytes, samples, sizeof bytes);
    return __builtin_convertvector(bytes, Levels);
}

INLINE void store_clamped(Levels levels, uint8_t *out) {
#if defined(__AVX2__)
    __m256i packed = _mm256_packus_epi16((__m256i)levels, (__m256i)levels);
    packed = _mm256_permute4x64_epi64(packed, 0x08);
    memcpy(out, &packed, 16);
#elif defined(__SSE2__)
    __m128i packed = _mm_packus_epi16((__m128i)levels, (__m128i)levels);
    memcpy(out, &packed, 8);
#else
    levels &= ~(levels < 0);
    levels |= levels > 255; /* all bits set: 255 as a byte */
    Bytes8 bytes = __builtin_convertvector(levels, Bytes8);
    memcpy(out, &bytes, 8);
#endif
}

/* a * factor / 65536, rounded half up. */
INLINE Levels scaled(Levels a, int16_t factor) {
#if defined(__AVX2__)
    __m256i twice = _mm256_mulhi_epi16((__m256i)(a + a), _mm256_set1_epi16(factor));
    return (Levels)_mm256_srai_epi16(_mm256_add_epi16(twice, _mm256_set1_epi16(1)), 1);
#elif defined(__SSE2__)
    __m128i twice = _mm_mulhi_epi16((__m128i)(a + a), _mm_set1_epi16(factor));
    return (Levels)_mm_srai_epi16(_mm_add_epi16(twice, _mm_set1_epi16(1)), 1);
#else
    return __builtin_convertvector((wide(a) * factor + (1 << 15)) >> 16, Levels);
#endif
}

/* (a * factor_a + b * factor_b) / 65536, rounded half up. */
INLINE Levels weighted(Levels a, int16_t factor_a, Levels b, int16_t factor_b) {
#if defined(__SSE2__)
    const int factors = (int)((uint32_t)(uint16_t)factor_b << 16 | (uint16_t)factor_a);
    const int half = 1 << 15;
#endif
#if defined(__AVX2__)
    __m256i low = _mm256_unpacklo_epi16((__m256i)a, (__m256i)b);
    __m256i high = _mm256_unpackhi_epi16((__m256i)a, (__m256i)b);
    low = _mm256_add_epi32(_mm256_madd_epi16(low, _mm256_set1_epi32(factors)), _mm256_set1_epi32(half));
    high = _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi32(factors)), _mm256_set1_epi32(half));
    return (Levels)_mm256_packs_epi32(_mm256_srai_epi32(low, 16), _mm256_srai_epi32(high, 16));
#elif defined(__SSE2__)
    __m128i low = _mm_unpacklo_epi16((__m128i)a, (__m128i)b);
    __m128i high = _mm_unpackhi_epi16((__m128i)a, (__m128i)b);
    low = _mm_add_epi32(_mm_madd_epi16(low, _mm_set1_epi32(factors)), _mm_set1_epi32(half));
    high = _mm_add_epi32(_mm_madd_epi16(high, _mm_set1_epi32(factors)), _mm_set1_epi32(half));
    return (Levels)_mm_packs_epi32(_mm_srai_epi32(low, 16), _mm_srai_epi32(high, 16));
#else
    Lanes sum = wide(a) * factor_a + wide(b) * factor_b;
    return __builtin_convertvector((sum + (1 << 15)) >> 16, Levels);
#endif
}

/* Twice as many samples in a row, by libjpeg's triangle filter (3 : 1 towards the nearer one).
 * `sums` are samples (shift 2) or two rows of them added 3 : 1 (shift 4), the one before the
 * first and the one after the last included. Reads and writes in steps of ROW_STEP sums. */
INLINE void stretch(const int16_t *sums, int count, int shift, int low, int high, uint8_t *out) {
    for (int i = 0; i < count; i += LANES) {
        Levels before, here, after;
        memcpy(&before, sums + i, sizeof before);
        memcpy(&here, sums + i + 1, sizeof here);
        memcpy(&after, sums + i + 2, sizeof after);
        here *= 3;
        Levels even = (here + before + (int16_t)low) >> shift;
        Levels odd = (here + after + (int16_t)high) >> shift;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        Levels both = even | odd << 8; /* a byte each, in memory's order */
#else
        Levels both = even << 8 | odd;
#endif
        memcpy(out + 2 * i, &both, sizeof both);
    }
}

/* The samples of a component under the px (x0 ... x1 - 1, y), one for each; in place where the
 * component is as fine as the image, else made in `room`. */
static const uint8_t *row_of(
    const Plane *plane, int x0, int x1, int y, int16_t *sums, uint8_t *room
) {
    int row = plane->high ? y >> 1 : y;
    if (!plane->wide) return sample_at(plane, x0, row);
    int from = x0 >> 1, to = ((x1 - 1) >> 1) + 1;
    int first = from > 0 ? from - 1 : 0, end = to < plane->width ? to + 1 : plane->width;
    const uint8_t *near = sample_at(plane, first, row);
    int16_t *at = sums + (first - (from - 1));
    if (plane->high) {
        int other = y & 1 ? row + 1 : row - 1;
        if (other < 0) other = 0;
        if (other >= plane->height) other = plane->height - 1;
        const uint8_t *far = sample_at(plane, first, other);
        for (int i = 0; i < end - first; i += LANES) {
            Levels sum = 3 * widened(near + i) + widened(far + i);
            memcpy(at + i, &sum, sizeof sum);
        }
    } else {
        for (int i = 0; i < end - first; i += LANES) {
            Levels level = widened(near + i);
            memcpy(at + i, &level, sizeof level);
        }
    }
    if (first == from) sums[0] = sums[1]; /* the image's edges are repeated */
    if (end == to) sums[to - from + 1] = sums[to - from];
    if (plane->high) stretch(sums, to - from, 4, 8, 7, room);
    else stretch(sums, to - from, 2, 1, 2, room);
    return room + (x0 & 1);
}

/* T.871 (JFIF), in fixed point with 16 bits; whole multiples are taken out of the factors, so
 * that the rest of each has 16 bits. Rows are read and written in steps of ROW_STEP. */
static void to_rgb(
    const uint8_t *luma, const uint8_t *blue, const uint8_t *red, int count, uint8_t *const *out
) {
    for (int i = 0; i < count; i += LANES) {
        Levels y = widened(luma + i), cb = widened(blue + i) - 128, cr = widened(red + i) - 128;
        store_clamped(y + cr + scaled(cr, 91881 - 65536), out[0] + i);
        store_clamped(y - cr + weighted(cb, -22554, cr, 65536 - 46802), out[1] + i);
        store_clamped(y + 2 * cb + scaled(cb, 116130 - 131072), out[2] + i);
    }
}

#define N 16
/* Three rows of samples -> px of three bytes. */
static void interleave(const uint8_t *r, const uint8_t *g, const uint8_t *b, int count, uint8_t *out) {
    int i = 0;
    for (; i + 16 <= count; i += 16) {
        Bytes16 red, green, blue, both, all;
        memcpy(&red, r + i, 16);
        memcpy(&green, g + i, 16);
        memcpy(&blue, b + i, 16);
        both = PICK(Bytes16, red, green, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
        all = PICK(Bytes16, both, blue, 0, 1, N, 3, 4, N + 1, 6, 7, N + 2, 9, 10, N + 3, 12, 13, N + 4, 15);
        memcpy(out + 3 * i, &all, 16);
        both = PICK(Bytes16, red, green, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
        all = PICK(Bytes16, both, blue, 0, N + 5, 2, 3, N + 6, 5, 6, N + 7, 8, 9, N + 8, 11, 12, N + 9, 14, 15);
        memcpy(out + 3 * i + 16, &all, 16);
        both = PICK(Bytes16, red, green, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
        all = PICK(Bytes16, both, blue, N + 10, 1, 2, N + 11, 4, 5, N + 12, 7, 8, N + 13, 10, 11, N + 14, 13, 14, N + 15);
        memcpy(out + 3 * i + 32, &all, 16);
    }
    for (; i < count; i++) {
        out[3 * i] = r[i];
        out[3 * i + 1] = g[i];
        out[3 * i + 2] = b[i];
    }
}
#undef N

#endif
