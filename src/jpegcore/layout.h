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
    int scale;        /* 1, or 2 for half the size: blocks of 4 x 4 */
    Range region;     /* px at that scale */
    int strict;       /* whether the data are read to their end */
    uint8_t *out;     /* the region's first px */
    ptrdiff_t stride; /* bytes from row to row of `out` */
} Job;

/* The part of a component that is decoded. */
typedef struct {
    int edge;          /* samples of a block's side: 8 or 4 */
    int wide, high;    /* whether it is stretched to the image's width, height */
    int width, height; /* samples of the whole component, without padding */
    Range blocks;
    uint8_t *at; /* its first sample */
    int stride;
} Plane;

typedef struct {
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

INLINE int ceil_div(int a, int b) { return (a + b - 1) / b; }

/* What a region needs of a component, with what is interpolated between. At half the size,
 * libjpeg decodes a component that is half as fine both ways in full, instead of stretching
 * one of half the size (jdmaster.c); so its blocks stay 8 x 8. */
INLINE Plane plane_under(const Job *job, int c) {
    const Header *header = job->header;
    const Component *component = &header->components[c], *finest = &header->components[0];
    const int wide = finest->h > component->h, high = finest->v > component->v;
    const int full = job->scale == 1 || (wide && high);
    Range samples = job->region;
    Plane plane = {.edge = full ? 8 : 4};
    plane.wide = wide && !(full && job->scale == 2);
    plane.high = high && !(full && job->scale == 2);
    plane.width = ceil_div(header->width * component->h * plane.edge, finest->h * 8);
    plane.height = ceil_div(header->height * component->v * plane.edge, finest->v * 8);
    if (plane.wide) {
        samples.x0 = (samples.x0 >> 1) - 1;
        samples.x1 = ((samples.x1 - 1) >> 1) + 2;
    }
    if (plane.high) {
        samples.y0 = (samples.y0 >> 1) - 1;
        samples.y1 = ((samples.y1 - 1) >> 1) + 2;
    }
    plane.blocks.x0 = samples.x0 > 0 ? samples.x0 / plane.edge : 0;
    plane.blocks.y0 = samples.y0 > 0 ? samples.y0 / plane.edge : 0;
    plane.blocks.x1 = ceil_div(samples.x1 < plane.width ? samples.x1 : plane.width, plane.edge);
    plane.blocks.y1 = ceil_div(samples.y1 < plane.height ? samples.y1 : plane.height, plane.edge);
    plane.stride = plane.edge * (plane.blocks.x1 - plane.blocks.x0);
    return plane;
}

INLINE size_t plane_room(const Plane *plane) {
    return (size_t)plane->stride * (size_t)plane->edge * (size_t)(plane->blocks.y1 - plane->blocks.y0);
}

/* Where a sample of a plane lies. */
INLINE uint8_t *sample_at(const Plane *plane, int x, int y) {
    int down = y - plane->edge * plane->blocks.y0, right = x - plane->edge * plane->blocks.x0;
    return plane->at + (ptrdiff_t)down * plane->stride + right;
}

/* Samples of a row, with those beyond it that are touched. */
INLINE size_t row_room(size_t width) { return width + 4 + 3 * ROW_STEP; }

/* Bytes that `lay_out` needs for a job. */
INLINE size_t room_for(const Job *job) {
    size_t size = sizeof(size_t) * (size_t)intervals_of(job->header) + job->size + TAIL;
    size_t width = (size_t)(job->region.x1 - job->region.x0);
    for (int c = 0; c < job->header->count; c++) {
        Plane plane = plane_under(job, c);
        size += plane_room(&plane);
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
        Plane *plane = &scratch->planes[c];
        *plane = plane_under(job, c);
        plane->at = take(&room, plane_room(plane));
    }
    scratch->clean = room;
}

/* Decode a region in the room given; 0 if the data are damaged, or not for this decoder. The
 * same code, compiled for any CPU and for those with AVX2. */
int decode_plain(const Job *job, uint8_t *room);
int decode_avx2(const Job *job, uint8_t *room);

#endif
