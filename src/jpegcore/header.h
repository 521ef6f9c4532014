/* What a baseline JPEG stream says before its scan (ITU-T T.81 annex B), made ready for decoding.
 *
 * Only what slides really hold is taken: Huffman coding in one scan, 8 bits, one component or
 * three, the first of which may be twice as fine. For all else `parse_header` says no, and the
 * caller leaves the tile to a general decoder.
 */
#ifndef JPEGCORE_HEADER_H
#define JPEGCORE_HEADER_H

#include <stdint.h>
#include <string.h>

#include "huffman.h"

#define NARROW 12 /* px of which chroma has 3 samples or less, in full or at half the size */
#define MAX_SIDE 4096 /* px of a tile; DC predictions of so many blocks fit 32 bits */
/* Coefficients are found by their place in zigzag order; a run that leaves the block, and the
 * end of a block, lead into the padding, where every quantization step is 0. */
#define PADDED (64 + END_OF_BLOCK)

typedef struct {
    int h, v;   /* sampling factors: 1 or 2 */
    int dc, ac; /* which Huffman tables */
    int16_t steps[PADDED];
} Component;

typedef struct {
    int width, height; /* px */
    int count;         /* components: 1 or 3 */
    int ycbcr;         /* whether they are YCbCr, else RGB or gray */
    int mcus_x, mcus_y;
    int restart_interval; /* MCUs, 0 for none */
    Component components[3];
    DcTable dc[4];
    AcTable ac[4];
} Header;

/* Where coefficients in zigzag order lie in a block. */
static const uint8_t NATURAL[PADDED] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    [64 ... PADDED - 1] = 63,
};

typedef struct { /* what is gathered while segments are walked */
    uint16_t quant[4][64];
    int has_quant[4], has_dc[4], has_ac[4];
    int has_frame, has_jfif, has_adobe, transform;
    int ids[3], quant_of[3];
} Gathered;

static int get16(const uint8_t *at) { return at[0] << 8 | at[1]; }

static int read_quantization(Gathered *seen, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        int wide = at[0] >> 4, slot = at[0] & 15;
        int size = wide ? 128 : 64;
        if (wide > 1 || slot > 3 || end - at < 1 + size) return 0;
        for (int k = 0; k < 64; k++) {
            int step = wide ? get16(at + 1 + 2 * k) : at[1 + k];
            /* 8-bit samples have steps of 8 bits; more would overflow what is made of them. */
            if (step < 1 || step > 255) return 0;
            seen->quant[slot][k] = (uint16_t)step;
        }
        seen->has_quant[slot] = 1;
        at += 1 + size;
    }
    return 1;
}

static int read_huffman(Header *header, Gathered *seen, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        int kind = at[0] >> 4, slot = at[0] & 15, count = 0;
        if (kind > 1 || slot > 3 || end - at < 17) return 0;
        for (int k = 1; k <= 16; k++) count += at[k];
        if (count > 256 || end - at < 17 + count) return 0;
        if (kind == 0) {
            if (!build_dc(&header->dc[slot], at + 1, at + 17, count)) return 0;
            seen->has_dc[slot] = 1;
        } else {
            if (!build_ac(&header->ac[slot], at + 1, at + 17, count)) return 0;
            seen->has_ac[slot] = 1;
        }
        at += 17 + count;
    }
    return 1;
}

static int read_frame(Header *header, Gathered *seen, const uint8_t *at, const uint8_t *end) {
    if (seen->has_frame || end - at < 6 || at[0] != 8) return 0;
    header->height = get16(at + 1);
    header->width = get16(at + 3);
    header->count = at[5];
    if (header->count != 1 && header->count != 3) return 0;
    if (end - at != 6 + 3 * header->count) return 0;
    if (header->width < 1 || header->width > MAX_SIDE) return 0;
    if (header->height < 1 || header->height > MAX_SIDE) return 0;
    for (int c = 0; c < header->count; c++) {
        const uint8_t *entry = at + 6 + 3 * c;
        Component *component = &header->components[c];
        seen->ids[c] = entry[0];
        component->h = entry[1] >> 4;
        component->v = entry[1] & 15;
        seen->quant_of[c] = entry[2];
        if (entry[2] > 3) return 0;
        if (c > 0 && (component->h != 1 || component->v != 1)) return 0;
    }
    int h = header->components[0].h, v = header->components[0].v;
    int known = (h == 1 && v == 1) || (header->count == 3 && h == 2 && (v == 1 || v == 2));
    if (!known) return 0;
    header->mcus_x = (header->width + 8 * h - 1) / (8 * h);
    header->mcus_y = (header->height + 8 * v - 1) / (8 * v);
    /* libjpeg repeats narrow chroma instead of interpolating it. */
    if (h == 2 && header->width < NARROW) return 0;
    seen->has_frame = 1;
    return 1;
}

static int read_scan(Header *header, Gathered *seen, const uint8_t *at, const uint8_t *end) {
    int count = header->count;
    if (!seen->has_frame || end - at != 4 + 2 * count || at[0] != count) return 0;
    for (int c = 0; c < count; c++) {
        Component *component = &header->components[c];
        int quant = seen->quant_of[c];
        if (at[1 + 2 * c] != seen->ids[c] || !seen->has_quant[quant]) return 0;
        component->dc = at[2 + 2 * c] >> 4;
        component->ac = at[2 + 2 * c] & 15;
        if (component->dc > 3 || component->ac > 3) return 0;
        if (!seen->has_dc[component->dc] || !seen->has_ac[component->ac]) return 0;
        memset(component->steps, 0, sizeof component->steps);
        for (int k = 0; k < 64; k++) component->steps[k] = (int16_t)seen->quant[quant][k];
    }
    at += 1 + 2 * count;
    return at[0] == 0 && at[1] == 63 && at[2] == 0; /* the whole spectrum, at once */
}

/* The colour space as libjpeg guesses it (jdapimin.c, default_decompress_parms). */
static int is_ycbcr(const Header *header, const Gathered *seen) {
    if (header->count == 1) return 0;
    if (seen->has_jfif) return 1;
    if (seen->has_adobe) return seen->transform != 0;
    return !(seen->ids[0] == 'R' && seen->ids[1] == 'G' && seen->ids[2] == 'B');
}

/* Read the header of a stream that ends where its scan's data begin; 0 if it is none of ours. */
static int parse_header(Header *header, const uint8_t *at, size_t size) {
    Gathered seen;
    memset(&seen, 0, sizeof seen);
    memset(header, 0, sizeof *header);
    const uint8_t *end = at + size;
    if (size < 4 || at[0] != 0xFF || at[1] != 0xD8) return 0;
    at += 2;
    while (end - at >= 4 && at[0] == 0xFF) {
        int marker = at[1], length = get16(at + 2);
        const uint8_t *body = at + 4, *next = at + 2 + length;
        if (length < 2 || length > end - at - 2) return 0;
        int good = 1;
        if (marker == 0xDB) good = read_quantization(&seen, body, next);
        else if (marker == 0xC4) good = read_huffman(header, &seen, body, next);
        else if (marker == 0xC0 || marker == 0xC1) good = read_frame(header, &seen, body, next);
        else if (marker == 0xDD) {
            good = length == 4;
            if (good) header->restart_interval = get16(body);
        } else if (marker == 0xE0) {
            if (length >= 16 && !memcmp(body, "JFIF", 5)) {
                if (body[5] != 1) return 0; /* another version, of which libjpeg warns */
                seen.has_jfif = 1;
            }
        } else if (marker == 0xEE) {
            if (length >= 14 && !memcmp(body, "Adobe", 5)) {
                seen.has_adobe = 1;
                seen.transform = body[11];
            }
        } else if (marker == 0xDA) {
            header->ycbcr = is_ycbcr(header, &seen);
            return next == end && read_scan(header, &seen, body, next);
        } else if (!((marker >= 0xE1 && marker <= 0xEF) || marker == 0xFE)) {
            return 0; /* another coding, or a marker that means something to the data */
        }
        if (!good) return 0;
        at = next;
    }
    return 0;
}

#endif
