/* Huffman codes as tables that are looked up with the next bits (ITU-T T.81 annexes C and F). */
#ifndef JPEGCORE_HUFFMAN_H
#define JPEGCORE_HUFFMAN_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline)) /* so that the hot loops have the registers */
#define PRAGMA(x) _Pragma(#x)
#define UNROLL(n) PRAGMA(GCC unroll n)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define LOOK 11 /* bits looked up at once: with more, the tables of 8 and 16 KB leave the L1 cache */
#define SLOTS (1 << LOOK)
#define TURN_OVER (1u << 31)
#define INVALID 0xFFFFFFFFu
#define END_OF_BLOCK 128 /* more steps than a block has coefficients */

typedef struct {
    uint32_t first[18]; /* left-aligned in 16 bits: where codes longer than this many bits begin */
    int32_t offset[17]; /* index of a symbol less its code, for each length */
    uint8_t symbols[256];
} Codes;

/* A slot of `whole` holds, for the code that its bits begin with,
 *   where all its further bits are in the slot: bits 0-7 the number of all bits, 8-15 the steps
 *     in zigzag order (AC only; END_OF_BLOCK for that), 16-31 the value;
 *   where only the code is: bits 0-7 zero, 8-15 the symbol, 16-23 the length of the code;
 *   where not even the code is: 0.
 * An AC slot has a second half of the same form for a second coefficient that is whole in the
 * slot, too: then the first half counts the bits of both, and the second those of the first.
 * Where there is none it repeats the first one's value, 0 steps further.
 * A slot of `skip` holds, of DC a difference that is whole in its bits, of AC all codes that end
 * in its bits: bits 0-7 the number of all their bits, those beyond the slot counted; 8-14 all
 * their steps in zigzag order (1 for DC); 15 whether the block ends (the steps of that are not
 * counted); 16-30 the difference; 31 whether the turn is over, of the block or the difference.
 * 0 where there is no such code.
 */
typedef struct {
    uint32_t whole[SLOTS];
    uint32_t skip[SLOTS];
    Codes codes;
} DcTable;

typedef struct {
    uint64_t whole[SLOTS];
    uint32_t skip[SLOTS];
    Codes codes;
} AcTable;

/* Lay out canonical codes; 0 if there are more than fit, or a code of ones only. */
static int build_codes(Codes *codes, const uint8_t *counts, const uint8_t *symbols, int count) {
    uint32_t code = 0;
    int index = 0;
    memset(codes, 0, sizeof *codes);
    memcpy(codes->symbols, symbols, (size_t)count);
    for (int length = 1; length <= 16; length++) {
        codes->offset[length] = index - (int32_t)code;
        code += counts[length - 1];
        index += counts[length - 1];
        if (code >= (1u << length)) return 0; /* T.81 C.2: all ones is no code */
        codes->first[length] = code << (16 - length);
        code <<= 1;
    }
    return 1;
}

/* The code that 16 bits begin with: its length in bits 8-15, its symbol in bits 0-7. */
static uint32_t find_code(const Codes *codes, uint32_t bits16) {
    for (int length = 1; length <= 16; length++) {
        if (bits16 < codes->first[length]) {
            int32_t index = codes->offset[length] + (int32_t)(bits16 >> (16 - length));
            return (uint32_t)length << 8 | codes->symbols[index & 255];
        }
    }
    return INVALID;
}

/* The number that `size` bits stand for, T.81 F.2.2.1 (EXTEND). */
INLINE int32_t extended(uint32_t value, int size) {
    return (int32_t)value < (1 << (size - 1)) ? (int32_t)value - (1 << size) + 1 : (int32_t)value;
}

/* Fill `found`: for each slot the length (bits 8-15) and symbol (0-7) of the code that it begins
 * with, 0 where that is longer than a slot. */
static void list_codes(const Codes *codes, uint16_t *found) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint32_t code = find_code(codes, slot << (16 - LOOK));
        found[slot] = code == INVALID || code >> 8 > LOOK ? 0 : (uint16_t)code;
    }
}

/* The entry of a code that has `steps`, and `size` further bits. */
static uint32_t entry_of(uint32_t slot, uint32_t found, int size, uint32_t steps) {
    int length = (int)(found >> 8), left = LOOK - length - size;
    if (!found) return 0;
    if (left < 0) return (uint32_t)length << 16 | (found & 255) << 8;
    int32_t value = size ? extended(slot >> left & ((1u << size) - 1), size) : 0;
    return (uint32_t)value << 16 | steps << 8 | (uint32_t)(length + size);
}

static int build_dc(DcTable *table, const uint8_t *counts, const uint8_t *symbols, int count) {
    uint16_t found[SLOTS];
    for (int k = 0; k < count; k++) {
        if (symbols[k] > 11) return 0; /* T.81 table F.1: 8-bit samples */
    }
    if (!build_codes(&table->codes, counts, symbols, count)) return 0;
    list_codes(&table->codes, found);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint32_t entry = entry_of(slot, found[slot], found[slot] & 255, 0);
        table->whole[slot] = entry;
        uint32_t difference = entry >> 16 << 16 & ~TURN_OVER;
        table->skip[slot] = entry & 255 ? TURN_OVER | difference | 1u << 8 | (entry & 255) : 0;
    }
    return 1;
}

/* Steps in zigzag order of an AC symbol: what has no bits ends the block, but for 16 zeros. */
INLINE uint32_t steps_of(uint32_t symbol) {
    return (symbol & 15) || symbol == 0xF0 ? (symbol >> 4) + 1 : END_OF_BLOCK;
}

static uint32_t skip_entry(const uint16_t *found, uint32_t slot) {
    uint32_t used = 0, steps = 0, more = 0;
    for (;;) {
        uint32_t code = found[slot << (used + more) & (SLOTS - 1)], length = code >> 8;
        /* Bits that were shifted in are not known: only codes that end before them count. */
        if (!code || used + more + length > LOOK) break;
        used += more + length;
        more = code & 15;
        if (steps_of(code & 255) == END_OF_BLOCK) return TURN_OVER | 1u << 15 | steps << 8 | used;
        steps += steps_of(code & 255);
        if (steps > 63 || used + more >= LOOK) break;
    }
    return used ? steps << 8 | (used + more) : 0;
}

/* Both coefficients of an AC slot. */
static uint64_t whole_entry(const uint16_t *found, uint32_t slot) {
    uint32_t symbol = found[slot] & 255u;
    uint32_t first = entry_of(slot, found[slot], symbol & 15, steps_of(symbol));
    uint32_t used = first & 255;
    if (!used) return first;
    uint64_t second = (first & 0xFFFF0000u) | used;
    if (steps_of(symbol) != END_OF_BLOCK) {
        uint32_t rest = slot << used & (SLOTS - 1), code = found[rest], next = code & 255;
        uint32_t more = (code >> 8) + (next & 15);
        /* Bits that were shifted in are not known: it must end before them. */
        if (code && used + more <= LOOK) {
            second = (entry_of(rest, code, next & 15, steps_of(next)) & 0xFFFFFF00u) | used;
            first += more;
        }
    }
    return second << 32 | first;
}

static int build_ac(AcTable *table, const uint8_t *counts, const uint8_t *symbols, int count) {
    uint16_t found[SLOTS];
    for (int k = 0; k < count; k++) {
        if ((symbols[k] & 15) > 10) return 0; /* T.81 table F.2: 8-bit samples */
    }
    if (!build_codes(&table->codes, counts, symbols, count)) return 0;
    list_codes(&table->codes, found);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        table->whole[slot] = whole_entry(found, slot);
        table->skip[slot] = skip_entry(found, slot);
    }
    return 1;
}

#endif
