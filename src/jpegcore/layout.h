/* What is asked of the decoder, and the memory that it works in. */
#ifndef JPEGCORE_LAYOUT_H
#define JPEGCORE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "header.h"

#define ROW_STEP 16 /* most samples worked on at once: rows have room for as many beyond them */
/* Bytes after the data that are read ahead: a refill takes 8, from at most 8 behind the end. */
#define TAIL 24

typedef struct {
    int x0, y0, x1, y1;
} Range; /* x1 and y1 are the first not in it */

typedef struct {
    const Header *header;
    const uint8_t *data; /* the stream from its scan's data on */
    size_t size;
    Range region;     /* px */
    int strict;       /* whether the data are read to their end */
    uint8_t *out;     /* the region's first px */
    ptrdiff_t stride; /* bytes from row to row of `out` */
} Job;

/* A component's samples from (x, y) on; `at` is that sample. */
typedef struct {
    uint8_t *at;
    int stride, x, y;
} Plane;

typedef struct {
    Range blocks[3]; /* of each component: those that are needed */
    Plane planes[3];
    uint8_t *clean; /* the scan's data without stuffed zeros and restart markers */
    size_t *ends;   /* where each restart interval ends in it */
    int16_t *sums;
    uint8_t *stretched[3], *coloured[3]; /* a row of each */
} Scratch;

INLINE int intervals_of(const Header *header) {
    int mcus = header->mcus_x * header->mcus_y, each = header->restart_interval;
    return each ? (mcus + each - 1) / each : 1;
}

/* The blocks of a component under a region, with what is interpolated between. */
INLINE Range blocks_under(const Header *header, int c, Range region) {
    const Component *component = &header->components[c], *finest = &header->components[0];
    Range samples = region;
    if (finest->h > component->h) {
        samples.x0 = (region.x0 >> 1) - 1;
        samples.x1 = ((region.x1 - 1) >> 1) + 2;
    }
    if (finest->v > component->v) {
        samples.y0 = (region.y0 >> 1) - 1;
        samples.y1 = ((region.y1 - 1) >> 1) + 2;
    }
    if (samples.x0 < 0) samples.x0 = 0;
    if (samples.y0 < 0) samples.y0 = 0;
    if (samples.x1 > component->width) samples.x1 = component->width;
    if (samples.y1 > component->height) samples.y1 = component->height;
    Range blocks = {samples.x0 / 8, samples.y0 / 8, (samples.x1 + 7) / 8, (samples.y1 + 7) / 8};
    return blocks;
}

/* Samples of a row, with those beyond it that are touched. */
INLINE size_t row_room(size_t width) { return width + 4 + 3 * ROW_STEP; }

/* Bytes that `lay_out` needs for a job. */
INLINE size_t room_for(const Job *job) {
    size_t size = sizeof(size_t) * (size_t)intervals_of(job->header) + job->size + TAIL;
    size_t width = (size_t)(job->region.x1 - job->region.x0);
    for (int c = 0; c < job->header->count; c++) {
        Range blocks = blocks_under(job->header, c, job->region);
        size += 64 * (size_t)(blocks.x1 - blocks.x0) * (size_t)(blocks.y1 - blocks.y0);
    }
    return size + 6 * row_room(width) + 2 * row_room(width) + 12 * 64;
}

INLINE uint8_t *take(uint8_t **room, size_t size) {
    uint8_t *taken = *room;
    *room += (size + 63) & ~(size_t)63;
    return taken;
}

INLINE void lay_out(const Job *job, Scratch *scratch, uint8_t *room) {
    const Header *header = job->header;
    size_t width = (size_t)(job->region.x1 - job->region.x0);
    scratch->ends = (size_t *)(void *)take(&room, sizeof(size_t) * (size_t)intervals_of(header));
    scratch->sums = (int16_t *)(void *)take(&room, 2 * row_room(width));
    for (int c = 0; c < 3; c++) {
        scratch->stretched[c] = take(&room, row_room(width));
        scratch->coloured[c] = take(&room, row_room(width));
    }
    for (int c = 0; c < header->count; c++) {
        Range blocks = scratch->blocks[c] = blocks_under(header, c, job->region);
        Plane *plane = &scratch->planes[c];
        plane->stride = 8 * (blocks.x1 - blocks.x0);
        plane->x = 8 * blocks.x0;
        plane->y = 8 * blocks.y0;
        plane->at = take(&room, 8 * (size_t)plane->stride * (size_t)(blocks.y1 - blocks.y0));
    }
    scratch->clean = room;
}

/* Decode a region in the room given; 0 if the data are damaged, or not for this decoder. The
 * same code, compiled for any CPU and for those with AVX2. */
int decode_plain(const Job *job, uint8_t *room);
int decode_avx2(const Job *job, uint8_t *room);

#endif
