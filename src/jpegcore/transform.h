/* The inverse DCT, bit for bit as libjpeg's accurate integer one ("islow").
 *
 * The algorithm is that of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) with 11
 * multiplications a line, in fixed point with 13 bits; 2 further bits are kept between the
 * columns and the rows. A line is a lane of a vector: columns first, as libjpeg does, for the
 * rounding between them is seen in the result.
 */
#ifndef JPEGCORE_TRANSFORM_H
#define JPEGCORE_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "entropy.h"

typedef int32_t Lanes __attribute__((vector_size(32)));
typedef int16_t Shorts __attribute__((vector_size(16)));
typedef uint8_t Bytes8 __attribute__((vector_size(8)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#ifdef __clang__
#define PICK(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

#define wide(shorts) __builtin_convertvector(shorts, Lanes)
#define FIXED(x) ((int32_t)((x) * 8192 + 0.5))
#define BITS 13
#define KEPT 2

/* To 16 bits, saturated. */
INLINE Shorts narrowed(Lanes lanes) {
#if defined(__SSE2__)
    __m128i halves[2];
    memcpy(halves, &lanes, sizeof lanes);
    return (Shorts)_mm_packs_epi32(halves[0], halves[1]);
#else
    Lanes low = lanes < -32768, high = lanes > 32767;
    return __builtin_convertvector((lanes & ~(low | high)) | (low & -32768) | (high & 32767), Shorts);
#endif
}

/* One dimension, for 8 lines at once: `in` -> `out`, `shift` bits go. Where `half_full` is a
 * constant, the compiler drops what is multiplied with zeros. Some sums have 16 bits: so they
 * have in libjpeg-turbo's vector code, which shows where damaged data overflow them. */
INLINE void transform_lines(const Shorts *in, Shorts *out, int shift, int half_full) {
    const Shorts none = {0};
    const Shorts in4 = half_full ? none : in[4], in5 = half_full ? none : in[5];
    const Shorts in6 = half_full ? none : in[6], in7 = half_full ? none : in[7];
    const int32_t half = 1 << (shift - 1);
    Lanes even0, even1, even2, even3, odd0, odd1, odd2, odd3, z1, z2, z3, z4, z5;

    even2 = wide(in[2]);
    even3 = wide(in6);
    z1 = (even2 + even3) * FIXED(0.541196100);
    z2 = z1 - even3 * FIXED(1.847759065);
    z3 = z1 + even2 * FIXED(0.765366865);
    z4 = (wide(in[0] + in4) << BITS) + half;
    z5 = (wide(in[0] - in4) << BITS) + half;
    even0 = z4 + z3;
    even1 = z5 + z2;
    even2 = z5 - z2;
    even3 = z4 - z3;

    odd0 = wide(in7);
    odd1 = wide(in5);
    odd2 = wide(in[3]);
    odd3 = wide(in[1]);
    z1 = (odd0 + odd3) * -FIXED(0.899976223);
    z2 = (odd1 + odd2) * -FIXED(2.562915447);
    z3 = wide(in7 + in[3]);
    z4 = wide(in5 + in[1]);
    z5 = (z3 + z4) * FIXED(1.175875602);
    z3 = z5 - z3 * FIXED(1.961570560);
    z4 = z5 - z4 * FIXED(0.390180644);
    odd0 = odd0 * FIXED(0.298631336) + z1 + z3;
    odd1 = odd1 * FIXED(2.053119869) + z2 + z4;
    odd2 = odd2 * FIXED(3.072711026) + z2 + z3;
    odd3 = odd3 * FIXED(1.501321110) + z1 + z4;

    out[0] = narrowed((even0 + odd3) >> shift);
    out[7] = narrowed((even0 - odd3) >> shift);
    out[1] = narrowed((even1 + odd2) >> shift);
    out[6] = narrowed((even1 - odd2) >> shift);
    out[2] = narrowed((even2 + odd1) >> shift);
    out[5] = narrowed((even2 - odd1) >> shift);
    out[3] = narrowed((even3 + odd0) >> shift);
    out[4] = narrowed((even3 - odd0) >> shift);
}

INLINE void transpose(Shorts *rows) {
    Shorts a[8], b[8];
    UNROLL(8) for (int k = 0; k < 4; k++) {
        a[2 * k] = PICK(Shorts, rows[k], rows[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        a[2 * k + 1] = PICK(Shorts, rows[k], rows[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    UNROLL(8) for (int k = 0; k < 4; k++) {
        b[2 * k] = PICK(Shorts, a[k], a[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        b[2 * k + 1] = PICK(Shorts, a[k], a[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    UNROLL(8) for (int k = 0; k < 4; k++) {
        rows[2 * k] = PICK(Shorts, b[k], b[k + 4], 0, 8, 1, 9, 2, 10, 3, 11);
        rows[2 * k + 1] = PICK(Shorts, b[k], b[k + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
}

/* Levels around 0 to bytes around 128, saturated. */
INLINE Bytes8 centred(Shorts levels) {
#if defined(__SSE2__)
    Bytes8 bytes;
    __m128i packed = _mm_packs_epi16((__m128i)levels, (__m128i)levels);
    memcpy(&bytes, &packed, 8);
    return bytes ^ 128;
#else
    Shorts low = levels < -128, high = levels > 127;
    return __builtin_convertvector(((levels + 128) & ~low) | high, Bytes8);
#endif
}

#if defined(__AVX2__)
/* Two sums of products, for 8 columns of 16 bits: a * fa + b * fb. */
INLINE __m256i pairs(Shorts a, Shorts b) {
    __m128i low = _mm_unpacklo_epi16((__m128i)a, (__m128i)b);
    __m128i high = _mm_unpackhi_epi16((__m128i)a, (__m128i)b);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

INLINE Lanes products(__m256i both, int32_t first, int32_t second) {
    int factors = (int)((uint32_t)second << 16 | ((uint32_t)first & 0xFFFF));
    return (Lanes)_mm256_madd_epi16(both, _mm256_set1_epi32(factors));
}

/* The same as `transform_lines`, sums of two products at a time. */
INLINE void transform_pairs(const Shorts *in, Shorts *out, int shift, int half_full) {
    const Shorts none = {0};
    const Shorts in4 = half_full ? none : in[4], in5 = half_full ? none : in[5];
    const Shorts in6 = half_full ? none : in[6], in7 = half_full ? none : in[7];
    const int32_t half = 1 << (shift - 1);
    const int32_t a = FIXED(0.541196100), b = FIXED(1.175875602);
    const int32_t c = FIXED(0.899976223), d = FIXED(2.562915447);
    const __m256i even = pairs(in[2], in6), outer = pairs(in7, in[1]), inner = pairs(in5, in[3]);
    const __m256i sums = pairs(in7 + in[3], in5 + in[1]);
    const Lanes z3 = products(sums, b - FIXED(1.961570560), b);
    const Lanes z4 = products(sums, b, b - FIXED(0.390180644));
    const Lanes odd0 = products(outer, FIXED(0.298631336) - c, -c) + z3;
    const Lanes odd1 = products(inner, FIXED(2.053119869) - d, -d) + z4;
    const Lanes odd2 = products(inner, -d, FIXED(3.072711026) - d) + z3;
    const Lanes odd3 = products(outer, -c, FIXED(1.501321110) - c) + z4;
    const Lanes rise = products(even, a + FIXED(0.765366865), a);
    const Lanes fall = products(even, a, a - FIXED(1.847759065));
    const Lanes sum = (wide(in[0] + in4) << BITS) + half, gap = (wide(in[0] - in4) << BITS) + half;

    out[0] = narrowed((sum + rise + odd3) >> shift);
    out[7] = narrowed((sum + rise - odd3) >> shift);
    out[1] = narrowed((gap + fall + odd2) >> shift);
    out[6] = narrowed((gap + fall - odd2) >> shift);
    out[2] = narrowed((gap - fall + odd1) >> shift);
    out[5] = narrowed((gap - fall - odd1) >> shift);
    out[3] = narrowed((sum - rise + odd0) >> shift);
    out[4] = narrowed((sum - rise - odd0) >> shift);
}
#define transform_lines transform_pairs
#endif

/* 8 x 8 dequantized coefficients, natural order -> samples at `out`. `corner` says that only
 * the first 4 x 4 differ from 0. */
INLINE void inverse_dct(const int16_t *block, uint8_t *out, int stride, int corner) {
    Shorts rows[8], lines[8];
    memcpy(rows, block, sizeof rows);
    transform_lines(rows, lines, BITS - KEPT, corner);
    transpose(lines);
    transform_lines(lines, rows, BITS + KEPT + 3, corner);
    transpose(rows);
    UNROLL(8) for (int k = 0; k < 8; k++) {
        Bytes8 samples = centred(rows[k]);
        memcpy(out + (ptrdiff_t)k * stride, &samples, 8);
    }
}

/* The same, whatever the size, where all coefficients but the first are 0. */
INLINE void flat_block(int32_t dc, int edge, uint8_t *out, int stride) {
    int32_t level = ((dc * (1 << KEPT) + (1 << (KEPT + 2))) >> (KEPT + 3)) + 128;
    level = level < 0 ? 0 : level > 255 ? 255 : level;
    for (int k = 0; k < edge; k++) memset(out + (ptrdiff_t)k * stride, level, (size_t)edge);
}

#define CORNER 10 /* coefficients in zigzag order that lie within the first 4 x 4 */

/* A block of which the first `known` coefficients may differ from 0. */
static NOINLINE void transform_block(const int16_t *block, int known, uint8_t *out, int stride) {
    if (known == 1) flat_block(block[0], 8, out, stride);
    else if (known <= CORNER) inverse_dct(block, out, stride, 1);
    else inverse_dct(block, out, stride, 0);
}

/* One dimension of the transform to half the size, for 8 lines at once (jidctred.c, 4 x 4): the
 * fourth coefficient has no part in it. */
INLINE void halve_lines(const Shorts *in, Shorts *out, int shift) {
    const Lanes in1 = wide(in[1]), in2 = wide(in[2]), in3 = wide(in[3]);
    const Lanes in5 = wide(in[5]), in6 = wide(in[6]), in7 = wide(in[7]);
    const Lanes base = (wide(in[0]) << (BITS + 1)) + (1 << (shift - 1));
    const Lanes even = in2 * FIXED(1.847759065) - in6 * FIXED(0.765366865);
    const Lanes inner = in5 * FIXED(1.451774981) - in7 * FIXED(0.211164243) -
                        in3 * FIXED(2.172734803) + in1 * FIXED(1.061594337);
    const Lanes outer = in3 * FIXED(0.899976223) - in7 * FIXED(0.509795579) -
                        in5 * FIXED(0.601344887) + in1 * FIXED(2.562915447);
    out[0] = narrowed((base + even + outer) >> shift);
    out[1] = narrowed((base - even + inner) >> shift);
    out[2] = narrowed((base - even - inner) >> shift);
    out[3] = narrowed((base + even - outer) >> shift);
}

/* A block at half its size: 4 x 4 samples. */
static NOINLINE void halve_block(const int16_t *block, int known, uint8_t *out, int stride) {
    Shorts rows[8], lines[8] = {{0}};
    if (known == 1) {
        flat_block(block[0], 4, out, stride);
        return;
    }
    memcpy(rows, block, sizeof rows);
    halve_lines(rows, lines, BITS - KEPT + 1);
    transpose(lines);
    halve_lines(lines, rows, BITS + KEPT + 3 + 1);
    rows[4] = rows[5] = rows[6] = rows[7] = (Shorts){0};
    transpose(rows);
    UNROLL(4) for (int k = 0; k < 4; k++) {
        Bytes8 samples = centred(rows[k]);
        memcpy(out + (ptrdiff_t)k * stride, &samples, 4);
    }
}

#endif
