/* Reading Huffman-coded blocks, or passing over them (ITU-T T.81 annex F). */
#ifndef JPEGCORE_ENTROPY_H
#define JPEGCORE_ENTROPY_H

#include <stdint.h>
#include <string.h>

#include "layout.h"

/* 8-bit samples give coefficients of at most some 1100 times the scale of 1; what is far beyond
 * comes of damage, and would overflow the transform. */
#define LARGEST 8192
#define MAGNITUDE(x) ((uint32_t)((x) + LARGEST))

typedef struct {
    uint64_t bits; /* the next bits, from the top */
    int count;     /* how many of them are valid */
    const uint8_t *at, *last;
    int over; /* whether more was asked for than there is */
} Bits;

INLINE void start_bits(Bits *bits, const uint8_t *data, size_t size) {
    bits->bits = 0;
    bits->count = 0;
    bits->at = data;
    bits->last = data + size + 8;
    bits->over = 0;
}

/* Have at least 56 bits. */
INLINE void refill(Bits *bits) {
    uint64_t word;
    if (UNLIKELY(bits->at > bits->last)) {
        bits->over = 1;
        bits->at = bits->last;
    }
    memcpy(&word, bits->at, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    bits->bits |= word >> bits->count;
    bits->at += (63 - bits->count) >> 3;
    bits->count |= 56;
}

INLINE void drop(Bits *bits, int count) {
    bits->bits <<= count;
    bits->count -= count;
}

INLINE int64_t bits_used(const Bits *bits, const uint8_t *data) {
    return (int64_t)(bits->at - data) * 8 - bits->count;
}

/* Whether all the data were used, but for the bits that fill the last byte, and no more. */
INLINE int is_used_up(const Bits *bits, const uint8_t *data, size_t size) {
    return !bits->over && (bits_used(bits, data) + 7) / 8 == (int64_t)size;
}

/* Whether no more was used than there is. */
INLINE int is_enough(const Bits *bits, const uint8_t *data, size_t size) {
    return !bits->over && bits_used(bits, data) <= 8 * (int64_t)size;
}

/* Read a DC difference; 0 if the code is none. */
INLINE int read_dc(Bits *bits, const DcTable *table, int32_t *difference) {
    uint32_t entry = table->whole[bits->bits >> (64 - LOOK)];
    if (entry & 255) {
        drop(bits, (int)(entry & 255));
        *difference = (int32_t)entry >> 16;
        return 1;
    }
    uint32_t code = find_code(&table->codes, (uint32_t)(bits->bits >> 48));
    if (code == INVALID) return 0;
    int size = (int)(code & 255);
    drop(bits, (int)(code >> 8));
    *difference = size ? extended((uint32_t)(bits->bits >> (64 - size)), size) : 0;
    drop(bits, size);
    return 1;
}

/* Read an AC coefficient whose bits are more than a slot's; the steps, 0 if the code is none. */
INLINE uint32_t read_long_ac(Bits *bits, const AcTable *table, uint32_t entry, int32_t *value) {
    uint32_t symbol = entry >> 8 & 255, length = entry >> 16;
    if (!entry) {
        uint32_t code = find_code(&table->codes, (uint32_t)(bits->bits >> 48));
        if (code == INVALID) return 0;
        symbol = code & 255;
        length = code >> 8;
    }
    int size = (int)(symbol & 15);
    drop(bits, (int)length);
    *value = size ? extended((uint32_t)(bits->bits >> (64 - size)), size) : 0;
    drop(bits, size);
    return steps_of(symbol);
}

INLINE void clear(int16_t *block) {
    typedef int16_t Line __attribute__((vector_size(32)));
    Line zeros = {0};
    UNROLL(4) for (int k = 0; k < 4; k++) memcpy(block + 16 * k, &zeros, sizeof zeros);
}

/* Dequantize the k-th coefficient in zigzag order, and put it in its place. */
INLINE void put(int16_t *block, const int16_t *quant, uint32_t k, int32_t value, uint32_t *peak) {
    value *= quant[k];
    *peak |= MAGNITUDE(value);
    block[NATURAL[k]] = (int16_t)value;
}

/* Read a block and dequantize it into `block` (natural order, zeroed here). The number of
 * coefficients up to the last one that may differ from 0; 0 if the data are damaged. */
static NOINLINE int read_block(
    Bits *bits, const Component *component, const DcTable *dc, const AcTable *ac,
    int32_t *prediction, int16_t *block
) {
    Bits own = *bits; /* in registers: nothing else points to it */
    const int16_t *quant = component->steps;
    int32_t value;
    uint32_t k = 1, peak = 0;
    clear(block);
    refill(&own);
    if (!read_dc(&own, dc, &value)) return 0;
    *prediction += value;
    if (MAGNITUDE(*prediction) >= 2 * LARGEST) return 0;
    put(block, quant, 0, *prediction, &peak);
    do {
        refill(&own);
        for (int twice = 0; twice < 2 && k < 64; twice++) { /* a refill serves both */
            uint64_t entry = ac->whole[own.bits >> (64 - LOOK)];
            uint32_t steps = entry >> 8 & 255;
            value = (int32_t)entry >> 16;
            if (UNLIKELY(!(entry & 255))) {
                steps = read_long_ac(&own, ac, (uint32_t)entry, &value);
                if (!steps) return 0;
                k += steps;
                put(block, quant, k - 1, value, &peak);
                continue;
            }
            k += steps;
            put(block, quant, k - 1, value, &peak);
            if (k >= 64) { /* the second one is of the next block, or there is none */
                drop(&own, (int)(entry >> 32 & 255));
                break;
            }
            drop(&own, (int)(entry & 255));
            k += entry >> 40 & 255;
            put(block, quant, k - 1, (int32_t)(entry >> 32) >> 16, &peak);
        }
    } while (k < 64);
    *bits = own;
    if (peak >= 2 * LARGEST) return 0;
    if (k > END_OF_BLOCK) return (int)(k - END_OF_BLOCK);
    return k == 64 ? 64 : 0; /* else a run out of the block */
}

typedef struct {
    const uint32_t *table; /* of what comes next: a DC difference or AC coefficients */
    int32_t *prediction;
    const Codes *codes; /* for codes that the table does not hold */
} Turn;

/* One code that a table does not hold, or that may end its block, as an entry: all its bits (0-7),
 * the steps it has reached (8-14), TURN_OVER; 0 if the data are damaged. */
static NOINLINE uint32_t skip_one(const Turn *turn, uint64_t bits, uint32_t k) {
    uint32_t code = find_code(turn->codes, (uint32_t)(bits >> 48));
    if (code == INVALID) return 0;
    uint32_t size = code & 15, used = (code >> 8) + size;
    if (k == 0) {
        if (size) *turn->prediction += extended((uint32_t)(bits << (code >> 8) >> (64 - size)), (int)size);
        return TURN_OVER | 1u << 8 | used;
    }
    k += steps_of(code & 255);
    if (k < 64) return k << 8 | used;
    return k == 64 || k > END_OF_BLOCK ? TURN_OVER | used : 0; /* or a run out of the block */
}

/* Pass over MCUs; 0 if the data are damaged. One loop for blocks and coefficients alike: where
 * a block ends can't be foreseen, and a loop for each would stall there. */
static NOINLINE int skip_mcus(Bits *bits, const Turn *turns, uint32_t count, uint32_t mcus) {
    Bits own = *bits;
    uint32_t left = mcus * count, at = 0, k = 0;
    const uint32_t *now = turns[0].table;
    while (left) {
        refill(&own);
        for (int twice = 0; twice < 2 && left; twice++) { /* a refill serves both */
            uint32_t after = at + 1 == count ? 0 : at + 1;
            uint32_t entry = now[own.bits >> (64 - LOOK)], reached = k + (entry >> 8 & 127);
            if (UNLIKELY(!entry || reached > 63)) {
                entry = skip_one(&turns[at], own.bits, k);
                if (!entry) return 0;
                k = entry >> 8 & 127;
            } else {
                *turns[at].prediction += (int32_t)(entry << 1) >> 17;
                k = reached & ((entry >> 15 & 1) - 1);
            }
            drop(&own, (int)(entry & 255));
            int32_t over = (int32_t)entry >> 31; /* -1 where the turn is, else 0 */
            uintptr_t other = (uintptr_t)now ^ (uintptr_t)turns[after].table;
            now = (const uint32_t *)((uintptr_t)now ^ (other & (uintptr_t)(intptr_t)over));
            at = over ? after : at;
            left += (uint32_t)over;
        }
    }
    *bits = own;
    return 1;
}

#endif
